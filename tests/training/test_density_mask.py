"""Pixels without a density are no part of a loss, a prior, a constant or a draw."""

import numpy as np
import pytest
import torch

from geoladder.data.bench.nshot import draw
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.training.baselines import trivial

ROADS = TASKS["roads"]


@pytest.fixture
def masked():
    """Logits and labels of four patches; most of the first is masked, all of the last."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.random((4, 8, 8))).float()
    labels[0, 2:] = torch.nan
    labels[3] = torch.nan
    return torch.from_numpy(rng.normal(size=(4, 1, 8, 8))).float(), labels


def test_loss_and_prior_are_of_labelled_pixels(masked):
    logits, labels = masked
    valid = ~labels.isnan()
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0][valid], labels[valid])
    torch.testing.assert_close(ROADS.loss(logits, labels), wanted)
    assert ROADS.prior(labels) == pytest.approx([float(labels[valid].mean().logit())], rel=1e-6)
    mean = ROADS.constants(np.split(labels.numpy(), len(labels)))["mean"]
    assert float(mean) == pytest.approx(float(labels[valid].mean()))


def test_no_gradient_comes_from_masked_pixels(masked):
    logits, labels = masked
    logits.requires_grad_()
    ROADS.loss(logits, labels).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 0][labels.isnan()] == 0).all() and (logits.grad[1:3] != 0).all()
    assert float(ROADS.loss(logits[3:], labels[3:]).detach()) == 0


@pytest.fixture
def archive(tmp_path):
    """Makes a bench of one tile whose road labels are what a function makes of random fractions."""

    def make(change):
        rng = np.random.default_rng(0)
        for split, count in (("train", 20), ("val", 4), ("test", 4)):
            stem = tmp_path / f"europe_0_{split}" if split != "test" else tmp_path / "europe_1_test"
            np.save(f"{stem}_s2.npy", rng.integers(200, 4000, (count, 16, 16, 10)).astype(np.uint16))
            np.save(
                f"{stem}_label_roads.npy", change(rng.random((count, 16, 16, 1)).astype(np.float32), split)
            )
        index_bench(tmp_path, tmp_path / "index.parquet")
        return Bench(tmp_path, tmp_path / "index.parquet")

    return make


def test_a_dense_patch_is_dense_however_much_of_it_is_masked(archive):
    def almost_nothing(density, _):
        density[:, 1:] = 255
        density[:, 0] *= 0.02  # mean .01 of what is labelled, .0006 of all pixels
        return density

    assert len(draw(archive(almost_nothing), "roads", 20, seed=0).train_rows) == 20


def test_patches_without_any_label_are_not_drawn(archive):
    with pytest.raises(GeoladderError, match=r"roads .* of which 0 are drawn"):
        draw(archive(lambda density, _: np.full_like(density, -1)), "roads", 2, seed=0)


def test_test_patches_that_are_all_masked_are_named(archive, split, tmp_path, trivial_spec):
    bench = archive(lambda density, split: density if split != "test" else np.full_like(density, -1))
    spec = trivial_spec()
    with pytest.raises(GeoladderError, match=r"none of the 4 patches of roads .* has a labelled pixel"):
        trivial(spec, tmp_path, tmp_path / "index.parquet", split(spec, bench), tmp_path / "seed0.json")
    assert not (tmp_path / "seed0.json").exists()
