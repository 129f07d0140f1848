"""How often nominal 95 % intervals hold the truth, by design of the runs, loss and kind of interval.

Truth: a law near the Chinchilla fit over two decades of N and D. Designs of independent runs, designs whose runs
share something, and data of other laws, of which the table says how often the misfit is seen. Writes a table, and
takes up one that was cut short:

    python benchmarks/coverage.py --draws 200 --out results/reference/coverage.csv
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.progress import track

from geoladder.runs.atomic import atomic_path
from geoladder.scaling.fit.fit import Status, fit

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.34, "beta": 0.37}
LOSSES = {"log_squared": {}, "huber": {"loss": "huber", "delta": 1e-3}}
FARTHER = {"n": np.array([5e10]), "d": np.array([1e12])}
"""Ten times the largest sizes: where bands and new runs are predicted."""
Rng = np.random.Generator
Law = Callable[[pd.Series, pd.Series], pd.Series]
Noise = Callable[[pd.DataFrame, Rng], np.ndarray]


def chinchilla(n: pd.Series, d: pd.Series) -> pd.Series:
    """E + A n^-alpha + B d^-beta."""
    return TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]


def kaplan(n: pd.Series, d: pd.Series) -> pd.Series:
    """Kaplan et al. 2020, equation 1.5."""
    return ((8.8e13 / n) ** (0.076 / 0.095) + 5.4e13 / d) ** 0.095


def interaction(n: pd.Series, d: pd.Series) -> pd.Series:
    """A term that falls with both sizes."""
    return chinchilla(n, d) + 3e5 * n**-0.3 * d**-0.3


def repetition(n: pd.Series, d: pd.Series) -> pd.Series:
    """Only 2e9 samples are unique, and repeats saturate (Muennighoff et al. 2023, equation 5, R = 15)."""
    unique = np.minimum(d, 2e9)
    return chinchilla(n, unique * (1 + 15 * (1 - np.exp(-(d / unique - 1) / 15))))


def over_training(n: pd.Series, d: pd.Series) -> pd.Series:
    """A penalty on runs of more than 20 samples a parameter."""
    return chinchilla(n, d) * (1 + 0.01 * np.maximum(np.log10(d / (20 * n)), 0) ** 2)


def independent(sd: float) -> Noise:
    """Normal noise of logarithms."""
    return lambda rows, rng: rng.normal(0, sd, len(rows))


def heavy(rows: pd.DataFrame, rng: Rng) -> np.ndarray:
    """Student's t with three degrees of freedom, standard deviation .005."""
    return 0.005 * rng.standard_t(3, len(rows)) / np.sqrt(3)


def uneven(rows: pd.DataFrame, rng: Rng) -> np.ndarray:
    """Small models scatter three times as much as large ones."""
    return rng.normal(0, 0.002 * 3 ** (np.log10(rows.n.max() / rows.n) / 2), len(rows))


def cell_effects(rows: pd.DataFrame, rng: Rng) -> np.ndarray:
    """Every seed of a cell shares a misfit three times the seeds' scatter."""
    shared = rng.normal(0, 0.006, rows.groupby(["n", "d"]).ngroups)
    return shared[rows.groupby(["n", "d"]).ngroup()] + rng.normal(0, 0.002, len(rows))


def seed_offsets(rows: pd.DataFrame, rng: Rng) -> np.ndarray:
    """Every cell of a seed shares an offset."""
    return rng.normal(0, 0.003, 9)[rows.seed] + rng.normal(0, 0.004, len(rows))


def memory(rows: pd.DataFrame, rng: Rng) -> np.ndarray:
    """Checkpoints of a run remember: autoregression with .9."""
    noise = rng.normal(0, 0.005, len(rows))
    place = rows.groupby("n").cumcount().to_numpy()
    for k in np.flatnonzero(place):
        noise[k] = 0.9 * noise[k - 1] + np.sqrt(1 - 0.9**2) * noise[k]
    return noise


class Design(NamedTuple):
    """Sizes N, sizes D and seeds, the noise of their runs, the law they follow, and which of the cells are kept."""

    sizes: int
    data: int
    seeds: int = 1
    noise: Noise = independent(0.005)
    law: Law = chinchilla
    kept: Callable[[pd.DataFrame], pd.Series] | None = None
    checkpoints: bool = False

    def runs(self, rng: Rng) -> pd.DataFrame:
        """One table of runs: n, d, seed, y."""
        n, d = np.geomspace(5e7, 5e9, self.sizes), np.geomspace(1e9, 1e11, self.data)
        grid = pd.MultiIndex.from_product([n, d, range(self.seeds)], names=["n", "d", "seed"])
        rows = grid.to_frame(index=False)
        if self.kept:
            rows = rows[self.kept(rows)].reset_index(drop=True)
        return rows.assign(y=self.law(rows.n, rows.d) * np.exp(self.noise(rows, rng)))


def near_floor(n: pd.Series, d: pd.Series) -> pd.Series:
    """A floor that is a small share of the loss."""
    return chinchilla(n, d) - 0.99 * TRUTH["E"]


def isoflop(rows: pd.DataFrame) -> pd.Series:
    """Of a square grid, five bands of equal N D."""
    n, d = rows.n.rank(method="dense"), rows.d.rank(method="dense")
    return (n + d).between(5, 13) & ((n + d) % 2 == 1)


def triangle(rows: pd.DataFrame) -> pd.Series:
    """Large models on much data are too dear."""
    return rows.n.rank(method="dense") + rows.d.rank(method="dense") <= 7


GRIDS = [(2, 3, 1), (2, 3, 3), (3, 3, 1), (3, 3, 3), (4, 3, 1), (4, 3, 3), (4, 5, 1), (5, 5, 1), (6, 6, 1)]
WRONG = {
    "kaplan": kaplan,
    "interaction": interaction,
    "repetition": repetition,
    "over_training": over_training,
}
DESIGNS = {
    "cell_effects": Design(4, 4, 3, cell_effects),
    "checkpoints": Design(6, 10, noise=memory, checkpoints=True),
    "true_law": Design(5, 5, 3, independent(0.003)),
    **{name: Design(5, 5, 3, independent(0.003), law) for name, law in WRONG.items()},
    "heavy_tails": Design(3, 3, noise=heavy),
    "heteroscedastic": Design(5, 5, noise=uneven),
    "ragged_triangle": Design(6, 6, kept=triangle),
    "isoflop": Design(8, 8, kept=isoflop),
    "floor_near_zero": Design(4, 4, law=near_floor),
    "seed_offsets": Design(4, 4, 3, seed_offsets),
    "quiet": Design(3, 3, noise=independent(1e-5)),
    **{"x".join(map(str, grid)): Design(*grid) for grid in GRIDS},
}


def covered(name: str, loss: str, draws: int, bootstrap: int) -> dict[str, object]:
    """Shares of draws: refused, misfit seen, and intervals that hold alpha, beta, the law and a new run farther out.

    `false_trust` is the share of draws whose band is called reliable and does not hold the law.
    """
    design, hits = DESIGNS[name], []
    columns = {"seed": "seed" if design.seeds > 1 else None, "run": "n" if design.checkpoints else None}
    truth = float(design.law(pd.Series(FARTHER["n"]), pd.Series(FARTHER["d"])).iloc[0])
    for draw in range(draws):
        rng = np.random.default_rng([draw, len(name), *name.encode()])
        law = fit(design.runs(rng), **columns, bootstrap=bootstrap, rng=draw, **LOSSES[loss])
        if law.status is Status.NOT_IDENTIFIED:
            continue
        ends = {
            f"{kind}_{parameter}": law.intervals[kind][parameter]
            for kind in ("profile", "bootstrap")
            for parameter in ("alpha", "beta")
        }
        new = pd.DataFrame({"n": FARTHER["n"], "d": FARTHER["d"], "seed": 0})
        run = truth * float(np.exp(design.noise(new, rng)[0]))
        held = {key: _holds(pair, TRUTH[key.split("_")[1]]) for key, pair in ends.items()}
        band = law.band(**FARTHER)
        held |= {"band": _holds(band, truth), "new_run": _holds(law.prediction(**FARTHER), run)}
        seen = law.criticism.lack_of_fit
        trusted = not law.caution(**FARTHER) and not held["band"]
        low, high = ends["profile_alpha"]
        width = np.nan if None in (low, high) else high - low
        hits.append(held | {"misfit_seen": seen, "false_trust": trusted, "median_width_alpha": width})
    shares = pd.DataFrame(hits)
    width = {"median_width_alpha": shares.pop("median_width_alpha").median()} if hits else {}
    summary = {key: float(value) for key, value in shares.mean().items()} | width
    return {"design": name, "loss": loss, "draws": draws, "refused": 1 - len(hits) / draws} | summary


def _holds(pair: tuple[object, object], truth: float) -> bool:
    low, high = (None if end is None else float(np.ravel(end)[0]) for end in pair)
    return (low is None or low <= truth) and (high is None or truth <= high)


def main() -> None:
    """Simulate every design that the table lacks and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=400)
    parser.add_argument("--only", nargs="*", choices=list(DESIGNS), default=list(DESIGNS))
    parser.add_argument("--losses", nargs="*", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--out", type=Path, default=Path("results/reference/coverage.csv"))
    options = parser.parse_args()
    table = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=["design", "loss"])
    done = set(zip(table.design, table.loss, strict=True))
    jobs = [(name, loss) for loss in options.losses for name in options.only if (name, loss) not in done]
    for name, loss in track(jobs, description="simulated designs"):
        row = pd.DataFrame([covered(name, loss, options.draws, options.bootstrap)])
        table = row if table.empty else pd.concat([table, row], ignore_index=True)
        with atomic_path(options.out) as path:
            table.to_csv(path, index=False)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
