"""Many independent tiles on several processes, with a progress bar.

Tasks write their own files and return nothing large, so a killed run loses only the tiles in flight.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from rich.progress import track

Task = TypeVar("Task")


def run_all(function: Callable[[Task], object], tasks: Sequence[Task], processes: int, label: str) -> None:
    """Call `function` on every task.

    Args:
        function: picklable; its result is ignored, its exception is raised here.
        tasks: in any order.
        processes: 1 runs them in this process.
        label: text of the progress bar.
    """
    with ProcessPoolExecutor(max(processes, 1), mp_context=get_context("fork")) as pool:
        run = pool.map if processes > 1 and len(tasks) > 1 else map
        for _ in track(run(function, tasks), label, len(tasks)):
            pass
