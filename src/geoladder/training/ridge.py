"""Ridge regression from sums over pixels, and the choice of its strength by leaving patches out.

Sums of parts add up and can be taken away again, so that a fit without a patch needs no pixel of the others. Features
are standardised by the pixels of the fit itself and the intercept is free; the strength is relative to the Gram matrix
of standardised features divided by its pixels, which makes it mean the same at any number of pixels and for any
encoder (Hoerl and Kennard, 1970). Leaving out what belongs together, and not single pixels, follows Roberts et al.
(2017, doi 10.1111/ecog.02881): neighbours are too alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

CONSTANT = 1e-10
"""Variance below this share of its mean square is rounding: such a feature says nothing, and its weight is 0."""


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
        x, y = features.double(), targets.double()
        x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        return cls(x.T @ x, x.T @ y, y.square().sum())

    def __add__(self, other: "Sums") -> "Sums":
        """Sums of the pixels of both."""
        return Sums(self.gram + other.gram, self.cross + other.cross, self.squares + other.squares)

    def __sub__(self, other: "Sums") -> "Sums":
        """Sums of the pixels of this without those of `other`, which are among them."""
        return Sums(self.gram - other.gram, self.cross - other.cross, self.squares - other.squares)

    @property
    def pixels(self) -> float:
        """Number of pixels."""
        return float(self.gram[-1, -1])

    def squared_error(self, weights: Tensor) -> Tensor:
        """Summed squared error (S,) of linear models (S, F + 1, C), the intercept last, on these pixels."""
        products = (weights * (self.gram @ weights)).sum((1, 2)) - 2 * (weights * self.cross).sum((1, 2))
        return products + self.squares


def ridge(sums: Sums, strengths: Tensor) -> Tensor:
    """Weights (S, F + 1, C) on features as they are, the intercept last, for S positive strengths.

    At strength s they minimise the mean squared error, plus s times the squared weights of standardised features.
    """
    pixels = sums.gram[-1, -1]
    mean, target_mean = sums.gram[-1, :-1] / pixels, sums.cross[-1] / pixels
    square = sums.gram.diagonal()[:-1] / pixels
    covariance = sums.gram[:-1, :-1] / pixels - mean.outer(mean)
    varies = covariance.diagonal() > CONSTANT * square
    scale = torch.where(varies, covariance.diagonal(), 1).sqrt()
    correlation = torch.where(varies.outer(varies), covariance / scale.outer(scale), 0)
    slope = (sums.cross[:-1] / pixels - mean.outer(target_mean)) * (varies / scale)[:, None]
    penalised = correlation + strengths[:, None, None] * torch.eye(len(mean)).to(correlation)
    factors = torch.linalg.cholesky(penalised)
    weights = torch.cholesky_solve(slope.expand(len(strengths), -1, -1), factors) / scale[:, None]
    return torch.cat([weights, (target_mean - mean @ weights)[:, None]], 1)


class Head(NamedTuple):
    """A linear model with the strength that parts left out have chosen for it."""

    weights: Tensor
    """(F + 1, C) on features as they are, the intercept last."""
    strength: float
    left_out_mse: float | None
    """At this strength, of targets of the parts left out; None where there was but one part."""


def choose_head(parts: Sequence[Sums], strengths: Sequence[float]) -> Head:
    """Fit all parts, at the strength whose fits without one part have the least squared error on that part.

    A single part leaves nothing to fit without it; the middle strength is then taken.
    """
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    candidates = total.gram.new_tensor(strengths)
    labelled = [part for part in parts if part.pixels]
    if len(labelled) < 2:
        chosen = sorted(strengths)[len(strengths) // 2]
        return Head(ridge(total, total.gram.new_tensor([chosen]))[0], chosen, None)
    errors = torch.stack([part.squared_error(ridge(total - part, candidates)) for part in labelled]).sum(0)
    best = int(errors.argmin())
    weights = ridge(total, candidates[best : best + 1])[0]
    return Head(weights, float(strengths[best]), float(errors[best]) / total.pixels)
