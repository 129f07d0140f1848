"""Ridge regression from sums, against scikit-learn and against refits without the pixels left out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from geoladder.training.ridge import Part, Sums, choose_head, ridge

STRENGTHS = [1e-4, 1e-2, 1.0, 10.0]


def pixels(seed=0, count=400, features=12, targets=2):
    """Features of unequal scale and offset, correlated; targets that follow some of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, features)) @ rng.normal(size=(features, features))
    x = x * np.logspace(-2, 2, features) + np.linspace(-5, 50, features)
    y = x[:, :targets] / x[:, :targets].std(axis=0) + rng.normal(size=(count, targets))
    return torch.from_numpy(x), torch.from_numpy(y)


def by_sklearn(x, y, strength):
    """Weights (F + 1, C) on features as they are."""
    mean, scale = x.numpy().mean(axis=0), x.numpy().std(axis=0)
    model = Ridge(alpha=strength * len(x), solver="cholesky").fit((x.numpy() - mean) / scale, y.numpy())
    slope = model.coef_.T / scale[:, None]
    return np.concatenate([slope, (model.intercept_ - mean @ slope)[None]])


@given(seed=st.integers(0, 100), count=st.integers(3, 300))
@settings(max_examples=25, deadline=None)
def test_it_equals_scikit_learn(seed, count):
    x, y = pixels(seed, count)
    weights = ridge(Sums.of(x, y), torch.tensor(STRENGTHS, dtype=torch.float64))
    for own, strength in zip(weights, STRENGTHS, strict=True):
        expected = by_sklearn(x, y, strength)
        predicted = x.numpy() @ own.numpy()[:-1] + own.numpy()[-1]
        assert np.allclose(predicted, x.numpy() @ expected[:-1] + expected[-1], rtol=1e-8, atol=1e-8)


def test_the_error_of_pixels_follows_from_their_sums():
    (x, y), (other, truth) = pixels(0), pixels(1)
    weights = ridge(Sums.of(x, y), torch.tensor(STRENGTHS, dtype=torch.float64))
    error = ((other @ weights[:, :-1] + weights[:, -1:] - truth) ** 2).sum((1, 2))
    assert torch.allclose(Sums.of(other, truth).squared_error(weights), error, rtol=1e-9)


def test_leaving_out_from_sums_equals_naive_refits():
    patches = [pixels(seed, count=150) for seed in range(5)]
    parts = [Part(Sums.of(x, y)) for x, y in patches]
    errors = np.zeros(len(STRENGTHS))
    for left_out, (x, y) in enumerate(patches):
        others = [patch for place, patch in enumerate(patches) if place != left_out]
        train_x, train_y = (torch.cat(part) for part in zip(*others, strict=True))
        for place, strength in enumerate(STRENGTHS):
            weights = by_sklearn(train_x, train_y, strength)
            predicted = x.numpy() @ weights[:-1] + weights[-1]
            errors[place] += ((predicted - y.numpy()) ** 2).sum()
    head = choose_head(parts, STRENGTHS)
    assert head.strength == STRENGTHS[errors.argmin()]
    assert head.left_out_error == pytest.approx(errors.min() / 750, rel=1e-9)
    x, y = (torch.cat(part) for part in zip(*patches, strict=True))
    assert np.allclose(x @ head.weights[:-1], x.numpy() @ by_sklearn(x, y, head.strength)[:-1], rtol=1e-8)


def test_classes_are_chosen_by_wrong_pixels():
    parts, wrong = [], np.zeros(len(STRENGTHS))
    patches = [pixels(seed, count=80, targets=3) for seed in range(4)]
    patches = [(x, y.argmax(1)) for x, y in patches]
    for x, classes in patches:
        part = Part()
        part.add(Sums.of(x, torch.nn.functional.one_hot(classes, 3)), (x.float(), classes))
        parts.append(part)
    total = parts[0].sums + parts[1].sums + parts[2].sums + parts[3].sums
    for part, (x, classes) in zip(parts, patches, strict=True):
        weights = ridge(total - part.sums, torch.tensor(STRENGTHS, dtype=torch.float64))
        scores = x @ weights[:, :-1] + weights[:, -1:]
        wrong += (scores.argmax(-1) != classes).sum(1).numpy()
    head = choose_head(parts, STRENGTHS)
    assert head.strength == STRENGTHS[wrong.argmin()]
    assert head.left_out_error == pytest.approx(wrong.min() / 320)


def test_features_that_say_nothing_get_no_weight():
    x, y = pixels()
    x = torch.cat([x, torch.full((len(x), 1), 1e6).double(), torch.zeros(len(x), 1).double()], 1)
    weights = ridge(Sums.of(x, y), torch.tensor([0.1], dtype=torch.float64))[0]
    assert weights.isfinite().all()
    assert (weights[-3:-1] == 0).all()


def test_a_single_part_takes_the_middle_strength():
    x, y = pixels()
    head = choose_head([Part(), Part(Sums.of(x, y))], STRENGTHS)
    assert head.strength == 1.0
    assert head.left_out_error is None
