"""Mean and standard deviation of each band in reflectance, taken once and used by every model of a study.

Unusual: of bands as models see them, that is after harmonising and after 20 m bands were brought to 10 m, and both
for reflectance and for its square root. Sums run in float64 over a seeded draw of training chips.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from geoladder.data.batches.chip_store import ChipStore
from geoladder.data.labels.bands import BANDS, DN, to_reflectance
from geoladder.errors import GeoladderError
from geoladder.runs.atomic import atomic_path
from geoladder.study.specs import StatsSpec

log = logging.getLogger(__name__)

MAX_CHIPS = 4096
"""Chips chips; 4 million pixels of each band at 32 px settle the moments to about one in a thousand."""
DRAW_SEED = 0
CHUNK = 256
CLIP_SIGMA = 10.0
"""Standardised reflectance beyond this is a glint or a defect; it must not rule the loss."""

Transform = Literal["sqrt", "linear"]


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation by band, `BANDS` order, of (transformed) reflectance."""

    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class BandStats:
    """What turns stored DN and reflectance into the standardised input of a model."""

    bands: list[str]
    linear: Moments
    sqrt: Moments
    pixels: int
    fingerprint: str

    @classmethod
    def from_dict(cls, raw: dict) -> Self:
        """From the dictionary `as_dict` gives; KeyError or TypeError if it is another."""
        return cls(
            **{**raw, "linear": Moments(**raw["linear"]), "sqrt": Moments(**raw["sqrt"])},
        )

    def as_dict(self) -> dict:
        """As plain numbers, for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read stats.json.

        Raises:
            GeoladderError: the file is missing, or holds something else.
        """
        try:
            stats = cls.from_dict(json.loads(Path(path).read_text()))
        except FileNotFoundError:
            raise GeoladderError(f"no band statistics at {path}; write them with `geoladder stats`") from None
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise GeoladderError(
                f"{path} holds no band statistics ({problem}); delete it and run again"
            ) from None
        if tuple(stats.bands) != BANDS:
            raise GeoladderError(f"{path} is of the bands {stats.bands}; expected {list(BANDS)}")
        return stats

    def standardise(self, reflectance: torch.Tensor, transform: Transform) -> torch.Tensor:
        """(N, 10, H, W) float32 reflectance >= 0 to zero mean and unit variance by band."""
        mean, std = self._moments(transform, reflectance.device)
        return (_transformed(reflectance, transform) - mean) / std

    def model_input(
        self, dn10: DN, dn20: DN | None, offset_dn: DN | int, transform: Transform
    ) -> torch.Tensor:
        """Stored DN, as `to_reflectance` takes it, to what every model sees.

        Returns:
            (N, 10, H, W) float32 standardised reflectance at 10 m, clipped at `CLIP_SIGMA`.
        """
        reflectance = to_reflectance(dn10, dn20, offset_dn)
        return self.standardise(reflectance, transform).clamp_(-CLIP_SIGMA, CLIP_SIGMA)

    def _moments(self, transform: Transform, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        moments = self.sqrt if transform == "sqrt" else self.linear
        mean, std = (torch.tensor(values, dtype=torch.float32) for values in (moments.mean, moments.std))
        return mean.view(1, -1, 1, 1).to(device), std.view(1, -1, 1, 1).to(device)


def write_stats(spec: StatsSpec, folder: Path, out: Path) -> None:
    """Measure the chips of the spec's split in `folder` and write stats.json to `out`.

    At most `MAX_CHIPS` chips are read, a draw with a fixed seed.

    Raises:
        GeoladderError: no chips, or a band without variance.
    """
    store = ChipStore(folder)
    chips = store.rows_of(spec.split)
    if not chips.size:
        name = "training" if spec.split == "train" else "validation"
        raise GeoladderError(f"no {name} chips in {folder}; loosen `cleaning`, or change validation.share")
    if chips.size > MAX_CHIPS:
        chips = np.random.default_rng(DRAW_SEED).choice(chips, MAX_CHIPS, replace=False)
    sums: dict[Transform, np.ndarray] = {
        "linear": np.zeros((2, len(BANDS))),
        "sqrt": np.zeros((2, len(BANDS))),
    }
    pixels = 0
    for start in range(0, chips.size, CHUNK):
        reflectance = to_reflectance(*store.read(np.sort(chips)[start : start + CHUNK]))
        pixels += reflectance.numel() // len(BANDS)
        for transform, total in sums.items():
            values = _transformed(reflectance, transform).double()
            total += np.stack([values.sum((0, 2, 3)).numpy(), values.square().sum((0, 2, 3)).numpy()])
    stats = BandStats(
        list(BANDS), _settle(sums["linear"], pixels), _settle(sums["sqrt"], pixels), pixels, spec.fingerprint
    )
    with atomic_path(out) as path:
        path.write_text(json.dumps(stats.as_dict(), indent=2) + "\n")
    log.info("band statistics of %d chips, %d pixels", chips.size, pixels)


def _transformed(reflectance: torch.Tensor, transform: Transform) -> torch.Tensor:
    return reflectance.clamp(min=0).sqrt() if transform == "sqrt" else reflectance


def _settle(sums: np.ndarray, pixels: int) -> Moments:
    mean = sums[0] / pixels
    variance = sums[1] / pixels - mean**2
    for band, value in zip(BANDS, variance, strict=True):
        if value <= 1e-12:
            raise GeoladderError(
                f"band {band} is the same in every training chip; check the archive's {band}"
            )
    return Moments(mean.tolist(), np.sqrt(variance).tolist())
