"""What a downstream task is: all that a study, a reader, a training run and a figure ask of it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from geoladder.errors import GeoladderError

if TYPE_CHECKING:
    from torch import Tensor


Labels = TypeVar("Labels", np.ndarray, "Tensor")


class Display(NamedTuple):
    """How a map is drawn."""

    pixels: np.ndarray
    """(H, W) numbers; NaN stays empty."""
    palette: str | tuple[str, ...]
    """Name of a colour map, or one colour a whole number."""
    limits: tuple[float, float]
    """Numbers at the ends of the palette."""


class Layer(NamedTuple):
    """How a map lies in a raster file."""

    dtype: str
    """Of numpy."""
    nodata: float
    """Number of a pixel without a prediction."""
    categories: dict[int, tuple[str, str]]
    """Stored number to name and colour (`#rrggbb`) of each class; empty for a map of quantities."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One dense downstream task, predicted pixel by pixel. Its kinds say how; its entries say of what.

    Labels are (N, P, P) arrays or tensors as `read` returns them, logits are (N, outputs, P, P) float32, and what is
    predicted is what `prediction` makes of logits. Metrics are functions of sums over pixels, so that those of a
    bucket, of a resampled set of tiles or of several processes follow from sums of sums.

    Attributes:
        name: as studies spell it: small letters, digits and _. Few-shot draws are seeded by it.
        title: for figures.
        label: of its label files, `<region>_<tile>_<split>_label_<label>.npy`.
        error: metric that curves show; lower is better.
        error_label: of the axis, with its unit.
        skill: metric that gates compare; higher is better.
        min_density: by split, mean label of a patch above which a few-shot draw always keeps it; of the others it
            keeps a share. None draws all patches alike.
        by_default: whether studies that name no task have it.
        measures: names of all metrics.
        ordered: how many of a patch's sums, the first ones, `in_order` needs.
    """

    name: str
    title: str
    label: str
    error: str
    error_label: str
    skill: str
    min_density: Mapping[str, float] | None = None
    by_default: bool = False
    measures: ClassVar[tuple[str, ...]]
    ordered: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Check the entry; raises GeoladderError that names the field."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise GeoladderError(f"name is '{self.name}'; small letters, digits and _ are allowed")
        for field in ("title", "label", "error_label"):
            if not getattr(self, field):
                raise GeoladderError(f"{field} of task '{self.name}' is empty; give it some text")
        for field in ("error", "skill"):
            if getattr(self, field) not in self.measures:
                raise GeoladderError(
                    f"{field} of task '{self.name}' is '{getattr(self, field)}'; it must be one of its metrics: "
                    f"{', '.join(self.measures)}"
                )

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Logits per pixel."""

    @abstractmethod
    def scale(self, stored: np.ndarray) -> float:
        """Factor from the numbers of one label file, (N, P, P, 1), to labels; taken once, when a bench is indexed.

        Raises GeoladderError where they tell none.
        """

    @abstractmethod
    def read(self, stored: np.ndarray, scale: float) -> np.ndarray:
        """Labels of stored numbers of the same shape; raises GeoladderError for a number that means nothing."""

    @abstractmethod
    def valid(self, labels: Labels) -> Labels:
        """Bool of the same shape: which pixels have a label."""

    @abstractmethod
    def prior(self, labels: "Tensor") -> list[float]:
        """Biases of an output layer that predicts the mean of the training labels everywhere, one per output."""

    @abstractmethod
    def loss(self, logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
        """Mean loss of a batch over its labelled pixels; 0 where there is none. `weights` as of `class_weights`."""

    @abstractmethod
    def shares(self, labels: "Tensor") -> "Tensor":
        """What a linear head is fitted to: the share of each output at labelled pixels (M,), (M, outputs) float32."""

    @abstractmethod
    def prediction(self, logits: "Tensor") -> "Tensor":
        """What is predicted: values (N, P, P), or log-probabilities (N, outputs, P, P)."""

    def class_weights(self, labels: "Tensor") -> "Tensor | None":
        """Weights (classes,) that make all classes of the training labels count alike; None without classes."""
        return None

    def raw_prior(self, labels: "Tensor") -> list[float]:
        """`prior` of a model whose raw outputs are compared with labels, where that makes sense; else as ever."""
        return self.prior(labels)

    def raw_loss(self, outputs: "Tensor", labels: "Tensor", weights: "Tensor | None" = None) -> "Tensor":
        """`loss` of such a model: the squared error."""
        return self.loss(outputs, labels, weights)

    def raw_prediction(self, outputs: "Tensor") -> "Tensor":
        """`prediction` of such a model."""
        return self.prediction(outputs)

    @abstractmethod
    def as_map(self, predicted: "Tensor") -> "Tensor":
        """Predictions as maps (N, P, P) that can be laid beside labels."""

    @abstractmethod
    def sums(self, predicted: "Tensor", labels: "Tensor") -> np.ndarray:
        """Sums of each patch over its labelled pixels, from which all metrics follow: (N, K) float64."""

    @abstractmethod
    def metrics(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """The `measures` of sums (..., K), each (...); NaN where no pixel is labelled. Divides once."""

    def in_order(self, sums: np.ndarray) -> dict[str, float]:
        """Those `measures` that depend on the order of test patches, from the first sums of each: (N, `ordered`)."""
        return {}

    def details(self, sums: np.ndarray) -> dict[str, Any]:
        """What else the sums (K,) of a set of patches tell, as JSON values."""
        return {}

    @abstractmethod
    def constants(self, training: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """What predictors that see no pixel say: `zero`, and `mean` of the training labels, given in parts (N, P, P).

        Of a pixel: a value (), or log-probabilities (outputs,); float32.
        """

    @abstractmethod
    def display(self, stored: np.ndarray) -> Display:
        """How one stored label map, (H, W), is drawn."""

    @abstractmethod
    def mistakes(self, predicted: np.ndarray, label: np.ndarray) -> Display:
        """How far a map (H, W), as of `as_map`, is off its label: 0 where it is right, NaN where there is none."""

    @property
    @abstractmethod
    def layer(self) -> Layer:
        """How its maps lie in a raster file."""

    @abstractmethod
    def stored(self, maps: np.ndarray) -> np.ndarray:
        """Maps as `as_map` or `read` give them, in the numbers of `layer`, which `read` and `display` take."""
