"""Tasks that predict a share of each pixel: a density in 0..1.

Unusual: files hold fractions or m2 of a 100 m2 pixel and say neither which, nor how a pixel without a label is
marked: as NaN, infinity, a negative number, 255, or any other number that is no density at the file's scale.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.registry.task import Display, Labels, Layer, Task

if TYPE_CHECKING:
    from torch import Tensor

FRACTION_MAX = 1.5
"""Fractions may exceed 1 a little, and m2 of a pixel 100; above 1.5 times that a number is no density."""
UNDERSHOOT = 1e-3
"""Fractions that resampling took so far below 0 are 0; lower ones mark pixels without a label."""
PATCHES_AT_ONCE = 256
FEW = 4
"""Different numbers that may all be marks; measurements have more."""
ENOUGH = 50_000
"""Positive numbers that tell a file's scale."""
STRAY_SHARE, AREA_SHARE = 0.01, 0.2
"""Of the positive numbers, those above 1.5 are strays in a file of fractions up to the first share, and make it one
of m2 from the second on, where areas are seldom below 1.5 m2."""
LEGACY_BATCH = 64
"""Patches per batch of the original evaluation, whose RMSE is the root of an unweighted mean over batches."""
CONSTANT = 1e-13
"""Labels whose squared deviation is below this share of their squares are constant but for rounding."""
WORST = 0.5
"""Error of the deepest colours."""
PRIOR_LIMITS = (1e-4, 1 - 1e-4)


@dataclass(frozen=True, kw_only=True)
class Density(Task):
    """A density task. Attributes as of `Task`, and `palette`, the colour map its labels are drawn with.

    Few-shot draws are enriched as the bench does: 0.005 and 0.01 are its thresholds.
    """

    error: str = "rmse"
    error_label: str = "Test RMSE (density)"
    skill: str = "r2"
    min_density: Mapping[str, float] | None = field(
        default_factory=lambda: MappingProxyType({"train": 0.005, "val": 0.01})
    )
    palette: str = "magma"
    measures: ClassVar[tuple[str, ...]] = ("mse", "rmse", "mae", "r2", "bias", "legacy_rmse")
    ordered: ClassVar[int] = 2

    @property
    def outputs(self) -> int:
        """One logit."""
        return 1

    def scale(self, stored: np.ndarray) -> float:
        """1 for fractions, 0.01 for m2 of a 100 m2 pixel, as most of a file's positive numbers say.

        Several whole numbers above 1 are m2. Numbers that repeat beside fractions do not count where they are the
        smallest or largest one above 1.5, or there are few: pixels without a label may be marked so. Raises
        GeoladderError where there are too many large numbers for strays and too few for areas, where different ones
        fit neither, or where one just above the scale repeats, as a mark does.
        """
        fractions, areas, others = _positive(stored)
        numbers, counts = np.unique(areas, return_counts=True)
        scale = 0.01 if areas.size else 1.0
        if fractions.size and stored.dtype.kind in "iu":
            scale = 0.01 if len(numbers) > 1 else 1.0
        elif fractions.size:
            ends = np.isin(numbers, (numbers.min(initial=np.inf), numbers.max(initial=0)))
            marks = (counts > 1) & (ends | (len(numbers) <= FEW))
            spread = int(counts[~marks].sum())
            share = spread / (fractions.size + spread)
            if STRAY_SHARE < share < AREA_SHARE:
                raise self._unclear(
                    f"of the positive numbers {1 - share:.1%} are fractions up to {FRACTION_MAX:g}, but {share:.1%} "
                    f"are different ones up to {100 * FRACTION_MAX:g}, as of m2 of a 100 m2 pixel"
                )
            scale = 0.01 if share >= AREA_SHARE else 1.0
        many = STRAY_SHARE * (fractions.size + areas.size + others.size)
        if others.size > many and len(np.unique(others)) > FEW:
            raise self._unclear(
                f"numbers run up to {others.max():g}, of neither fractions nor m2 of a 100 m2 pixel"
            )
        labels = areas if scale < 1 else fractions
        numbers, counts = np.unique(labels[labels > 1 / scale], return_counts=True)
        if counts.max(initial=0) > max(1, many):
            raise self._unclear(
                f"{numbers[counts.argmax()]:g} is above the whole pixel, and yet stands at {counts.max()} of "
                f"{labels.size} positive numbers"
            )
        return scale

    def _unclear(self, why: str) -> GeoladderError:
        return GeoladderError(
            f"the scale of {self.title.lower()} labels is unclear: {why}; write fractions or m2, and NaN for pixels "
            "without a label"
        )

    def read(self, stored: np.ndarray, scale: float) -> np.ndarray:
        """Densities, float32 in 0..1; NaN where the stored number is no density at this scale."""
        with np.errstate(over="ignore"):  # a huge number becomes infinite, which is no density either
            labels = stored.astype(np.float32) * np.float32(scale)
        usable = (labels >= -UNDERSHOOT) & (labels <= FRACTION_MAX)
        return np.where(usable, np.clip(labels, 0.0, 1.0), np.float32(np.nan))

    def valid(self, labels: Labels) -> Labels:
        """Every pixel that is a number."""
        return labels == labels  # false for NaN alone, of arrays and of tensors

    def prior(self, labels: "Tensor") -> list[float]:
        """Logit of the mean density, kept off 0 and 1."""
        return [float(labels.double().nanmean().clamp(*PRIOR_LIMITS).logit())]

    def loss(self, logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
        """Cross-entropy per labelled pixel between densities; 0, and not 0 / 0, for a batch without one.

        It has the same minimiser as the squared error (both are proper), and a far smaller spread over seeds where
        labels are few.
        """
        from torch.nn import functional

        valid = self.valid(labels)
        losses = functional.binary_cross_entropy_with_logits(
            logits.float()[:, 0], labels.nan_to_num(), valid.float(), reduction="sum"
        )
        return losses / valid.sum().clamp(min=1)

    def shares(self, labels: "Tensor") -> "Tensor":
        """The density."""
        return labels[:, None].float()

    def prediction(self, logits: "Tensor") -> "Tensor":
        """Densities (N, P, P)."""
        return logits[:, 0].sigmoid()

    def raw_prior(self, labels: "Tensor") -> list[float]:
        """The mean density."""
        return [float(labels.double().nanmean())]

    def raw_loss(self, outputs: "Tensor", labels: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
        """Mean squared error of outputs that are densities themselves, as the authors' bench has it."""
        valid = self.valid(labels)
        error = (outputs.float()[:, 0] - labels.nan_to_num()) * valid
        return error.square().sum() / valid.sum().clamp(min=1)

    def raw_prediction(self, outputs: "Tensor") -> "Tensor":
        """Densities (N, P, P), which may lie outside 0..1."""
        return outputs[:, 0]

    def as_map(self, predicted: "Tensor") -> "Tensor":
        """The densities themselves."""
        return predicted

    def sums(self, predicted: "Tensor", labels: "Tensor") -> np.ndarray:
        """Of each patch: labelled pixels, squared and absolute errors, labels and their squares, and two more.

        These are whether it has a labelled pixel, and its mean error.
        """
        pixels = labels.shape[1] * labels.shape[2]
        truth = labels.numpy().astype(np.float64).reshape(-1, pixels)
        valid = ~np.isnan(truth)
        error = np.where(valid, predicted.numpy().astype(np.float64).reshape(-1, pixels) - truth, 0.0)
        truth = np.where(valid, truth, 0.0)
        summed = (valid, error**2, np.abs(error), truth, truth**2)
        count, *sums = (values.sum(axis=1, dtype=np.float64) for values in summed)
        return np.stack((count, *sums, count > 0, error.sum(axis=1) / np.maximum(count, 1)), axis=1)

    def metrics(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Errors of density maps.

        Returns:
            `mse`, `rmse` (its root), `mae`, `r2` (1 - squared error / squared deviation from the set's own mean; NaN
            when the labels are constant), and `bias`, the mean error of a patch's mean density (positive: too dense).
        """
        pixels, squared, absolute, total, squares, patches, bias = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = squares - total**2 / pixels
            deviation = np.where(deviation > CONSTANT * squares, deviation, np.nan)
            return {
                "mse": squared / pixels,
                "rmse": np.sqrt(squared / pixels),
                "mae": absolute / pixels,
                "r2": 1 - squared / deviation,
                "bias": bias / patches,
            }

    def in_order(self, sums: np.ndarray) -> dict[str, float]:
        """`legacy_rmse`: root of the mean over batches of 64 patches, unweighted, as the bench's own code has it."""
        batches = [sums[i : i + LEGACY_BATCH].sum(axis=0) for i in range(0, len(sums), LEGACY_BATCH)]
        errors = [squared / pixels for pixels, squared in batches if pixels]
        return {"legacy_rmse": float(np.sqrt(np.mean(errors))) if errors else float("nan")}

    def constants(self, training: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Nothing anywhere, and the mean density everywhere: ()."""
        total, count = 0.0, 0
        for labels in training:
            total += float(np.nansum(labels, dtype=np.float64))
            count += int(self.valid(labels).sum())
        return {"zero": np.zeros((), np.float32), "mean": np.asarray(total / count, np.float32)}

    def display(self, stored: np.ndarray) -> Display:
        """Stored numbers from 0 to 1, or to the largest of them; pixels without a label stay empty.

        One map, which may be predicted, can be of no clear scale where its file is; then it counts as of fractions.
        """
        scale = 1.0
        with suppress(GeoladderError):
            scale = self.scale(stored[None])
        densities = self.read(stored, scale) / scale
        return Display(
            densities, self.palette, (0.0, max(1.0, np.max(densities, initial=0, where=densities > 0)))
        )

    def mistakes(self, predicted: np.ndarray, label: np.ndarray) -> Display:
        """Predicted minus true density, blue where it is too low and red where it is too high."""
        return Display(predicted - label, "RdBu_r", (-WORST, WORST))

    @property
    def layer(self) -> Layer:
        """Densities of 32 bits; a pixel without one is not a number."""
        return Layer("float32", float("nan"), {})

    def stored(self, maps: np.ndarray) -> np.ndarray:
        """The densities themselves, float32."""
        return maps.astype(np.float32, copy=False)


def _positive(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive finite numbers of evenly spaced patches until there are enough: up to 1.5, up to 150, and above."""
    fractions, areas, others = np.empty(0), np.empty(0), np.empty(0)
    stride = -(-len(stored) // PATCHES_AT_ONCE)
    for start in range(stride):
        part = stored[start::stride]
        part = part[(part > 0) & np.isfinite(part)]
        fractions = np.append(fractions, part[part <= FRACTION_MAX])
        areas = np.append(areas, part[(part > FRACTION_MAX) & (part <= 100 * FRACTION_MAX)])
        others = np.append(others, part[part > 100 * FRACTION_MAX])
        if fractions.size + areas.size >= ENOUGH:
            break
    return fractions, areas, others
