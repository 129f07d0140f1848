"""Files that claim more than they hold, never end, or lead back to themselves."""

import os
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine
from attack import Attack, attacked_by

from geoladder.data.index.build import build_index
from geoladder.study.corpora import Select
from geoladder.study.specs import ChipsSpec, IndexSpec
from tiny_archives import Archive, BenchFolder

PART = "archive/images/part_00001.parquet"
CORRUPT_SHARE = 0.5
INDEX_SPEC = IndexSpec(
    archive="a",
    bench="b",
    one_product_per_cell=True,
    max_cloud_percent=80.0,
    max_nodata_share=0.99,
    max_corrupt_share=CORRUPT_SHARE,
    harmonise="baseline",
    validation_share=0.15,
    bench_buffer_km=0.0,
    exclude_bench="none",
)
CHIPPED_SPEC = INDEX_SPEC.model_copy(update={"harmonise": "none"})
CHIPS_SPEC = ChipsSpec(
    index=CHIPPED_SPEC.fingerprint, chip_px=32, chip_max_cloud_share=0.3, max_corrupt_share=CORRUPT_SHARE
)
INDEX = [
    *("index", "--archive", "archive", "--bench-index", "none.parquet", "--spec", INDEX_SPEC.canonical()),
    *("--out", "out.parquet", "--ledger", "out.csv"),
]
CHIPS = [
    *("chips", "--archive", "archive", "--index", "index.parquet", "--spec", CHIPS_SPEC.canonical()),
    *("--out", "out"),
]
BENCH_INDEX = ["bench-index", "--bench", "bench", "--out", "out.parquet"]


def _empty_geotiff(side_px, dtype="uint16", bands=1, **options):
    """Bytes of a GeoTIFF without pixels, of any size."""
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    size = {"height": side_px, "width": side_px, "count": bands, "dtype": dtype}
    with rasterio.MemoryFile() as memory:
        memory.open(driver="GTiff", sparse_ok=True, **size, **place, **options).close()
        return memory.read()


def _chips_of(folder, **image):
    """An archive of two tiles whose second has other bytes, and its index."""
    archive = Archive(folder / "archive").add("1U_1R").add("2U_1R", image=image).write()
    build_index(CHIPPED_SPEC, archive, folder / "none", folder / "index.parquet", folder / "ledger.csv")


def _huge(folder, side_px, names=("B02",), **options):
    block = {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "compress": "deflate"}
    _chips_of(folder, **dict.fromkeys(names, _empty_geotiff(side_px, **(block | options))))


def _dropped(folder, count=1):
    words = (folder / "out/dropped.csv").read_text()
    assert f"tile,unreadable,{count}" in words, words


def _bomb(folder):
    """A row whose thumbnail of a band is 300 MB of zeros, a few kB in the file."""
    _chips_of(folder)
    table = pq.read_table(folder / PART)
    zeros = pa.array([table["B02"][0].as_py(), bytes(300 * 2**20)], pa.binary())
    place = table.column_names.index("B02")
    pq.write_table(table.set_column(place, "B02", zeros), folder / PART, row_group_size=1, compression="zstd")


def _archive(folder, spoil):
    """An archive of two parts, of which `spoil` is given the second."""
    archive = Archive(folder / "archive").add("1U_1R").add("2U_1R", part="part_00002.parquet").write()
    part = archive / "images/part_00002.parquet"
    part.unlink()
    spoil(part)


def _many_rows(folder):
    """metadata.parquet of eleven million empty rows, 2 kB a column."""
    Archive(folder / "archive").add("1U_1R").write()
    path = folder / "archive/metadata.parquet"
    names = pq.read_schema(path).names
    pq.write_table(pa.table([pa.nulls(11_000_000, pa.string())] * len(names), names), path)


def _bench(folder, spoil):
    """A bench of one file, whose images `spoil` is given after their removal."""
    BenchFolder(folder / "bench").add("europe", "3", "train", 4)
    path = folder / "bench/europe_3_train_s2.npy"
    path.unlink()
    spoil(path)


def _npy(path, shape, kind="<u2", data=b""):
    """An npy file of 1000 bytes, or of `data`, that claims a shape."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data)


def _sparse(path):
    """A file with a hole of the very size that its header claims, which takes no room on the disk."""
    _npy(path, (2_000_000, 64, 64, 10))
    os.truncate(path, path.stat().st_size + 2_000_000 * 64 * 64 * 10 * 2)


class _Touches:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def _looping_bench(folder):
    bench = BenchFolder(folder / "bench").add("europe", "3", "train", 4).folder
    (bench / "again").symlink_to(bench)
    (bench / "and again").symlink_to(bench)


def _one_row(folder):
    assert pq.read_metadata(folder / "out.parquet").num_rows == 1


def _weights(folder, size, header=b"{}"):
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + header)


def _with(spec, words, **changes):
    """A command with another spec."""
    place = words.index("--spec") + 1
    return [*words[:place], spec.model_copy(update=changes).canonical(), *words[place + 1 :]]


def _cells(folder):
    Archive(folder / "archive").add("1U_1R").write()
    os.mkfifo(folder / "cells.txt")


def _climate(folder):
    _chips_of(folder)
    block = {"tiled": True, "blockxsize": 65_536, "blockysize": 65_536}
    (folder / "koppen.tif").write_bytes(_empty_geotiff(64, "uint8", **block))


def _spoiled(name, data):
    """Chips of an archive whose second tile has other bytes in B02, which are dropped."""
    return Attack(
        f"a band that is {name}",
        partial(_chips_of, B02=data),
        CHIPS,
        None,
        stated="(2U_1R) band B02 ",
        check=_dropped,
    )


def _part(name, spoil, stated):
    """An index of an archive whose second part cannot be read: its row is dropped."""
    return Attack(
        f"a part that is {name}", partial(_archive, spoil=spoil), INDEX, None, stated=stated, check=_one_row
    )


def _images(name, spoil, message):
    """An index of a bench with images that are refused."""
    return Attack(f"images that are {name}", partial(_bench, spoil=spoil), BENCH_INDEX, message)


VRT = b"""<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>
<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""

ATTACKS = [
    Attack(
        "a band of 30000 pixels a side",
        partial(_huge, side_px=30_000, names=("B02", "B03", "B04", "B08")),
        CHIPS,
        None,
        stated="band B02 is no readable GeoTIFF (it claims 30000 x 30000 pixels",
        check=_dropped,
    ),
    Attack(
        "a cloud mask of 120000 pixels a side",
        partial(_huge, side_px=120_000, names=("cloud_mask",), dtype="uint8"),
        CHIPS,
        None,
        stated="band cloud_mask is no readable GeoTIFF (it claims 120000 x 120000 pixels",
        check=_dropped,
    ),
    Attack(
        "a band of 64 pixels a side in blocks of 65536",
        partial(_huge, side_px=64, blockxsize=65_536, blockysize=65_536),
        CHIPS,
        None,
        stated="it claims blocks of 65536 x 65536 pixels",
        check=_dropped,
    ),
    Attack(
        "a band of 200 bands",
        partial(_huge, side_px=64, bands=200),
        CHIPS,
        None,
        stated="has 200 bands",
        check=_dropped,
    ),
    Attack(
        "a band of 300 MB of zeros", _bomb, CHIPS, None, stated="it claims 1 rows and 315 MB", check=_dropped
    ),
    _spoiled("a GeoTIFF cut in half", _empty_geotiff(64)[:200]),
    _spoiled("a VRT that reads another file", VRT),
    _spoiled("a program", b"\x7fELF" + bytes(1000)),
    _spoiled("a pickle that runs a command", pickle.dumps(_Touches())),
    _part("a pipe", os.mkfifo, "it is a pipe or a device, not a file"),
    _part("a device", lambda path: path.symlink_to("/dev/zero"), "it is a pipe or a device, not a file"),
    _part("a link to itself", lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    _part("a folder", Path.mkdir, "it is a folder, not a file"),
    _part("empty", Path.touch, "Parquet file size is 0 bytes"),
    _part("missing", lambda _: None, "does not exist; fetch it, or remove its rows"),
    Attack("eleven million rows of metadata", _many_rows, INDEX, "it claims 11000000 rows"),
    Attack(
        "a list of cells that is a pipe",
        _cells,
        _with(INDEX_SPEC, INDEX, select=Select(cells="cells.txt")),
        "cells.txt cannot be read (it is a pipe or a device, not a file)",
    ),
    Attack(
        "a climate map in blocks of 65536 pixels",
        _climate,
        _with(CHIPS_SPEC, [*CHIPS[:-1], "chips"], koppen_raster=Path("koppen.tif")),
        "koppen.tif is no readable raster (it claims blocks of 65536 x 65536 pixels",
    ),
    Attack("a bench that holds links to itself", _looping_bench, BENCH_INDEX, None, check=_one_row),
    Attack(
        "a bench that is missing", lambda _: None, BENCH_INDEX, "there is no folder bench; check the path"
    ),
    _images("a pipe", os.mkfifo, "it is a pipe or a device, not a file"),
    _images("2000000 patches in a hole", _sparse, "it claims the shape (2000000, 64, 64, 10); at most"),
    _images("larger by their header", partial(_npy, shape=(10**9, 64, 64, 10)), "cannot be read"),
    _images("fewer than none", partial(_npy, shape=(-5, 64, 64, 10), data=bytes(10**4)), "cannot be read"),
    _images("of a side beyond all numbers", partial(_npy, shape=(10**30, 64, 64, 10)), "cannot be read"),
    _images(
        "a pickle that runs a command",
        lambda path: np.save(path, np.array([_Touches()], object), allow_pickle=True),
        "cannot be read",
    ),
    _images("an archive of arrays", lambda path: np.savez(path.open("wb"), x=np.ones(3)), "cannot be read"),
    Attack(
        "weights with a header of an exabyte",
        partial(_weights, size=2**60),
        ["inspect", "model.safetensors"],
        "model.safetensors",
    ),
    Attack(
        "weights that claim a terabyte",
        partial(
            _weights,
            size=62,
            header=b'{"a":{"dtype":"F32","shape":[250000000000],"data_offsets":[0,1000000000000]}}'[:62],
        ),
        ["inspect", "model.safetensors"],
        "model.safetensors",
    ),
    Attack(
        "a bomb that is looked into", _bomb, ["inspect", PART, "--row", "1"], "it claims 1 rows and 315 MB"
    ),
]
test_sizes = attacked_by(ATTACKS)
