"""The command line `geoladder [--log FILE] VERB ...`: runs a verb here, or hands it to the workflow's warm worker.

The verbs and the library that parses them are imported only where a verb runs: a job that is handed over needs
neither.
"""

import os
import sys
from pathlib import Path

from geoladder.errors import GeoladderError
from geoladder.runs.surroundings import end_quietly, settle
from geoladder.runs.worker import SOCKET_VARIABLE, call


def main(arguments: list[str] | None = None) -> int:
    """Run one verb, from the words after `geoladder` (those of this process if None); return the exit status.

    It is 0; 1 after a message the user can act on; 2 where the command itself is wrong.
    """
    if arguments is None:
        settle()
        arguments = sys.argv[1:]
    try:
        status = _answer(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        return end_quietly()
    return status


def _answer(arguments: list[str]) -> int:
    # A rank that torchrun started must be a process of its own: Lightning reads which one it is when imported.
    worker = None if "LOCAL_RANK" in os.environ else os.environ.get(SOCKET_VARIABLE)
    if not (worker and Path(worker).exists()):
        from geoladder.commands import run

        return run(arguments)
    try:
        return call(arguments, worker)
    except GeoladderError as problem:
        print(f"geoladder: {problem}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
