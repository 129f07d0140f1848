"""Batches of pretraining, whatever they are made from: standardised pixels, masks and truth, by one assembler.

Here is the one place where digital numbers (DN) become reflectance. Masks hide whole blocks, an exact share of each
chip.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args

import numpy as np
import torch
from torch.nn import functional

from geoladder.data.labels.bands import BANDS, BANDS_10M, BANDS_20M, DN_PER_REFLECTANCE
from geoladder.errors import GeoladderError
from geoladder.registry.target import Places
from geoladder.runs.digest import intact
from geoladder.runs.remake import remake
from geoladder.study.pretraining import Objective
from geoladder.study.specs import PretrainSpec

DN = np.ndarray | torch.Tensor
"""Digital numbers as stored."""
CLIP_SIGMA = 10.0
"""Standardised reflectance beyond this is a glint or a defect; it must not rule the loss."""

BRIGHTEST = 6.5535
"""The reflectance that the largest DN says."""

Transform = Literal["sqrt", "linear"]


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation by band, `BANDS` order, of (transformed) reflectance."""

    mean: list[float]
    std: list[float]

    def check(self, bands: int, name: str) -> None:
        """Raise ValueError unless each band has a mean and a deviation that reflectance can have."""
        for part, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != bands:
                raise ValueError(f"{part} of {name} has {len(values)} numbers for {bands} bands")
            lowest = 0.0 if part == "mean" else np.finfo(np.float32).tiny
            if strange := [value for value in values if not lowest <= value <= BRIGHTEST]:
                raise ValueError(
                    f"{part} of {name} is {strange[0]} in a band; {lowest:g} to {BRIGHTEST} is possible"
                )


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
        """From the dictionary `as_dict` gives; KeyError, TypeError or ValueError if it is another."""
        stats = cls(**{**raw, "linear": Moments(**raw["linear"]), "sqrt": Moments(**raw["sqrt"])})
        for name in get_args(Transform):
            getattr(stats, name).check(len(stats.bands), f"{name} reflectance")
        return stats

    def as_dict(self) -> dict:
        """As plain numbers, for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> Self:
        """Read the stats.json that a run's spec names by its `fingerprint`.

        Raises:
            GeoladderError: the file is missing, damaged, of another study, or holds something else.
        """
        try:
            stats = cls.from_dict(json.loads(intact(path, fingerprint).read_text()))
        except FileNotFoundError:
            raise GeoladderError(f"no band statistics at {path}; write them with `geoladder stats`") from None
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise GeoladderError(f"{path} holds no band statistics ({problem}); {remake(path)}") from None
        if stats.fingerprint != fingerprint:
            raise GeoladderError(
                f"{path} is of another study: its fingerprint is {stats.fingerprint}, but {fingerprint} is wanted; "
                f"{remake(path)}"
            )
        if tuple(stats.bands) != BANDS:
            raise GeoladderError(f"{path} is of the bands {stats.bands}; expected {list(BANDS)}")
        return stats

    def standardise(self, reflectance: torch.Tensor, transform: Transform) -> torch.Tensor:
        """(N, 10, H, W) float32 reflectance >= 0 to zero mean and unit variance by band."""
        moments = self.sqrt if transform == "sqrt" else self.linear
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=reflectance.device).view(1, -1, 1, 1)
            for values in (moments.mean, moments.std)
        )
        return (transformed(reflectance, transform) - mean) / std

    def model_input(
        self, dn10: DN, dn20: DN | None, offset_dn: DN | int, transform: Transform
    ) -> torch.Tensor:
        """Stored DN, as `to_reflectance` takes it, to what every model sees.

        Returns:
            (N, 10, H, W) float32 standardised reflectance at 10 m, clipped at `CLIP_SIGMA`.
        """
        reflectance = to_reflectance(dn10, dn20, offset_dn)
        return self.standardise(reflectance, transform).clamp_(-CLIP_SIGMA, CLIP_SIGMA)


def transformed(reflectance: torch.Tensor, transform: Transform) -> torch.Tensor:
    """Reflectance of any shape as `transform` has it: as it is, or the square root of what is not negative."""
    return reflectance.clamp(min=0).sqrt() if transform == "sqrt" else reflectance


class DNBatch(NamedTuple):
    """Samples as stored; goes straight into `to_reflectance`."""

    dn10: np.ndarray
    """(N, 4, P, P) uint16."""
    dn20: np.ndarray
    """(N, 6, P/2, P/2) uint16."""
    offset_dn: np.ndarray
    """(N,) int64, to subtract from valid pixels."""


class PretrainBatch(NamedTuple):
    """One batch of pretraining.

    Attributes:
        pixels: (B, 10, H, W) float32 standardised reflectance.
        mask: (B, 1, H, W) bool, True where hidden.
        targets: truth of each target by its name, (B, ...) float32 or int64; and, of the oracle, labels of each task
            by its name, (B, H, W) as the task's `read` gives them.
    """

    pixels: torch.Tensor
    mask: torch.Tensor
    targets: dict[str, torch.Tensor]

    def to(self, device: torch.device | str) -> Self:
        """The batch on a device."""
        targets = {name: truth.to(device) for name, truth in self.targets.items()}
        return type(self)(self.pixels.to(device), self.mask.to(device), targets)

    def chunk(self, passes: int) -> list[Self]:
        """The batch in so many equal parts, one after another."""
        pixels, mask = self.pixels.chunk(passes), self.mask.chunk(passes)
        truth = {name: values.chunk(passes) for name, values in self.targets.items()}
        return [
            type(self)(pixels[part], mask[part], {name: values[part] for name, values in truth.items()})
            for part in range(passes)
        ]


class Source(Protocol):
    """Training samples: chips cut before, or crops read from tiles."""

    side_px: int
    """Side of a sample, 10 m pixels."""

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[PretrainBatch]:
        """Endless batches from `first_step` on; of several ranks, each gets its slice of the same global batch.

        Raises:
            GeoladderError: the ranks cannot share a batch evenly, or too many tiles are unusable.
        """
        ...

    def priors(self) -> dict[str, list[float]]:
        """Outputs, by task of the objective, that predict the mean of the training labels; nothing without tasks."""
        ...

    def facts(self, samples: int) -> dict[str, Any]:
        """What a run of so many samples has seen: at least `unique_chips` and `unique_pixels`."""
        ...


def assemble(
    spec: PretrainSpec, stats: BandStats, dn: DNBatch, places: Places, mask: torch.Tensor
) -> PretrainBatch:
    """A run's batch of N samples under `mask` (N, 1, P, P): pixels as models see them, and the truth of targets."""
    return PretrainBatch(stats.model_input(*dn, spec.transform), mask, truth_of(spec.objective, places))


def truth_of(objective: Objective, places: Places) -> dict[str, torch.Tensor]:
    """Truth of each target of an objective at N places by its name, (N, ...) float32 or int64."""
    return {
        name: torch.from_numpy(use.entry.encode(use.settings, places))
        for name, use in objective.targets.items()
    }


def step_masks(spec: PretrainSpec, side_px: int, step: int) -> torch.Tensor:
    """Masks of one step's global batch, (batch, 1, side_px, side_px) bool, True where hidden."""
    return seeded_masks(spec.batch, side_px, spec.objective, [spec.seed, step])


def seeded_masks(samples: int, side_px: int, objective: Objective, key: list[int]) -> torch.Tensor:
    """Masks that `key` draws, (samples, 1, side_px, side_px) bool, True where hidden."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(seed)
    return block_masks(samples, side_px, side_px, objective.mask_block_px, objective.mask_ratio, generator)


def block_masks(
    batch: int, height_px: int, width_px: int, block_px: int, ratio: float, generator: torch.Generator
) -> torch.Tensor:
    """Hide the same number of blocks in every chip, drawn uniformly without replacement by a CPU `generator`.

    A share `ratio` of blocks is hidden, rounded to whole blocks; at least one is hidden and one stays visible. A
    ratio of 0 hides nothing.

    Returns:
        (batch, 1, height_px, width_px) bool, True where hidden.

    Raises:
        GeoladderError: blocks do not tile the chip, or a chip has fewer than two blocks.
    """
    if height_px % block_px or width_px % block_px or height_px * width_px < 2 * block_px**2:
        raise GeoladderError(
            f"mask blocks of {block_px} px do not tile chips of {height_px} x {width_px} px; "
            "pretrain.objective.mask_block_px must divide cleaning.chip_px"
        )
    rows, columns = height_px // block_px, width_px // block_px
    hidden = min(max(round(ratio * rows * columns), 1), rows * columns - 1) if ratio else 0
    order = torch.rand(batch, rows * columns, generator=generator).argsort(dim=1)
    blocks = (order < hidden).view(batch, 1, rows, columns)
    return blocks.repeat_interleave(block_px, 2).repeat_interleave(block_px, 3)


def to_reflectance(dn10: DN, dn20: DN | None, offset_dn: DN | int) -> torch.Tensor:
    """Turn stored DN into surface reflectance at 10 m: max(DN - offset, 0) / 10000.

    Negative reflectance is clipped to 0, and nodata (DN 0) stays 0. Bands of 20 m are resampled bilinearly.
    GeoladderError where band counts or sizes do not fit together.

    Args:
        dn10: (N, 4, P, P) uint16, B02 B03 B04 B08; or all ten bands at 10 m, (N, 10, P, P), with dn20 None.
        dn20: (N, 6, P/2, P/2) uint16, B05 B06 B07 B8A B11 B12; or None.
        offset_dn: DN to subtract, (N,) or one number.

    Returns:
        (N, 10, P, P) float32 reflectance, 0..1 for most surfaces (snow and clouds exceed 1), bands in `BANDS` order,
        on the device of `dn10`.
    """
    fine = _subtract(dn10, offset_dn)
    if dn20 is None:
        if fine.shape[1] != len(BANDS):
            raise GeoladderError(
                f"without 20 m bands, 10 bands at 10 m are needed; got shape {tuple(dn10.shape)}"
            )
        return fine
    coarse = _subtract(dn20, offset_dn)
    side = tuple(2 * length for length in coarse.shape[2:])
    if fine.shape[1] != len(BANDS_10M) or coarse.shape[1] != len(BANDS_20M) or tuple(fine.shape[2:]) != side:
        raise GeoladderError(
            f"10 m bands {tuple(dn10.shape)} and 20 m bands {tuple(dn20.shape)} do not fit: "
            "(N, 4, P, P) and (N, 6, P/2, P/2) are needed"
        )
    coarse = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([fine, coarse], dim=1)


def _subtract(dn: DN, offset_dn: DN | int) -> torch.Tensor:
    stored = dn.float() if isinstance(dn, torch.Tensor) else torch.from_numpy(dn.astype(np.float32))
    offset = torch.as_tensor(offset_dn, dtype=torch.float32, device=stored.device).reshape(-1, 1, 1, 1)
    return (stored - offset).clamp_(min=0).div_(DN_PER_REFLECTANCE)
