"""A metric of which more is better, given where an error is expected."""

from collections.abc import Mapping

from geoladder.scaling.fit.points import Points, Refusal
from geoladder.scaling.fit.trend import trend
from geoladder.scaling.laws.forms import Form

SURE = 0.99
"""Level at which y must rise with every size before it is called no error."""


def refuse_rising(read: Points, law: Form, columns: Mapping[str, str], y: str) -> None:
    """Refuse runs whose y rises with every size of a law that can only fall; `columns` are those of the sizes.

    Raises:
        Refusal: names y, the sizes, and the error to fit in its place.
    """
    if getattr(law, "rising", False) or not law.variables:
        return
    if all(trend(read, role, SURE).direction == "rises" for role in law.variables):
        whole = next((whole for whole in (1, 100) if read.y.max() <= whole), None)
        way = f"--y '{whole} - {y}'" if whole else f"an error in place of it, such as 1 - {y} of a share"
        raise Refusal(
            f"{y} rises with {' and with '.join(columns[role] for role in law.variables)}, but {law.equation} is a "
            f"law of errors, which fall: if more of {y} is better, fit {way}"
        )
