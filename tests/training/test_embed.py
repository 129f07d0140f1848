"""Embeddings: the vectors are the model's, each footprint is where its chip lies, and others can read the file."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from affine import Affine

from geoladder.data.archives.grid import cell_of, to_lat_lon
from geoladder.data.archives.sources import open_archive
from geoladder.data.batches.batch import BandStats
from geoladder.data.batches.chip_store import ChipStore
from geoladder.data.batches.chips import write_chips
from geoladder.data.batches.places import PlacedChips
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone
from geoladder.registry.ladder import rung
from geoladder.study.load import parse_study
from geoladder.study.specs import ChipsSpec
from geoladder.synth.archive import write_archive
from geoladder.training import embed as embedding
from geoladder.training.checkpoints import save_model
from geoladder.training.embed import SCHEMA, _table, embed
from pretraining import STATS, smooth

PRODUCT = "S2A_MSIL2A_20230101T101401_N0509_R022_T33UUU_20230101T143000"
LEFT_M, TOP_M = 330_000, 5_822_040


@pytest.fixture
def checkpoint(corpus, tmp_path):
    """A pretrained backbone without heads, of random weights."""
    torch.manual_seed(2)
    backbone = build_backbone("unet", "xs")
    statistics = BandStats.load(corpus / "stats.json", STATS).as_dict()
    card = {"architecture": "unet", "size": "xs", "model": rung("unet", "xs").kwargs, "bands": list(BANDS)}
    card |= {"transform": "sqrt", "statistics": statistics, "fingerprint": "abc"}
    weights = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    save_model(weights, card, tmp_path / "run")
    return tmp_path / "run", backbone.eval(), BandStats.from_dict(statistics)


@pytest.fixture
def image(tmp_path):
    dn = (smooth(np.random.default_rng(0), 10, 80)[:, :40, :] * 3000 + 1200).astype(np.uint16)
    dn[:, 20, 70] = 0
    path = tmp_path / f"{PRODUCT}.tif"
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, LEFT_M, 0, -10, TOP_M)}
    with rasterio.open(
        path, "w", driver="GTiff", count=10, height=40, width=80, dtype="uint16", nodata=0, **place
    ) as raster:
        raster.write(dn)
        raster.descriptions = BANDS
    return path, dn


def test_chips_that_do_not_fit_into_memory_are_told_to_be_smaller(checkpoint, image, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "_vectors", lambda *_: torch.empty(1 << 55, dtype=torch.uint8))
    with pytest.raises(GeoladderError, match=r"32 chips of unet-xs abc does not fit .* smaller --chip-px"):
        embed(checkpoint[0], image[0], tmp_path / "e.parquet", chip_px=16)
    assert not (tmp_path / "e.parquet").exists()


def test_chips_of_an_image(checkpoint, image, tmp_path):
    folder, backbone, statistics = checkpoint
    path, dn = image
    embed(folder, path, tmp_path / "e.parquet", chip_px=16)
    table = pq.read_table(tmp_path / "e.parquet").to_pandas()
    # 2 x 5 chips fit; the nodata pixel is in that of row 1, column 4.
    assert table["pixel_bbox"].map(list).tolist() == [
        [left, top, left + 16, top + 16]
        for top in (0, 16)
        for left in range(0, 80, 16)
        if (top, left) != (16, 64)
    ]
    pixels = statistics.model_input(dn[None, :, 16:32, 32:48], None, 1000, "sqrt")
    with torch.inference_mode():
        np.testing.assert_allclose(table["embedding"][7], backbone(pixels).summary[0], atol=1e-5)
    lat, lon = to_lat_lon(32633, LEFT_M + 400, TOP_M - 240)
    assert (table["centre_lat"][7], table["centre_lon"][7]) == pytest.approx((lat, lon))
    assert table["grid_cell"][7] == cell_of(lat, lon)
    assert (table["product_id"] == PRODUCT).all() and (table["timestamp"] == "20230101T101401").all()
    assert table["utm_footprint"][0].startswith("POLYGON ((330000.0 5821880.0, 330160.0 5821880.0, ")
    assert (table["utm_crs"] == "EPSG:32633").all()
    assert table["unique_id"].is_unique and table["unique_id"].str.len().eq(64).all()


def test_others_can_read_the_file(checkpoint, image, tmp_path):
    embed(checkpoint[0], image[0], tmp_path / "e.parquet", chip_px=16)
    schema = pq.read_schema(tmp_path / "e.parquet")
    assert schema.remove_metadata() == SCHEMA
    geo = json.loads(schema.metadata[b"geo"])
    assert geo["primary_column"] == "geometry" and geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"] == {"encoding": "WKB", "geometry_types": ["Polygon"]}
    assert json.loads(schema.metadata[b"geoladder"])["model"] == "unet-xs abc"
    shapely = pytest.importorskip("shapely", reason="checks footprints where shapely is installed")
    table = pq.read_table(tmp_path / "e.parquet").to_pandas()
    footprint = shapely.from_wkb(table["geometry"][0])
    assert footprint.is_valid and footprint.exterior.is_ccw
    assert footprint.contains(shapely.Point(table["centre_lon"][0], table["centre_lat"][0]))
    assert shapely.from_wkt(table["utm_footprint"][0]).area == 160**2


def test_chips_and_tiles_of_an_archive_say_the_same(checkpoint, tmp_path):
    """Cut before, or now: equal vectors at equal places."""
    study = parse_study(
        {
            "earth": {"tile_px": 72},
            "corpora": {"majortom": {"tiles": 6}},
            "cleaning": {"chip_px": 32, "chip_max_cloud_share": 1.0},
            "pretrain": {"grid": [{"corpora": ["majortom"], "architectures": ["unet"], "sizes": ["xs"]}]},
            "finetune": {"grid": [{"corpora": ["scratch"], "architectures": ["unet"], "sizes": ["xs"]}]},
        }
    )
    archive, index = tmp_path / "archive", tmp_path / "index.parquet"
    write_archive(archive, study.earth, study.corpora["majortom"], 1)
    rows = open_archive(archive).metadata()
    rows = rows[rows["unusable"] == ""].drop_duplicates("grid_cell").assign(offset_dn=0, split="train")
    rows.to_parquet(index)
    write_chips(ChipsSpec.of(study, "majortom"), archive, index, tmp_path / "chips")
    embed(checkpoint[0], archive, tmp_path / "a.parquet", index=index, chip_px=32)
    embed(checkpoint[0], tmp_path / "chips", tmp_path / "c.parquet")
    tiles, chips = (pd.read_parquet(tmp_path / name) for name in ("a.parquet", "c.parquet"))
    assert len(tiles) == len(chips) > 4
    for column in ("grid_cell", "product_id", "timestamp", "utm_crs"):
        assert tiles[column].tolist() == chips[column].tolist()
    np.testing.assert_allclose(np.stack(tiles["embedding"]), np.stack(chips["embedding"]), atol=1e-5)
    np.testing.assert_allclose(tiles["centre_lat"], chips["centre_lat"], atol=1e-5)
    assert tiles["pixel_bbox"].notna().all() and chips["pixel_bbox"].isna().all()


def test_chips_cut_before_keep_their_side(checkpoint, corpus, tmp_path, monkeypatch):
    """Also where the default of --chip-px is none that the model takes."""
    folder, backbone, _ = checkpoint
    card = json.loads((folder / "model.json").read_text())
    backbone.side_px = ChipStore(corpus / "chips").chip_px
    monkeypatch.setattr("geoladder.training.embed.load_model", lambda _: (backbone, card))
    embed(folder, corpus / "chips", tmp_path / "c.parquet")
    assert len(pd.read_parquet(tmp_path / "c.parquet")) == len(ChipStore(corpus / "chips"))


def test_a_mosaic_may_be_wider_than_16_bits_count():
    places = {
        "grid_cell": "900U_10R",
        "product_id": "",
        "timestamp": pd.NaT,
        "crs": "EPSG:32633",
        "lat_deg": 52.0,
    }
    places |= {"lon_deg": 13.0, "x_m": 4e5, "y_m": 5.8e6, "column_px": [40_000], "row_px": [50_000]}
    chips = PlacedChips(np.zeros((1, 10, 16, 16)), None, np.zeros(1), pd.DataFrame(places))
    table = _table(chips, np.zeros((1, 4), np.float32), "unet")
    assert table["pixel_bbox"].to_pylist() == [[40_000, 50_000, 40_016, 50_016]]


def test_bad_input_is_named_and_leaves_nothing(checkpoint, image, corpus, tmp_path):
    folder, out = checkpoint[0], tmp_path / "e.parquet"
    with pytest.raises(GeoladderError, match=r"--chip-px is 20, .* multiples of 8"):
        embed(folder, image[0], out, chip_px=20)
    with pytest.raises(GeoladderError, match=r"--chip-px is 0, .* multiples of 8"):
        embed(folder, image[0], out, chip_px=0)
    with pytest.raises(GeoladderError, match="has no chip of 64 x 64"):
        embed(folder, image[0], out, chip_px=64)
    with pytest.raises(GeoladderError, match="of an archive, give the index"):
        embed(folder, tmp_path, out)
    with pytest.raises(GeoladderError, match="is no index of tiles"):
        embed(folder, tmp_path, out, index=corpus / "stats.json")
    shutil.rmtree(folder)
    with pytest.raises(GeoladderError, match="no model card"):
        embed(folder, image[0], out)
    assert not list(tmp_path.glob("*parquet*"))
