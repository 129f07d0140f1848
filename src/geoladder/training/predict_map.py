"""A map of a whole scene by a tuned model: predicted in windows, blended, written as a cloud-optimised GeoTIFF.

Our models see a whole image at once: norms and pooling are over all of it, attention and scans too. So what they say
of a pixel depends on the image around it, and what a map is needs a definition: the model sees windows as large as
the patches it was tuned on, which overlap and whose logits are blended as `tiling` says. How many windows are
computed at once, and in which part of a scene, changes nothing but rounding.

Scenes are read and maps are written strip by strip, never whole.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
import torch
from rasterio.windows import Window
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from geoladder import __version__
from geoladder.data.archives.scene import Pixels, Scene, open_scene
from geoladder.data.batches.batch import BandStats
from geoladder.errors import GeoladderError
from geoladder.models.backbone import sides_taken
from geoladder.registry import TASKS
from geoladder.registry.task import Task
from geoladder.runs.atomic import atomic_path
from geoladder.training.checkpoints import statistics_of
from geoladder.training.memory import memory_for
from geoladder.training.tiling import Tiling, tiling
from geoladder.training.tuned import load_tuned

log = logging.getLogger(__name__)

TILE_PX = 256
UNKNOWN_PATCH_PX = 128
"""Side of the patches of a tuned model whose card does not say it, as those of PhilEO Bench."""
CACHE_MB = 128
BLOCK_PX = 512
"""Side of a block of the written file."""


class Predictor(NamedTuple):
    """A tuned model and how it takes pixels."""

    model: nn.Module
    statistics: BandStats
    card: dict[str, Any]
    offset_dn: int
    at_once: int
    """Windows in one pass."""

    def logits(self, dn: np.ndarray) -> Tensor:
        """(N, outputs, P, P) float32 on the CPU for float32 DN (N, 10, P, P)."""
        pixels = self.statistics.model_input(
            torch.from_numpy(dn), None, self.offset_dn, self.card["transform"]
        )
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            return self.model(pixels.to(device)).float().cpu()


def predict_map(
    checkpoint: Path,
    image: Path,
    out: Path,
    bands: list[str] | None = None,
    offset_dn: int | None = None,
    tile_px: int = TILE_PX,
    window_px: int | None = None,
    threads: int = 1,
    progress: bool = False,
) -> None:
    """Predict a tuned model's task on a Sentinel-2 image of any size; arguments of the image as of `open_scene`.

    `window_px` is the side of what the model sees at a time, as near as it can take it: without, that of the patches
    it was tuned on; a model of one size of image keeps its own. As many windows are computed at once as make a square
    of `tile_px`, one at least.
    `out` is a cloud-optimised GeoTIFF on the image's grid: what the task's `layer` says, no data where any of the ten
    bands has none, classes with colours and names (tags `class_<code>`), and the model in tags.

    Raises:
        GeoladderError: the checkpoint has no task or is damaged, the image lacks a band, lies on another grid than
            one of 10 m or is damaged, or `out` is the image.
    """
    if out.resolve() == image.resolve():
        raise GeoladderError(f"{out} is the image itself; write the map to another file")
    torch.set_num_threads(threads)
    model, card = load_tuned(checkpoint)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), open_scene([image], bands, offset_dn) as scene:
        harmonised = scene.offset_dn if card["harmonise"] == "baseline" else 0
        if harmonised != scene.offset_dn:
            log.info("the model was trained without harmonising, so the DN offset stays in")
        window_px = window_px or card.get("patch_px", UNKNOWN_PATCH_PX)
        rows, columns = _tilings(scene, model, window_px)
        log.info("windows of %d x %d pixels", rows.side_px, columns.side_px)
        at_once = max(1, tile_px**2 // (rows.side_px * columns.side_px))
        predictor = Predictor(model, statistics_of(card), card, harmonised, at_once)
        smaller = memory_for(f"a square of {tile_px} px", "take a smaller --tile-px")
        with smaller, _writer(scene, card, out) as raster:
            _predict(scene, predictor, raster, rows, columns, progress)
    log.info("%s: map of %s by %s", out, TASKS[card["task"]].title.lower(), checkpoint)


def _predict(
    scene: Scene,
    predictor: Predictor,
    raster: rasterio.io.DatasetWriter,
    rows: Tiling,
    columns: Tiling,
    progress: bool,
) -> None:
    """Predict strip after strip; write what no later strip adds to."""
    task = TASKS[predictor.card["task"]]
    nodata = np.array(task.layer.nodata, task.layer.dtype)
    height, width = scene.shape
    logits = torch.zeros(task.outputs, rows.side_px, width)
    weight = torch.zeros(rows.side_px, 1)
    console = Console(stderr=True)
    places = track(range(len(rows.starts)), "predicting", console=console, disable=not progress)
    for place in places:
        start = rows.starts[place]
        strip = scene.read(Window(0, start, width, min(rows.side_px, height - start)))
        beside = rows.weights(place)[:, None]
        logits += _strip_logits(strip, predictor, rows.side_px, columns) * beside
        weight += beside
        following = rows.starts[place + 1] if place + 1 < len(rows.starts) else height
        done = following - start
        maps = task.as_map(task.prediction((logits[:, :done] / weight[:done])[None]))[0].numpy()
        values = np.where(strip.valid[:done], task.stored(maps), nodata)
        raster.write(values, 1, window=Window(0, start, width, done))
        logits, weight = _moved_on(logits, done), _moved_on(weight, done)


def _moved_on(strip: Tensor, rows: int) -> Tensor:
    """A strip (..., H, W) without its first rows, and as many empty ones at its end."""
    return torch.cat([strip[..., rows:, :], torch.zeros_like(strip[..., :rows, :])], -2)


def _strip_logits(strip: Pixels, predictor: Predictor, side_px: int, columns: Tiling) -> Tensor:
    """Logits (outputs, side_px, width) of a strip, blended across its windows; beyond the scene it is mirrored."""
    _, height, width = strip.dn.shape
    beyond = columns.starts[-1] + columns.side_px - width
    dn = np.pad(strip.dn, ((0, 0), (0, side_px - height), (0, beyond)), mode="symmetric")
    task = TASKS[predictor.card["task"]]
    total, weight = torch.zeros(task.outputs, side_px, width + beyond), torch.zeros(width + beyond)
    for first in range(0, len(columns.starts), predictor.at_once):
        places = range(first, min(first + predictor.at_once, len(columns.starts)))
        spans = [slice(columns.starts[place], columns.starts[place] + columns.side_px) for place in places]
        parts = predictor.logits(np.stack([dn[:, :, span] for span in spans]))
        for place, span, part in zip(places, spans, parts, strict=True):
            total[:, :, span] += part * columns.weights(place)
            weight[span] += columns.weights(place)
    return (total / weight)[..., :width]


def _tilings(scene: Scene, model: nn.Module, window_px: int) -> tuple[Tiling, Tiling]:
    """Windows down and across a scene."""
    fixed_px, stride_px = sides_taken(model.get_submodule("backbone"))
    window_px = fixed_px or max(1, window_px // stride_px) * stride_px
    rows, columns = (tiling(length, window_px, stride_px, bool(fixed_px)) for length in scene.shape)
    return rows, columns


@contextmanager
def _writer(scene: Scene, card: dict[str, Any], out: Path) -> Iterator[rasterio.io.DatasetWriter]:
    """A raster to write a map into, window by window; when the block ends, it becomes `out`.

    Cloud-optimised files cannot be written by window, so a plain one comes first, beside it.
    """
    task = TASKS[card["task"]]
    layer = task.layer
    height, width = scene.shape
    profile = {
        "driver": "GTiff", "count": 1, "height": height, "width": width, "dtype": layer.dtype, "nodata": layer.nodata,
        "crs": scene.crs, "transform": scene.transform, "BIGTIFF": "IF_SAFER",
        "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX,
    }  # fmt: skip
    cloud_optimised = {
        "driver": "COG", "COMPRESS": "DEFLATE", "PREDICTOR": "YES", "BIGTIFF": "IF_SAFER", "BLOCKSIZE": BLOCK_PX,
        "OVERVIEW_RESAMPLING": "NEAREST" if layer.categories else "AVERAGE",
    }  # fmt: skip
    with atomic_path(out) as temporary:
        plain = temporary.with_suffix(".plain.tif")
        try:
            with rasterio.open(plain, "w", **profile) as raster:
                _describe(raster, task, card)
                yield raster
            rasterio.shutil.copy(plain, temporary, **cloud_optimised)
        finally:
            plain.unlink(missing_ok=True)


def _describe(raster: rasterio.io.DatasetWriter, task: Task, card: dict[str, Any]) -> None:
    """Say in tags what the map is and which model made it; give classes their colours."""
    made_by = f"{card['architecture']}-{card['size']}, {card['mode']}, run {card['fingerprint']}"
    raster.update_tags(task=task.name, model=made_by, software=f"geoladder {__version__}")
    raster.set_band_description(1, task.title)
    categories = task.layer.categories
    if categories:
        raster.update_tags(1, **{f"class_{code}": name for code, (name, _) in categories.items()})
        empty = {int(task.layer.nodata): (0, 0, 0, 0)}
        raster.write_colormap(
            1, empty | {code: (*bytes.fromhex(colour[1:]), 255) for code, (_, colour) in categories.items()}
        )
