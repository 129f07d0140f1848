"""What the synthetic Earth must show before a claim rests on it, each with its number and threshold.

A gate that fails does not stop the study: it is written down, and the figures say so. Whether pretraining helps is
not a gate but a result; it is reported in `pretraining_effect.csv`.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.report.collect import read_results
from geoladder.report.curves import ARM, curves, of_baseline, predict_mean, runs
from geoladder.report.external import external_arms
from geoladder.report.laws import pretrain_points
from geoladder.report.linear_effect import linear_effect
from geoladder.runs.atomic import atomic_path
from geoladder.study.arms import ORACLE, SCRATCH
from geoladder.study.downstream import Gates

Gate = tuple[str, str, float, float, str]
"""Gate, its subject, value, threshold that the value must exceed, and the numbers behind them in words."""


def write_gates(results: Path, settings: Gates, corpus: str, out: Path) -> None:
    """Check every gate on results.csv and write a CSV: gate, subject, value, threshold, passed, detail.

    `settings` say which runs count as 'many labels', and by how much the U-Net must win; the nested fractions of
    `corpus` are the data axis.
    """
    table = read_results(results)
    rows = [
        *(*_context_gates(table, settings), *_curve_gates(table), *_external_gates(table)),
        *_transfer_gates(table),
        *_law_gates(table, corpus),
    ]
    gates = pd.DataFrame(rows, columns=["gate", "subject", "value", "threshold", "detail"])
    gates.insert(4, "passed", gates.value > gates.threshold)
    with atomic_path(out) as path:
        gates.to_csv(path, index=False)


def _context_gates(table: pd.DataFrame, settings: Gates) -> Iterator[Gate]:
    """With many labels, a U-Net from scratch must clearly beat the best baseline, which sees single pixels."""
    skill = runs(table, "skill", "gates")
    skill = skill[(skill.n == settings.n) & (skill.corpus == SCRATCH) & skill.seed.isin(settings.seeds)]
    unet = skill[(skill.architecture == settings.architecture) & (skill["size"] == settings.size)]
    baselines = skill[of_baseline(skill)].groupby(["task", "architecture"]).y.mean()
    for name, task in TASKS.items():
        context, pixels = unet[unet.task == name].y.mean(), baselines[baselines.index.isin([name], 0)].max()
        if pd.notna(context) and pd.notna(pixels):
            detail = f"{task.skill} {context:.3f} against {pixels:.3f} at n={settings.n}"
            yield "context beats pixels", name, context - pixels, settings.min_margin, detail


def _curve_gates(table: pd.DataFrame) -> Iterator[Gate]:
    """The top of each architecture's curve from scratch must lie above predict-mean."""
    skill, mean = curves(table, "skill"), predict_mean(table, "skill")
    external = [name for name, entry in ARCHITECTURES.items() if entry.external]
    ours = ~of_baseline(skill) & ~skill.architecture.isin(external)
    scratch = skill[(skill.corpus == SCRATCH) & ours]
    for (task, architecture), arm in scratch.groupby(["task", "architecture"]):
        seeds = arm.groupby("n").seed.nunique()
        top = int(seeds[seeds == seeds.max()].index.max())
        skills = arm[arm.n == top].y
        base = float(mean[(mean.task == task) & (mean.n == top)].y.mean())
        detail = f"{TASKS[str(task)].skill} {skills.mean():.3f} against {base:.3f} at n={top}, worst seed"
        yield "curve beats mean", f"{task}, {architecture}", float(skills.min()) - base, 0.0, detail


def _transfer_gates(table: pd.DataFrame) -> Iterator[Gate]:
    """There must be something to transfer: heads on the oracle's encoder err less than on a random one.

    The whole interval must lie there: over seeds and draws, or over draws where there is one seed.
    """
    effect = linear_effect(table)
    for row in effect[effect.corpus == ORACLE].to_dict("records"):
        high = row["high"] if row["seeds"] > 1 else row["draws_high"]
        low = row["low"] if row["seeds"] > 1 else row["draws_low"]
        subject = f"{row['task']}, {row['architecture']}-{row['size']}, n={row['n']}"
        detail = (
            f"{TASKS[row['task']].error} {row['pretrained']:.4f} against {row['random']:.4f}: "
            f"{row['effect']:+.4f} [{low:+.4f}, {high:+.4f}]; {row['seeds']} seeds, {row['draws']} draws"
        )
        yield "oracle beats random", subject, -high, 0.0, detail


def _external_gates(table: pd.DataFrame) -> Iterator[Gate]:
    """An external arm must beat predict-mean at its largest n in every seed's training, or its fine-tuning failed."""
    arms = external_arms(table)
    for top in arms[arms.n == arms.groupby(ARM).n.transform("max")].to_dict("records"):
        subject = f"{top['task']}, {top['architecture']}-{top['size']} {top['corpus']}"
        detail = (
            f"{TASKS[top['task']].error} {top['error']:.4g} against {top['mean_error']:.4g} at n={top['n']}; "
            f"{top['verdict']}"
        )
        gain = -float(top["difference"])
        if top["learnt"] < top["seeds"]:  # what was not learnt is no gain of the model's
            gain = min(gain, 0.0)
        yield "external beats mean", subject, gain, 0.0, detail


def _law_gates(table: pd.DataFrame, corpus: str) -> Iterator[Gate]:
    """Loss must fall from the least to the most data, and from the smallest to the largest model.

    By more than the seeds spread, that is; a step between neighbours must only not rise by more.
    """
    points = pretrain_points(table, "total")
    for architecture, arm in points[points.corpus == corpus].groupby("architecture"):
        arm = arm.assign(spread=arm.fraction.map(_seed_spread(arm)))
        for along, across in (("fraction", "size"), ("size", "fraction")):
            for level, line in arm.groupby(across):
                yield from _falls(f"{architecture}, {across} {_short(level)}", along, line)


def _seed_spread(arm: pd.DataFrame) -> "pd.Series[float]":
    """Relative standard deviation over seeds by fraction, pooled over the sizes with several; NaN where none has.

    By fraction, because a seed also draws the fraction: of little data one draw is worse than another.
    """
    logs = np.log(arm.y).groupby([arm.fraction, arm["size"]])
    freedom = logs.size() - 1
    squares = (logs.var() * freedom).groupby(level="fraction").sum()
    return np.sqrt(squares / freedom.groupby(level="fraction").sum())


def _falls(subject: str, along: str, line: pd.DataFrame) -> Iterator[Gate]:
    """One line of the grid: the fall over its whole range, and the rise allowed at each step.

    The threshold is the larger seed spread of the two ends. A cell of a single run is given the relative spread of
    its architecture at its fraction; where no cell was repeated the threshold is NaN, which nothing passes.
    """
    key, what = ("d", "data") if along == "fraction" else ("n", "size")
    cells = line.groupby(along).agg(
        x=(key, "mean"), mean=("y", "mean"), sd=("y", "std"), seeds=("y", "size"), spread=("spread", "first")
    )
    cells["sd"] = cells.sd.fillna(cells.spread * cells["mean"])
    ordered = cells.sort_values("x").reset_index().to_dict("records")
    whole = [(ordered[0], ordered[-1])] if len(ordered) > 1 else []
    for place, (small, large) in enumerate([*whole, *pairwise(ordered)]):
        detail = (
            f"{_short(small[along])} to {_short(large[along])}: {small['mean']:.4f} to {large['mean']:.4f}; "
            f"{small['seeds']} and {large['seeds']} seeds"
        )
        noise = max(small["sd"], large["sd"])
        name, floor = (f"no step back in {what}", -noise) if place else (f"loss falls with {what}", noise)
        yield name, subject, small["mean"] - large["mean"], floor, detail


def _short(level: object) -> str:
    return f"{level:.3g}" if isinstance(level, float) else str(level)
