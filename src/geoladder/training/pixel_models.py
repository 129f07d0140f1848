"""Models that see one pixel at a time, without neighbours: what context must beat."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Predict = Callable[[np.ndarray], np.ndarray]
"""Bands (M, 10) to values (M,), or to log-probabilities (M, classes)."""
BOOSTING: Mapping[str, Any] = {"early_stopping": True, "n_iter_no_change": 5, "max_leaf_nodes": 31}
"""Rounds end once the validation pixels have not gained for five."""
VALUE_ROUNDS, VALUE_RATE = 100, 0.1
CLASS_ROUNDS, CLASS_RATE = 30, 0.2
"""Each round grows a tree for every class, so there are fewer and larger steps."""
TRACE = 1e-6
"""Least probability of a class, so that every loss is finite."""


class Pixels(NamedTuple):
    """Labelled pixels."""

    bands: np.ndarray
    """(M, 10) float32 reflectance."""
    labels: np.ndarray
    """(M,) as the task's `read` gives them."""


def pixel_models(train: Pixels, val: Pixels, outputs: int, seed: int) -> dict[str, Predict]:
    """Predictors fitted to pixels: `linear`, on standardised bands, and `boosted`, trees that stop by `val`.

    Whole numbers as labels are classes, of which there are `outputs`; real ones are values.
    """
    if np.issubdtype(train.labels.dtype, np.integer):
        return _class_models(train, val, outputs, seed)
    return _value_models(train, val, seed)


def _value_models(train: Pixels, val: Pixels, seed: int) -> dict[str, Predict]:
    """Ridge regression and gradient-boosted trees, both kept in the range of the training labels."""
    boosted = HistGradientBoostingRegressor(
        max_iter=VALUE_ROUNDS, learning_rate=VALUE_RATE, random_state=seed, **BOOSTING
    )
    boosted.fit(train.bands, train.labels, X_val=val.bands, y_val=val.labels)
    linear = make_pipeline(StandardScaler(), Ridge()).fit(train.bands, train.labels)
    limits = float(train.labels.min()), float(train.labels.max())
    return {"linear": partial(_values, linear, limits), "boosted": partial(_values, boosted, limits)}


def _class_models(train: Pixels, val: Pixels, classes: int, seed: int) -> dict[str, Predict]:
    """Multinomial logistic regression and gradient-boosted trees; where all pixels are of one class, both say so."""
    if len(np.unique(train.labels)) == 1:
        only = DummyClassifier().fit(train.bands, train.labels)
        return dict.fromkeys(("linear", "boosted"), partial(_log_probabilities, only, classes))
    linear = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
    boosted = HistGradientBoostingClassifier(
        max_iter=CLASS_ROUNDS, learning_rate=CLASS_RATE, random_state=seed, **BOOSTING
    )
    known = np.isin(val.labels, train.labels)
    watched = Pixels(val.bands[known], val.labels[known]) if known.any() else train
    boosted.fit(train.bands, train.labels, X_val=watched.bands, y_val=watched.labels)
    fitted = {"linear": linear.fit(train.bands, train.labels), "boosted": boosted}
    return {name: partial(_log_probabilities, model, classes) for name, model in fitted.items()}


def _values(model: Any, limits: tuple[float, float], bands: np.ndarray) -> np.ndarray:  # noqa: ANN401
    return model.predict(bands).clip(*limits)


def _log_probabilities(model: Any, classes: int, bands: np.ndarray) -> np.ndarray:  # noqa: ANN401
    """Classes that no training pixel had get a trace of probability."""
    probabilities = np.full((len(bands), classes), TRACE)
    probabilities[:, model.classes_] = np.maximum(model.predict_proba(bands), TRACE)
    return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
