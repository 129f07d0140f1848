"""Synthetic MajorTOM archives: real format, wanted faults, resumable to the byte."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError
from rasterio.io import MemoryFile

from geoladder.data.archives import grid
from geoladder.data.labels.bands import BANDS_20M
from geoladder.errors import GeoladderError
from geoladder.study.corpora import Corpus, Earth
from geoladder.synth import archive
from geoladder.synth.archive import write_archive
from geoladder.synth.encode import STORED, digital_numbers
from geoladder.synth.place import Place
from geoladder.synth.rows import plan_rows

TILES, PX = 24, 48
EARTH = Earth(tile_px=PX)
SAMPLE = Path(__file__).parents[2].parent / "shared" / "samples" / "majortom"


@pytest.fixture(scope="module")
def majortom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("majortom")
    write_archive(folder, EARTH, Corpus(like="majortom", tiles=TILES, seed=1), 1)
    return folder


def _read(data: bytes) -> tuple[np.ndarray, object]:
    with MemoryFile(data) as memory, memory.open() as tif:
        return tif.read(1), tif


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_layout(majortom: Path) -> None:
    metadata = pd.read_parquet(majortom / "metadata.parquet")
    assert sorted(name for name in _bytes(majortom) if not name.endswith(".seal")) == [
        "images/part_00001.parquet",
        "metadata.parquet",
    ]  # no cache left behind
    images = pq.ParquetFile(majortom / "images" / "part_00001.parquet")
    assert images.num_row_groups == TILES == len(metadata)
    assert list(metadata.parquet_row) == list(range(TILES))
    table = images.read().drop_columns(["thumbnail", *STORED, "cloud_mask"]).to_pandas()
    assert list(table.product_id) == list(metadata.product_id)
    assert (
        list(metadata.grid_row_u) == sorted(metadata.grid_row_u)
        or (metadata.grid_row_u.diff() < 0).sum() <= 2
    )


@pytest.mark.skipif(not SAMPLE.exists(), reason="real MajorTOM sample not at hand")
def test_columns_are_those_of_the_real_archive(majortom: Path) -> None:
    for name in ("metadata.parquet", "images/part_00001.parquet"):
        ours, real = pq.read_schema(majortom / name), pq.read_schema(SAMPLE / name)
        assert {field.name: field.type for field in ours} == {field.name: field.type for field in real}


def test_georeference_sizes_and_offset(majortom: Path) -> None:
    images = pq.ParquetFile(majortom / "images" / "part_00001.parquet")
    for row in images.read().to_pylist():
        epsg, left, bottom, size = grid.footprint(row["grid_cell"])
        margin = (size - 10 * PX) / 2
        lowest = []
        for band in (*STORED, "cloud_mask"):
            pixels, tif = _read(row[band])
            step = {"B01": 60, "B09": 60}.get(band, 20 if band in BANDS_20M else 10)
            assert pixels.shape == (10 * PX // step,) * 2
            assert tif.crs.to_epsg() == epsg
            assert tif.res == (step, step)
            corner = (left + margin, bottom + margin, left + size - margin, bottom + size - margin)
            np.testing.assert_allclose(tif.bounds, corner, atol=1e-3)
            assert pixels.dtype == (np.uint8 if band == "cloud_mask" else np.uint16)
            if band != "cloud_mask" and (pixels > 0).any():
                lowest.append(np.percentile(pixels[pixels > 0], 1))
        if lowest:
            has_offset = int(row["product_id"].split("_N")[1][:4]) >= 400
            assert min(lowest) > 850 if has_offset else True
            if not has_offset and Place(EARTH, row["grid_cell"]).koppen != 30:
                clear = (_read(row["cloud_mask"])[0] == 0).mean() > 0.5
                assert min(lowest) < 900 or not clear
        assert Image.open(io.BytesIO(row["thumbnail"])).format == "JPEG"


def test_faults_are_there(majortom: Path) -> None:
    metadata = pd.read_parquet(majortom / "metadata.parquet")
    cells = pq.read_table(majortom / "images" / "part_00001.parquet", columns=["grid_cell"])[
        "grid_cell"
    ].to_pylist()
    assert (np.array(cells) != metadata.grid_cell).sum() == 1
    assert len(set(cells)) < len(cells)
    assert (metadata.nodata == 1).any()
    assert ((metadata.nodata > 0) & (metadata.nodata < 1)).any()
    assert metadata.crs.str.startswith("EPSG:EPSG:").any()
    assert (metadata.cloud_cover > 20).any()
    assert metadata.product_id.is_unique


def test_nodata_is_zero_and_only_nodata(majortom: Path) -> None:
    metadata = pd.read_parquet(majortom / "metadata.parquet")
    images = pq.ParquetFile(majortom / "images" / "part_00001.parquet")
    for index, share in enumerate(metadata.nodata):
        pixels, _ = _read(images.read_row_group(index, ["B08"])["B08"][0].as_py())
        assert (pixels == 0).mean() == pytest.approx(share)


def test_resume_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_archive(whole, EARTH, Corpus(like="majortom", tiles=6, seed=3), 1)
    made: list[Path] = []
    original = archive.make_tile

    def die_after_four(path: Path, *task) -> None:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(path)
        original(path, *task)

    monkeypatch.setattr(archive, "make_tile", die_after_four)
    with pytest.raises(KeyboardInterrupt):
        write_archive(broken, EARTH, Corpus(like="majortom", tiles=6, seed=3), 1)
    assert not (broken / "metadata.parquet").exists()
    made[1].unlink()
    redone: list[Path] = []

    def count(path: Path, *task) -> None:
        redone.append(path)
        original(path, *task)

    monkeypatch.setattr(archive, "make_tile", count)
    write_archive(broken, EARTH, Corpus(like="majortom", tiles=6, seed=3), 1)
    assert len(redone) == 3  # the deleted one and the two never made
    assert _bytes(broken) == _bytes(whole)


def test_processes_do_not_matter(tmp_path: Path) -> None:
    for processes in (1, 2):
        write_archive(tmp_path / str(processes), EARTH, Corpus(like="majortom", tiles=4, seed=5), processes)
    assert _bytes(tmp_path / "1") == _bytes(tmp_path / "2")


def test_fasttom_is_clear_dry_land(tmp_path: Path) -> None:
    write_archive(tmp_path, EARTH, Corpus(like="fasttom", tiles=6, seed=1), 1)
    metadata = pd.read_parquet(tmp_path / "metadata.parquet")
    assert (metadata.cloud_cover <= 67).all()
    assert all(Place(EARTH, cell).sea_share < 0.5 for cell in metadata.grid_cell)
    for row in pq.read_table(tmp_path / "images" / "part_00001.parquet").to_pylist():
        mask, tif = _read(row["cloud_mask"])
        assert mask.shape == (PX // 2, PX // 2)
        assert (mask == 0).mean() >= 0.33
        left = grid.footprint(row["grid_cell"])[1] + (10_680 - 10 * PX) / 2
        assert round(tif.bounds.left - left, 3) in (0, 5 * PX)


def test_globe_has_four_seasons_of_2022(tmp_path: Path) -> None:
    write_archive(tmp_path, EARTH, Corpus(like="globe", tiles=8, seed=1), 1)
    metadata = pd.read_parquet(tmp_path / "metadata.parquet")
    assert (metadata.groupby("grid_cell").size() == 4).all()
    months = pd.to_datetime(metadata.timestamp).dt.month
    assert sorted(months.unique()) == [1, 4, 7, 10]
    assert (metadata.product_id.str.contains("_N0400_") | (months == 1)).all()


def test_all_earth_has_sea_ice_and_the_asked_share_of_offsets() -> None:
    rows = plan_rows(EARTH, "majortom", 400, seed=9)
    climates = [Place(EARTH, row.candidates[0][0]).koppen for row in rows]
    assert 0.08 < np.mean(np.array(climates) == 0) < 0.25
    assert 30 in climates
    assert 0.3 < np.mean([int(row.baseline) >= 400 for row in rows]) < 0.5


def test_dn_keep_reflectance_and_leave_zero_to_nodata() -> None:
    reflectance = np.linspace(-0.02, 1.5, 10 * 12 * 12, dtype=np.float32).reshape(10, 12, 12)
    valid = np.ones((12, 12), bool)
    valid[:, :6] = False
    for offset in (0, 1000):
        stored = digital_numbers(reflectance, offset, valid)
        assert stored["B11"].shape == (6, 6) and stored["B01"].shape == (2, 2)
        kept = stored["B02"][:, 6:].astype(float)
        np.testing.assert_allclose(
            (kept - offset) / 10_000, reflectance[0, :, 6:].clip(1e-4 if not offset else -1), atol=6e-5
        )
        assert (stored["B02"][:, :6] == 0).all() and kept.min() >= 1


@pytest.mark.parametrize(
    ("block", "change"),
    [(Earth, {"tile_px": 50}), (Earth, {"tile_px": 1200}), (Corpus, {"like": "tom"}), (Corpus, {"tiles": 0})],
)
def test_bad_settings(block: type[Earth | Corpus], change: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        block(**change)


def test_a_globe_needs_a_tile_a_season(tmp_path: Path) -> None:
    with pytest.raises(GeoladderError, match="at least 4 tiles, got 3"):
        write_archive(tmp_path, EARTH, Corpus(like="globe", tiles=3), 1)
    assert not list(tmp_path.iterdir())
