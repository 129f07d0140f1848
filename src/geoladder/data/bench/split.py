"""Files of few-shot subsets: drawn once, read by every arm, so that all see the same patches in the same order.

What is drawn by seed is one order of each bucket, of which a run takes the first n, and a fifth of them to validate.

A file is parquet, one row per patch, n after n, training before validation, bucket after bucket, each in the order of
drawing: n, side (`train` or `val`), bucket, tile (`<region>_<tile>`), file (in the bench), patch (in that file) and
position (in the bucket's pool of that kind of file, as published index files count). Its attributes,
`DataFrame.attrs`, are fingerprint and spec.
"""

import logging
from pathlib import Path

import pandas as pd

from geoladder.data.bench.nshot import Subset, check_size, draw
from geoladder.data.bench.official import read_official
from geoladder.data.bench.phileo import draw_as_phileo
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.runs.digest import intact
from geoladder.study.downstream_specs import SplitSpec

log = logging.getLogger(__name__)


def write_split(spec: SplitSpec, bench: Bench, out: Path, indices: list[Path]) -> None:
    """Draw the subsets of a task at one seed, or read them from official index files, and write them to `out`.

    `indices` are those files, one for each n of the spec, or none. GeoladderError where their number is another, or
    as `nshot.draw` and `read_official`.
    """
    if len(indices) != len(spec.indices):
        raise GeoladderError(
            f"the spec of the subsets of {spec.task} has {len(spec.indices)} index files, but {len(indices)} are "
            "given; give --indices FILE once for each n, exactly where the study has bench.indices"
        )
    subsets = _subsets(spec, bench, indices)
    table = pd.concat([_rows(bench, n, subset) for n, subset in subsets.items()], ignore_index=True)
    table.attrs = {
        "fingerprint": spec.fingerprint,
        "spec": spec.model_dump(mode="json"),
    }
    with atomic_path(out, spec.fingerprint) as path:
        table.to_parquet(path, index=False)
    log.info("%s, %s: %s patches for n = %s", spec.task, spec.name, len(table), ", ".join(map(str, spec.n)))


def read_subset(path: Path, bench: Bench, task: str, n: int, fingerprint: str) -> Subset:
    """Patches of one n from a file of `write_split`.

    GeoladderError where it is no such file, lacks this n, holds patches drawn otherwise than `fingerprint` says
    (`SplitSpec.subset`), or of another bench.
    """
    try:
        table = pd.read_parquet(intact(path))
        spec = SplitSpec.model_validate(table.attrs["spec"])
    except (OSError, ValueError, KeyError) as problem:
        raise GeoladderError(
            f"{path} is no file of subsets ({problem!r}); write it with `geoladder split`"
        ) from None
    by_seed = spec.protocol == "seeded"
    drawn = spec.subset(n) if n in spec.n or (by_seed and n <= max(spec.n)) else None
    if drawn != fingerprint:
        have = f"fingerprint {drawn}" if drawn else f"only n = {', '.join(map(str, spec.n))}"
        raise GeoladderError(
            f"{path} does not hold the subset of {task}, n = {n}, with fingerprint {fingerprint}: it has {have}; "
            f"delete it and run again, or write it with `geoladder split`"
        )
    chosen = table[table["n"] == (max(spec.n) if by_seed else n)]
    pool = pd.concat([bench.pool(task, "train"), bench.pool(task, "val")], ignore_index=True)
    first = pd.Series(pool.index, index=pool["entry"]).groupby(level=0).first()
    entries = pd.Series(bench.index.index, index=bench.index["file"]).reindex(chosen["file"])
    places = first.reindex(entries).to_numpy() + chosen["patch"].to_numpy()
    rows = pool.reindex(places)
    if (rows["slot"].to_numpy() != chosen["patch"].to_numpy()).any():
        raise GeoladderError(
            f"{path} names patches that {bench.archive} does not have for {task}, such as patch "
            f"{chosen['patch'].iloc[0]} of {chosen['file'].iloc[0]}; write it with `geoladder split` for this bench"
        )
    train = (chosen["side"] == "train").to_numpy()
    subset = Subset(rows[train].reset_index(drop=True), rows[~train].reset_index(drop=True))
    if not by_seed:
        return subset
    subset, of_training = subset.first(n), bench.pool(task, "train")
    by_bucket = {
        bucket: subset.train_rows.query("bucket == @bucket") for bucket in of_training["bucket"].unique()
    }
    check_size(bench, task, n, of_training, by_bucket, spec.allow_short)
    return subset


def _subsets(spec: SplitSpec, bench: Bench, indices: list[Path]) -> dict[int, Subset]:
    if spec.protocol == "official":
        return {n: read_official(file, bench, spec.task) for n, file in zip(spec.n, indices, strict=True)}
    if spec.protocol == "philEO":
        return draw_as_phileo(bench, spec.task, spec.n, spec.allow_short)
    seed = spec.seed or 0
    return {max(spec.n): draw(bench, spec.task, max(spec.n), seed, spec.validation, allow_short=True)}


def _rows(bench: Bench, n: int, subset: Subset) -> pd.DataFrame:
    files = bench.index["file"].to_numpy()
    sides = [rows.assign(side=side) for side, rows in zip(("train", "val"), subset, strict=True)]
    rows = pd.concat(sides, ignore_index=True)
    return pd.DataFrame(
        {
            "n": n,
            "side": rows["side"],
            "bucket": rows["bucket"],
            "tile": rows["region"] + "_" + rows["tile"],
            "file": files[rows["entry"]],
            "patch": rows["slot"],
            "position": rows["position"],
        }
    )
