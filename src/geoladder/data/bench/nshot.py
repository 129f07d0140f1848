"""Few-shot subsets of PhilEO Bench drawn by seed: n patches *per bucket*, so six buckets and n = 50 are 300 patches.

Unusual: training and validation patches of tasks with a `min_density` are enriched as the bench does (a patch with
hardly any road or building is kept with probability 1/4), test patches are not. Validation patches come from whole
training tiles set aside for them, so that no place is trained on, on any date; the bench's own ones are the last
tenth of each training image, next to the patches trained on.

Each (seed, bucket, task, side) has its own numpy stream. `phileo` draws as the bench's own code does.
"""

import logging
import math
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from geoladder.data.archives.footprints import Boxes
from geoladder.data.bench.densities import Densities
from geoladder.data.bench.files import BUCKETS, Side
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS

log = logging.getLogger(__name__)

KEEP_SPARSE = 0.25
VAL_SHARE = 0.2
"""Of n, and of the patches whose tiles are set aside for validation."""
TEST_SEED = 0
STREAMS = ("train", "val", "tiles")


class Subset(NamedTuple):
    """Patches of one few-shot run, as rows of `Bench.pool`: bucket after bucket, each in the order of drawing."""

    train_rows: pd.DataFrame
    val_rows: pd.DataFrame

    def first(self, n: int) -> "Subset":
        """The subset of a smaller n, of one drawn by seed."""
        sizes = (n, math.ceil(VAL_SHARE * n))
        firsts = [
            rows.groupby("bucket", sort=False).head(size) for rows, size in zip(self, sizes, strict=True)
        ]
        return Subset(*(rows.reset_index(drop=True) for rows in firsts))


class Sides(NamedTuple):
    """Patches that training and validation patches are drawn from, as rows of `Bench.pool`."""

    train: pd.DataFrame
    val: pd.DataFrame


def draw(
    bench: Bench,
    task: str,
    n: int,
    seed: int,
    validation: Literal["apart", "adjacent"] = "apart",
    allow_short: bool = False,
) -> Subset:
    """Draw n training and ceil(0.2 n) validation patches of each bucket that has the task's labels.

    For one seed, a non-negative integer, the patches of a smaller n are the first ones of a larger n (in each
    bucket). Validation patches are as many as the bucket has, when it has fewer. More or fewer tasks change nothing.
    A patch of a density task without any labelled pixel is never drawn.

    GeoladderError where a bucket has fewer than n drawable training patches (with `allow_short`, it gives those it
    has), where none has any, or where there is no validation patch at all.
    """
    sides = sides_of(bench, task, seed, validation)
    train = _draw_side(bench, task, "train", sides.train, n, seed)
    check_size(bench, task, n, sides.train, train, allow_short)
    val = _draw_side(bench, task, "val", sides.val, math.ceil(VAL_SHARE * n), seed)
    if not any(len(rows) for rows in val.values()):
        raise GeoladderError(f"{bench.archive} has no validation patch for {task}; check its *_val_* files")
    return Subset(pd.concat(train.values(), ignore_index=True), pd.concat(val.values(), ignore_index=True))


def sides_of(bench: Bench, task: str, seed: int, validation: Literal["apart", "adjacent"]) -> Sides:
    """What to draw from: with `adjacent`, the bench's training and validation files.

    With `apart`, training files alone, of which each bucket sets whole tiles aside for validation, about a fifth of
    its patches; tiles that overlap stay together. A bucket with one tile, or one place, cannot: it validates on its
    adjacent patches, and a warning says so.
    """
    train, adjacent = bench.pool(task, "train"), bench.pool(task, "val")
    if validation == "adjacent":
        return Sides(train, adjacent)
    aside = np.zeros(len(train), bool)
    single = []
    for bucket, rows in train.groupby("bucket", sort=False):
        tiles = _tiles_aside(bench, rows, _stream(seed, str(bucket), task, "tiles"))
        aside |= train["entry"].isin(tiles).to_numpy()
        single += [] if tiles.size else [bucket]
    if single:
        log.warning(
            "%s: one training tile of %s in %s, so validation patches there are those next to the training ones; "
            "add tiles to the bench, or set bench.validation: adjacent",
            *(bench.archive, task, ", ".join(map(str, single))),
        )
    val = pd.concat([train[aside], adjacent[adjacent["bucket"].isin(single)]])
    return Sides(train[~aside], val.sort_values(["entry", "slot"]))


def _tiles_aside(bench: Bench, rows: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Entries of the bench's index, in random order, until they have a fifth of `rows`.

    Overlapping tiles go together. One that would leave less than half of the rows is passed over: where all are one
    place there is none.
    """
    entries, patches = np.unique(rows["entry"], return_counts=True)
    place = Boxes.of(bench.index.loc[entries]).connected()
    sizes = np.bincount(place, weights=patches)
    chosen: list[int] = []
    for candidate in rng.permutation(len(sizes)):
        taken = sizes[chosen].sum()
        if taken < VAL_SHARE * len(rows) and taken + sizes[candidate] <= len(rows) / 2:
            chosen.append(int(candidate))
    return np.asarray(entries[np.isin(place, chosen)])


def _stream(seed: int, bucket: str, task: str, name: str) -> np.random.Generator:
    place = list(BUCKETS).index(bucket)
    return np.random.default_rng([seed, place, crc32(task.encode()), STREAMS.index(name)])


def _draw_side(
    bench: Bench, task: str, side: Side, pool: pd.DataFrame, n: int, seed: int
) -> dict[str, pd.DataFrame]:
    """First n patches of each bucket's order; fewer where the bucket has fewer."""
    drawn = {}
    for bucket, rows in pool.groupby("bucket", sort=False):
        rng = _stream(seed, str(bucket), task, side)
        walk = rows.iloc[rng.permutation(len(rows))]
        if min_density := TASKS[task].min_density:
            lucky = rng.random(len(rows)) < KEEP_SPARSE  # one chance per place keeps prefixes nested
            walk = walk.iloc[_enriched(Densities(bench, task, walk), lucky, n, min_density[side])]
        drawn[str(bucket)] = walk.iloc[:n]
    return drawn


def _enriched(densities: Densities, lucky: np.ndarray, n: int, min_density: float) -> list[int]:
    """Places of a walk that are dense or lucky, until there are n."""
    kept: list[int] = []
    for place, (density, luck) in enumerate(zip(densities.labelled(), lucky, strict=True)):
        if density > min_density or (luck and not math.isnan(density)):
            kept.append(place)
            if len(kept) == n:
                break
    return kept


def check_size(
    bench: Bench, task: str, n: int, pool: pd.DataFrame, drawn: dict[str, pd.DataFrame], allow_short: bool
) -> None:
    """Refuse training patches that are fewer than n in a bucket, or none; with `allow_short`, log them.

    `pool` is what they were drawn from. GeoladderError names the bucket and the largest n allowed.
    """
    if pool.empty:
        raise GeoladderError(
            f"{bench.archive} has no training patch with labels for {task}; check its "
            f"*_label_{TASKS[task].label}.npy files"
        )
    short = {bucket: len(rows) for bucket, rows in drawn.items() if len(rows) < n}
    if allow_short and any(len(rows) for rows in drawn.values()):
        if short:
            log.info("n = %d for %s is more than some buckets have; they give all: %s", n, task, short)
        return
    if not short:
        return
    bucket, drawable = min(short.items(), key=lambda item: item[1])
    never = ", never one without any labelled pixel" if TASKS[task].min_density else ""
    counted = f"{(pool['bucket'] == bucket).sum()} training patches, of which {drawable} are drawn{never}"
    raise GeoladderError(
        f"n = {n} for {task} is more than bucket '{bucket}' has: its pool is {counted}; the largest n allowed is "
        f"{drawable}. Lower n, add tiles to the bench, or take what there is with bench.allow_short: true"
    )


def test_rows(bench: Bench, task: str, limit: int) -> pd.DataFrame:
    """Test patches at natural density: at most `limit`, drawn once from all buckets together.

    They are rows of `Bench.pool(task, "test")` in pool order; the same for every run, since the seed is fixed.
    GeoladderError where the bench has no test patch for the task.
    """
    pool = bench.pool(task, "test")
    if pool.empty:
        raise GeoladderError(
            f"{bench.archive} has no test patch with labels for {task}; check its *_test_* files"
        )
    if len(pool) <= limit:
        return pool
    rng = np.random.default_rng([TEST_SEED, crc32(task.encode())])
    return pool.iloc[np.sort(rng.permutation(len(pool))[:limit])].reset_index(drop=True)
