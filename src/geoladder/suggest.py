"""The words that follow an unknown name in an error message."""

import difflib
from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which allowed name is nearest to `name`, or list them all when none is near."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; allowed are: {', '.join(names)}"
