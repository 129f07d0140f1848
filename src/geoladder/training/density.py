"""Tasks that predict a share of each pixel: a density in 0..1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from geoladder.registry.task import Display, Layer, Task

if TYPE_CHECKING:
    from torch import Tensor

FRACTION_MAX = 1.5
"""A stored density above this is in m2 of a 100 m2 pixel. Fractions may exceed 1 a little."""
PATCHES_AT_ONCE = 256
LEGACY_BATCH = 64
"""Patches per batch of the original evaluation, whose RMSE is the root of an unweighted mean over batches."""
CONSTANT = 1e-13
"""Labels whose squared deviation is below this share of their squares are constant but for rounding."""
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
        """1 for fractions, 0.01 for m2 of a 100 m2 pixel; reads only as far as it takes to see which."""
        parts = (stored[start : start + PATCHES_AT_ONCE] for start in range(0, len(stored), PATCHES_AT_ONCE))
        return 0.01 if any(bool((part > FRACTION_MAX).any()) for part in parts) else 1.0

    def read(self, stored: np.ndarray, scale: float) -> np.ndarray:
        """Densities, float32 in 0..1; a pixel that is not a number has none of the thing, as in the bench."""
        return np.clip(np.nan_to_num(stored.astype(np.float32)) * np.float32(scale), 0.0, 1.0)

    def valid(self, labels: "Tensor") -> "Tensor":
        """Every pixel that is a number."""
        return ~labels.isnan()

    def prior(self, labels: "Tensor") -> list[float]:
        """Logit of the mean density, kept off 0 and 1."""
        return [float(labels.double().mean().clamp(*PRIOR_LIMITS).logit())]

    def loss(self, logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
        """Cross-entropy per pixel between densities.

        It has the same minimiser as the squared error (both are proper), and a far smaller spread over seeds where
        labels are few.
        """
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(logits.float()[:, 0], labels)

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

    def constants(self, training: np.ndarray, labels: "Tensor") -> dict[str, "Tensor"]:
        """Nothing anywhere, and the mean density everywhere: (N, P, P)."""
        mean = float(np.float32(training.mean(dtype=np.float64)))
        return {"zero": labels.new_zeros(labels.shape), "mean": labels.new_full(labels.shape, mean)}

    def display(self, stored: np.ndarray) -> Display:
        """Densities from 0 to 1, or to the largest stored number."""
        return Display(stored, self.palette, (0.0, max(1.0, float(np.nanmax(stored)))))

    @property
    def layer(self) -> Layer:
        """Densities of 32 bits; a pixel without one is not a number."""
        return Layer("float32", float("nan"), {})

    def stored(self, maps: np.ndarray) -> np.ndarray:
        """The densities themselves, float32."""
        return maps.astype(np.float32, copy=False)
