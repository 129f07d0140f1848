"""Fetches what a selection needs of the parts of a MajorTOM archive: N at a time, interruptible, verified.

`metadata.parquet` is written last and lists only the selected tiles, at their rows in the parts as they are here, so
the folder is an archive for every other verb exactly when it is complete. Until then all state is in `source/`.
Several jobs may each fetch a group of parts into one folder.
"""

import logging
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from geoladder.data.archives.majortom import MajorTom
from geoladder.data.fetch.file import (
    Advance,
    DiskError,
    fetch_file,
    readable_disk_errors,
    sha256,
    unfinished,
)
from geoladder.data.fetch.http import Server
from geoladder.data.fetch.plan import FetchPlan, Part, RemoteFile, human, plan_fetch
from geoladder.data.fetch.records import (
    SOURCE,
    Record,
    footer_path,
    read_plan,
    read_record,
    write_manifest,
    write_plan,
    write_record,
)
from geoladder.data.fetch.retry import DEFAULT, Patience, StoppedError
from geoladder.data.fetch.rows import fetch_rows
from geoladder.data.index.select import selected
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.study.address import resolve
from geoladder.study.corpora import Select

log = logging.getLogger(__name__)

METADATA = "metadata.parquet"


def prepare(
    url: str,
    select: Select,
    folder: Path,
    connections: int = 4,
    patience: Patience = DEFAULT,
    again: bool = False,
    whole_parts: bool = False,
) -> FetchPlan:
    """Plan a selection from the server's metadata; reuse the plan a folder has for the same selection.

    Args:
        url: `https://host/folder` or `hf://datasets/owner/name@revision`.
        select: which tiles.
        folder: where the archive will be; receives source/metadata.parquet and source/plan.json.
        connections: most at one time.
        patience: timeouts and retries.
        again: ask the server again for all sizes; its metadata is fetched again if its size or checksum changed.
        whole_parts: fetch no single rows of parts.

    Raises:
        GeoladderError: the address is no archive, the folder belongs to another one, nothing is selected, or the
            server or the disk refuses.
    """
    source, plan = resolve(url), read_plan(folder)
    if plan and plan.source != source:
        raise GeoladderError(f"{folder} holds {plan.source}, not {source}; choose another --out")
    # A file of cells may have other content by now.
    if plan and plan.is_of(select, whole_parts) and select.cells is None and not again:
        return plan
    server = Server(source, patience, connections)
    with readable_disk_errors(folder):
        _fetch_metadata(server, folder, again)
        rows = MajorTom(folder / SOURCE).metadata()
        plan = plan_fetch(source, rows, select, server.list_files, whole_parts)
        write_plan(folder, plan)
    return plan


def _fetch_metadata(server: Server, folder: Path, again: bool) -> None:
    path = folder / SOURCE / METADATA
    if path.exists() and not again:
        return
    listed = server.list_files([METADATA])
    if METADATA not in listed:
        raise GeoladderError(
            f"{server.folder_url} has no {METADATA}; give the folder that holds it and images/"
        )
    file = listed[METADATA]
    if path.exists() and path.stat().st_size == file.size_bytes and file.sha256 in (None, sha256(path)):
        return
    log.info("fetching %s (%s)", METADATA, human(file.size_bytes))
    fetch_file(server, file, path)


def fetch(
    plan: FetchPlan,
    folder: Path,
    connections: int = 4,
    group: tuple[int, int] | None = None,
    patience: Patience = DEFAULT,
    bar: bool = False,
) -> Path:
    """Fetch what is missing of a plan, or of one group of its parts.

    Args:
        plan: result of `prepare` for the same folder.
        folder: receives images/, and at the end manifest.json and metadata.parquet (a group: manifest-1-of-8.json).
        connections: most at one time.
        group: (i, n): only every n-th part, beginning with the i-th, from 1. A last call without it checks that
            all are there and completes the archive.
        patience: timeouts and retries.
        bar: draw a progress bar, if this is a terminal.

    Returns:
        The manifest.

    Raises:
        GeoladderError: some parts could not be fetched (the others were), or the disk refuses. Nothing that came is
            lost; the same call continues.
    """
    server = Server(plan.source, patience, connections)
    parts = plan.group(*group) if group else plan.parts
    manifest = folder / (f"manifest-{group[0]}-of-{group[1]}.json" if group else "manifest.json")
    with readable_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        records = [read_record(folder, part.file) for part in parts]
        missing = [
            part for part, record in zip(parts, records, strict=True) if not (record and record.has(part))
        ]
        _check_room(folder, missing)
        if missing:  # rows of parts are about to move, so what says where they are must go first
            (folder / METADATA).unlink(missing_ok=True)
        _fetch_parts(server, missing, folder, bar)
        write_manifest(manifest, plan, parts, folder)
        if not group:
            _write_metadata(folder, plan)
    return manifest


def _fetch_parts(server: Server, parts: Sequence[Part], folder: Path, bar: bool) -> None:
    """Fetch parts; one that fails for good does not keep the others from coming, a full disk does."""
    failed = []
    with _progress_bar(sum(part.size_bytes for part in parts), bar) as advance:
        threads = ThreadPoolExecutor(server.connections)
        try:
            running = [threads.submit(_fetch_part, server, part, folder, advance) for part in parts]
            for finished, future in enumerate(as_completed(running), 1):
                try:
                    log.info("%s (%d of %d)", future.result(), finished, len(parts))
                except DiskError:
                    raise
                except StoppedError:
                    continue  # the reason is still to come
                except GeoladderError as problem:
                    log.warning("%s", problem)
                    failed.append(problem)
        finally:
            server.stop.set()
            threads.shutdown(cancel_futures=True)
    if failed:
        raise GeoladderError(
            f"{len(failed)} of {len(parts)} parts could not be fetched, the others were; the first: {failed[0]}"
        )


@contextmanager
def _progress_bar(total_bytes: int, shown: bool) -> Iterator[Advance]:
    """Bytes, rate and time left on stderr while the block runs, if `shown` and if stderr is a terminal.

    Yields:
        A function that moves the bar by so many bytes, forwards or back, from any thread.
    """
    bar = Progress(
        "fetching",
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


def _fetch_part(server: Server, part: Part, folder: Path, advance: Advance) -> str:
    """Fetch one part or rows of it, and remember it; return a line for the log."""
    file, path = part.file, folder / part.file.name
    start_s = time.monotonic()
    try:
        if part.rows is None:
            rows, digest = None, _fetch_whole(server, file, path, advance)
        else:
            rows = fetch_rows(server, file, part.rows, path, footer_path(folder, file), advance)
            digest = sha256(path)
    except DiskError:
        server.stop.set()
        raise
    record = Record(path.stat().st_size, digest, file.size_bytes, rows)
    write_record(folder, file, record)
    return f"{file.name} {human(record.size_bytes)} in {time.monotonic() - start_s:.1f} s"


def _fetch_whole(server: Server, file: RemoteFile, path: Path, advance: Advance) -> str:
    """Fetch a whole part unless it is there; return its SHA-256."""
    if path.is_file() and path.stat().st_size == file.size_bytes:
        digest = sha256(path)  # complete, but its job was killed before it wrote the record
        if file.sha256 in (None, digest):
            advance(file.size_bytes)
            return digest
    return fetch_file(server, file, path, advance)


def _write_metadata(folder: Path, plan: FetchPlan) -> None:
    """Keep the selected rows of the server's metadata, with all columns, numbered as they lie here."""
    rows = MajorTom(folder / SOURCE).metadata()
    taken = selected(rows, plan.select)
    table = pq.read_table(folder / SOURCE / METADATA).filter(taken)
    place = table.column_names.index("parquet_row")
    numbers = pa.array(_rows_here(rows[taken], plan.parts, folder)).cast(table.schema.field(place).type)
    with atomic_path(folder / METADATA) as path:
        pq.write_table(table.set_column(place, "parquet_row", numbers), path)


def _rows_here(rows: pd.DataFrame, parts: Sequence[Part], folder: Path) -> np.ndarray:
    """Row of each tile in its part as it is here."""
    here = rows["row"].to_numpy().copy()
    positions = rows.groupby("part").indices
    for part in parts:
        record = read_record(folder, part.file)
        if record and record.rows is not None:
            of_part = positions[Path(part.file.name).name]
            here[of_part] = np.searchsorted(record.rows, here[of_part])
    return here


def _check_room(folder: Path, parts: Sequence[Part]) -> None:
    """Refuse to begin what cannot fit. Unfinished parts count with what they lack."""
    paths = [unfinished(folder / part.file.name) for part in parts]
    paths += [folder / part.file.name for part in parts if part.rows is None]
    there = sum(path.stat().st_size for path in paths if path.is_file())
    needed = sum(part.size_bytes for part in parts) - there
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"{folder} has room for {human(free)}, but {human(needed)} are still to fetch; make room, choose another "
            "--out, or a smaller --fraction or --box"
        )
