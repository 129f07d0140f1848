"""The progress bar of a download: bytes, rate and time left, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def progress_bar(total_bytes: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr while the block runs, if `shown` and if stderr is a terminal.

    Yields:
        A function that moves the bar by so many bytes, forwards or back, from any thread.
    """
    bar = Progress(
        TextColumn("fetching"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not (shown and sys.stderr.isatty()),
    )
    with bar:
        task = bar.add_task("fetching", total=total_bytes)
        yield lambda count: bar.advance(task, count)
