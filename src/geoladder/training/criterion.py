"""What a fine-tuning run minimises, and what its model's outputs then mean.

Losses are means over labelled pixels. Parts of a batch (passes, devices, chunks of the validation set) hold unequal
numbers of these, so a part's mean is always weighted by its `weight`: then sums over parts are exact.
"""

from torch import Tensor

from geoladder.registry.task import Task
from geoladder.study.recipe import Recipe


class Criterion:
    """The loss of one run: of its task, or the squared error of raw outputs; classes weighted, or not.

    `labels` (N, P, P) are those of the training patches.
    """

    def __init__(self, task: Task, recipe: Recipe, labels: Tensor) -> None:
        self._task, self._is_raw = task, recipe.loss == "mse"
        self.prior = task.raw_prior(labels) if self._is_raw else task.prior(labels)
        """Biases of an output layer that predicts the mean of the training labels everywhere, one per output."""
        self._weights = None if recipe.class_weights == "none" else task.class_weights(labels)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of outputs (N, outputs, P, P) float32 over labelled pixels; 0 where there is none."""
        if self._is_raw:
            return self._task.raw_loss(outputs, labels, self._on(labels))
        return self._task.loss(outputs, labels, self._on(labels))

    def weight(self, labels: Tensor) -> float:
        """What the mean is over: the number of labelled pixels, or the sum of their weights."""
        valid = self._task.valid(labels)
        if self._weights is None:
            return float(valid.sum())
        weights = self._on(labels)
        assert weights is not None
        return float(weights[labels[valid]].double().sum())

    def prediction(self, outputs: Tensor) -> Tensor:
        """What is predicted, as `Task.prediction` says it."""
        return self._task.raw_prediction(outputs) if self._is_raw else self._task.prediction(outputs)

    def _on(self, labels: Tensor) -> Tensor | None:
        return None if self._weights is None else self._weights.to(labels.device)
