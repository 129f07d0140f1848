"""How often the intervals of `geoladder joint` hold: simulated studies, counted.

    python benchmarks/joint.py --draws 100

Two tasks, two families, 3 x 3 checkpoints of each and five numbers of labelled examples; checkpoints and rows
scatter. Predicted is a checkpoint five times as large as any, on four times the data, and one run of it.
"""

import argparse
from itertools import product

import numpy as np
import pandas as pd

from geoladder.scaling import joint

SHOTS = (50, 150, 500, 1500, 5000)
TARGET = {"n": 1e9, "d": 100.0, "shots": 100.0}
EXPONENTS = {
    "multiplicative": {"alpha": 0.05, "beta": 0.02, "gamma": 0.1},
    "additive": {"alpha": 0.5, "beta": 0.6, "gamma": 0.7},
}
SCATTER = {"checkpoints 3 %, rows 1 %": (0.03, 0.01), "rows 1 %": (0.0, 0.01), "both .3 %": (0.003, 0.003)}


def errors(rows: pd.DataFrame, form: str) -> pd.Series:
    """The law without noise."""
    level = np.where(rows.task == "roads", 1, 1.5) * np.where(rows.family == "vit", 1.2, 1)
    powers = [
        (rows[size] / at) ** -exponent
        for (size, at), exponent in zip(
            {"n": 5e7, "d": 2.0, "shots": 500.0}.items(), EXPONENTS[form].values(), strict=True
        )
    ]
    if form == "multiplicative":
        return 0.3 * level * powers[0] * powers[1] * powers[2]
    return level * (0.1 + 0.05 * powers[0] + 0.05 * powers[1] + 0.1 * powers[2])


def noisy(
    rows: pd.DataFrame, form: str, between: float, within: float, rng: np.random.Generator
) -> pd.DataFrame:
    """The rows with errors that scatter between checkpoints and between rows."""
    checkpoint = rows.groupby(["task", "family", "n", "d"]).ngroup().to_numpy()
    luck = rng.normal(0, between, checkpoint.max() + 1)[checkpoint] + rng.normal(0, within, len(rows))
    return rows.assign(y=errors(rows, form) * np.exp(luck))


def covered(
    rows: pd.DataFrame, form: str, between: float, within: float, rng: np.random.Generator
) -> list[bool]:
    """Whether the intervals of the exponents, of the law and of a run held what was planted."""
    law = joint(noisy(rows, form, between, within, rng), form)
    ends = law.to_frame().set_index("parameter")
    target = pd.DataFrame([{"task": "roads", "family": "vit", **TARGET}])
    expected, run = law.predict("roads", "vit", **TARGET), noisy(target, form, between, within, rng).y[0]
    hits = [
        not (ends.low[name] > value or ends.high[name] < value) for name, value in EXPONENTS[form].items()
    ]
    for (low, high), value in ((expected.law, errors(target, form)[0]), (expected.run, run)):
        hits.append(low <= value <= high)
    return hits


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    columns = {
        "task": ["roads", "landcover"],
        "family": ["unet", "vit"],
        "n": [1e7, 5e7, 2e8],
        "d": [0.5, 2, 23],
    }
    rows = pd.DataFrame(list(product(*columns.values(), SHOTS)), columns=[*columns, "shots"])
    for form, (scatter, (between, within)) in product(EXPONENTS, SCATTER.items()):
        rng = np.random.default_rng(7)
        shares = np.mean([covered(rows, form, between, within, rng) for _ in range(draws)], axis=0)
        print(form, scatter, *(f"{share:.2f}" for share in shares), sep=" | ")


if __name__ == "__main__":
    main()
