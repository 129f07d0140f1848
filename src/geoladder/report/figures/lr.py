"""The learning-rate sweep: loss against base rate, one panel a family, one line a rung, its best rate marked."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from geoladder.registry import ARCHITECTURES
from geoladder.report.best_rates import best_rates, swept_losses
from geoladder.report.collect import read_results
from geoladder.report.style import canvas, ordered, palette, save
from geoladder.runs.atomic import atomic_path
from geoladder.study.analysis import Figures

HEIGHT_MM = 78
SHOWN = 0.5
"""Losses above the panel's best by more than this share are outside: diverging rates would flatten the rest."""


def draw_lr(results: Path, settings: Figures, table: Path, out: Path) -> None:
    """Draw the results.csv of a sweep as `out` (PDF), write its table of `best_rates`; raises as `swept_losses`."""
    losses = swept_losses(read_results(results))
    best = best_rates(losses)
    with atomic_path(table) as path:
        best.to_csv(path, index=False)
    families = ordered(losses["architecture"].unique())
    with canvas(settings, HEIGHT_MM) as figure:
        axes = figure.subplots(1, len(families), squeeze=False)[0]
        for axis, family in zip(axes, families, strict=True):
            _panel(axis, losses[losses.architecture == family], best[best.architecture == family], settings)
        axes[0].set_ylabel("validation loss")
        save(figure, losses, out)


def _panel(axis: Axes, losses: pd.DataFrame, best: pd.DataFrame, settings: Figures) -> None:
    for color, rung in zip(palette(settings, len(best)), best.to_dict("records"), strict=True):
        of_rung = losses[losses["size"] == rung["size"]]
        mean = of_rung.groupby("base_lr")["loss"].mean()
        axis.plot(mean.index, mean, color=color, label=f"{rung['size']} ({rung['width']})", marker="o")
        axis.scatter(of_rung["base_lr"], of_rung["loss"], s=3, color=color, alpha=0.5, lw=0)
        axis.axvline(rung["best_base_lr"], color=color, lw=0.8, ls=":")
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axis.minorticks_off()
    axis.set_xticks(np.unique(losses["base_lr"].round(12)))
    low = losses["loss"].min()
    axis.set_ylim(low * 0.98, min(losses["loss"].max() * 1.02, low * (1 + SHOWN)))
    axis.set_xlabel("learning rate at the base width")
    family = best.iloc[0]
    title = (
        f"{ARCHITECTURES[family.architecture].title}: {family.verdict}\nbest rates apart {family.ratio:.2g} times "
        f"[{family.ratio_low:.2g}, {family.ratio_high:.2g}]\nat {family.shared_lr:.2g} for all at most "
        f"{best.regret.max():.1%} worse"
    )
    axis.set_title(title, loc="left")
    axis.legend(
        frameon=False, title="size (width)", loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=len(best)
    )
