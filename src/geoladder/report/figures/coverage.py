"""Where the tiles of a corpus lie, which were dropped, and why, over the climates of the Earth.

Positions come from the names of the grid cells, since a ledger has nothing else. A tile whose cell is no
cell of the grid has no place on the map; it is counted in the legend all the same.
"""

from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from geoladder.data.archives.grid import centre_of
from geoladder.data.labels.climate import CLASSES, koppen_map
from geoladder.errors import GeoladderError
from geoladder.report.style import canvas, palette, save
from geoladder.runs.digest import intact
from geoladder.study.analysis import Figures

COLUMNS = ["grid_cell", "product_id", "kept", "reason"]
SEA = "#f4f7fa"
CLIMATES = {
    "A": ("tropical", "#cfe3c4"),
    "B": ("arid", "#f3e2bd"),
    "C": ("temperate", "#e0ebc9"),
    "D": ("continental", "#d5dde9"),
    "E": ("polar", "#e3e3e6"),
}
"""Köppen-Geiger main groups by first letter: name and a colour pale enough to lie behind dots."""
MARKERS = "XsD^vPp*h"
MAP_STEP = 2  # pixels of 1/9 degree: finer than a figure of 180 mm shows at 300 dpi is not needed


def draw_coverage(ledger: Path, settings: Figures, out: Path) -> None:
    """Draw one dot per row of a ledger at the centre of its grid cell: kept, or by the reason it was dropped.

    `out` is the PDF; PNG and CSV go beside it. The CSV is the ledger with lat_deg and lon_deg, empty where a cell
    has no place. Raises as `read_ledger`.
    """
    tiles = read_ledger(ledger)
    with canvas(settings, 0.6 * settings.width_mm) as figure:
        axis = figure.subplots()
        _draw_climates(axis)
        tile_legend = _draw_tiles(axis, tiles, settings)
        _draw_grid(axis)
        kept = int(tiles["kept"].sum())
        axis.set_title(f"{kept:,} of {len(tiles):,} tiles kept ({100 * kept / len(tiles):.1f} %)", loc="left")
        climates = [("sea", SEA), *CLIMATES.values()]
        patches = [Patch(fc=colour, ec="0.8", lw=0.4, label=name) for name, colour in climates]
        look: dict[str, Any] = {"frameon": False, "alignment": "left", "borderaxespad": 0.3}
        look |= {"columnspacing": 1.2, "handletextpad": 0.5}
        figure.legend(handles=tile_legend, title="Tiles", loc="outside lower left", ncols=4, **look)
        figure.legend(
            handles=patches, title="Climate (Köppen-Geiger)", loc="outside lower right", ncols=3, **look
        )
        save(figure, tiles, out)


def read_ledger(path: Path) -> pd.DataFrame:
    """Ledger of a corpus with positions: its `COLUMNS` (str; kept is bool), lat_deg and lon_deg.

    These are of the centre of the cell, NaN where it is none of the grid; `reason` is empty where the tile was kept.
    Raises GeoladderError where the file is no ledger, or lists no tile.
    """
    try:
        tiles = pd.read_csv(intact(path), usecols=COLUMNS, dtype=str, keep_default_na=False)[COLUMNS]
    except (OSError, ValueError) as problem:
        raise GeoladderError(
            f"{path} is no ledger ({problem}); `geoladder index` writes one with {', '.join(COLUMNS)}"
        ) from None
    strange = sorted(set(tiles["kept"]) - {"True", "False"})
    if strange:
        raise GeoladderError(f"{path}: column kept holds '{strange[0]}'; True or False is expected")
    if tiles.empty:
        raise GeoladderError(f"{path} lists no tile; write it again with `geoladder index`")
    tiles["kept"] = tiles["kept"] == "True"
    tiles[["lat_deg", "lon_deg"]] = tiles["grid_cell"].map(_place).tolist()
    return tiles


def _place(cell: str) -> tuple[float, float]:
    try:
        lat_deg, lon_deg = centre_of(cell)
    except GeoladderError:
        return np.nan, np.nan
    return lat_deg, (lon_deg + 180) % 360 - 180


def _draw_climates(axis: Axes) -> None:
    groups = [0, *("ABCDE".index(name[0]) + 1 for name in CLASSES[1:])]
    image = np.array(groups, np.uint8)[koppen_map()[::MAP_STEP, ::MAP_STEP]]
    colours = ListedColormap([SEA, *(colour for _, colour in CLIMATES.values())])
    extent = (-180, 180, -90, 90)
    axis.imshow(image, colours, vmin=0, vmax=len(CLIMATES), extent=extent, interpolation="nearest")


def _draw_tiles(axis: Axes, tiles: pd.DataFrame, settings: Figures) -> list[Line2D]:
    """Draw the dots, rare reasons over frequent ones; return one legend entry per colour."""
    area = float(np.clip(4000 / len(tiles), 0.15, 7))
    dropped = tiles[~tiles["kept"]]
    reasons = dropped["reason"].value_counts().index
    groups = {"kept": tiles[tiles["kept"]]} | {name: dropped[dropped["reason"] == name] for name in reasons}
    looks = zip(groups.items(), palette(settings, len(groups)), chain("o", cycle(MARKERS)), strict=False)
    edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.25 if area > 2 else 0}
    edge["rasterized"] = len(tiles) > 20_000
    legend = []
    for order, ((name, rows), colour, marker) in enumerate(looks):
        size = 1.6 * area if order else area
        axis.scatter(rows.lon_deg, rows.lat_deg, size, [colour], marker=marker, zorder=2 + order, **edge)
        look: dict[str, Any] = {"marker": marker, "color": colour, "mec": "white", "mew": 0.25, "ms": 4}
        legend.append(Line2D([], [], ls="", label=f"{name} ({len(rows):,})", **look))
    lost = int(tiles["lat_deg"].isna().sum())
    if lost:
        legend.append(Line2D([], [], ls="", label=f"not on the grid: {lost:,} of these"))
    return legend


def _draw_grid(axis: Axes) -> None:
    axis.set(xlim=(-180, 180), ylim=(-90, 90), xlabel="Longitude", ylabel="Latitude", aspect="equal")
    axis.set_xticks(range(-180, 181, 60), ["180°", "120° W", "60° W", "0°", "60° E", "120° E", "180°"])
    axis.set_yticks(range(-90, 91, 30), ["90° S", "60° S", "30° S", "0°", "30° N", "60° N", "90° N"])
