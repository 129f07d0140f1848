"""Runs that share something are not independent: the variances of cells, runs and rows, estimated with the law.

All runs of a cell share whatever makes that cell lie off the law; checkpoints of one run share what its seed gave it,
neighbours more than distant ones. Residuals are normal with covariance

    V = s2 [(1 - c - r) I + c C + r K],   C = 1 within a cell,   K = memory^lag within a run,

the lag counted in checkpoints. The shares c, r and the memory maximise the restricted likelihood of the linearised
law (Patterson & Thompson 1971); the law is then fitted to the residuals whitened by V, and both are repeated until
they agree. Intervals take degrees of freedom after Satterthwaite and errors inflated for the estimated variances
(Kenward & Roger 1997, Biometrics 53, 983-997, without the term in second derivatives of V).
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import optimize, sparse

from geoladder.scaling.fit.covariance import MOST, Blocks, Shares
from geoladder.scaling.fit.points import block_mean
from geoladder.scaling.fit.problem import Problem
from geoladder.scaling.laws.curves import Array

ROUNDS = 4
"""Times the variances and the law are fitted in turn; the second round already changes little."""
SETTLED = 1e-6
"""The rounds end where no parameter moves more."""
NOTHING = 1e-3
"""Shares below this are none."""
FLAT = 1e-6
"""Directions of the parameters that move the curve less than this, relatively, are left out."""


@dataclass(frozen=True)
class Variance:
    """How the scatter about a law splits, and what that leaves of the information.

    Attributes:
        sigma_seed: standard deviation of rows beyond what their cell and run explain, on the scale of the loss.
        sigma_cell: of cells about the law: every run of a cell shares it.
        sigma_run: of runs about their cells; every checkpoint of a run shares it, distant ones less.
        memory: correlation of that share between neighbouring checkpoints.
        level: `row`, `cell` or `run`: what counts as one observation, the highest level that varies.
        groups: number of these.
        dof: degrees of freedom by parameter.
        inflation: factor on the squared standard error by parameter, for variances that are themselves estimates.
        plain: standard error by parameter if all rows were independent.
        mixed: standard error by parameter as it is.
        squares: what generalised least squares leaves of the squared residuals.
        log_det: logarithm of the determinant of the rows' correlations, with which `squares` make a likelihood.
    """

    sigma_seed: float
    sigma_cell: float
    sigma_run: float
    memory: float
    level: str
    groups: int
    dof: dict[str, float]
    inflation: dict[str, float]
    plain: dict[str, float]
    mixed: dict[str, float]
    squares: float
    log_det: float

    @property
    def total(self) -> float:
        """Standard deviation of a new row of a new run at sizes not run."""
        return float(np.sqrt(self.sigma_seed**2 + self.sigma_cell**2 + self.sigma_run**2))

    @property
    def verdict(self) -> str:
        """A plain sentence on the level that carries the information."""
        if self.level == "row":
            return f"every row counts: repeats scatter by {self.sigma_seed:.2%}, cells by no more than that"
        kind, sigma = ("cells", self.sigma_cell) if self.level == "cell" else ("runs", self.sigma_run)
        more = "seeds of the same cells" if self.level == "cell" else "checkpoints of the same runs"
        return (
            f"{self.groups} {kind} carry the information, not rows: {kind} lie off the law by {sigma:.2%}, rows "
            f"by {self.sigma_seed:.2%} beyond; more {more} add little"
        )


@dataclass(frozen=True)
class Likelihood:
    """Restricted likelihood of residuals about a linearised law.

    Attributes:
        blocks: which rows depend on one another.
        residuals: (M,) weighted residuals.
        basis: (M, Q) orthonormal columns that span what the law's parameters can move.
    """

    blocks: Blocks
    residuals: Array
    basis: Array

    def whitened(self, shares: Shares) -> tuple[list[Array], float, Array, list[Array]]:
        """Of each size the rows (B, m, Q + 1) whitened; log det V; cross products (Q + 1, Q + 1); the factors."""
        columns = np.column_stack([self.basis, self.residuals])
        roots = self.blocks.roots(shares)
        white = [
            np.linalg.solve(root, columns[rows]) for root, rows in zip(roots, self.blocks.rows, strict=True)
        ]
        log_det = sum(2 * float(np.log(np.diagonal(root, axis1=1, axis2=2)).sum()) for root in roots)
        return white, log_det, sum(np.einsum("bmp,bmq->pq", w, w) for w in white), roots

    def scale(self, cross: Array) -> float:
        """The sum of squares that generalised least squares leaves, over its degrees of freedom: s2."""
        inside = cross[:-1, -1]
        left = float(cross[-1, -1] - inside @ np.linalg.solve(cross[:-1, :-1], inside))
        return left / max(len(self.residuals) - len(inside), 1)

    def cost(self, shares: Shares) -> float:
        """Minus the restricted log-likelihood, s2 at its best, up to a constant."""
        _, log_det, cross, _ = self.whitened(shares)
        dof = len(self.residuals) - cross.shape[0] + 1
        return 0.5 * (
            dof * np.log(max(self.scale(cross), 1e-300)) + log_det + np.linalg.slogdet(cross[:-1, :-1])[1]
        )

    def estimate(self, cells: bool, runs: bool) -> Shares:
        """The shares of greatest likelihood; those that do not vary stay 0."""

        def shares(x: Array) -> Shares:
            values = iter(x)
            run, memory = (next(values), next(values)) if runs else (0.0, 0.0)
            return Shares((1 - run) * next(values) if cells else 0.0, run, memory)

        starts = list(product(*[(0.3, 0.6), (0.6, 0.95)][: 2 * runs], *[(0.1, 0.7)][: 1 * cells]))
        bounds = [(0.0, MOST)] * (cells + 2 * runs)
        fits = [
            optimize.minimize(  # type: ignore[call-overload]  # the stubs know no array of unknown rank
                lambda x: self.cost(shares(x)), np.array(start), method="L-BFGS-B", bounds=bounds
            )
            for start in starts
        ]
        best = shares(min(fits, key=lambda fit: fit.fun).x)
        best = Shares(*(float(value) for value in best))
        return Shares(
            best.cell if best.cell > NOTHING else 0.0, *(best[1:] if best.run > NOTHING else (0.0, 0.0))
        )


def mixed_law(problem: Problem, theta: Array, objective: float) -> tuple[Problem, Array, float, Variance]:
    """Estimate the variances and the law in turn, from the optimum theta (P,) of independent rows and its objective.

    Returns:
        The problem of the cells' means, or with whitened residuals, its optimum (P,) and objective, and the
        variances; the problem and its optimum as they were, where neither cells nor runs vary.
    """
    blocks = Blocks(problem.read)
    whitened, best, least = problem, theta, objective
    for _ in range(ROUNDS):
        likelihood = _likelihood(problem, best, blocks)
        shares = likelihood.estimate(cells=problem.read.repeated, runs=problem.read.runs is not None)
        if shares == Shares():
            return problem, theta, objective, _split(problem, theta, blocks, shares)
        whitened = pooled(problem, shares) or _whitened(problem, blocks, shares)
        ends, costs, _ = whitened.minimise(best[None], warm=True)
        moved, best, least = np.abs(ends[0] - best).max(), ends[0], float(costs[0])
        if moved < SETTLED:
            break
    return whitened, best, least, _split(problem, best, blocks, shares)


def _whitened(problem: Problem, blocks: Blocks, shares: Shares) -> Problem:
    inverse = [np.linalg.inv(root) for root in blocks.roots(shares)]
    matrix = blocks.matrix(inverse, len(problem.read.y)) @ sparse.diags_array(np.sqrt(problem.read.weight))
    return replace(problem, whiten=sparse.csr_array(matrix))


def pooled(problem: Problem, shares: Shares) -> Problem | None:
    """The cells' means, which carry all there is to say of the law where all runs of a cell have the same sizes.

    None where they have not, or weigh differently, or where rows are checkpoints.
    """
    read = problem.read
    cells, first, counts = np.unique(read.cells, return_index=True, return_counts=True)
    constant = [*read.x.values(), read.weight]
    if read.runs is not None or not all(np.allclose(v, v[first][read.cells], rtol=1e-9) for v in constant):
        return None
    weight = read.weight[first] / (shares.cell + (1 - shares.cell) / counts)
    means = replace(
        read,
        x={role: sizes[first] for role, sizes in read.x.items()},
        y=problem.loss.value(block_mean(problem.target, read.cells)[first]),
        weight=weight / weight.mean(),
        levels={role: levels[first] for role, levels in read.levels.items()},
        cells=cells,
        repeated=False,
    )
    return replace(problem, read=means)


def _likelihood(problem: Problem, theta: Array, blocks: Blocks) -> Likelihood:
    basis, _ = basis_of(problem.slopes(theta)[:, problem.free])
    return Likelihood(blocks, problem.deviations(theta), basis)


def basis_of(slopes: Array) -> tuple[Array, Array]:
    """Orthonormal columns (M, Q) that span the slopes (M, P), and what moves the parameters along each (P, Q)."""
    lengths = np.linalg.norm(slopes, axis=0)
    alive = lengths > FLAT * lengths.max()
    units, singular, turned = np.linalg.svd(slopes[:, alive] / lengths[alive], full_matrices=False)
    kept = singular > FLAT * singular[0]
    moves = np.zeros((slopes.shape[1], int(kept.sum())))
    moves[alive] = turned[kept].T / singular[kept] / lengths[alive][:, None]
    return units[:, kept], moves


def _split(problem: Problem, theta: Array, blocks: Blocks, shares: Shares) -> Variance:
    """The variances, and what they leave of the information on each parameter."""
    likelihood, (_, moves) = (
        _likelihood(problem, theta, blocks),
        basis_of(problem.slopes(theta)[:, problem.free]),
    )
    white, _, cross, roots = likelihood.whitened(shares)
    variance = likelihood.scale(cross)
    error, adjusted, changes, spread = information(blocks, shares, variance, white, cross, roots)
    names = np.array(problem.form.parameters)[problem.free].tolist()
    read, count = problem.read, len(problem.read.y)
    dof = dict.fromkeys(names, float(max(count - len(names), 1)))
    inflation = dict.fromkeys(names, 1.0)
    if shares != Shares():
        for name, move in zip(names, moves, strict=True):
            squared = float(move @ error @ move)
            slope = np.array([move @ change @ move for change in changes])
            if squared > 0:
                dof[name] = float(
                    np.clip(2 * squared**2 / max(slope @ spread @ slope, 1e-300), 1.0, dof[name])
                )
                inflation[name] = max(float(move @ adjusted @ move) / squared, 1.0)
    cells, runs = len(np.unique(read.cells)), count if read.runs is None else int(read.runs.max()) + 1
    by_cell, by_run = shares.cell * count / cells, shares.run * count / runs
    level, groups = (
        ("row", count) if shares == Shares() else ("cell", cells) if by_cell >= by_run else ("run", runs)
    )
    rest = 1 - shares.cell - shares.run
    seed, cell, run = (float(np.sqrt(variance * share)) for share in (rest, shares.cell, shares.run))
    return Variance(
        seed,
        cell,
        run,
        shares.memory,
        level,
        groups,
        dof,
        inflation,
        plain=dict(zip(names, np.sqrt(variance * (moves**2).sum(axis=1)).tolist(), strict=True)),
        mixed=dict(zip(names, np.sqrt(np.einsum("pi,ij,pj->p", moves, error, moves)).tolist(), strict=True)),
        squares=variance * (count - moves.shape[1]),
        log_det=float(sum(2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum() for root in roots)),
    )


def information(
    blocks: Blocks, shares: Shares, variance: float, white: list[Array], cross: Array, roots: list[Array]
) -> tuple[Array, Array, list[Array], Array]:
    """Covariance (Q, Q) along the basis, plain and adjusted; its derivative by each variance; their covariance."""
    error = variance * np.linalg.inv(cross[:-1, :-1])
    columns = [rows[:, :, :-1] / np.sqrt(variance) for rows in white]
    turned = []
    for root, slopes in zip(roots, blocks.slopes(shares, variance), strict=True):
        inverse = np.linalg.inv(root)
        turned.append([inverse @ slope @ inverse.transpose(0, 2, 1) / variance for slope in slopes])
    pulled = [[slope @ rows for slope in slopes] for slopes, rows in zip(turned, columns, strict=True)]
    kinds = range(len(turned[0]))

    def summed(k: int, m: int) -> tuple[float, Array]:
        """The trace of the product of two slopes, and that product between the columns."""
        trace = sum(float(np.einsum("bij,bji->", slopes[k], slopes[m])) for slopes in turned)
        return trace, sum(np.einsum("bmp,bmq->pq", rows[k], rows[m]) for rows in pulled)

    pulls = [
        sum(np.einsum("bmp,bmq->pq", rows, moved[k]) for rows, moved in zip(columns, pulled, strict=True))
        for k in kinds
    ]
    information, crossed = np.empty((len(pulls),) * 2), {}
    for k, m in product(kinds, repeat=2):
        trace, crossed[k, m] = summed(k, m)
        both = error @ pulls[k] @ error @ pulls[m]
        information[k, m] = 0.5 * (trace - 2 * np.trace(error @ crossed[k, m]) + np.trace(both))
    spread = np.linalg.pinv(information)
    bias = sum(spread[k, m] * (crossed[k, m] - pulls[k] @ error @ pulls[m]) for k, m in crossed)
    return error, error + 2 * error @ bias @ error, [error @ pull @ error for pull in pulls], spread
