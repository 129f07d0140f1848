"""What is in a file: a text for the reader, and a quicklook where there is imagery.

Knows MajorTOM parquet, our own parquet tables, chips and bench patches in npy, checkpoints and results.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from safetensors import SafetensorError, safe_open

from geoladder.data.archives.npy import label_path, open_labels, open_npy
from geoladder.data.labels.bands import BANDS, BANDS_10M, boa_offset_dn
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.task import Task
from geoladder.report.quicklook import Panel, composites, draw

TILE_COLUMNS = ("product_id", "B02", "B03", "B04", "B08")
"""What a row of a MajorTOM part must hold to be described and drawn."""
SHOWN_ROWS = 5


def inspect(path: Path, png: Path | None = None, row: int = 0) -> str:
    """Describe a file, and draw one row, patch or chip of it if it holds imagery.

    Args:
        path: parquet, npy, json, safetensors, or the folder of a checkpoint.
        png: where to draw; `<name>.png` in the current folder if None.
        row: which row group, patch or chip.

    Raises:
        GeoladderError: the path is missing, damaged, of a kind not known here, or has no such row.
    """
    if not path.exists():
        raise GeoladderError(f"{path} does not exist")
    kind = "folder" if path.is_dir() else path.suffix
    readers = {
        ".parquet": _parquet,
        ".npy": _npy,
        ".json": _json,
        ".safetensors": _weights,
        "folder": _folder,
    }
    if kind not in readers:
        raise GeoladderError(
            f"{path}: a '{kind}' file cannot be described; allowed are .parquet, .npy, .json, .safetensors and the "
            "folder of a checkpoint"
        )
    text, panels = readers[kind](path, row)
    if not panels:
        return text
    target = png or Path(f"{path.stem}-{row}.png")
    draw(panels, target)
    return f"{text}\nquicklook: {target}"


Description = tuple[str, list[Panel]]


def _parquet(path: Path, row: int) -> Description:
    try:
        file = pq.ParquetFile(path)
        if "B02" in file.schema_arrow.names:
            return _tile(path, file, row)
        table = file.read().to_pandas()
    except (pa.ArrowException, OSError) as problem:
        raise GeoladderError(
            f"{path} is no readable parquet file ({problem}); fetch or make it again"
        ) from None
    head = table.head(SHOWN_ROWS).T.to_string()
    return f"{path}: {len(table)} rows\n{table.dtypes.to_string()}\n\nfirst rows:\n{head}", []


def _tile(path: Path, file: pq.ParquetFile, row: int) -> Description:
    """One row of a MajorTOM part: every GeoTIFF in it, and its picture."""
    _check_row(path, row, file.num_row_groups)
    values = file.read_row_group(row).to_pylist()[0]
    lacking = [name for name in TILE_COLUMNS if values.get(name) is None]
    if lacking:
        raise GeoladderError(f"{path} row {row} lacks {', '.join(lacking)}; fetch the part again")
    lines, bands = [f"{path}: MajorTOM part of {file.num_row_groups} rows; row {row}:"], {}
    for name, value in values.items():
        if not isinstance(value, bytes):
            lines.append(f"  {name:<12} {value}")
        elif name == "thumbnail":
            lines.append(f"  {name:<12} {len(value):,} bytes")
        else:
            bands[name], where = _geotiff(value, f"{path} row {row} band {name}")
            lines.append(f"  {name:<12} {_range(bands[name])}, {where}, {len(value):,} bytes")
    offset = boa_offset_dn(values["product_id"])
    lines.append(f"  DN offset    {'not given by the baseline' if offset is None else offset}")
    panels = composites(bands)
    if "cloud_mask" in bands:
        panels.append(Panel("cloud mask (0 clear .. 3 shadow)", bands["cloud_mask"], "magma", (0.0, 3.0)))
    return "\n".join(lines), panels


def _geotiff(content: bytes, where: str) -> tuple[np.ndarray, str]:
    try:
        with MemoryFile(content) as memory, memory.open() as image:
            return image.read(1), f"{image.crs}, {image.res[0]:g} m"
    except RasterioError as problem:
        raise GeoladderError(f"{where} is no readable GeoTIFF ({problem}); fetch the part again") from None


def _npy(path: Path, row: int) -> Description:
    array = open_npy(path)
    text = f"{path}: {array.dtype} array of shape {array.shape}"
    if not array.ndim:
        return f"{text}: {array}", []
    _check_row(path, row, len(array))
    text = f"{text}; entry {row}: {_range(np.asarray(array[row]))}"
    if path.name.startswith("10m-"):
        _check_bands(path, array, 1, len(BANDS_10M))
        return text, composites(dict(zip(BANDS_10M, array[row], strict=True)))
    if path.name.endswith("_s2.npy"):
        return _patch(path, array, row, text)
    stem, _, label = path.stem.rpartition("_label_")
    tasks = [task for task in TASKS.values() if stem and task.label == label]
    return text, [_label_panel(path, task, np.asarray(array[row, ..., 0])) for task in tasks]


def _label_panel(path: Path, task: Task, stored: np.ndarray) -> Panel:
    try:
        return Panel(task.title, *task.display(stored))
    except GeoladderError as problem:
        raise GeoladderError(f"{path}: {problem}") from None


def _patch(path: Path, images: np.ndarray, row: int, text: str) -> Description:
    """A bench patch with the labels beside it."""
    _check_bands(path, images, 3, len(BANDS))
    panels = composites({name: images[row, ..., k] for k, name in enumerate(BANDS_10M)})
    for task in TASKS.values():
        beside = label_path(path, task.label)
        if not beside.exists():
            text += f"\n  no label {task.label}"
            continue
        values = np.asarray(open_labels(beside, (*images.shape[:3], 1))[row, ..., 0])
        text += f"\n  label {task.label}: {_range(values)}"
        panels.append(_label_panel(beside, task, values))
    return text, panels


def _json(path: Path, _: int) -> Description:
    try:
        content = json.loads(path.read_text())
    except ValueError as problem:
        raise GeoladderError(f"{path} is not valid JSON ({problem})") from None
    return f"{path}:\n{_summary(content)}", []


def _summary(content: Any, depth: int = 1) -> str:  # noqa: ANN401  (any JSON)
    """Nested keys, with long lists shortened."""
    if not isinstance(content, dict):
        text = json.dumps(content)
        return text if len(text) < 200 else f"{text[:200]} ..."
    pad = "  " * depth
    return "\n".join(
        f"{pad}{key}:\n{_summary(value, depth + 1)}"
        if isinstance(value, dict)
        else f"{pad}{key}: {_summary(value)}"
        for key, value in content.items()
    )


def _weights(path: Path, _: int) -> Description:
    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())
            sizes = {name: file.get_slice(name).get_shape() for name in names}
    except (OSError, SafetensorError) as problem:
        raise GeoladderError(f"{path} is no readable checkpoint ({problem}); train it again") from None
    total = sum(int(np.prod(shape)) for shape in sizes.values())
    listed = "\n".join(f"  {name} {tuple(shape)}" for name, shape in sizes.items())
    return f"{path}: {len(names)} tensors, {total:,} numbers\n{listed}", []


def _folder(path: Path, row: int) -> Description:
    card, weights = path / "model.json", path / "model.safetensors"
    if not card.exists() or not weights.exists():
        raise GeoladderError(f"{path} is no checkpoint: model.json and model.safetensors belong in it")
    return f"{_json(card, row)[0]}\n\n{_weights(weights, row)[0]}", []


def _check_bands(path: Path, array: np.ndarray, axis: int, bands: int) -> None:
    if array.ndim != 4 or array.shape[axis] != bands:
        raise GeoladderError(
            f"{path} has shape {array.shape}; images by this name have four axes and {bands} bands on axis {axis}"
        )


def _check_row(path: Path, row: int, rows: int) -> None:
    if not 0 <= row < rows:
        raise GeoladderError(f"{path} has entries 0..{rows - 1}, but --row {row} was given")


def _range(values: np.ndarray) -> str:
    if not np.issubdtype(values.dtype, np.number):
        return f"{values.dtype} {values.shape}"
    low, high, mean = np.nanmin(values), np.nanmax(values), np.nanmean(values)
    return f"{values.dtype} {values.shape}, {low:g} .. {high:g}, mean {mean:g}"
