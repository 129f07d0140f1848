"""Every law: derivatives against differences, planted parameters recovered, values against the written equation."""

import numpy as np
import pandas as pd
import pytest
from scipy import special

from geoladder.scaling.fit.fit import Status, fit
from geoladder.scaling.fit.points import Points
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.laws.forms import FORMS, form_of, law
from geoladder.scaling.laws.loss import Loss
from geoladder.scaling.laws.newton import System, evaluate

N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e4, 1e7, 6), np.geomspace(1e5, 1e9, 5)))
LINE = np.geomspace(10, 1e5, 25)
PLANTED = {
    "constant": ({"E": 0.4}, {"n": LINE}),
    "power": ({"A": 0.9, "alpha": 0.21}, {"n": LINE}),
    "product": ({"A": 7.0, "alpha": 0.1, "beta": 0.15}, {"n": N, "d": D}),
    "saturating": ({"E": 0.06, "A": 0.8, "alpha": 0.5}, {"n": LINE}),
    "chinchilla": ({"E": 0.1, "A": 5.0, "B": 30.0, "alpha": 0.3, "beta": 0.4}, {"n": N, "d": D}),
    "chinchilla_tied": ({"E": 0.1, "A": 5.0, "B": 30.0, "alpha": 0.35}, {"n": N, "d": D}),
    "log_linear": ({"a": 0.9, "b": 0.05}, {"n": LINE}),
    "m3": ({"beta": 0.9, "c": 0.4, "gamma": 1e-3}, {"n": LINE}),
    "m4": ({"floor": 0.1, "top": 0.95, "alpha": 0.7, "beta": 3.0, "c": 0.5}, {"n": LINE}),
    "broken": ({"a": 0.02, "b": 0.9, "c0": 0.1, "c1": 0.8, "d1": 900.0, "f1": 0.3}, {"n": LINE}),
    "kaplan": ({"A": 8.8e6, "B": 5.4e7, "alpha": 0.3, "beta": 0.2}, {"n": N, "d": D}),
    "error_law": ({"epsilon": 0.9, "k": 1.5, "gamma": 0.8}, {"n": np.linspace(1.5, 5, 20)}),
    "data_constrained": (
        {"E": 1.7, "A": 500.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36, "R_D": 15.0, "R_N": 5.0},
        {
            "n": np.tile(np.geomspace(1e7, 1e10, 6), 20),
            "d": np.repeat(np.tile([1, 4, 16, 64, 200.0], 4), 6) * np.repeat(np.geomspace(1e8, 1e11, 4), 30),
            "u": np.repeat(np.geomspace(1e8, 1e11, 4), 30),
        },
    ),
}
LOOSE = {"data_constrained": 1e-2, "m4": 1e-3}


def problem_of(name, x, y, loss):
    ones = np.ones_like(y)
    return Problem(form_of(name), Points(x, y, ones, {}, ones, False), loss, {})


def test_every_law_is_tested():
    assert {form.name for form in FORMS.values()} == set(PLANTED)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_parameters_are_recovered(name):
    params, x = PLANTED[name]
    y = law(form_of(name), {k: np.array([v]) for k, v in params.items()}, x)[0]
    y = np.broadcast_to(y, x["n"].shape)
    loss = "squared" if name in ("log_linear", "error_law") else "log_squared"
    fitted = fit(pd.DataFrame({**x, "y": y}), name, loss=loss, bootstrap=0, profile=False)
    assert fitted.status in (Status.CONVERGED, Status.NOT_CONVERGED)
    assert fitted.params == pytest.approx(params, rel=LOOSE.get(name, 1e-4))


@pytest.mark.parametrize("name", PLANTED)
def test_derivatives_agree_with_differences(name):
    params, x = PLANTED[name]
    y = np.broadcast_to(law(form_of(name), {k: np.array([v]) for k, v in params.items()}, x)[0], x["n"].shape)
    low, high = problem_of(name, x, y * (1 + 0.1 * np.sin(np.arange(y.size))), Loss()).limits
    problem = problem_of(name, x, y, Loss())
    theta = np.clip(problem.starts()[[0]], low + 0.01, high - 0.01)
    value, rows = problem.evaluate(theta)
    for p in range(theta.shape[1]):
        up, down = theta.copy(), theta.copy()
        up[0, p] += 1e-6
        down[0, p] -= 1e-6
        differences = (problem.evaluate(up)[0] - problem.evaluate(down)[0]) / 2e-6
        np.testing.assert_allclose(rows[0, :, p], differences[0], rtol=2e-4, atol=1e-7 * np.abs(value).max())


@pytest.mark.parametrize("loss", [Loss(), Loss("huber", 0.05), Loss("squared"), Loss("log1p_squared")])
@pytest.mark.parametrize(
    "name", ["chinchilla", "chinchilla_tied", "product", "saturating", "data_constrained"]
)
def test_the_kernels_gradient_and_hessian_agree_with_differences(name, loss):
    params, x = PLANTED[name]
    y = law(form_of(name), {k: np.array([v]) for k, v in params.items()}, x)[0]
    y = y * np.exp(0.1 * np.random.default_rng(0).standard_normal(y.size))
    problem = problem_of(name, x, y, loss)
    system = System(*problem.plan, problem.target, problem.read.weight, loss.scale)
    theta = problem.fitted(np.array([[*params.values()]]))[0]
    size, none = theta.size, np.empty((0, 0))

    def at(point):
        slope, curve = np.empty(size), np.empty((size, size))
        total = evaluate(point, system, loss.delta, slope, curve, none)
        return total, slope, np.tril(curve) + np.tril(curve, -1).T

    _, slope, curve = at(theta)
    scale = np.abs(curve).max()
    for p in range(size):
        step = np.zeros(size)
        step[p] = 1e-5
        up, down = at(theta + step), at(theta - step)
        assert slope[p] == pytest.approx((up[0] - down[0]) / 2e-5, rel=1e-4, abs=1e-6 * scale)
        np.testing.assert_allclose(curve[p], (up[1] - down[1]) / 2e-5, rtol=5e-2, atol=1e-3 * scale)


def test_repeated_data_with_several_valleys_are_fitted_in_the_deepest():
    params, x = PLANTED["data_constrained"]
    held = {name: value for name, value in params.items() if not name.startswith("R_")}
    rng = np.random.default_rng(5)
    y = law(form_of("data_constrained"), params, x)[0] * np.exp(
        0.08 * rng.standard_t(1.5, x["n"].size).clip(-500, 500)
    )
    table = pd.DataFrame({**x, "y": y})
    fitted = fit(table, "data_constrained", loss="huber", delta=1e-3, fixed=held, bootstrap=0)
    grid = np.exp(np.meshgrid(np.linspace(-3, 10, 90), np.linspace(-3, 10, 90))).reshape(2, -1)
    there = {name: np.full(grid.shape[1], value) for name, value in held.items()} | dict(
        zip(("R_D", "R_N"), grid, strict=True)
    )
    miss = np.log(law(form_of("data_constrained"), there, x)) - np.log(y)
    assert fitted.objective <= special.huber(1e-3, miss).sum(axis=1).min()
    assert fitted.status is Status.CONVERGED
    assert set(fitted.intervals["profile"]) == {"R_D", "R_N"}  # what is held has no interval
