"""Few-shot subsets of the index files that PhilEO Bench published, `indices_<date>_128_10M_<task>_<n>.json`."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.bounds import plain_file
from geoladder.data.bench.files import Side
from geoladder.data.bench.nshot import Subset
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError


def read_official(path: Path, bench: Bench, task: str) -> Subset:
    """Read an index file of the bench.

    The file is JSON; by bucket, it has train_indices and val_indices (positions in the bucket's pool), and
    length_multi_array_train and length_multi_array_val (pool sizes). GeoladderError where the file is no such index,
    or was made for other files than `bench` has.
    """
    try:
        buckets = json.loads(plain_file(path).read_text())
    except (OSError, ValueError) as problem:
        raise GeoladderError(f"{path} is no index file of PhilEO Bench ({problem})") from None
    if not isinstance(buckets, dict) or not buckets:
        raise GeoladderError(f"{path} is no index file of PhilEO Bench: an object by bucket is expected")
    return Subset(*(_side(path, buckets, bench, task, side) for side in ("train", "val")))


def _side(path: Path, buckets: dict, bench: Bench, task: str, side: Side) -> pd.DataFrame:
    pool = bench.pool(task, side)
    chosen = []
    for bucket, entry in buckets.items():
        rows = pool[pool["bucket"] == bucket]
        try:
            positions = np.array(entry[f"{side}_indices"], np.int64)
            length = int(entry[f"length_multi_array_{side}"])
        except (KeyError, TypeError, ValueError) as problem:
            raise GeoladderError(
                f"{path}, bucket '{bucket}': {side} entries are unusable ({problem!r})"
            ) from None
        if length != len(rows):
            raise GeoladderError(
                f"{path} was made for {length} {side} patches in bucket '{bucket}', but {bench.archive} has "
                f"{len(rows)} for {task}; use the index file of this edition of the bench (the 2025 files leave out "
                "Israel), or draw by seed: leave out bench.indices"
            )
        if positions.size and not (0 <= positions.min() and positions.max() < length):
            raise GeoladderError(f"{path}, bucket '{bucket}': {side} positions must lie in 0..{length - 1}")
        chosen.append(rows.iloc[positions])
    subset = pd.concat(chosen, ignore_index=True)
    if subset.empty:
        raise GeoladderError(
            f"{path} names no {side} patch of {task}; use another index file, or draw by seed"
        )
    return subset
