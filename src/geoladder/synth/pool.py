"""Many independent tiles on several processes, with a progress bar.

Tasks write their own files and return nothing large, so a killed run loses only the tiles in flight.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

from rich.progress import Progress, TimeElapsedColumn

Task = TypeVar("Task")


def run_all(function: Callable[[Task], object], tasks: Sequence[Task], processes: int, label: str) -> None:
    """Call `function` on every task.

    Args:
        function: picklable; its result is ignored, its exception is raised here.
        tasks: in any order.
        processes: 1 runs them in this process.
        label: text of the progress bar.
    """
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        bar = progress.add_task(label, total=len(tasks))
        if processes <= 1 or len(tasks) < 2:
            for task in tasks:
                function(task)
                progress.advance(bar)
            return
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            futures = [pool.submit(function, task) for task in tasks]
            try:
                for future in as_completed(futures):
                    future.result()
                    progress.advance(bar)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
