"""What the synthetic Earth must show before a claim rests on it, each with its number and threshold.

A gate that fails does not stop the study: it is written down, and the figures say so. Whether pretraining helps is
not a gate but a result; it is reported in `pretraining_effect.csv`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoladder.atomic import atomic_path
from geoladder.config import Gates
from geoladder.report.curves import SKILL_METRIC, on_curves, runs, trivial
from geoladder.report.laws import pretrain_points

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
    skill = runs(table, SKILL_METRIC)
    skill = skill[(skill.n == settings.n) & (skill.corpus == "scratch") & skill.seed.isin(settings.seeds)]
    unet = skill[(skill.architecture == settings.architecture) & (skill["size"] == settings.size)]
    pixel = skill[skill.architecture == PIXEL]
    rows = []
    for task, metric in SKILL_METRIC.items():
        ours, theirs = unet[unet.task == task].y.mean(), pixel[pixel.task == task].y.mean()
        if pd.notna(ours) and pd.notna(theirs):
            detail = f"{metric} {ours:.3f} against {theirs:.3f} at n={settings.n}"
            rows.append(_gate("context beats pixels", task, ours - theirs, settings.min_margin, detail))
    return rows


def _curve_gates(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The top of each architecture's curve from scratch must lie above predict-mean."""
    skill, mean = on_curves(runs(table, SKILL_METRIC)), trivial(table, "mean", SKILL_METRIC)
    scratch = skill[(skill.corpus == "scratch") & (skill.architecture != PIXEL)]
    rows = []
    for (task, architecture), arm in scratch.groupby(["task", "architecture"]):
        seeds = arm.groupby("n").seed.nunique()
        top = int(seeds[seeds == seeds.max()].index.max())
        ours = arm[arm.n == top].y
        base = float(mean[(mean.task == task) & (mean.n == top)].y.mean())
        detail = f"{SKILL_METRIC[str(task)]} {ours.mean():.3f} against {base:.3f} at n={top}, worst seed"
        rows.append(
            _gate("curve beats mean", f"{task}, {architecture}", float(ours.min()) - base, 0.0, detail)
        )
    return rows


def _law_gates(table: pd.DataFrame, corpus: str) -> list[dict[str, Any]]:
    """Loss must fall from each step of data, and of size, to the next by more than the seeds spread."""
    points = pretrain_points(table, "total")
    points = points[points.corpus == corpus]
    rows = []
    for architecture, arm in points.groupby("architecture"):
        pooled = _seed_spread(arm)
        for along, across in (("fraction", "size"), ("size", "fraction")):
            rows += [
                row
                for level, line in arm.groupby(across)
                for row in _steps(f"{architecture}, {across} {_short(level)}", along, line, pooled)
            ]
    return rows


def _seed_spread(arm: pd.DataFrame) -> float:
    """Relative standard deviation over seeds, pooled over the cells that have several; NaN if none has."""
    logs = np.log(arm.y).groupby([arm["size"], arm.fraction])
    freedom = logs.size() - 1
    return float(np.sqrt((logs.var() * freedom).sum() / freedom.sum())) if freedom.sum() else float("nan")


def _steps(subject: str, along: str, line: pd.DataFrame, pooled: float) -> list[dict[str, Any]]:
    """Each step of one line of the grid, against the larger seed spread of its two ends.

    A cell of a single run is given the pooled relative spread of its architecture. Where no cell at all was
    repeated the threshold is NaN, which nothing passes.
    """
    key = "d" if along == "fraction" else "n"
    cells = line.groupby(along).agg(x=(key, "mean"), mean=("y", "mean"), sd=("y", "std"), seeds=("y", "size"))
    cells = cells.sort_values("x").reset_index()
    cells["sd"] = cells.sd.fillna(pooled * cells["mean"])
    rows = []
    for (_, small), (_, large) in zip(cells[:-1].iterrows(), cells[1:].iterrows(), strict=True):
        detail = (
            f"{_short(small[along])} to {_short(large[along])}: {small['mean']:.4f} to {large['mean']:.4f}; "
            f"{int(small['seeds'])} and {int(large['seeds'])} seeds"
        )
        spread = max(small["sd"], large["sd"])
        fall = small["mean"] - large["mean"]
        name = "loss falls with data" if along == "fraction" else "loss falls with size"
        rows.append(_gate(name, subject, fall, spread, detail))
    return rows


def _short(level: object) -> str:
    return f"{level:.3g}" if isinstance(level, float) else str(level)
