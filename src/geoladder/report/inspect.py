"""What is in a file: a text for the reader, and a quicklook where there is imagery.

Knows MajorTOM parquet, our own parquet tables, evidence, chips and bench patches in npy, checkpoints and results.
"""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from safetensors import SafetensorError, safe_open

from geoladder.bounds import MAX_ROW_BYTES, MAX_TABLE_BYTES, check_columns, plain_file
from geoladder.data.archives.npy import label_path, open_labels, open_npy
from geoladder.data.archives.stored import Stored
from geoladder.data.archives.tile import read_bands
from geoladder.data.index.evidence import FILE, read_evidence
from geoladder.data.labels.bands import BANDS, BANDS_10M, IMPOSSIBLE_OFFSET_DN, boa_offset_dn, darkest_dn
from geoladder.errors import GeoladderError
from geoladder.registry import TASKS
from geoladder.registry.task import Display, Task
from geoladder.report.style import drawing
from geoladder.runs.atomic import atomic_path
from geoladder.runs.digest import intact
from geoladder.text import read_json

TILE_COLUMNS = ("product_id", "B02", "B03", "B04", "B08")
"""What a row of a MajorTOM part must hold to be described and drawn."""
SHOWN_ROWS = 5
DEEPEST = 20
"""Levels of JSON that are shown."""
STRETCH = (2, 98)
"""Percentiles of the valid pixels that become black and white."""
Panels = dict[str, Display]
"""Pictures by title; the pixels of a composite are (H, W, 3) in 0..1."""


def inspect(path: Path, png: Path | None = None, row: int = 0) -> str:
    """Describe a file, and draw one row group, patch or chip of it if it holds imagery.

    `png` is `<name>.png` in the current folder if None. Raises GeoladderError where the path is missing, damaged, not
    as its seal says, of a kind not known here, or has no such row.
    """
    if not path.exists():
        raise GeoladderError(f"{path} does not exist")
    if path.is_file():
        intact(path)
    panels: Panels = {}
    match "folder" if path.is_dir() else path.suffix:
        case ".parquet":
            text, panels = _parquet(path, row)
        case ".npy":
            text, panels = _npy(path, row)
        case ".json" if path.name == FILE:
            text = str(read_evidence(path))
        case ".json":
            text = _json(path)
        case ".safetensors":
            text = _weights(path)
        case "folder":
            text = _folder(path)
        case kind:
            raise GeoladderError(
                f"{path}: a '{kind}' file cannot be described; allowed are .parquet, .npy, .json, .safetensors and "
                "the folder of a checkpoint"
            )
    if panels:
        png = png or Path(f"{path.stem}-{row}.png")
        _draw(panels, png)
        text += f"\nquicklook: {png}"
    return text


def _parquet(path: Path, row: int) -> tuple[str, Panels]:
    try:
        file = pq.ParquetFile(plain_file(path))
        if "B02" in file.schema_arrow.names:
            return _tile(path, file, row)
        check_columns(file.metadata, file.schema_arrow.names, range(file.num_row_groups)[:1], MAX_TABLE_BYTES)
        batches = list(islice(file.iter_batches(SHOWN_ROWS, use_threads=False), 1))
        first = pa.Table.from_batches(batches, file.schema_arrow).to_pandas()
    except (pa.ArrowException, OSError) as problem:
        raise GeoladderError(
            f"{path} is no readable parquet file ({problem}); fetch or make it again"
        ) from None
    text = f"{path}: {file.metadata.num_rows} rows\n{first.dtypes.to_string()}\n\nfirst rows:\n{first.T.to_string()}"
    evidence = read_evidence(path.with_name(FILE)) if path.stem == "index" else None
    return f"{text}\n\nevidence: {evidence}" if evidence else text, {}


def _tile(path: Path, file: pq.ParquetFile, row: int) -> tuple[str, Panels]:
    """A MajorTOM part: what its rows are, and of one every GeoTIFF, and its picture."""
    _check_row(path, row, file.num_row_groups)
    check_columns(file.metadata, file.schema_arrow.names, [row], MAX_ROW_BYTES)
    values = file.read_row_group(row).to_pylist()[0]
    lacking = [name for name in TILE_COLUMNS if values.get(name) is None]
    if lacking:
        raise GeoladderError(f"{path} row {row} lacks {', '.join(lacking)}; fetch the part again")
    text, bands = f"{path}: MajorTOM part of {file.num_row_groups} rows\n{_rows(file)}\nrow {row}:", {}
    for name, value in values.items():
        shown = value
        if isinstance(value, bytes):
            shown = f"{len(value):,} bytes"
            if name != "thumbnail":
                (band,) = read_bands(memoryview(value), f"{path} row {row} band {name}", (name,))
                bands[name] = band.pixels
                shown = (
                    f"{_range(band.pixels)}, {band.crs}, {band.transform.a:g} m, {shown}{_told(band.stored)}"
                )
        text += f"\n  {name:<12} {shown}"
    text += f"\n  DN offset    {_offset(str(values['product_id']), bands)}"
    panels = _composites(bands)
    if "cloud_mask" in bands:
        panels["cloud mask (0 clear .. 3 shadow)"] = Display(bands["cloud_mask"], "magma", (0.0, 3.0))
    return text, panels


def _told(stored: Stored) -> str:
    """What the file of a band says of its numbers, where it says anything."""
    told = [
        f"nodata tag {stored.nodata:g}" if stored.nodata is not None else "",
        "a mask" if stored.masked else "",
        f"DN offset {stored.offset_dn} by tags" if stored.offset_dn is not None else "",
        f"{stored.filled:.1%} filled with another number than 0" if stored.filled else "",
    ]
    return "".join(f", {word}" for word in told if word)


def _offset(product_id: str, bands: dict[str, np.ndarray]) -> str:
    """What name and pixels say of the DN offset, and whether they contradict each other."""
    named = boa_offset_dn(product_id)
    darkest = darkest_dn([pixels for name, pixels in bands.items() if name in BANDS])
    denied = named and darkest < IMPOSSIBLE_OFFSET_DN
    return (
        f"by name {'unknown' if named is None else named}; the darkest band's first percentile is {darkest:.0f} DN"
        f"{', so pixels contradict' if denied else ''}"
    )


def _rows(file: pq.ParquetFile) -> str:
    """Numbers and words of all rows, without images."""
    words = [field.name for field in file.schema_arrow if not pa.types.is_binary(field.type)]
    return file.read(columns=words).to_pandas().to_string()


def _npy(path: Path, row: int) -> tuple[str, Panels]:
    array = open_npy(path)
    text = f"{path}: {array.dtype} array of shape {array.shape}"
    if not array.ndim:
        return f"{text}: {array}", {}
    _check_row(path, row, len(array))
    entry = np.asarray(array[row])
    text = f"{text}; entry {row}: {_range(entry)}"
    if path.name.startswith("10m-"):
        _check_bands(path, array, 1, len(BANDS_10M))
        return text, _composites(dict(zip(BANDS_10M, entry, strict=True)))
    if path.name.endswith("_s2.npy"):
        return _patch(path, array, row, text)
    stem, _, label = path.stem.rpartition("_label_")
    tasks = [task for task in TASKS.values() if stem and task.label == label]
    return text, {task.title: _display(path, task, entry[..., 0]) for task in tasks}


def _patch(path: Path, images: np.ndarray, row: int, text: str) -> tuple[str, Panels]:
    """A bench patch with the labels beside it."""
    _check_bands(path, images, 3, len(BANDS))
    panels = _composites({name: images[row, ..., k] for k, name in enumerate(BANDS_10M)})
    for task in TASKS.values():
        beside = label_path(path, task.label)
        if not beside.exists():
            text += f"\n  no label {task.label}"
            continue
        values = np.asarray(open_labels(beside, (*images.shape[:3], 1))[row, ..., 0])
        text += f"\n  label {task.label}: {_range(values)}{_unlabelled(task, values)}"
        panels[task.title] = _display(beside, task, values)
    return text, panels


def _unlabelled(task: Task, stored: np.ndarray) -> str:
    """How many pixels have no label."""
    without = int(np.isnan(task.display(stored).pixels).sum())
    return f", {without} of {stored.size} pixels without a label" if without else ""


def _display(path: Path, task: Task, stored: np.ndarray) -> Display:
    try:
        return task.display(stored)
    except GeoladderError as problem:
        raise GeoladderError(f"{path}: {problem}") from None


def _json(path: Path) -> str:
    return f"{path}:\n{_summary(read_json(path))}"


def _summary(content: Any, depth: int = 1) -> str:  # noqa: ANN401  (any JSON)
    """Nested keys, with long lists and what is nested deeply shortened."""
    if not isinstance(content, dict):
        text = json.dumps(content)
        return text if len(text) < 200 else f"{text[:200]} ..."
    pad = "  " * depth
    if depth > DEEPEST:
        return f"{pad}..."
    return "\n".join(
        f"{pad}{key}:\n{_summary(value, depth + 1)}"
        if isinstance(value, dict)
        else f"{pad}{key}: {_summary(value)}"
        for key, value in content.items()
    )


def _weights(path: Path) -> str:
    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())
            sizes = {name: file.get_slice(name).get_shape() for name in names}
    except (OSError, SafetensorError) as problem:
        raise GeoladderError(f"{path} is no readable checkpoint ({problem}); train it again") from None
    total = sum(int(np.prod(shape)) for shape in sizes.values())
    listed = "\n".join(f"  {name} {tuple(shape)}" for name, shape in sizes.items())
    return f"{path}: {len(names)} tensors, {total:,} numbers\n{listed}"


def _folder(path: Path) -> str:
    card, weights = path / "model.json", path / "model.safetensors"
    if not card.exists() or not weights.exists():
        raise GeoladderError(f"{path} is no checkpoint: model.json and model.safetensors belong in it")
    return f"{_json(intact(card))}\n\n{_weights(intact(weights))}"


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
    if not np.isfinite(values).any():
        return f"{values.dtype} {values.shape}, no finite number"
    low, high, mean = np.nanmin(values), np.nanmax(values), np.nanmean(values)
    return f"{values.dtype} {values.shape}, {low:g} .. {high:g}, mean {mean:g}"


def _composites(bands: dict[str, np.ndarray]) -> Panels:
    """True colour and false colour (near infrared as red) of bands B02 B03 B04 B08, each (H, W) DN."""
    looks = {"true colour": ("B04", "B03", "B02"), "false colour (B08, B04, B03)": ("B08", "B04", "B03")}
    return {
        title: Display(_stretched(*(bands[name] for name in names)), "gray", (0.0, 1.0))
        for title, names in looks.items()
    }


def _stretched(*channels: np.ndarray) -> np.ndarray:
    stack = np.stack(channels, axis=-1).astype(np.float64)
    valid = stack[(stack > 0).all(axis=-1)]
    if not valid.size:
        return np.zeros_like(stack)
    low, high = np.percentile(valid, STRETCH)
    return np.clip((stack - low) / max(high - low, 1e-9), 0, 1)


def _draw(panels: Panels, png: Path) -> None:
    """Write the panels in one row as a PNG."""
    with drawing(), atomic_path(png) as path:
        figure = Figure(figsize=(3.2 * len(panels), 3.5), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (title, (pixels, palette, (low, high))) in zip(axes, panels.items(), strict=True):
            axis.set_axis_off()
            axis.set_title(title, fontsize=8)
            colours = ListedColormap(palette) if isinstance(palette, tuple) else palette
            axis.imshow(pixels, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        figure.savefig(path, dpi=150)
