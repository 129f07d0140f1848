"""Bootstrap of the Chinchilla law: CPU time against the published procedure, in the same process.

The published procedure (Besiroglu et al. 2024, arXiv 2404.10102) refits each resample by BFGS from one fixed start,
here with scipy's numerical gradients. Ours is timed on all resamples, the reference on some of them; the sums of
objectives on those are printed too, so that speed cannot be bought by stopping early.

    python benchmarks/fit.py [--points CSV --n COL --d COL --y COL]
"""

import argparse
import time

import numpy as np
import pandas as pd
from scipy import optimize, special

from geoladder.scaling.fit.fit import fit

DELTA = 1e-3
START = np.array([np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28])
"""Hoffmann et al.'s published fit, from which the published bootstrap starts."""


def simulated() -> pd.DataFrame:
    """240 runs over two to three decades with the heavy-tailed scatter of digitised points."""
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(7.8, 10.2, 240), 10 ** rng.uniform(9.0, 11.5, 240)
    clean = 1.8 + 480 * n**-0.34 + 2100 * d**-0.37
    return pd.DataFrame({"n": n, "d": d, "y": clean * np.exp(0.004 * rng.standard_t(2, 240))})


def objective(theta: np.ndarray, n: np.ndarray, d: np.ndarray, y: np.ndarray) -> float:
    """Sum of Huber losses of the log residuals."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * np.log(n), b - beta * np.log(d), np.full(n.size, e)])
    return float(special.huber(DELTA, special.logsumexp(terms, axis=0) - np.log(y)).sum())


def reference(table: pd.DataFrame, draws: np.ndarray) -> tuple[float, float]:
    """CPU seconds and sum of objectives of BFGS on each resample."""
    n, d, y = (table[name].to_numpy() for name in ("n", "d", "y"))
    started, total = time.process_time(), 0.0
    for which in draws:
        optimum = optimize.minimize(objective, START, args=(n[which], d[which], y[which]), method="BFGS")
        total += float(optimum.fun)
    return time.process_time() - started, total


def ours(table: pd.DataFrame, resamples: int, rng: int) -> tuple[float, float]:
    """CPU seconds of point fit, profile and bootstrap, and the sum of the resamples' objectives."""
    started = time.process_time()
    law = fit(table, loss="huber", delta=DELTA, bootstrap=resamples, kind="case", rng=rng)
    return time.process_time() - started, law.bootstrap.objective_sum


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", help="CSV; default: 240 simulated runs")
    for name in ("n", "d", "y"):
        parser.add_argument(f"--{name}", default=name)
    parser.add_argument("--resamples", type=int, default=4000)
    parser.add_argument("--reference", type=int, default=20, help="resamples the reference refits")
    parser.add_argument("--rng", type=int, default=42)
    options = parser.parse_args()
    table = simulated()
    if options.points:
        read = pd.read_csv(options.points)
        table = read[[options.n, options.d, options.y]].set_axis(["n", "d", "y"], axis=1)
    ours(table, 10, options.rng)  # compile, or load what an earlier process compiled
    seconds, total = ours(table, options.resamples, options.rng)
    draws = np.random.RandomState(options.rng).randint(0, len(table), (options.reference, len(table)))
    slow, theirs = reference(table, draws)
    same = ours(table, options.reference, options.rng)[1]
    print(f"ours: point fit, profile intervals and {options.resamples} resamples in {seconds:.2f} CPU s")
    print(f"      sum of the {options.resamples} objectives {total:.9f}")
    print(f"reference: {slow / options.reference * 1e3:.1f} CPU ms a resample")
    print(f"sum of objectives on the same {options.reference}: ours {same:.9f}, reference {theirs:.9f}")
    print(
        f"ratio for {options.resamples} resamples: {slow / options.reference * options.resamples / seconds:.0f}x"
    )


if __name__ == "__main__":
    main()
