"""The one exception a user is meant to read, and what a type's own says in its words."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class GeoladderError(Exception):
    """Something the user can mend: bad input, an impossible setting, a missing file.

    The command line prints the message alone (no traceback) and exits with status 1, so the message says
    what went wrong, where, what was found, what is allowed and how to fix it.
    """


def faults_of(problem: "ValidationError", most: int | None = None) -> str:
    """Each fault that a type has in its input (the first `most`), after the key it stands at, on one line."""
    faults = ((".".join(map(str, fault["loc"])), fault["msg"]) for fault in problem.errors()[:most])
    return "; ".join(f"{key}: {text}".removeprefix(": ").replace("Value error, ", "") for key, text in faults)
