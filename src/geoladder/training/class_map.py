"""Tasks that predict one of several classes at each pixel."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.registry.task import Display, Layer, Task

if TYPE_CHECKING:
    from torch import Tensor

NODATA = 0
"""Code of a pixel without a label."""
IGNORE = 255
"""Class of a pixel without a label."""
TRACE = 1e-6
"""Probability the constant first class leaves to each other class, so that its loss is finite."""


@dataclass(frozen=True, kw_only=True)
class ClassMap(Task):
    """A task of classes. Labels are int64 classes 0, 1, ... in the order of `codes`, 255 where there is none.

    Attributes:
        codes: stored number of each class, 1..255; 0 and NaN are no data.
        classes: name of each class.
        colours: of each class, `#rrggbb`.
    """

    codes: tuple[int, ...]
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    error: str = "error"
    error_label: str = "Test error (share of pixels)"
    skill: str = "accuracy"
    measures: ClassVar[tuple[str, ...]] = ("accuracy", "error", "miou", "macro_f1", "cross_entropy")

    def __post_init__(self) -> None:
        """Check the entry; raises GeoladderError that names the field."""
        super().__post_init__()
        for field in ("classes", "colours"):
            if len(getattr(self, field)) != len(self.codes):
                raise GeoladderError(
                    f"task '{self.name}' has {len(self.codes)} codes but {len(getattr(self, field))} {field}; "
                    "give one for each code"
                )
        if len(set(self.codes) & set(range(1, 256))) != len(self.codes) or not 2 <= len(self.codes) < IGNORE:
            raise GeoladderError(
                f"codes of task '{self.name}' are {self.codes}; two to 254 different whole numbers "
                "in 1..255 are allowed"
            )

    @property
    def outputs(self) -> int:
        """One logit per class."""
        return len(self.codes)

    def scale(self, stored: np.ndarray) -> float:
        """1: codes are what they are."""
        return 1.0

    def read(self, stored: np.ndarray, scale: float) -> np.ndarray:
        """Classes, int64, with 255 where there is no data; raises GeoladderError for a code of no class."""
        table = np.full(256, IGNORE, np.int64)
        table[list(self.codes)] = np.arange(len(self.codes))
        codes = np.nan_to_num(stored, nan=NODATA)
        unknown = ~np.isin(codes, (NODATA, *self.codes))
        if unknown.any():
            raise GeoladderError(
                f"{self.title.lower()} code {codes[unknown][0]} is of no class; "
                f"allowed are {NODATA} (nodata), {', '.join(map(str, self.codes))}"
            )
        return table[codes.astype(np.uint8)]

    def valid(self, labels: "Tensor") -> "Tensor":
        """Every pixel that has a class."""
        return labels != IGNORE

    def prior(self, labels: "Tensor") -> list[float]:
        """Log frequencies of the classes, one pixel added to each."""
        counts = labels[self.valid(labels)].bincount(minlength=self.outputs) + 1
        return (counts / counts.sum()).log().tolist()

    def loss(self, logits: "Tensor", labels: "Tensor") -> "Tensor":
        """Cross-entropy per labelled pixel; 0, and not 0 / 0, for a batch without one."""
        from torch.nn import functional

        total = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
        return total / self.valid(labels).sum().clamp(min=1)

    def prediction(self, logits: "Tensor") -> "Tensor":
        """Log-probabilities (N, classes, P, P)."""
        return logits.log_softmax(dim=1)

    def as_map(self, predicted: "Tensor") -> "Tensor":
        """The likeliest class, uint8."""
        return predicted.argmax(dim=1).byte()

    def metrics(self, predicted: "Tensor", labels: "Tensor") -> dict[str, float]:
        """Quality of a class map.

        Returns:
            `accuracy` and `error` (1 - accuracy) over labelled pixels; `miou` and `macro_f1`, means over the classes
            that occur in labels or predictions; `cross_entropy` in nats per pixel. NaN when no pixel is labelled.
        """
        from torch.nn import functional
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        pixels = int(self.valid(labels).sum())
        if not pixels:
            return dict.fromkeys(self.measures, float("nan"))
        matrix = multiclass_confusion_matrix(
            predicted.argmax(dim=1), labels, self.outputs, ignore_index=IGNORE
        ).double()
        hits, labelled, guessed = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
        present = labelled + guessed > 0
        accuracy = float(hits.sum() / pixels)
        loss = functional.nll_loss(predicted.double(), labels, ignore_index=IGNORE, reduction="sum")
        return {
            "accuracy": accuracy,
            "error": 1 - accuracy,
            "miou": float((hits / (labelled + guessed - hits))[present].mean()),
            "macro_f1": float((2 * hits / (labelled + guessed))[present].mean()),
            "cross_entropy": float(loss) / pixels,
        }

    def constants(self, training: np.ndarray, labels: "Tensor") -> dict[str, "Tensor"]:
        """The first class everywhere, and the class frequencies everywhere: log-probabilities (N, classes, P, P)."""
        import torch

        first = np.full(self.outputs, TRACE)
        first[0] = 1 - first[1:].sum()
        counts = np.bincount(training[training != IGNORE].ravel(), minlength=self.outputs) + 1
        shares = {"zero": first, "mean": counts / counts.sum()}
        everywhere = (len(labels), -1, *labels.shape[1:])
        return {
            name: torch.from_numpy(np.log(share).astype(np.float32)).view(1, -1, 1, 1).expand(everywhere)
            for name, share in shares.items()
        }

    def display(self, stored: np.ndarray) -> Display:
        """Classes in their colours; pixels without a label stay empty."""
        classes = self.read(stored, 1.0).astype(float)
        classes[classes == IGNORE] = np.nan
        return Display(classes, self.colours, (-0.5, self.outputs - 0.5))

    @property
    def layer(self) -> Layer:
        """Codes in eight bits; 0 is no data."""
        looks = zip(self.classes, self.colours, strict=True)
        return Layer("uint8", NODATA, dict(zip(self.codes, looks, strict=True)))

    def stored(self, maps: np.ndarray) -> np.ndarray:
        """The code of each class."""
        table = np.full(256, NODATA, np.uint8)
        table[: self.outputs] = self.codes
        return table[maps]
