"""Many independent tiles on several processes, with a progress bar.

Each task writes files of its own and returns nothing, so a killed run loses only the tiles in flight.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

log = logging.getLogger(__name__)


def make_tiles(
    make: Callable[..., None], folder: Path, tasks: Sequence[tuple], processes: int, label: str
) -> list[Path]:
    """Call `make(path, *task)` for each task whose file is not there yet.

    Args:
        make: picklable, and writes `path` last; its exception is raised here.
        folder: of the files, which are named by all that shapes a tile.
        tasks: in any order.
        processes: 1 runs them in this process.
        label: text of the progress bar.

    Returns:
        The files, in the order of the tasks.
    """
    digests = [hashlib.sha256(repr(task).encode()).hexdigest()[:16] for task in tasks]
    paths = [folder / f"{index:06d}-{digest}" for index, digest in enumerate(digests)]
    missing = [(path, *task) for path, task in zip(paths, tasks, strict=True) if not path.exists()]
    log.info("%s: %d tiles, %d to render", folder.parent, len(paths), len(missing))
    with ProcessPoolExecutor(max(processes, 1), mp_context=get_context("fork")) as pool:
        parallel = processes > 1 and len(missing) > 1
        made = pool.map(make, *zip(*missing, strict=True)) if parallel else starmap(make, missing)
        for _ in track(made, label, len(missing)):
            pass
    return paths
