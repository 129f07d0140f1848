"""numba's compiler, which keeps compiled code on disk where there is a place for it, and works without one."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba

log = logging.getLogger(__name__)


def njit(**options: Any) -> Callable[[Callable], Any]:  # noqa: ANN401 - numba's own options and dispatcher
    """As `numba.njit`; with `cache`, a function is compiled in every process anew where nothing can be written.

    numba tries NUMBA_CACHE_DIR, the folder of the function's module, and the user's cache folder.
    """

    def decorate(function: Callable) -> Any:  # noqa: ANN401
        try:
            return numba.njit(**options)(function)
        except RuntimeError as problem:
            if not options.get("cache"):
                raise
            _warn(str(problem).partition(" for file")[0])
            return numba.njit(**(options | {"cache": False}))(function)

    return decorate


@cache
def _warn(problem: str) -> None:
    log.warning(
        "compiled code is kept in memory only (%s); set NUMBA_CACHE_DIR to a folder to keep it", problem
    )
