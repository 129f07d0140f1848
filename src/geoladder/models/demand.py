"""Which backend of scans this process must use, where a study demands one; a file of its own, which imports nothing.

So what trains a network without any scan does not depend on how scans run.
"""

_DEMANDED = ["auto"]


def demand_scan(backend: str) -> None:
    """Let scans run by one backend and no other from now on, or (`auto`) by the first that works."""
    _DEMANDED[0] = backend


def demanded_scan() -> str:
    """The backend that scans must run by, or `auto`."""
    return _DEMANDED[0]
