"""Which runs next? Those that narrow the answer to one question most per cost, from runs or from assumed values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from geoladder.errors import GeoladderError
from geoladder.scaling.expressions import column, evaluate
from geoladder.scaling.fit.points import Points, Refusal, cells_of, levels_of
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.fit.result import Fit
from geoladder.scaling.laws.curves import Array
from geoladder.scaling.laws.forms import Form, form_of, law
from geoladder.scaling.laws.loss import Loss
from geoladder.scaling.questions.design import Cells, Noise, purchase, require_estimable

STEP = 1e-5
"""Relative step of the numerical gradient of a question."""
ROUNDS, CLOSE = 5, 1.001
TOO_FEW = 2
"""Degrees of freedom an expected interval is given for at least."""


@dataclass(frozen=True)
class Question:
    """What is to be known: a parameter, or log y at sizes.

    Attributes:
        text: as asked: `alpha`, or `y n=1e10 d=1e12`.
        parameter: name; None for a prediction.
        sizes: of the prediction.
    """

    text: str
    parameter: str | None
    sizes: Mapping[str, float]

    @classmethod
    def of(cls, text: str, form: Form) -> "Question":
        """Read a question; raises Refusal where the law cannot answer it."""
        head, *rest = text.replace(",", " ").split() or [""]
        if head in form.parameters and not rest:
            return cls(text, head, {})
        try:
            sizes = {name: float(value) for name, value in (part.split("=") for part in rest)}
        except ValueError:
            sizes = {}
        positive = all(np.isfinite(size) and size > 0 for size in sizes.values())
        if head == "y" and set(sizes) == set(form.variables) and positive:
            return cls(text, None, sizes)
        at = " ".join(f"{variable}=SIZE" for variable in form.variables)
        raise Refusal(
            f"{form.equation} cannot answer '{text}'; ask for a parameter ({', '.join(form.parameters)}) or a "
            f"prediction (y {at})"
        )

    def value(self, form: Form, natural: Array) -> Array:
        """(R,) answers, logarithms of coefficients and of predictions, for parameters (R, P) in the data's units."""
        params = dict(zip(form.parameters, natural.T, strict=True))
        if self.parameter is None:
            return np.log(
                law(form, params, {name: np.array([size]) for name, size in self.sizes.items()})[:, 0]
            )
        answer = params[self.parameter]
        return np.log(answer) if self.parameter in form.logged else answer


@dataclass(frozen=True)
class NextRuns:
    """Runs worth making next.

    Attributes:
        question: what they are for.
        runs: one row a cell, most telling per cost first: sizes, `made` and `more` runs, `cost` of one, `half_width`
            of the answer once this and the rows above are made.
        half_width: of the answer today, by local theory; None where no runs are made.
        expected: half-width with all of them, by local theory.
        simulated: the same by refits of simulated tables; None where not asked for.
        cost: of all of them.
        noise: standard deviations they rest on.
    """

    question: str
    runs: pd.DataFrame
    half_width: float | None
    expected: float
    simulated: float | None
    cost: float
    noise: Noise

    def to_frame(self) -> pd.DataFrame:
        """The runs, one row a cell."""
        return self.runs.copy()

    def lines(self) -> list[str]:
        """For people."""
        sizes = [name for name in self.runs if name not in ("made", "more", "cost", "half_width")]
        rows = ["  ".join(f"{name:>10}" for name in (*sizes, "made", "more", "cost", "half-width"))]
        for run in self.runs.to_dict("records"):
            shown = [*(run[name] for name in sizes), run["made"], run["more"], run["cost"], run["half_width"]]
            rows.append("  ".join(f"{value:>10.4g}" for value in shown))
        today = "" if self.half_width is None else f", today {self.half_width:.3g}"
        simulated = "" if self.simulated is None else f" ({self.simulated:.3g} by simulation)"
        total = f"{int(self.runs['more'].sum())} runs for {self.cost:.4g}"
        return [*rows, f"{self.question}: half-width {self.expected:.3g}{simulated}{today}; {total}"]


@dataclass(frozen=True)
class Assumed:
    """A law before any run: parameters by name, in the units of the data, and the scatter of log errors."""

    form: str
    params: Mapping[str, float]
    noise: Noise


def next_runs(
    basis: Fit | Assumed,
    question: str,
    candidates: pd.DataFrame,
    *,
    runs: Points | None = None,
    cost: str = "6*n*d",
    shrink: float | None = 0.5,
    half_width: float | None = None,
    budget: float | None = None,
    dearest: float | None = None,
    most_runs: int = 10,
    noise: Noise | None = None,
    count: int | None = None,
    simulations: int = 0,
    level: float = 0.95,
    rng: int = 42,
) -> NextRuns:
    """Choose runs that narrow the interval of a question most per cost.

    Args:
        basis: a law fitted to runs, or assumed before any.
        question: see `Question`.
        candidates: columns named as the law's sizes, a row per admissible run, and those `cost` needs.
        runs: those the law was fitted to; None for an assumed law.
        cost: column or formula of the cost of a run, such as GPU hours.
        shrink: wanted width, as a share of today's.
        half_width: wanted half-width instead; of log y and of the logarithm of a coefficient.
        budget: to spend at most; where given, nothing else is wanted.
        dearest: cost of one run at most.
        most_runs: runs of one cell at most, those made included.
        noise: scatter; by default the fit's own, see `scatter_of`.
        count: only the first so many runs, to be made before the next are chosen.
        simulations: tables to simulate and refit, as a check of the theory.
        level: of the interval.
        rng: seed of the simulations.

    Raises:
        Refusal: a cost that is not positive, a question the law cannot answer, no admissible run, or a width out of
            reach.
    """
    form = form_of(basis.form)
    asked = Question.of(question, form)
    if not basis.params:
        raise Refusal(
            f"{form.equation} was refused for these runs; fit a law they can carry, or assume values"
        )
    noise = noise or scatter_of(basis)
    if not noise.seed > 0:
        raise Refusal(
            "the scatter between seeds is 0: an exact law needs no more runs; give the noise expected"
        )
    frame, cells, problem = _cells(form, candidates, runs, cost, dearest, most_runs)
    theta = problem.fitted(np.array([[basis.params[name] for name in form.parameters]]))[0]
    cells = replace(cells, slopes=problem.log_slopes(theta))
    aim = _gradient(asked, form, problem, theta)
    require_estimable(cells, aim)
    free = len(form.parameters)

    def width(bought: Array) -> float:
        total = cells.runs + bought
        count = np.count_nonzero(total) if noise.cell > noise.seed else total.sum()
        dof = max(int(count) - free, TOO_FEW)
        return float(stats.t.ppf((1 + level) / 2, dof) * np.sqrt(cells.variance(aim, noise, bought)))

    nothing = np.zeros(len(frame), dtype=np.int64)
    today = width(nothing) if cells.runs.sum() > free else None
    if budget is None and half_width is None:
        if today is None or shrink is None:
            raise Refusal("without runs there is no width to shrink; say a half-width or a budget")
        half_width = shrink * today
    goal = None if budget is not None or half_width is None else half_width / stats.norm.ppf((1 + level) / 2)
    for _ in range(ROUNDS):  # Student's quantile depends on how many runs are bought
        bought = purchase(cells, aim, noise, variance=goal and goal**2, budget=budget)
        if goal is None or half_width is None or width(bought) <= half_width * CLOSE:
            break
        goal *= half_width / width(bought)
    order = _order(cells, aim, noise, bought)[:count]
    steps = [np.bincount(order[: k + 1], minlength=len(frame)) for k in range(len(order))]
    final = steps[-1] if steps else nothing
    picked = list(dict.fromkeys(order))
    table = frame.iloc[picked].assign(
        made=cells.runs[picked],
        more=final[picked],
        cost=cells.cost[picked],
        half_width=[
            width(np.where(np.isin(np.arange(len(frame)), picked[: k + 1]), final, 0))
            for k in range(len(picked))
        ],
    )
    simulated = _simulated(asked, form, problem, theta, cells, noise, final, simulations, level, rng)
    spent = float(cells.cost[picked] @ final[picked])
    return NextRuns(question, table.reset_index(drop=True), today, width(final), simulated, spent, noise)


def scatter_of(basis: "Fit | Assumed") -> Noise:
    """Scatter of seeds and of cells: as assumed, or as a fit tells them apart where seeds repeat cells.

    A new seed is a new run: it brings what its checkpoints share. Where nothing repeats, all scatter is of seeds.
    """
    if isinstance(basis, Assumed):
        return basis.noise
    if basis.variance is None:
        return Noise(basis.noise or 0.0)
    split = basis.variance
    return Noise(float(np.hypot(split.sigma_seed, split.sigma_run)), split.sigma_cell)


def _cells(
    form: Form, candidates: pd.DataFrame, runs: Points | None, cost: str, dearest: float | None, most: int
) -> tuple[pd.DataFrame, Cells, Problem]:
    """Sizes of all cells, the cells without slopes, and a problem that evaluates the law in them."""
    roles = list(form.variables)
    if absent := [role for role in roles if role not in candidates]:
        raise Refusal(f"the candidates have no column {', '.join(absent)}; they need {', '.join(roles)}")
    sizes = candidates[roles].astype(float)
    price = column(candidates, cost).to_numpy(float)
    wrong = np.flatnonzero(~(np.isfinite(price) & (price > 0)) | ~(sizes > 0).all(axis=1).to_numpy())
    if wrong.size:
        raise Refusal(
            f"candidate {wrong[0] + 1}: cost {price[wrong[0]]:g} and sizes {sizes.iloc[wrong[0]].tolist()} must be "
            f"positive ({wrong.size} such rows)"
        )
    made = pd.DataFrame(runs.x if runs else {}, columns=roles, dtype=float)
    frame = pd.concat([made, sizes], ignore_index=True)
    cells = cells_of([levels_of(frame[role].to_numpy(), form.level_ratio) for role in roles])
    counts = np.bincount(cells[: len(made)], minlength=cells.max() + 1)
    costs = np.full(cells.max() + 1, np.inf)
    np.minimum.at(costs, cells[len(made) :], price)
    costs[costs > (np.inf if dearest is None else dearest)] = np.inf
    centre = pd.DataFrame({role: np.exp(np.log(frame[role]).groupby(cells).mean()) for role in roles})
    x = {role: centre[role].to_numpy() for role in roles}
    ones = np.ones(len(centre))
    problem = Problem(form, Points(x, ones, ones, {}, np.arange(len(centre)), False), Loss(), {})
    return centre, Cells(np.empty((len(centre), 0)), counts, costs, most), problem


def _gradient(asked: Question, form: Form, problem: Problem, theta: Array) -> Array:
    """Derivatives (P,) of the answer by the fitted parameters."""
    steps = STEP * np.eye(len(theta))
    ends = [asked.value(form, problem.natural(theta + side * steps)) for side in (1, -1)]
    return (ends[0] - ends[1]) / (2 * STEP)


def _order(cells: Cells, aim: Array, noise: Noise, bought: Array) -> list[int]:
    """The runs bought, cell by cell, most telling per cost first."""
    left, done, order = bought.copy(), np.zeros_like(bought), []
    while left.any():
        now = cells.variance(aim, noise, done)
        gain = []
        for cell in np.flatnonzero(left):
            trial = done.copy()
            trial[cell] += 1
            gain.append((np.log(now / cells.variance(aim, noise, trial)) / cells.cost[cell], cell))
        best = int(max(gain)[1])
        order.append(best)
        done[best] += 1
        left[best] -= 1
    return order


def _simulated(
    asked: Question,
    form: Form,
    problem: Problem,
    theta: Array,
    cells: Cells,
    noise: Noise,
    bought: Array,
    simulations: int,
    level: float,
    rng: int,
) -> float | None:
    """Half the interval that holds `level` of the answers of simulated tables; None without simulations."""
    if not simulations:
        return None
    generator = np.random.default_rng(rng)
    total = cells.runs + bought
    which = np.repeat(np.arange(len(total)), total)
    x, ones = {role: size[which] for role, size in problem.read.x.items()}, np.ones(len(which))
    read = replace(problem.read, x=x, y=ones, weight=ones, cells=which)
    table = Problem(form, read, Loss(), {})
    start = table.fitted(problem.natural(theta[None]))
    clean = np.log(table.evaluate(start)[0])
    shared = generator.normal(0, 1, (simulations, len(total)))[:, which] * noise.cell
    target = clean + shared + generator.normal(0, noise.seed, (simulations, len(which)))
    table = replace(table, read=replace(read, y=np.exp(clean[0])))
    refitted = table.minimise(np.repeat(start, simulations, axis=0), target, warm=True)[0]
    low, high = np.quantile(asked.value(form, table.natural(refitted)), [(1 - level) / 2, (1 + level) / 2])
    return float(high - low) / 2


def grid(levels: Mapping[str, Sequence[float]], cost: str) -> pd.DataFrame:
    """Every combination of the levels of sizes, with the cost of a run there by a formula.

    Raises:
        GeoladderError: the formula names something else.
    """
    combined = pd.MultiIndex.from_product(list(levels.values()), names=list(levels)).to_frame(index=False)
    columns: dict[Any, Array] = {name: combined[name].to_numpy(float) for name in combined}
    try:
        return combined.assign(cost=evaluate(cost, columns))
    except GeoladderError as problem:
        raise Refusal(f"cost {problem}") from None
