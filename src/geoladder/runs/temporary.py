"""Names of files while they are written: hidden, beside the file they become, and of one process."""

import os
import platform
import re
from glob import escape
from pathlib import Path

MACHINE = re.sub(r"[^\w-]", "_", platform.node())
"""Part of each name, since the processes of other machines are not known here."""


def temporary(path: Path) -> Path:
    """Where this process writes what will be `path`; what killed processes of this machine left of it is removed.

    The name keeps the suffix, since many writers choose a format by it.
    """
    start, end = f".{path.stem}.{MACHINE}.", f".tmp{path.suffix}"
    for leftover in path.parent.glob(f"{escape(start)}*{escape(end)}"):
        process = leftover.name[len(start) : -len(end)]
        if process.isdecimal() and not process_exists(int(process)):
            leftover.unlink(missing_ok=True)
    return path.with_name(f"{start}{os.getpid()}{end}")


def process_exists(number: int) -> bool:
    """Whether there is a process of this number, anybody's: clusters hide those of other users below /proc."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
