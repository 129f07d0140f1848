"""Few-shot subsets as PhilEO Bench's own code draws them, patch for patch.

The bench draws with Python's `random`, made anew with one seed for each bucket and each side, so buckets share draws:

- classes: `Random(12345).sample` of the positions of the bucket's pool, n of them;
- densities: a walk along `Random(12345).sample` of *all* positions (a permutation that depends on the size of the
  pool alone), which keeps a patch with a mean label above the task's `min_density` and, of the others, those for
  which `Random(156)` gives more than .75, until there are n. The validation walk goes on with the `Random(156)` of
  the training walk.

Validation patches, ceil(0.2 n), come from the bench's own validation files. Both are all a bucket has where it has
fewer. It follows that training patches of densities are nested in n, and those of classes as well where the pool is
much larger than n, as the published ones are (`sample` shuffles small pools in another way). Validation patches of
densities are not nested.

Sources: the published index files and the loader of the bench (`data_protocol.py`, edition of 2025). Of the index
files of 2023, the subsets of classes (n = 50, 500, 5000) and the order of the walk are reproduced; which patches a
walk leaves out hangs on labels, and is from the loader alone. A patch with a pixel that is not a number counts as
sparse there, and here.
"""

import math
from collections.abc import Iterable
from random import Random

import pandas as pd

from geoladder.data.bench.densities import Densities
from geoladder.data.bench.files import Side
from geoladder.data.bench.nshot import KEEP_SPARSE, VAL_SHARE, Subset, check_size
from geoladder.data.bench.reader import Bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS

ORDER_SEED, SPARSE_SEED = 12345, 156


def draw_as_phileo(bench: Bench, task: str, sizes: Iterable[int], allow_short: bool) -> dict[int, Subset]:
    """Subsets of the bench's own protocol by n; it has one draw, and no seed.

    GeoladderError as `nshot.draw`; with `allow_short`, a short bucket gives all it has, as in the bench.
    """
    sides: tuple[Side, Side] = ("train", "val")
    pools = {side: dict(iter(bench.pool(task, side).groupby("bucket", sort=False))) for side in sides}
    buckets = [_Bucket(bench, task, rows, pools["val"].get(name)) for name, rows in pools["train"].items()]
    subsets = {}
    for n in sizes:
        drawn = {str(name): bucket.draw(n) for name, bucket in zip(pools["train"], buckets, strict=True)}
        train = {name: subset.train_rows for name, subset in drawn.items()}
        check_size(bench, task, n, bench.pool(task, "train"), train, allow_short)
        val = pd.concat([subset.val_rows for subset in drawn.values()], ignore_index=True)
        if val.empty:
            raise GeoladderError(
                f"{bench.archive} has no validation patch for {task}; check its *_val_* files"
            )
        subsets[n] = Subset(pd.concat(train.values(), ignore_index=True), val)
    return subsets


class _Bucket:
    """One bucket's two walks, whose labels are read once for all n."""

    def __init__(self, bench: Bench, task: str, train: pd.DataFrame, val: pd.DataFrame | None) -> None:
        self._pools = {"train": train, "val": train.iloc[:0] if val is None else val}
        self._min_density = TASKS[task].min_density or {}
        if self._min_density:
            walks = {side: pool.iloc[_order(len(pool), len(pool))] for side, pool in self._pools.items()}
            self._walks = {side: (walk, Densities(bench, task, walk)) for side, walk in walks.items()}

    def draw(self, n: int) -> Subset:
        sparse = Random(SPARSE_SEED)
        sizes = {"train": n, "val": math.ceil(VAL_SHARE * n)}
        if self._min_density:
            return Subset(*(self._walk(side, size, sparse) for side, size in sizes.items()))
        return Subset(
            *(self._pools[side].iloc[_order(len(self._pools[side]), size)] for side, size in sizes.items())
        )

    def _walk(self, side: str, size: int, sparse: Random) -> pd.DataFrame:
        walk, densities = self._walks[side]
        kept: list[int] = []
        for place, density in enumerate(densities.whole()):
            if density > self._min_density[side] or sparse.random() > 1 - KEEP_SPARSE:
                kept.append(place)
            if len(kept) == size:
                break
        return walk.iloc[kept]


def _order(pool: int, size: int) -> list[int]:
    return Random(ORDER_SEED).sample(range(pool), min(size, pool))
