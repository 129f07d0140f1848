"""Every byte of the sealed files below a folder, against their seals."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from geoladder.errors import GeoladderError
from geoladder.runs.digest import Seal, seal_path, sha256
from geoladder.runs.remake import remake

SHOWN = 20


def verify(path: Path, bar: bool = True) -> str:
    """Read a file, or all files below a folder, and compare them with their seals; say how many there are.

    What is hidden and logs are left out, and links to folders followed once. Files without a seal are counted: they
    are from elsewhere, or older than seals. So are seals whose file is gone, since workflows and users remove what is
    not needed any more. A run may go on meanwhile: what it replaces is read again, what it removes is gone. A bar is
    drawn if stderr is a terminal and `bar`.

    Raises:
        GeoladderError: some are not as they were written: names each, and the command that makes it again. Or none
            has a seal, so that nothing can be said.
        OSError: a folder cannot be read.
    """
    if not path.exists() and not seal_path(path).exists():
        raise GeoladderError(f"{path} does not exist; give a file or a folder")
    files = list(_files(path)) if path.is_dir() else [path]
    sealed, faults = _seals(files)
    if not sealed and not faults:
        raise GeoladderError(
            f"nothing of {path} has a seal to verify it by: it is from elsewhere, older than seals, or was copied "
            "without hidden files; copy `.NAME.seal` along with NAME"
        )
    there = {file: seal for file, seal in sealed.items() if file.is_file()}
    faults |= {
        file: f"{file} was damaged or edited: {fault}; {remake(file)}"
        for file, fault in _faults(there, bar and sys.stderr.isatty())
    }
    if faults:
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        listed = "\n  ".join([*list(faults.values())[:SHOWN], *more])
        raise GeoladderError(f"{len(faults)} of {len(files)} files are not as they were written:\n  {listed}")
    size_bytes = sum(seal.size_bytes for seal in there.values())
    text = f"{path}: {len(there)} files ({size_bytes:,} bytes) are as they were written"
    if others := len(files) - len(sealed):
        text += f"\nwithout a seal, so from elsewhere or older than seals: {others}"
    if gone := [file for file in sealed if file not in there]:
        text += f"\ngone, but for their seal: {len(gone)}, such as {gone[0]}"
    return text


def _seals(files: Iterable[Path]) -> tuple[dict[Path, Seal], dict[Path, str]]:
    """Seals of the files that have one, and what is wrong with those that are damaged."""
    sealed, faults = {}, {}
    for file in files:
        try:
            if seal := Seal.read(file):
                sealed[file] = seal
        except GeoladderError as problem:
            faults[file] = str(problem)
    return sealed, faults


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, and those that are gone and left their seal."""
    visited: set[tuple[int, int]] = set()
    for name, folders, files in os.walk(root, onerror=_stop, followlinks=True):
        folder = Path(name)
        state = folder.stat()
        if (state.st_dev, state.st_ino) in visited:
            folders.clear()
            continue
        visited.add((state.st_dev, state.st_ino))
        folders[:] = sorted(inner for inner in folders if inner != "logs" and not inner.startswith("."))
        sealed = {file[1:-5] for file in files if file.startswith(".") and file.endswith(".seal")}
        names = sealed.union(files)
        yield from (folder / file for file in sorted(names) if not file.startswith("."))


def _stop(problem: OSError) -> None:
    """A folder that cannot be read is not left out without a word."""
    raise problem


def _faults(sealed: dict[Path, Seal], shown: bool) -> Iterator[tuple[Path, str]]:
    """Files that differ from their seals, and in what; under a progress bar if `shown`."""
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress("verifying", *columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("verifying", total=sum(seal.size_bytes for seal in sealed.values()))
        for file, seal in sealed.items():
            if fault := _fault(file, seal, lambda count: progress.advance(task, count)):
                yield file, fault


def _fault(file: Path, seal: Seal, advance: Callable[[int], object]) -> str:
    """In what a file differs from its seal; "" in nothing, or where a run has just removed it."""
    try:
        fault = seal.fault(file.stat().st_size, sha256(file, advance))
    except FileNotFoundError:
        return ""
    except OSError as problem:
        fault = f"it cannot be read ({problem})"
    if fault and (newer := Seal.read(file)) != seal:
        return _fault(file, newer, lambda _: None) if newer else ""
    return fault
