"""Tasks that predict one of several classes at each pixel."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from geoladder.errors import GeoladderError
from geoladder.registry.task import Display, Labels, Layer, Task

if TYPE_CHECKING:
    from torch import Tensor

NODATA = 0
"""Code of a pixel without a label, where we write it."""
IGNORE = 255
"""Class of a pixel without a label."""
BINS = 15
"""Of the expected calibration error."""
RIGHT, WRONG = "#f7f7f7", "#b2182b"
"""Colours of pixels."""
TRACE = 1e-6
"""Probability the constant first class leaves to each other class, so that its loss is finite."""


@dataclass(frozen=True, kw_only=True)
class ClassMap(Task):
    """A task of classes. Labels are int64 classes 0, 1, ... in the order of `codes`, 255 where there is none.

    Attributes:
        codes: stored number of each class, 1..255; `read` says which others are no data.
        classes: name of each class.
        colours: of each class, `#rrggbb`.
    """

    codes: tuple[int, ...]
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    error: str = "error"
    error_label: str = "Test error (share of pixels)"
    skill: str = "accuracy"
    measures: ClassVar[tuple[str, ...]] = (
        "accuracy", "error", "miou", "macro_precision", "macro_recall", "macro_f1",
        "cross_entropy", "brier", "calibration_error",
    )  # fmt: skip

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
        """Classes, int64, with 255 where there is none; raises GeoladderError for a code of no class.

        None is at 0, NaN, infinity, negative numbers, and at 255 and the largest number of the file's type, unless
        these are codes. Any other number is of another legend.
        """
        table = np.full(256, IGNORE, np.int64)
        table[list(self.codes)] = np.arange(len(self.codes))
        fills = {NODATA, IGNORE} | ({np.iinfo(stored.dtype).max} if stored.dtype.kind in "iu" else set())
        is_class = np.isin(stored, self.codes)
        unknown = ~is_class & np.isfinite(stored) & (stored > 0) & ~np.isin(stored, list(fills))
        if unknown.any():
            raise GeoladderError(
                f"{self.title.lower()} code {stored[unknown][0]} is of no class; allowed are {NODATA}, {IGNORE} and "
                f"negative numbers (no data), {', '.join(map(str, self.codes))}"
            )
        return table[np.where(is_class, stored, NODATA).astype(np.uint8)]

    def valid(self, labels: Labels) -> Labels:
        """Every pixel that has a class."""
        return labels != IGNORE

    def prior(self, labels: "Tensor") -> list[float]:
        """Log frequencies of the classes, one pixel added to each."""
        counts = labels[self.valid(labels)].bincount(minlength=self.outputs) + 1
        return (counts / counts.sum()).log().tolist()

    def loss(self, logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
        """Cross-entropy per labelled pixel; 0, and not 0 / 0, for a batch without one."""
        from torch.nn import functional

        total = functional.cross_entropy(
            logits.float(), labels, weights, ignore_index=IGNORE, reduction="sum"
        )
        valid = self.valid(labels)
        if weights is None:
            return total / valid.sum().clamp(min=1)
        return total / weights[labels[valid]].sum().clamp(min=weights.min())

    def class_weights(self, labels: "Tensor") -> "Tensor":
        """Inverse frequencies, with mean 1 over the labelled pixels; a class without any weighs as the rarest."""
        counts = labels[self.valid(labels)].bincount(minlength=self.outputs).double()
        inverse = counts.clamp(min=float(counts[counts > 0].min())).reciprocal()
        return (inverse * counts.sum() / (inverse * counts).sum()).float()

    def shares(self, labels: "Tensor") -> "Tensor":
        """1 for the pixel's class, 0 for the others."""
        from torch.nn import functional

        return functional.one_hot(labels, self.outputs).float()

    def prediction(self, logits: "Tensor") -> "Tensor":
        """Log-probabilities (N, classes, P, P)."""
        return logits.log_softmax(dim=1)

    def as_map(self, predicted: "Tensor") -> "Tensor":
        """The likeliest class, uint8."""
        return predicted.argmax(dim=1).byte()

    def sums(self, predicted: "Tensor", labels: "Tensor") -> np.ndarray:
        """Of each patch: its confusion matrix (true class, predicted class), flat; losses; and by bin of confidence.

        The losses are -log p of the true class, and the squared distance of the probabilities from it; the bins are
        of the probability of the likeliest class, with pixels, probabilities and hits in each.
        """
        patches, classes = len(labels), self.outputs
        log_p = predicted.double().flatten(2).numpy()  # (N, classes, pixels)
        truth = labels.flatten(1).numpy()
        valid = truth != IGNORE
        patch = np.broadcast_to(np.arange(patches)[:, None], truth.shape)[valid]
        true = truth[valid]
        top = log_p.argmax(axis=1)
        p_top = np.exp(np.take_along_axis(log_p, top[:, None], 1)[:, 0][valid])
        log_true = np.take_along_axis(log_p, np.where(valid, truth, 0)[:, None], 1)[:, 0][valid]
        squares = np.exp(2 * log_p).sum(axis=1)[valid]
        level = np.clip(np.ceil(p_top * BINS).astype(np.int64) - 1, 0, BINS - 1)

        def added(place: np.ndarray, places: int, values: np.ndarray | None = None) -> np.ndarray:
            flat = np.bincount(patch * places + place, values, minlength=patches * places)
            return flat.reshape(patches, places).astype(np.float64)

        return np.hstack(
            [
                added(true * classes + top[valid], classes**2),
                added(0 * true, 1, -log_true),
                added(0 * true, 1, squares - 2 * np.exp(log_true) + 1),
                added(level, BINS),
                added(level, BINS, p_top),
                added(level, BINS, (top[valid] == true).astype(np.float64)),
            ]
        )

    def metrics(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Quality of class maps.

        Returns:
            `accuracy` and `error` (1 - accuracy) over labelled pixels; `miou`, `macro_precision`, `macro_recall` and
            `macro_f1`, means over the classes that occur in labels or predictions; `cross_entropy` in nats per pixel;
            `brier`, the squared distance of the probabilities from the true class, in 0..2 (Brier 1950); and
            `calibration_error`, the expected one: mean distance of confidence and accuracy in 15 equal bins of
            confidence, by pixels (Naeini et al. 2015).
        """
        confusion, losses, bins = self._parts(sums)
        pixels = confusion.sum(axis=(-2, -1))
        by_class = self._by_class(confusion)
        present = ~np.isnan(by_class["f1"])
        with np.errstate(divide="ignore", invalid="ignore"):
            means = {
                name: np.sum(values, axis=-1, where=present) / present.sum(axis=-1)
                for name, values in by_class.items()
            }
            accuracy = np.trace(confusion, axis1=-2, axis2=-1) / pixels
            return {
                "accuracy": accuracy,
                "error": 1 - accuracy,
                "miou": means["iou"],
                **{f"macro_{name}": means[name] for name in ("precision", "recall", "f1")},
                "cross_entropy": losses[..., 0] / pixels,
                "brier": losses[..., 1] / pixels,
                "calibration_error": np.abs(bins[..., 1, :] - bins[..., 2, :]).sum(axis=-1) / pixels,
            }

    def details(self, sums: np.ndarray) -> dict[str, Any]:
        """`by_class`: pixels, precision, recall, f1 and iou of each class; `confusion`: rows are true classes."""
        confusion = self._parts(sums)[0]
        by_class = {"pixels": confusion.sum(axis=-1).astype(np.int64)} | self._by_class(confusion)
        return {
            "by_class": {
                label: {name: values[place].item() for name, values in by_class.items()}
                for place, label in enumerate(self.classes)
            },
            "confusion": confusion.astype(np.int64).tolist(),
        }

    def _parts(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Confusion (..., classes, classes), losses (..., 2) and bins (..., 3, 15) of sums (..., K)."""
        confusion, losses, bins = np.split(sums, [self.outputs**2, self.outputs**2 + 2], axis=-1)
        leading = sums.shape[:-1]
        return (
            confusion.reshape(*leading, self.outputs, self.outputs),
            losses,
            bins.reshape(*leading, 3, BINS),
        )

    @staticmethod
    def _by_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
        """Precision, recall, f1 and iou (..., classes): 0 where 0 / 0, NaN for a class that occurs nowhere."""
        hits = np.diagonal(confusion, axis1=-2, axis2=-1)
        labelled, guessed = confusion.sum(axis=-1), confusion.sum(axis=-2)
        absent = labelled + guessed == 0
        parts = {
            "precision": (hits, guessed),
            "recall": (hits, labelled),
            "f1": (2 * hits, labelled + guessed),
            "iou": (hits, labelled + guessed - hits),
        }
        return {
            name: np.where(absent, np.nan, above / np.maximum(below, 1))
            for name, (above, below) in parts.items()
        }

    def constants(self, training: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """The first class everywhere, and the class frequencies everywhere: log-probabilities (classes,)."""
        first = np.full(self.outputs, TRACE)
        first[0] = 1 - first[1:].sum()
        counts = np.ones(self.outputs)
        for labels in training:
            counts += np.bincount(labels[labels != IGNORE], minlength=self.outputs)
        shares = {"zero": first, "mean": counts / counts.sum()}
        return {name: np.log(share).astype(np.float32) for name, share in shares.items()}

    def display(self, stored: np.ndarray) -> Display:
        """Classes in their colours; pixels without a label stay empty."""
        classes = self.read(stored, 1.0).astype(float)
        classes[classes == IGNORE] = np.nan
        return Display(classes, self.colours, (-0.5, self.outputs - 0.5))

    def mistakes(self, predicted: np.ndarray, label: np.ndarray) -> Display:
        """0 where the class is right, 1 where it is wrong."""
        wrong = np.where(label == IGNORE, np.nan, predicted != label)
        return Display(wrong, (RIGHT, WRONG), (-0.5, 1.5))

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
