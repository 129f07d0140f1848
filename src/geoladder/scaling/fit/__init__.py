"""One law on one table of runs: global optimum, profile and bootstrap intervals, verdict, prediction.

The package can be called: `from geoladder.scaling import fit; fit(table)` is `fit.fit.fit(table)`.
"""

import sys
from types import ModuleType
from typing import Any


class _Fit(ModuleType):
    """A package under the name of the one function its users know."""

    def __call__(self, *args: Any, **settings: Any) -> Any:  # noqa: ANN401
        """Fit a law; see `geoladder.scaling.fit.fit.fit`."""
        from geoladder.scaling.fit.fit import fit

        return fit(*args, **settings)


sys.modules[__name__].__class__ = _Fit
