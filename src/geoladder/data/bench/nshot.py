"""Few-shot subsets of PhilEO Bench: n patches *per bucket*, so six buckets and n = 50 are 300 patches.

Unusual: training and validation patches of tasks with a `min_density` are enriched as the bench does (a patch with
hardly any road or building is kept with probability 1/4), test patches are not. The bench draws with Python's
`Random(12345)`, the same for every bucket; here each (seed, bucket, task, split) has its own numpy stream, so draws
can be repeated with other seeds. `read_official` reads the published index files for the original subsets.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from geoladder.data.bench.files import BUCKETS, Split
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS

KEEP_SPARSE = 0.25
VAL_SHARE = 0.2
TEST_SEED = 0
WALK = 64
"""Labels read at a time while looking for dense patches."""


class Subset(NamedTuple):
    """Patches of one few-shot run, as rows of `Bench.pool`: bucket after bucket, each in the order of drawing."""

    train_rows: pd.DataFrame
    val_rows: pd.DataFrame


def draw(bench: Bench, task: str, n: int, seed: int) -> Subset:
    """Draw n training and ceil(0.2 n) validation patches of each bucket that has the task's labels.

    For one seed, a non-negative integer, the patches of a smaller n are the first ones of a larger n (in each
    bucket). Validation patches are as many as the bucket has, when it has fewer. More or fewer tasks change nothing.
    GeoladderError where a bucket has fewer than n drawable training patches, or there is no validation patch at all.
    """
    train = _draw_split(bench, task, "train", n, seed)
    short = {bucket: len(rows) for bucket, rows in train.items() if len(rows) < n}
    if short or not train:
        raise GeoladderError(_too_few(bench, task, n, seed, short))
    val = _draw_split(bench, task, "val", math.ceil(VAL_SHARE * n), seed)
    if not any(len(rows) for rows in val.values()):
        raise GeoladderError(f"{bench.archive} has no validation patch for {task}; check its *_val_* files")
    return Subset(pd.concat(train.values(), ignore_index=True), pd.concat(val.values(), ignore_index=True))


def _draw_split(bench: Bench, task: str, split: Split, n: int, seed: int) -> dict[str, pd.DataFrame]:
    """First n patches of each bucket's order; fewer where the bucket has fewer."""
    subset = {}
    for bucket, rows in bench.pool(task, split).groupby("bucket", sort=False):
        place = list(BUCKETS).index(str(bucket))
        rng = np.random.default_rng([seed, place, crc32(task.encode()), ("train", "val").index(split)])
        walk = rows.iloc[rng.permutation(len(rows))]
        if min_density := TASKS[task].min_density:
            walk = _enriched(bench, task, walk, rng.random(len(rows)), n, min_density[split])
        subset[str(bucket)] = walk.iloc[:n]
    return subset


def _enriched(
    bench: Bench, task: str, walk: pd.DataFrame, chance: np.ndarray, n: int, min_density: float
) -> pd.DataFrame:
    """Patches of a walk that are dense or lucky, until there are n; one chance per place keeps prefixes nested."""
    kept: list[pd.DataFrame] = []
    for start in range(0, len(walk), WALK):
        rows = walk.iloc[start : start + WALK]
        labels = bench.labels(task, rows)
        labelled = TASKS[task].valid(labels)
        total = labels.sum(axis=(1, 2), where=labelled)
        dense = total > min_density * labelled.sum(axis=(1, 2))
        kept.append(rows[dense | (chance[start : start + WALK] < KEEP_SPARSE)])
        if sum(map(len, kept)) >= n:
            break
    return pd.concat(kept)


def _too_few(bench: Bench, task: str, n: int, seed: int, short: dict[str, int]) -> str:
    pool = bench.pool(task, "train")
    if pool.empty:
        return (
            f"{bench.archive} has no training patch with labels for {task}; check its "
            f"*_label_{TASKS[task].label}.npy files"
        )
    sizes = pool["bucket"].value_counts()
    bucket, drawable = min(short.items(), key=lambda item: item[1])
    enriched = f", of which {drawable} are drawn at this seed" if TASKS[task].min_density else ""
    return (
        f"n = {n} for {task} (seed {seed}) is more than bucket '{bucket}' has: its pool is {sizes[bucket]} training "
        f"patches{enriched}; the largest n allowed is {drawable}. Lower n, or add tiles to the bench"
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


def read_official(path: Path, bench: Bench, task: str) -> Subset:
    """Read an index file of the bench, `indices_<date>_128_10M_<task>_<n>.json`.

    The file is JSON; by bucket, it has train_indices and val_indices (positions in the bucket's pool), and
    length_multi_array_train and length_multi_array_val (pool sizes). GeoladderError where the file is no such index,
    or was made for other files than `bench` has.
    """
    try:
        buckets = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise GeoladderError(f"{path} is no index file of PhilEO Bench ({problem})") from None
    if not isinstance(buckets, dict) or not buckets:
        raise GeoladderError(f"{path} is no index file of PhilEO Bench: an object by bucket is expected")
    return Subset(*(_official_split(path, buckets, bench, task, split) for split in ("train", "val")))


def _official_split(path: Path, buckets: dict, bench: Bench, task: str, split: Split) -> pd.DataFrame:
    pool = bench.pool(task, split)
    chosen = []
    for bucket, entry in buckets.items():
        rows = pool[pool["bucket"] == bucket]
        try:
            positions = np.array(entry[f"{split}_indices"], np.int64)
            length = int(entry[f"length_multi_array_{split}"])
        except (KeyError, TypeError, ValueError) as problem:
            raise GeoladderError(
                f"{path}, bucket '{bucket}': {split} entries are unusable ({problem!r})"
            ) from None
        if length != len(rows):
            raise GeoladderError(
                f"{path} was made for {length} {split} patches in bucket '{bucket}', but {bench.archive} has "
                f"{len(rows)} for {task}; use the index file of this edition of the bench (the 2025 files leave out "
                "Israel), or draw by seed: leave out bench.indices"
            )
        if positions.size and not (0 <= positions.min() and positions.max() < length):
            raise GeoladderError(f"{path}, bucket '{bucket}': {split} positions must lie in 0..{length - 1}")
        chosen.append(rows.iloc[positions])
    subset = pd.concat(chosen, ignore_index=True)
    if subset.empty:
        raise GeoladderError(
            f"{path} names no {split} patch of {task}; use another index file, or draw by seed"
        )
    return subset
