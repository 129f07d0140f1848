"""When a run counts as settled, and the rates it has until then."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoladder.study.recipe import PAPER, Recipe
from geoladder.training.schedules import Schedule
from geoladder.training.settling import best_of, has_settled, must_end, stands_still
from geoladder.training.trainer import cosine_with_warmup


def curve_of(losses):
    return [{"step": step, "val_loss": loss} for step, loss in enumerate(losses)]


def recipe(**values):
    return Recipe(**values)


PAPERS = Recipe(**{key: value for key, value in PAPER.items() if key in Recipe.model_fields})


@pytest.mark.parametrize(
    ("losses", "tolerance", "stands"),
    [
        ([1.0, 0.5], 0.0, False),  # too few
        ([1.0, 0.5, 0.5, 0.5], 0.0, True),
        ([1.0, 0.5, 0.5, 0.499], 0.0, False),
        ([1.0, 0.5, 0.5, 0.499], 0.01, True),  # 0.001 of a fall of 0.501
        ([1.0, 0.5, 0.6, 0.49], 0.01, False),  # 0.01 of 0.51
        ([1.0, 1.1, 1.2, 1.3], 0.0, True),  # worse from the start on: it falls no more
        ([1.0, 1.0, 1.0, 1.0 - 1e-9], 0.01, False),  # all it ever fell, it fell just now
    ],
)
def test_a_loss_stands_still_if_the_last_falls_are_a_small_share_of_all(losses, tolerance, stands):
    assert stands_still(losses, 2, tolerance) is stands


@given(st.lists(st.floats(0, 5), min_size=4, max_size=12), st.floats(0.1, 10), st.floats(-3, 3))
def test_units_and_floor_of_a_loss_do_not_matter(losses, scale, floor):
    """Cross-entropy has a floor that no model can go below; a rule relative to the loss would depend on it."""
    losses = [round(loss, 3) for loss in losses]
    moved = [scale * loss + floor for loss in losses]
    fall = losses[0] - min(losses)
    gap = min(losses[:-2]) - min(losses[-2:]) - 0.25 * fall
    if abs(gap) > 1e-6:
        assert stands_still(losses, 2, 0.25) == stands_still(moved, 2, 0.25)


def test_a_cosine_is_judged_by_its_last_half_and_never_ends_early():
    flat_tail = curve_of([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.4])
    assert not has_settled(flat_tail, recipe(steps=80, validations=8))
    flat = curve_of([1.0, 0.4, 0.4, 0.5, 0.4, 0.4, 0.45, 0.4, 0.4])
    assert has_settled(flat, recipe(steps=80, validations=8))
    assert not must_end(flat, recipe(steps=80, validations=8))


def test_patience_ends_a_run_that_has_settled():
    patient = recipe(epochs=3, patience=3)
    falling = curve_of([1.0, 0.8, 0.6, 0.4, 0.2])
    assert not must_end(falling, patient)
    settled = falling + curve_of([0.2, 0.3, 0.2])
    assert must_end(settled, patient) and has_settled(settled, patient)
    assert best_of(settled) is settled[4]


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=40).map(lambda values: [v / 10 for v in values]),
    st.integers(1, 5),
)
def test_a_plateau_lowers_the_rate_when_torch_does(losses, patience):
    """As the authors use it, without a tolerance; that alone is ours."""
    settings = recipe(
        epochs=1,
        warmup_share=0,
        schedule="plateau",
        plateau_factor=0.1,
        plateau_patience=patience,
        tolerance=0,
    )
    schedule = Schedule(settings, 1.0, 1000, 16)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=patience, threshold=0)
    curve = []
    for step, loss in enumerate(losses):
        torchs.step(loss)
        curve.append({"step": step, "val_loss": loss})
        # Torch has a smallest change, of 1e-8.
        if optimizer.param_groups[0]["lr"] > 1e-7:
            assert schedule.rate(500, curve) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_the_rate_does_not_fall_below_its_floor_nor_rise_to_it():
    settings = recipe(
        epochs=1, warmup_share=0, plateau_patience=1, plateau_factor=0.1, min_lr=1e-3, tolerance=0
    )
    flat = curve_of([1.0] * 30)
    assert Schedule(settings, 0.1, 100, 16).rate(50, flat) == 1e-3
    assert Schedule(settings, 1e-4, 100, 16).rate(50, flat) == 1e-4


@pytest.mark.parametrize("steps", [1, 7, 80])
def test_a_cosine_has_the_rates_of_pretraining(steps):
    schedule, usual = Schedule(recipe(steps=steps), 2.0, steps, 24), cosine_with_warmup(steps, 0.1)
    assert [schedule.rate(step, []) for step in range(steps)] == [2.0 * usual(step) for step in range(steps)]


def test_the_papers_warm_up_multiplies_by_ten_each_epoch():
    """A hundred-thousandth in the first epoch, the whole rate from the sixth on."""
    schedule = Schedule(PAPERS, 1e-4, 5000, patches=640)  # ten steps an epoch
    rates = [schedule.rate(step, []) for step in range(0, 70, 10)]
    assert rates == pytest.approx([1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-4])
    assert schedule.rate(9, []) == pytest.approx(1e-9)
    stale = [{"step": step, "val_loss": 1.0} for step in range(0, 50, 10)]
    later = [{"step": step, "val_loss": 1.0} for step in range(50, 120, 10)]
    assert schedule.rate(120, stale + later[:-1]) == 1e-4  # a warm-up without a fall is no plateau
    assert schedule.rate(120, stale + later) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("values", "patches", "ceiling"),
    [
        ({"epochs": 10, "batch": 8, "min_steps": 5}, 24, 30),
        ({"epochs": 10, "batch": 16, "min_steps": 5}, 20, 13),
        ({"epochs": 10, "batch": 8, "min_steps": 100}, 24, 100),
        ({"epochs": 10, "batch": 8, "min_steps": 5, "max_steps": 20}, 24, 20),
        ({"steps": 7, "batch": 8}, 24, 7),
    ],
)
def test_steps_grow_with_the_patches_between_floor_and_ceiling(values, patches, ceiling):
    length = Recipe(**values).length(patches)
    assert length.ceiling == ceiling == max(length.validated)
    assert min(length.validated) > 0


def test_the_paper_is_validated_once_an_epoch():
    length = PAPERS.length(640)
    assert length.ceiling == 5000
    assert sorted(length.validated)[:3] == [10, 20, 30]
    assert PAPERS.patience_validations == 15 and math.isclose(PAPERS.adam_eps, 1e-6)
