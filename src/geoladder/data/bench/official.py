"""Few-shot subsets of the index files that PhilEO Bench published, `indices_<date>_128_10M_<task>_<n>.json`."""

from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.data.bench.files import Side
from geoladder.data.bench.nshot import Subset
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.text import read_object


def read_official(path: Path, bench: Bench, task: str) -> Subset:
    """Read an index file of the bench.

    The file is JSON; by bucket, it has train_indices and val_indices (positions in the bucket's pool), and
    length_multi_array_train and length_multi_array_val (pool sizes). GeoladderError where the file is no such index,
    or was made for other files than `bench` has.
    """
    try:
        buckets = read_object(path)
    except GeoladderError as problem:
        raise GeoladderError(f"{path} is no index file of PhilEO Bench ({problem})") from None
    if not buckets:
        raise GeoladderError(f"{path} is no index file of PhilEO Bench: an object by bucket is expected")
    return Subset(*(_side(path, buckets, bench, task, side) for side in ("train", "val")))


def _side(path: Path, buckets: dict, bench: Bench, task: str, side: Side) -> pd.DataFrame:
    pool = bench.pool(task, side)
    chosen = []
    for bucket, entry in buckets.items():
        rows = pool[pool["bucket"] == bucket]
        try:
            positions = np.array(entry[f"{side}_indices"], float)
            if positions.ndim != 1 or (positions % 1 != 0).any():
                raise ValueError("positions are a list of whole numbers")
            positions = positions.astype(np.int64)
            length = int(entry[f"length_multi_array_{side}"])
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
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
