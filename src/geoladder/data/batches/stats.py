"""Mean and standard deviation of each band in reflectance, taken once and used by every model of a study.

Unusual: of bands as models see them, that is after harmonising and after 20 m bands were brought to 10 m, and both
for reflectance and for its square root. Sums run in float64 over a seeded draw of training chips.
"""

import logging
from pathlib import Path
from typing import get_args

import numpy as np

from geoladder.data.batches.batch import BandStats, Moments, Transform, to_reflectance, transformed
from geoladder.data.batches.chip_store import ChipStore
from geoladder.data.batches.tables import rows_of
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import write_json
from geoladder.study.specs import StatsSpec

log = logging.getLogger(__name__)

MAX_CHIPS = 4096
"""Chips read; 4 million pixels of each band at 32 px settle the moments to about one in a thousand."""
DRAW_SEED = 0
CHUNK = 256


def write_stats(spec: StatsSpec, folder: Path, out: Path) -> None:
    """Measure the chips of the spec's split in `folder` and write stats.json to `out`.

    At most `MAX_CHIPS` chips are read, a draw with a fixed seed.

    Raises:
        GeoladderError: no chips, or a band without variance.
    """
    store = ChipStore(folder, spec.chips)
    chips = rows_of(store.manifest, spec.split)
    if not chips.size:
        name = "training" if spec.split == "train" else "validation"
        raise GeoladderError(f"no {name} chips in {folder}; loosen `cleaning`, or change validation.share")
    if chips.size > MAX_CHIPS:
        chips = np.random.default_rng(DRAW_SEED).choice(chips, MAX_CHIPS, replace=False)
    sums: dict[Transform, np.ndarray] = {name: np.zeros((2, len(BANDS))) for name in get_args(Transform)}
    pixels = 0
    for start in range(0, chips.size, CHUNK):
        reflectance = to_reflectance(*store.read(np.sort(chips)[start : start + CHUNK]))
        pixels += reflectance.numel() // len(BANDS)
        for transform, total in sums.items():
            values = transformed(reflectance, transform).double()
            total += np.stack([values.sum((0, 2, 3)).numpy(), values.square().sum((0, 2, 3)).numpy()])
    linear, sqrt = (_settle(sums[name], pixels) for name in ("linear", "sqrt"))
    stats = BandStats(list(BANDS), linear, sqrt, pixels, spec.fingerprint)
    write_json(out, stats.as_dict())
    log.info("band statistics of %d chips, %d pixels", chips.size, pixels)


def _settle(sums: np.ndarray, pixels: int) -> Moments:
    mean = sums[0] / pixels
    variance = sums[1] / pixels - mean**2
    for band, value in zip(BANDS, variance, strict=True):
        if value <= 1e-12:
            raise GeoladderError(
                f"band {band} is the same in every training chip; check the archive's {band}"
            )
    return Moments(mean.tolist(), np.sqrt(variance).tolist())
