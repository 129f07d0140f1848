"""Mean labels of patches in the order a draw walks them, read only as far as it goes."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from geoladder.data.bench.reader import Bench

FIRST, MOST = 64, 1024
"""Patches read at a time: few at first, as most draws are small, then twice as many each time."""


class Densities:
    """Mean labels along a walk, read once, however often it is walked."""

    def __init__(self, bench: Bench, task: str, walk: pd.DataFrame) -> None:
        """`walk` is rows of `Bench.pool`, in the order of walking."""
        self._bench, self._task, self._walk = bench, task, walk
        self._known: dict[Callable[[np.ndarray], np.ndarray], list[float]] = {}

    def labelled(self) -> Iterator[float]:
        """Means over the labelled pixels of each patch; not a number where it has none."""
        return self._means(_labelled_mean)

    def whole(self) -> Iterator[float]:
        """Means over all pixels of each patch; not a number where one has no label."""
        return self._means(_whole_mean)

    def _means(self, mean: Callable[[np.ndarray], np.ndarray]) -> Iterator[float]:
        known = self._known.setdefault(mean, [])
        for place in range(len(self._walk)):
            if place == len(known):
                ahead = self._walk.iloc[place : place + min(max(FIRST, place), MOST)]
                known += self._bench.measure(self._task, ahead, mean).tolist()
            yield known[place]


def _labelled_mean(labels: np.ndarray) -> np.ndarray:
    flat = labels.reshape(len(labels), -1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(flat, axis=1, dtype=np.float64) / (~np.isnan(flat)).sum(axis=1))


def _whole_mean(labels: np.ndarray) -> np.ndarray:
    """In the labels' own precision, as the bench's code takes it."""
    return np.asarray(labels.reshape(len(labels), -1).mean(axis=1))
