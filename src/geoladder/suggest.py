"""The words that follow an unknown name in an error message."""

import difflib
from collections.abc import Iterable


def closest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that is nearest to `name`, whatever the case of their letters; None when none is near."""
    lower = {other.lower(): other for other in sorted(allowed)}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return lower[close[0]] if close else None


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which allowed name is nearest to `name`, or list them all when none is near."""
    names = sorted(allowed)
    close = closest(name, names)
    return f"; did you mean '{close}'?" if close else f"; allowed are: {', '.join(names)}"
