"""The learning rate of a fine-tuning step: a warm-up, then a cosine, a plateau rule, or nothing.

A rate is a function of the step and of the validations so far, so a resumed run needs no state of a scheduler.
"""

import math

from geoladder.study.recipe import Recipe
from geoladder.training.settling import Curve, stands_still
from geoladder.training.trainer import cosine_with_warmup

GAMMA = 10.0
"""By which an exponential warm-up multiplies the rate each epoch."""


class Schedule:
    """Rates of one run: peak rate `lr`, at most `ceiling` steps, `patches` training patches."""

    def __init__(self, recipe: Recipe, lr: float, ceiling: int, patches: int) -> None:
        self._recipe, self._lr = recipe, lr
        self._steps_per_epoch = patches / recipe.batch
        if recipe.warmup == "linear":
            self._warmup = math.floor(ceiling * recipe.warmup_share)
        else:
            self._warmup = math.ceil(recipe.warmup_epochs * self._steps_per_epoch)
        self._cosine = cosine_with_warmup(ceiling - self._warmup, 0.0)

    def rate(self, step: int, curve: Curve) -> float:
        """Learning rate of the optimiser step after `step` others, given the validations up to it."""
        if step < self._warmup:
            return self._lr * self._risen(step)
        if self._recipe.schedule_name == "cosine":
            return self._lr * self._cosine(step - self._warmup)
        if self._recipe.schedule_name == "constant":
            return self._lr
        lowered = self._lr * self._recipe.plateau_factor ** self._reductions(curve)
        return max(lowered, min(self._recipe.min_lr, self._lr))

    def _risen(self, step: int) -> float:
        """Share of the peak rate that a step of the warm-up has."""
        if self._recipe.warmup == "linear":
            return (step + 1) / (self._warmup + 1)
        return GAMMA ** (math.floor(step / self._steps_per_epoch) - self._recipe.warmup_epochs)

    def _reductions(self, curve: Curve) -> int:
        """How often the rate was lowered: each time one validation more than `plateau_patience` brought no fall.

        As torch's ReduceLROnPlateau, but for what counts as a fall (see `settling`). The warm-up counts for nothing.
        """
        window = self._recipe.plateau_patience + 1
        losses = [row["val_loss"] for row in curve]
        since = sum(row["step"] < self._warmup for row in curve)
        count = 0
        for end in range(len(losses) + 1):
            if end - since >= window and stands_still(losses[:end], window, self._recipe.tolerance):
                since, count = end, count + 1
        return count
