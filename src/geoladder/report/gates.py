"""What the synthetic Earth must show before a claim rests on it, each with its number and threshold.

A gate that fails does not stop the study: it is written down, and the figures say so. Whether pretraining helps is
not a gate but a result; it is reported in `pretraining_effect.csv`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoladder.registry import TASKS
from geoladder.report.curves import on_curves, runs, trivial
from geoladder.report.laws import pretrain_points
from geoladder.runs.atomic import atomic_path
from geoladder.study.downstream import Gates

PIXEL = "pixel"
COLUMNS = ["gate", "subject", "value", "threshold", "passed", "detail"]


def write_gates(results: Path, settings: Gates, corpus: str, out: Path) -> None:
    """Check every gate.

    Args:
        results: results.csv.
        settings: which runs count as 'many labels', and by how much the U-Net must win.
        corpus: the corpus whose nested fractions are the data axis.
        out: CSV: gate, subject, value, threshold, passed, detail.
    """
    table = pd.read_csv(results)
    rows = [*_context_gates(table, settings), *_curve_gates(table), *_law_gates(table, corpus)]
    with atomic_path(out) as path:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)


def _gate(gate: str, subject: str, value: float, threshold: float, detail: str) -> dict[str, Any]:
    return {
        "gate": gate,
        "subject": subject,
        "value": value,
        "threshold": threshold,
        "passed": bool(value > threshold),
        "detail": detail,
    }


def _context_gates(table: pd.DataFrame, settings: Gates) -> list[dict[str, Any]]:
    """With many labels, a small U-Net from scratch must clearly beat a per-pixel model."""
    skill = runs(table, "skill")
    skill = skill[(skill.n == settings.n) & (skill.corpus == "scratch") & skill.seed.isin(settings.seeds)]
    unet = skill[(skill.architecture == settings.architecture) & (skill["size"] == settings.size)]
    pixel = skill[skill.architecture == PIXEL]
    rows = []
    for name, task in TASKS.items():
        context, pixels = unet[unet.task == name].y.mean(), pixel[pixel.task == name].y.mean()
        if pd.notna(context) and pd.notna(pixels):
            detail = f"{task.skill} {context:.3f} against {pixels:.3f} at n={settings.n}"
            rows.append(_gate("context beats pixels", name, context - pixels, settings.min_margin, detail))
    return rows


def _curve_gates(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The top of each architecture's curve from scratch must lie above predict-mean."""
    skill, mean = on_curves(runs(table, "skill")), trivial(table, "mean", "skill")
    scratch = skill[(skill.corpus == "scratch") & (skill.architecture != PIXEL)]
    rows = []
    for (task, architecture), arm in scratch.groupby(["task", "architecture"]):
        seeds = arm.groupby("n").seed.nunique()
        top = int(seeds[seeds == seeds.max()].index.max())
        skills = arm[arm.n == top].y
        base = float(mean[(mean.task == task) & (mean.n == top)].y.mean())
        detail = f"{TASKS[str(task)].skill} {skills.mean():.3f} against {base:.3f} at n={top}, worst seed"
        rows.append(
            _gate("curve beats mean", f"{task}, {architecture}", float(skills.min()) - base, 0.0, detail)
        )
    return rows


def _law_gates(table: pd.DataFrame, corpus: str) -> list[dict[str, Any]]:
    """Loss must fall from the least to the most data, and from the smallest to the largest model.

    By more than the seeds spread, that is; a step between neighbours must only not rise by more.
    """
    points = pretrain_points(table, "total")
    points = points[points.corpus == corpus]
    rows = []
    for architecture, arm in points.groupby("architecture"):
        spread = _seed_spread(arm)
        for along, across in (("fraction", "size"), ("size", "fraction")):
            for level, line in arm.groupby(across):
                rows += _falls(f"{architecture}, {across} {_short(level)}", along, line, spread)
    return rows


def _seed_spread(arm: pd.DataFrame) -> "pd.Series[float]":
    """Relative standard deviation over seeds by fraction, pooled over the sizes with several; NaN where none has.

    By fraction, because a seed also draws the fraction: of little data one draw is worse than another.
    """
    logs = np.log(arm.y).groupby([arm.fraction, arm["size"]])
    freedom = logs.size() - 1
    squares = (logs.var() * freedom).groupby(level="fraction").sum()
    return np.sqrt(squares / freedom.groupby(level="fraction").sum())


def _falls(subject: str, along: str, line: pd.DataFrame, spread: "pd.Series[float]") -> list[dict[str, Any]]:
    """One line of the grid: the fall over its whole range, and the rise allowed at each step.

    The threshold is the larger seed spread of the two ends. A cell of a single run is given the relative spread of
    its architecture at its fraction; where no cell was repeated the threshold is NaN, which nothing passes.
    """
    key, what = ("d", "data") if along == "fraction" else ("n", "size")
    cells = line.groupby(along).agg(
        x=(key, "mean"),
        mean=("y", "mean"),
        sd=("y", "std"),
        seeds=("y", "size"),
        fraction=("fraction", "mean"),
    )
    cells = cells.drop(columns="fraction") if along == "fraction" else cells
    cells = cells.sort_values("x").reset_index()
    cells["sd"] = cells.sd.fillna(cells.fraction.map(spread) * cells["mean"])
    rows = []
    pairs = [(0, len(cells) - 1), *((k, k + 1) for k in range(len(cells) - 1))] if len(cells) > 1 else []
    for place, (first, last) in enumerate(pairs):
        small, large = cells.iloc[first], cells.iloc[last]
        detail = (
            f"{_short(small[along])} to {_short(large[along])}: {small['mean']:.4f} to {large['mean']:.4f}; "
            f"{int(small['seeds'])} and {int(large['seeds'])} seeds"
        )
        noise = max(small["sd"], large["sd"])
        name, floor = (
            (f"loss falls with {what}", noise) if place == 0 else (f"no step back in {what}", -noise)
        )
        rows.append(_gate(name, subject, small["mean"] - large["mean"], floor, detail))
    return rows


def _short(level: object) -> str:
    return f"{level:.3g}" if isinstance(level, float) else str(level)
