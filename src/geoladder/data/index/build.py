"""The usable tiles of an archive, and a ledger of every row with the reason it was dropped.

Decided from metadata and the identity columns alone; pixels are read only for products of unknown baseline, and by
archives without metadata. What the corpus does not select is dropped first, so nothing of it is opened. Validation
cells are chosen by a hash of the cell's name, so they are the same cells in every corpus.
"""

import logging
from pathlib import Path

import pandas as pd

from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import TileSource
from geoladder.data.index.away import in_bench, near_bench
from geoladder.data.index.checks import check_identities, set_offsets, settle_clouds, warn_off_grid
from geoladder.data.index.evidence import Evidence
from geoladder.data.index.findings import archive_findings
from geoladder.data.index.sample import Sample, read_sample, sample_rows
from geoladder.data.index.select import selected, unselected
from geoladder.data.index.split import is_validation
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.study.specs import IndexSpec

log = logging.getLogger(__name__)

INDEX_COLUMNS = (
    "grid_cell product_id timestamp lat_deg lon_deg cloud_percent nodata_share epsg "
    "baseline offset_dn part row split"
).split()


def build_index(spec: IndexSpec, archive: Path, bench_index: Path, index: Path, ledger: Path) -> None:
    """Decide which tiles of an archive are usable, for what, and with which DN offset.

    Args:
        spec: layout of the archive, what the corpus selects, limits and switches of `cleaning` and `validation`.
        archive: its folder.
        bench_index: parquet of the bench's files; what overlaps their footprints is dropped, as the spec says, and
            validation keeps away from their test locations.
        index: written, parquet: one row per usable tile (`INDEX_COLUMNS`; split is `train` or `val`).
        ledger: written, CSV: one row per row of the archive: grid_cell, product_id, kept, reason.

    Beside the index, evidence.json says why units, offsets and fills were taken as they were (`Evidence`).

    Raises:
        GeoladderError: archive or metadata unusable, more unreadable rows than `max_corrupt_share`, no usable tile
            left, names and pixels that contradict each other, or the results cannot be written.
    """
    reader = open_archive(archive, spec.layout)
    rows = reader.metadata()
    if rows.empty:
        raise GeoladderError(f"{archive}/metadata.parquet lists no tile; fetch the archive again")
    units = rows.attrs.pop("units", {})
    warn_off_grid(rows)
    rows["split"] = [
        "val" if is_validation(cell, spec.validation_share) else "train" for cell in rows["grid_cell"]
    ]
    reason = rows["unusable"].copy()
    without_clouds = spec.select.model_copy(update={"max_cloud_percent": None})
    clouds = settle_clouds(reader, rows, selected(rows, without_clouds) & (reason == ""))
    sample = _judge(spec, archive, bench_index, reader, rows, reason)
    counts = reason[reason != ""].value_counts()
    dropped = ", ".join(f"{count} {text}" for text, count in counts.items()) or "nothing"
    _log_kept(archive, rows, reason == "", dropped)
    if (reason != "").all():
        raise GeoladderError(
            f"no usable tile in {archive}: {dropped}{_written(units)}. "
            "Loosen the limits under `cleaning` and the corpus' `select`, or check the archive"
        )
    findings = archive_findings(rows, sample, spec.harmonise, spec.harmonise_stated, units)
    looked_at = f"{len(sample.facts)} of {len(rows)} rows read, {sample.unread} could not be"
    evidence = Evidence(str(archive), looked_at, findings + ([clouds] if clouds else []))
    evidence.check()
    _write(rows, reason, index, ledger, spec.fingerprint)
    evidence.write(index)


def _judge(
    spec: IndexSpec,
    archive: Path,
    bench_index: Path,
    reader: TileSource,
    rows: pd.DataFrame,
    reason: pd.Series,
) -> Sample:
    """Give rows their offsets, and a `reason` to those that are of no use, in place; raises as `build_index`.

    Returns:
        A sample of rows that can be read.
    """
    for text, where in unselected(rows, spec.select):
        _mark(reason, pd.Series(where, index=rows.index), text)
    _mark(reason, in_bench(rows, bench_index, spec.exclude_bench), f"overlaps bench {spec.exclude_bench}")
    taken = int((reason == "").sum())
    problems = check_identities(reader, rows, reason)
    _mark(reason, rows["timestamp"].isna(), "bad timestamp")
    _mark(reason, rows["epsg"] == 0, "bad crs")
    _mark(reason, ~(rows["nodata_share"] <= spec.max_nodata_share), "nodata")
    _mark(reason, ~(rows["cloud_percent"] <= spec.max_cloud_percent), "cloud")
    problems += set_offsets(reader, rows, reason, spec.harmonise)
    sample = read_sample(reader, rows, sample_rows(rows, reason == ""))
    bad = int((reason == "unreadable").sum())
    if bad > spec.max_corrupt_share * taken:
        raise GeoladderError(
            f"{bad} of {taken} rows of {archive} cannot be read, more than "
            f"cleaning.max_corrupt_share = {spec.max_corrupt_share}; the first: {problems[0]}"
        )
    _mark_duplicates(rows, reason, spec.one_product_per_cell, getattr(reader, "many_per_cell", False))
    if spec.bench_buffer_km > 0:
        _mark(reason, near_bench(rows, bench_index, spec.bench_buffer_km), "near bench test")
    return sample


def _log_kept(archive: Path, rows: pd.DataFrame, usable: pd.Series, dropped: str) -> None:
    kept = rows[usable]
    log.info(
        "%s: %d rows, %d kept (%d train, %d val, %d with DN offset); dropped: %s",
        archive,
        len(rows),
        len(kept),
        (kept["split"] == "train").sum(),
        (kept["split"] == "val").sum(),
        (kept["offset_dn"] > 0).sum(),
        dropped,
    )


def _written(units: dict[str, str]) -> str:
    """How columns of the metadata are written, which may be why no row is usable."""
    return f" ({'; '.join(f'{name}: {unit}' for name, unit in units.items())})" if units else ""


def _write(rows: pd.DataFrame, reason: pd.Series, index: Path, ledger: Path, made_from: str) -> None:
    try:
        with atomic_path(ledger, made_from) as path:
            rows[["grid_cell", "product_id"]].assign(kept=reason == "", reason=reason).to_csv(
                path, index=False
            )
        with atomic_path(index, made_from) as path:
            rows.loc[reason == "", INDEX_COLUMNS].to_parquet(path, index=False)
    except OSError as problem:
        raise GeoladderError(
            f"{index} and {ledger} cannot be written ({problem}); free some disk space, or give the right to write "
            "there"
        ) from None


def _mark(reason: pd.Series, where: pd.Series, text: str) -> None:
    """Give rows a reason, unless they have one: the first reason counts."""
    reason[where & (reason == "")] = text


def _mark_duplicates(
    rows: pd.DataFrame, reason: pd.Series, one_product_per_cell: bool, many_per_cell: bool
) -> None:
    """Mark repetitions among usable rows; where a cell may have one product, its earliest stays.

    With `many_per_cell`, rows of one product in one cell are different patches.
    """
    usable = rows[reason == ""].sort_values(["timestamp", "product_id"], kind="stable")
    if many_per_cell:
        first = usable.groupby("grid_cell")["product_id"].transform("first")
        repeated = (usable["product_id"] != first) & one_product_per_cell
    else:
        repeated = usable.duplicated(["grid_cell"] if one_product_per_cell else ["grid_cell", "product_id"])
    reason[usable.index[repeated]] = "duplicate cell" if one_product_per_cell else "duplicate product"
