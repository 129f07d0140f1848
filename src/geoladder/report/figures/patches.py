"""Contact sheets of fixed test patches: true colour, label, and what each model predicts at each n, or where it errs.

A sheet is one mosaic, a column a patch and a row a map, so that hundreds of maps cost no more than one picture.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from geoladder.data.bench.nshot import test_rows
from geoladder.data.bench.reader import Bench
from geoladder.data.labels.bands import BANDS, DN_PER_REFLECTANCE
from geoladder.errors import GeoladderError
from geoladder.registry import ARCHITECTURES, TASKS
from geoladder.registry.task import Display, Task
from geoladder.report.style import canvas, ordered, save
from geoladder.runs.digest import intact
from geoladder.runs.remake import remake
from geoladder.study.analysis import Figures

Show = Literal["patches", "errors"]
TRUE_COLOUR = [BANDS.index(band) for band in ("B04", "B03", "B02")]
STRETCH = (2, 98)
"""Percentiles of all patches together that become black and white."""
EMPTY = "#e6e6e6"
"""Of a pixel without a label."""
GAP_SHARE = 1 / 16
"""White between maps, of the side of one."""
TITLE_SHARE = 0.22
"""Of the figure's width, for the names of rows."""
LEGEND_MM = 22


class Sheet(NamedTuple):
    """What a contact sheet is drawn from: N patches of P x P pixels."""

    task: Task
    reflectance: np.ndarray
    """(N, P, P, 3) of red, green and blue."""
    labels: np.ndarray
    """(N, P, P), as the task's `read` gives them."""
    predicted: dict[str, np.ndarray]
    """By name of the model and n, (N, P, P), as the task's `as_map` gives them."""


def draw_patches(
    task: str, results: list[Path], bench: Path, index: Path, show: Show, settings: Figures, out: Path
) -> None:
    """Draw the predictions, or the errors, of tuned models at the fixed test patches of a task.

    Each of `results` is a result of fine-tuning, or of the linear heads of a cell, with predictions beside it. The
    number in the name of a row is the mean error over its patches: absolute error of a density, share of wrong pixels
    of classes. `out` is the PDF; in the CSV beside it are model, patch (column) and error.

    Raises:
        GeoladderError: a result lacks its predictions, or two are of other patches.
    """
    sheet = read_sheet(task, results, bench, index)
    side_mm = settings.width_mm * (1 - TITLE_SHARE) / len(sheet.labels)
    with canvas(settings, side_mm * (len(sheet.predicted) + 2) + LEGEND_MM) as figure:
        save(figure, _draw(figure, sheet, show), out)


def read_sheet(task: str, results: list[Path], bench: Path, index: Path) -> Sheet:
    """Gather the patches and what was predicted there; arguments and errors as of `draw_patches`."""
    runs = sorted((run for path in results for run in _read(path)), key=lambda run: _rank(run[0]))
    spec, first = runs[0]
    for other, shown in runs:
        if not np.array_equal(shown["test_patch"], first["test_patch"]):
            raise GeoladderError(
                f"{_name(other)} shows other test patches than {_name(spec)}; run both again with one test_patches"
            )
    opened = Bench(bench, index, spec["harmonise"])
    rows = test_rows(opened, task, spec["test_patches"]).iloc[first["test_patch"]]
    images, offset_dn = opened.images(rows)
    dn = images[:, TRUE_COLOUR].astype(np.float32) - offset_dn[:, None, None, None]
    predicted = {_name(run): shown["predicted"] for run, shown in runs}
    return Sheet(TASKS[task], dn.transpose(0, 2, 3, 1) / DN_PER_REFLECTANCE, first["label"], predicted)


def _read(path: Path) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Spec of a run with one n, and its arrays; of linear heads for every n."""
    try:
        spec = json.loads(intact(path).read_text())["spec"]
        if isinstance(spec["n"], int):
            return [(spec, _arrays(path.with_suffix(".npz")))]
        return [(spec | {"n": n}, _arrays(path.with_suffix("") / f"n{n}.npz")) for n in spec["n"]]
    except (OSError, ValueError, KeyError) as problem:
        raise GeoladderError(f"{path} has no predictions beside it ({problem!r}); {remake(path)}") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(intact(path)) as arrays:
        return {name: arrays[name] for name in ("test_patch", "predicted", "label")}


def _rank(spec: dict[str, Any]) -> tuple[int, int, str, str, str]:
    """By n, then by architecture."""
    place = ordered(ARCHITECTURES).index(spec["architecture"])
    return spec["n"], place, spec["size"], spec.get("mode", ""), _start(spec)


def _name(spec: dict[str, Any]) -> str:
    """No two runs of one task and seed have the same."""
    mode = f", {spec['mode']}" if spec.get("mode", "full") != "full" else ""
    return (
        f"{ARCHITECTURES[spec['architecture']].title} {spec['size']}, {_start(spec)}{mode}, n = {spec['n']}"
    )


def _start(spec: dict[str, Any]) -> str:
    """The corpus, its fraction (which specs of linear heads have apart), and what was taken over of it if not all."""
    fraction, transfer = spec.get("fraction") or "1", spec.get("transfer", "all")
    corpus = spec["corpus"] if fraction == "1" else f"{spec['corpus']}@{fraction}"
    return corpus if transfer == "all" else f"{corpus}, {transfer} alone"


def _draw(figure: Figure, sheet: Sheet, show: Show) -> pd.DataFrame:
    task, labels = sheet.task, [_display(sheet.task, label) for label in sheet.labels]
    rows = {"true colour": list(_stretched(sheet.reflectance)), "label": _coloured(labels)}
    parts = []
    for name, maps in sheet.predicted.items():
        mistakes = [task.mistakes(*pair) for pair in zip(maps, sheet.labels, strict=True)]
        errors = [_mean_absolute(mistake.pixels) for mistake in mistakes]
        shown = mistakes if show == "errors" else [_display(task, map_) for map_ in maps]
        arm, _, n = name.rpartition(", ")
        rows[f"{arm}\n{n}   error {_mean_absolute(np.array(errors)):.3f}"] = _coloured(shown)
        parts.append(pd.DataFrame({"model": name, "patch": range(len(errors)), "error": errors}))
    axis = figure.subplots()
    _mosaic(axis, rows)
    axis.set_title(f"{task.title}: {'errors' if show == 'errors' else 'predictions'} at fixed test patches")
    _legend(figure, axis, task, shown[0], show)
    return pd.concat(parts, ignore_index=True)


def _mosaic(axis: Axes, rows: dict[str, list[np.ndarray]]) -> None:
    """Lay pictures (P, P, 3) out on one axis, a named row below another."""
    side_px = next(iter(rows.values()))[0].shape[0]
    gap_px = max(1, round(side_px * GAP_SHARE))
    padded = [
        [np.pad(picture, ((0, gap_px), (0, gap_px), (0, 0)), constant_values=1.0) for picture in row]
        for row in rows.values()
    ]
    mosaic = np.concatenate([np.concatenate(row, axis=1) for row in padded])
    # Of equal aspect, the layout would forget the names of rows; the figure has the mosaic's shape anyway.
    axis.imshow(mosaic, interpolation="nearest", aspect="auto")
    axis.set_yticks(np.arange(len(rows)) * (side_px + gap_px) + side_px / 2, list(rows))
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _legend(figure: Figure, axis: Axes, task: Task, display: Display, show: Show) -> None:
    """Names of the colours, or a bar of them."""
    if not isinstance(display.palette, tuple):
        scale = ScalarMappable(Normalize(*display.limits), display.palette)
        label = "predicted - label" if show == "errors" else task.title
        figure.colorbar(scale, ax=axis, location="bottom", label=label, aspect=60, pad=0.01)
        return
    names = [name for name, _ in task.layer.categories.values()]
    handles = [
        Patch(fc=colour, ec="0.7", lw=0.4, label=name)
        for name, colour in zip(
            ("right", "wrong") if show == "errors" else names, display.palette, strict=True
        )
    ]
    handles.append(Patch(fc=EMPTY, ec="0.7", lw=0.4, label="no label"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)


def _display(task: Task, map_: np.ndarray) -> Display:
    return task.display(task.stored(map_))


def _coloured(displays: list[Display]) -> list[np.ndarray]:
    """Maps as pictures (P, P, 3)."""
    pictures = []
    for pixels, palette, limits in displays:
        colours: Any = ListedColormap(palette) if isinstance(palette, tuple) else palette
        scale = ScalarMappable(Normalize(*limits), colours)
        scale.set_cmap(_with_empty(scale.get_cmap()))
        pictures.append(scale.to_rgba(np.ma.masked_invalid(pixels))[..., :3])
    return pictures


def _with_empty(colours: Colormap) -> Colormap:
    return colours.with_extremes(bad=EMPTY)


def _stretched(reflectance: np.ndarray) -> np.ndarray:
    """In 0..1, all patches alike."""
    low, high = np.percentile(reflectance, STRETCH)
    return np.clip((reflectance - low) / max(high - low, 1e-9), 0, 1)


def _mean_absolute(values: np.ndarray) -> float:
    known = np.abs(values[np.isfinite(values)])
    return float(known.mean()) if known.size else float("nan")
