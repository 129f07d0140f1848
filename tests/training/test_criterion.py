"""Losses of fine-tuning, and the changes of patches that leave labels true."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoladder.data.batches.batch import BandStats, Moments
from geoladder.data.labels.bands import BANDS
from geoladder.registry import TASKS
from geoladder.study.recipe import Recipe
from geoladder.training.augmentation import Augmentation, turned
from geoladder.training.criterion import Criterion

ROADS, COVER = TASKS["roads"], TASKS["landcover"]
STATS = BandStats(list(BANDS), Moments([0.2] * 10, [0.1] * 10), Moments([0.4] * 10, [0.2] * 10), 1, "0")


def cover_labels(seed, patches=6, classes=4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (patches, 8, 8), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    return labels


def test_squared_errors_are_of_raw_outputs_and_leave_out_what_has_no_label():
    labels = torch.tensor([0.25, 1.0, float("nan")]).view(1, 1, 3)
    outputs = torch.tensor([-1.0, 2.0, 9.0]).view(1, 1, 1, 3)
    criterion = Criterion(ROADS, Recipe(loss="mse"), labels)
    assert float(criterion.loss(outputs, labels)) == pytest.approx((1.25**2 + 1) / 2)
    assert criterion.prior == pytest.approx([0.625])
    assert torch.equal(criterion.prediction(outputs), outputs[:, 0])
    assert criterion.weight(labels) == 2


def test_classes_keep_their_loss_where_densities_have_squared_errors():
    labels, outputs = cover_labels(0), torch.randn(6, COVER.outputs, 8, 8)
    plain, squared = (Criterion(COVER, Recipe(loss=loss), labels) for loss in ("task", "mse"))
    assert torch.equal(plain.loss(outputs, labels), squared.loss(outputs, labels))
    assert plain.prior == squared.prior


def test_weights_make_classes_count_alike():
    """As torch weighs classes; together all classes that occur have one and the same weight."""
    labels = cover_labels(1)
    outputs = torch.randn(6, COVER.outputs, 8, 8)
    criterion = Criterion(COVER, Recipe(class_weights="inverse_frequency"), labels)
    weights = COVER.class_weights(labels)
    counts = torch.bincount(labels[labels != 255], minlength=COVER.outputs)
    shares = (weights * counts)[counts > 0]
    assert torch.allclose(shares, shares[0].expand_as(shares), rtol=1e-5)
    assert criterion.weight(labels) == pytest.approx(float(counts.sum()), rel=1e-5)
    wanted = torch.nn.functional.cross_entropy(outputs, labels, weights, ignore_index=255)
    assert float(criterion.loss(outputs, labels)) == pytest.approx(float(wanted), rel=1e-5)
    assert float(weights.max()) == pytest.approx(float(weights[counts > 0].max()))


@given(st.integers(0, 99), st.integers(1, 5), st.sampled_from(["none", "inverse_frequency"]))
def test_weighted_means_of_parts_are_the_mean_of_all(seed, cut, class_weights):
    """What passes, devices and chunks of the validation set rest on."""
    labels = cover_labels(seed)
    outputs = torch.randn(6, COVER.outputs, 8, 8, generator=torch.Generator().manual_seed(seed))
    criterion = Criterion(COVER, Recipe(class_weights=class_weights), labels)
    parts = [slice(0, cut), slice(cut, None)]
    weights = [criterion.weight(labels[part]) for part in parts]
    total = sum(
        float(criterion.loss(outputs[part], labels[part])) * weight
        for part, weight in zip(parts, weights, strict=True)
    )
    assert total / sum(weights) == pytest.approx(float(criterion.loss(outputs, labels)), rel=1e-5)


@pytest.mark.parametrize("transform", ["sqrt", "linear"])
def test_the_papers_noise_multiplies_reflectance(transform):
    reflectance = torch.rand(64, 10, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.05
    pixels = STATS.standardise(reflectance, transform)
    labels = reflectance[:, 0].clone()
    augmentation = Augmentation.of("paper", 3, STATS, transform)
    changed, moved = augmentation(pixels, labels, 5, 64, slice(None))
    moments = STATS.sqrt if transform == "sqrt" else STATS.linear
    back = changed * moments.std[0] + moments.mean[0]
    back = back.square() if transform == "sqrt" else back
    ratio = (back[:, 0] / moved).flatten(1)
    noisy = ratio.std(1) > 1e-4
    assert 0.05 < noisy.float().mean() < 0.4
    assert ratio[~noisy].sub(1).abs().max() < 1e-4  # labels turn with their pixels
    assert ratio[noisy].mean(1).sub(1).abs().max() < 0.05
    assert ratio[noisy].std(1).max() < 0.15
    turned_too = sum(not torch.equal(a, b) for a, b in zip(moved, labels, strict=True))
    assert 10 < turned_too < 40


@pytest.mark.parametrize("kind", ["none", "turns", "paper"])
def test_ranks_change_their_patches_as_one_process_would(kind):
    pixels = torch.rand(7, 10, 8, 8, generator=torch.Generator().manual_seed(0))
    augmentation = Augmentation.of(kind, 1, STATS, "sqrt")
    for step in range(4):
        whole, labels = augmentation(pixels, pixels[:, 0], step, 7, slice(None))
        for rank in range(2):
            part = slice(rank, None, 2)
            shared, _ = augmentation(pixels[part], pixels[part, 0], step, 7, part)
            assert torch.equal(shared, whole[part])
        if kind == "none":
            assert torch.equal(whole, pixels) and torch.equal(labels, pixels[:, 0])


@given(st.integers(0, 7))
def test_pixels_and_labels_turn_together(turn):
    labels = torch.arange(16).view(1, 4, 4)
    pixels = torch.stack([labels, labels + 100], dim=1)
    turns = np.array([turn])
    assert torch.equal(turned(pixels, turns)[:, 0], turned(labels, turns))
    assert torch.equal(turned(pixels, turns)[:, 1], turned(labels, turns) + 100)
