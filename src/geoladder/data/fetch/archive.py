"""Fetches what a selection needs of the parts of a MajorTOM archive: N at a time, interruptible, verified.

`metadata.parquet` is written last and lists only the selected tiles, at their rows in the parts as they are here, so
the folder is an archive for every other verb exactly when it is complete. Until then all state is in `source/`.
Several jobs may each fetch a group of parts into one folder.
"""

import logging
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from geoladder.data.archives.majortom import MajorTom
from geoladder.data.fetch import plan as plans
from geoladder.data.fetch.answers import ChangedError
from geoladder.data.fetch.arrived import check_metadata, check_part, damaged_parts
from geoladder.data.fetch.file import DiskError, fetch_file, readable_disk_errors, unfinished
from geoladder.data.fetch.http import Server
from geoladder.data.fetch.patience import DEFAULT, Patience, StoppedError
from geoladder.data.fetch.rows import fetch_rows
from geoladder.data.index.select import selected
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.runs.digest import discard, sha256
from geoladder.study.address import resolve
from geoladder.study.corpora import Select

log = logging.getLogger(__name__)

METADATA = "metadata.parquet"


class NoRoomError(DiskError):
    """What is to fetch is larger than the disk, by the sizes of the plan."""


def prepare(
    url: str,
    select: Select,
    folder: Path,
    connections: int = 4,
    patience: Patience = DEFAULT,
    again: bool = False,
    whole_parts: bool = False,
) -> plans.FetchPlan:
    """Plan a selection from the server's metadata; reuse the plan a folder has for the same selection.

    `url` is `https://host/folder` or `hf://datasets/owner/name@revision`; `folder`, where the archive will be,
    receives source/metadata.parquet and source/plan.json. With `again`, the server is asked again for all sizes, and
    its metadata is fetched again if its size or checksum changed; with `whole_parts`, no single rows are fetched.

    Raises:
        GeoladderError: the address is no archive, the folder belongs to another one, nothing is selected, or the
            server or the disk refuses.
    """
    source, plan = resolve(url), plans.read_plan(folder)
    if plan and plan.source != source:
        raise GeoladderError(f"{folder} holds {plan.source}, not {source}; choose another --out")
    # A file of cells may have other content by now.
    if plan and plan.is_of(select, whole_parts) and select.cells is None and not again:
        return plan
    again = again or plan is None
    server, metadata = Server(source, patience, connections), folder / plans.SOURCE / METADATA
    with readable_disk_errors(folder):
        if again or not metadata.exists():
            file = server.list_files([METADATA]).get(METADATA)
            if file is None:
                raise GeoladderError(f"{source} has no {METADATA}; give the folder that holds it and images/")
            log.info("%s at %s has %s", METADATA, source, plans.human(file.size_bytes))
            fetch_file(server, file, metadata, check_metadata)
        rows = MajorTom(metadata.parent).metadata()
        plan = plans.plan_fetch(source, rows, select, server.list_files, whole_parts)
        plans.write_plan(folder, plan)
    return plan


def fetch(
    plan: plans.FetchPlan,
    folder: Path,
    connections: int = 4,
    group: tuple[int, int] | None = None,
    patience: Patience = DEFAULT,
    bar: bool = False,
    verify: bool = False,
) -> Path:
    """Fetch what is missing of a plan, or of one group of its parts.

    The plan's folder receives images/, and at the end metadata.parquet and manifest.json, which is returned. A group
    (i, n) is every n-th part, beginning with the i-th, from 1, and ends with manifest-i-of-n.json alone; a last call
    without a group checks that all parts are there and completes the archive. A bar is drawn if stderr is a terminal.
    With `verify`, parts that are here are hashed again, and fetched again where their bytes are not those that came.

    Raises:
        GeoladderError: some parts could not be fetched (the others were), or the disk refuses. Nothing that came is
            lost; the same call continues.
    """
    server = Server(plan.source, patience, connections)
    index, count = group or (1, 1)
    if not 1 <= index <= count:
        raise GeoladderError(
            f"group {index}/{count} does not exist; groups go from 1/{count} to {count}/{count}"
        )
    parts = plan.parts[index - 1 :: count]
    manifest = folder / (f"manifest-{index}-of-{count}.json" if group else "manifest.json")
    with readable_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if verify:
            _forget_damaged(folder, parts)
        records = {}
        for part in parts:
            record = plans.read_record(folder, part.file)
            if record and record.has(part):
                records[part] = record
        missing = [part for part in parts if part not in records]
        if missing:  # rows of parts are about to move, so what says where they are must go first
            discard(folder / METADATA)
        try:
            _check_room(folder, missing)
            records |= _fetch_parts(server, missing, folder, bar)
        except (ChangedError, NoRoomError):
            plans.forget_plan(folder)  # a size in it may be a mistake of the server
            raise
        plans.write_manifest(manifest, plan, {part: records[part] for part in parts})
        if not group:
            _write_metadata(folder, plan, records)
    return manifest


def _fetch_parts(
    server: Server, parts: Sequence[plans.Part], folder: Path, bar: bool
) -> dict[plans.Part, plans.Record]:
    """Fetch parts; one that fails for good does not keep the others from coming, a full disk does."""
    records, failed = {}, []
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    shown = bar and sys.stderr.isatty()
    with Progress("fetching", *columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("fetching", total=sum(part.size_bytes for part in parts))
        server.advance = lambda count: progress.advance(task, count)
        threads = ThreadPoolExecutor(server.connections)
        try:
            running = {threads.submit(_fetch_part, server, part, folder): part for part in parts}
            for finished, future in enumerate(as_completed(running), 1):
                part = running[future]
                try:
                    records[part], seconds = future.result()
                    what = f"{part.file.name} {plans.human(records[part].size_bytes)}"
                    log.info("%s in %.1f s (%d of %d)", what, seconds, finished, len(parts))
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
        kind = (
            ChangedError if any(isinstance(problem, ChangedError) for problem in failed) else GeoladderError
        )
        raise kind(
            f"{len(failed)} of {len(parts)} parts could not be fetched, the others were; the first: {failed[0]}"
        )
    return records


def _fetch_part(server: Server, part: plans.Part, folder: Path) -> tuple[plans.Record, float]:
    """Fetch one part or rows of it, and remember it; return what is remembered, and how many seconds it took."""
    file, path, rows = part.file, folder / part.file.name, None
    start_s = time.monotonic()
    try:
        if part.rows is None:
            digest = fetch_file(server, file, path, partial(check_part, rows=part.least_rows))
        else:
            footer = folder / plans.SOURCE / "footers" / f"{path.name}.{file.size_bytes}"
            rows = fetch_rows(server, file, part.rows, path, footer)
            digest = sha256(path)
    except DiskError:
        server.stop.set()
        raise
    record = plans.Record(path.stat().st_size, digest, file.size_bytes, rows)
    plans.write_record(folder, file, record)
    return record, time.monotonic() - start_s


def _forget_damaged(folder: Path, parts: Sequence[plans.Part]) -> None:
    """Remove parts whose bytes are not those that came, so that they are fetched again."""
    for part in damaged_parts(folder, parts):
        log.warning(
            "%s is damaged: its bytes are not those that came; fetched again", folder / part.file.name
        )
        discard(folder / part.file.name)


def _write_metadata(folder: Path, plan: plans.FetchPlan, records: Mapping[plans.Part, plans.Record]) -> None:
    """Keep the selected rows of the server's metadata, with all columns, numbered as they lie here."""
    rows = MajorTom(folder / plans.SOURCE).metadata()
    taken = selected(rows, plan.select)
    here = rows["row"][taken].to_numpy().copy()
    positions = rows[taken].groupby("part").indices
    for part, record in records.items():
        if record.rows is not None:
            of_part = positions[Path(part.file.name).name]
            here[of_part] = np.searchsorted(record.rows, here[of_part])
    table = pq.read_table(folder / plans.SOURCE / METADATA).filter(taken)
    place = table.column_names.index("parquet_row")
    numbers = pa.array(here).cast(table.schema.field(place).type)
    with atomic_path(folder / METADATA) as path:
        pq.write_table(table.set_column(place, "parquet_row", numbers), path)


def _check_room(folder: Path, parts: Sequence[plans.Part]) -> None:
    """Refuse to begin what cannot fit. Unfinished parts, which may have holes, count with what they lack."""
    paths = [unfinished(folder / part.file.name) for part in parts]
    paths += [folder / part.file.name for part in parts if part.rows is None]
    there = sum(path.stat().st_blocks * 512 for path in paths if path.is_file())
    needed = sum(part.size_bytes for part in parts) - there
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoRoomError(
            f"{folder} has room for {plans.human(free)}, but {plans.human(needed)} are still to fetch; make room, "
            "choose another --out, or a smaller --fraction or --box"
        )
