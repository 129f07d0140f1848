"""Ridge regression from sums over pixels, and the choice of its strength by leaving patches out.

Sums of parts add up and can be taken away again, so a fit without a patch needs no pixel of the others. Features are
standardised by the pixels of the fit itself, and the intercept is free. The strength is relative to the Gram matrix
of standardised features divided by its pixels, so it means the same at any number of pixels and for any encoder
(Hoerl and Kennard, 1970). What is left out is whole patches, since neighbouring pixels are too alike (Roberts et al.,
2017, doi 10.1111/ecog.02881).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import torch
from torch import Tensor

CONSTANT = 1e-10
"""A variance below this share of the mean square is rounding: such a feature says nothing, and its weight is 0."""


@dataclass(frozen=True)
class Sums:
    """Sums over pixels, float64, of F features with a constant 1 after them and of C targets.

    Attributes:
        gram: (F + 1, F + 1), of products of features; the last number counts pixels.
        cross: (F + 1, C), of products of features and targets.
        squares: (), of squared targets.
    """

    gram: Tensor
    cross: Tensor
    squares: Tensor

    @classmethod
    def of(cls, features: Tensor, targets: Tensor) -> Self:
        """Sums of N pixels: features (N, F), targets (N, C)."""
        ones = features.new_ones(len(features), 1)
        x = torch.cat([features, ones, targets.to(features)], 1).double()
        products, split = x.T @ x, features.shape[1] + 1
        return cls(products[:split, :split], products[:split, split:], products[split:, split:].trace())

    def __add__(self, other: "Sums") -> "Sums":
        """Sums of the pixels of both."""
        return Sums(self.gram + other.gram, self.cross + other.cross, self.squares + other.squares)

    def __sub__(self, other: "Sums") -> "Sums":
        """Sums of the pixels of this without those of `other`, which are among them."""
        return Sums(self.gram - other.gram, self.cross - other.cross, self.squares - other.squares)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return int(self.gram[-1, -1])

    def squared_error(self, weights: Tensor) -> Tensor:
        """Summed squared error (S,) on these pixels of S linear models (S, F + 1, C)."""
        products = (weights * (self.gram @ weights - 2 * self.cross)).sum((1, 2))
        return products + self.squares


def ridge(sums: Sums, strengths: Tensor) -> Tensor:
    """Weights (S, F + 1, C) on features as they are, the intercept last, for S positive strengths (S,).

    At strength s they minimise the mean squared error plus s times the squared weights of standardised features. One
    eigendecomposition serves all strengths: 10 F**3 operations.
    """
    pixels = sums.gram[-1, -1]
    mean, target_mean = sums.gram[-1, :-1] / pixels, sums.cross[-1] / pixels
    covariance = sums.gram[:-1, :-1] / pixels - mean.outer(mean)
    varies = covariance.diagonal() > CONSTANT * sums.gram.diagonal()[:-1] / pixels
    to_standard = torch.where(varies, covariance.diagonal().clamp(min=0).rsqrt(), 0)
    values, vectors = torch.linalg.eigh(covariance * to_standard.outer(to_standard))
    slope = (sums.cross[:-1] / pixels - mean.outer(target_mean)) * to_standard[:, None]
    shrunk = vectors.T @ slope / (values.clamp(min=0) + strengths[:, None])[..., None]
    weights = to_standard[:, None] * (vectors @ shrunk)
    return torch.cat([weights, (target_mean - mean @ weights)[:, None]], 1)


@dataclass
class Part:
    """Patches that are left out together: sums of their pixels and, where classes are told apart, some pixels.

    Attributes:
        sums: of all pixels; None before any.
        samples: pairs of features (M, F) and class (M,) of some pixels, patch by patch; empty for a density.
    """

    sums: Sums | None = None
    samples: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, sums: Sums, sample: tuple[Tensor, Tensor] | None) -> None:
        """Add a patch: sums of its pixels, and its sample where classes are told apart."""
        self.sums = sums if self.sums is None else self.sums + sums
        if sample is not None:
            self.samples.append(sample)

    def error(self, weights: Tensor) -> Tensor:
        """Error (S,) of S linear models (S, F + 1, C): wrong samples; without samples, the summed squared error."""
        if not self.samples:
            return self.sums.squared_error(weights) if self.sums else weights.new_zeros(len(weights))
        features = torch.cat([features for features, _ in self.samples])
        classes = torch.cat([classes for _, classes in self.samples])
        scores = features.to(weights) @ weights[:, :-1] + weights[:, -1:]
        return (scores.argmax(-1) != classes).sum(1).to(weights)

    @property
    def judged(self) -> int:
        """Pixels that `error` is a sum over."""
        pixels = self.sums.pixels if self.sums else 0
        return sum(len(classes) for _, classes in self.samples) if self.samples else pixels


class Head(NamedTuple):
    """A linear model, with the strength that patches left out have chosen for it."""

    weights: Tensor
    """(F + 1, C) float64 on features as they are, the intercept last."""
    strength: float
    left_out_error: float | None
    """At this strength, on patches left out: mean squared error of a density, share of wrong pixels of classes. None
    where there was but one part."""


def choose_head(parts: Sequence[Part], strengths: Sequence[float]) -> Head:
    """Fit all parts at the strength whose fits without one part err least on that part, summed over parts.

    At least one part has pixels. A single one leaves nothing to fit without it: the middle strength is then taken.
    """
    labelled = [part for part in parts if part.sums]
    sums = [part.sums for part in labelled if part.sums]
    total = sums[0]
    for more in sums[1:]:
        total = total + more
    candidates = torch.tensor(strengths).to(total.gram)
    if len(labelled) == 1:
        best, left_out_error = len(strengths) // 2, None
    else:
        fits = (ridge(total - part, candidates) for part in sums)
        errors = torch.stack([part.error(fit) for part, fit in zip(labelled, fits, strict=True)]).sum(0)
        best = int(errors.argmin())
        left_out_error = float(errors[best]) / sum(part.judged for part in labelled)
    weights = ridge(total, candidates[best : best + 1])[0]
    return Head(weights, strengths[best], left_out_error)
