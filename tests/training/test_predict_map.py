"""Maps of whole scenes: windows fit together, the place is kept, and what is no fit image is named."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geoladder.cli import main
from geoladder.data.archives.scene import open_scene
from geoladder.data.batches.batch import BandStats
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError
from geoladder.models.build import FinetuneModel, build_backbone
from geoladder.registry import TASKS
from geoladder.training import predict_map as stage
from geoladder.training.predict_map import predict_map
from geoladder.training.tiling import tiling
from geoladder.training.tuned import save_tuned
from pretraining import STATS, smooth

PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 330_000, 0, -10, 5_822_040)}


@pytest.fixture
def image(tmp_path):
    """Writes a scene of smooth bands with a corner of nodata: its path."""

    def make(height=80, width=104, name="scene.tif", descriptions=BANDS, dtype="uint16", offset_dn=0, **tags):
        rng = np.random.default_rng(0)
        side = max(height, width)
        dn = (smooth(rng, len(BANDS), side)[:, :height, :width] * 3000 + 200).astype(np.uint16) + offset_dn
        dn[:, :3, :5] = 0
        bands = dn if dtype == "uint16" else dn.astype(dtype) / 10_000
        shape = {"count": len(bands), "height": height, "width": width, "dtype": dtype}
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", nodata=0, **shape, **(PLACE | tags)
        ) as raster:
            raster.write(bands)
            raster.descriptions = list(descriptions)
        return tmp_path / name

    return make


@pytest.fixture
def tuned(corpus, finetune_spec, tmp_path):
    """Saves a model of random weights: its folder."""

    def make(task="roads", architecture="pixel", harmonise="baseline", patch_px=64):
        size = "mlp" if architecture == "pixel" else "xs"
        spec = finetune_spec(architecture, size, task=task, harmonise=harmonise)
        torch.manual_seed(3)
        model = FinetuneModel(build_backbone(architecture, size), TASKS[task].outputs).eval()
        nn.init.normal_(model.head.weight)
        folder = tmp_path / f"{architecture}-{task}"
        save_tuned(model, spec, BandStats.load(corpus / "stats.json", STATS), patch_px, folder)
        return folder

    return make


def read(path):
    with rasterio.open(path) as raster:
        return raster.read(1)


@settings(deadline=None)
@given(
    length=st.integers(1, 400),
    strides=st.integers(1, 9),
    stride=st.sampled_from([1, 4, 8]),
    fixed=st.booleans(),
)
def test_windows_cover_a_side_and_their_weights_never_vanish(length, strides, stride, fixed):
    tiles = tiling(length, strides * stride, stride, fixed)
    total = torch.zeros(tiles.starts[-1] + tiles.side_px)
    for place, start in enumerate(tiles.starts):
        total[start : start + tiles.side_px] += tiles.weights(place)
    assert length <= len(total) < max(length, strides * stride * fixed) + stride + (length == 0)
    assert all(start % stride == 0 for start in tiles.starts)
    assert tiles.starts == sorted(set(tiles.starts))
    assert total.min() > 0
    assert not fixed or tiles.side_px == strides * stride


FAMILIES = ["unet", "vit_upernet", "mamba_upernet"]


def in_one_pass(folder, scene, window_px):
    """Logits of a map by its definition: all windows of the whole scene at once, weighted by rows and columns."""
    model, card = stage.load_tuned(folder)
    with rasterio.open(scene) as raster:
        dn = raster.read()[None]
    pixels = BandStats.from_dict(card["statistics"]).model_input(dn, None, 0, "sqrt")
    rows, columns = (tiling(side, window_px, 8) for side in dn.shape[2:])
    total, weight = 0, 0
    places = [(row, column) for row in range(len(rows.starts)) for column in range(len(columns.starts))]
    corners = [(rows.starts[row], columns.starts[column]) for row, column in places]
    windows = torch.cat([pixels[:, :, y : y + window_px, x : x + window_px] for y, x in corners])
    with torch.inference_mode():
        logits = model(windows)
    for (row, column), (y, x), window in zip(places, corners, logits, strict=True):
        around = (x, dn.shape[3] - x - window_px, y, dn.shape[2] - y - window_px)
        share = torch.outer(rows.weights(row), columns.weights(column))
        total = total + nn.functional.pad(window * share, around)
        weight = weight + nn.functional.pad(share, around)
    return total / weight


@pytest.mark.parametrize("architecture", FAMILIES)
def test_tiles_equal_one_pass(tuned, image, tmp_path, architecture):
    """Of networks whose norms, pools, attention and scans see a whole image."""
    folder, scene = tuned("roads", architecture, patch_px=32), image(88, 104)
    wanted = in_one_pass(folder, scene, 32)[0].sigmoid().numpy()
    for tile_px in (16, 64, 512):
        predict_map(folder, scene, tmp_path / "map.tif", tile_px=tile_px)
        made = read(tmp_path / "map.tif")
        np.testing.assert_allclose(made[3:, 5:], wanted[3:, 5:], atol=1e-5)
    predict_map(folder, scene, tmp_path / "map.tif", window_px=64)
    assert np.nanmax(np.abs(read(tmp_path / "map.tif") - wanted)) > 1e-3


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_part_of_a_scene_has_the_map_of_the_whole_away_from_its_border(
    tuned, image, tmp_path, architecture
):
    folder, scene, part = tuned("roads", architecture, patch_px=32), image(120, 144), tmp_path / "part.tif"
    cut = rasterio.windows.Window(24, 48, 96, 72)
    with rasterio.open(scene) as raster:
        profile = raster.profile | {"width": cut.width, "height": cut.height}
        with rasterio.open(part, "w", **profile | {"transform": raster.window_transform(cut)}) as written:
            written.write(raster.read(window=cut))
            written.descriptions = raster.descriptions
    predict_map(folder, scene, tmp_path / "map.tif")
    predict_map(folder, part, tmp_path / "part_map.tif")
    whole, of_part = read(tmp_path / "map.tif")[48:, 24:120], read(tmp_path / "part_map.tif")
    np.testing.assert_allclose(of_part[32:-32, 32:-32], whole[32:-32, 32:-32], atol=1e-5)


@pytest.mark.parametrize("architecture", ["pixel", *FAMILIES])
def test_an_image_as_small_as_a_window_is_seen_whole(tuned, image, tmp_path, corpus, architecture):
    """By hand: standardised, through the model, sigmoid; also where sides are no multiples of the stride."""
    folder, scene = tuned("roads", architecture), image(48, 64)
    predict_map(folder, scene, tmp_path / "map.tif")
    model, card = stage.load_tuned(folder)
    with rasterio.open(scene) as raster:
        dn = raster.read()[None]
    pixels = BandStats.from_dict(card["statistics"]).model_input(dn, None, 0, "sqrt")
    with torch.inference_mode():
        wanted = model(pixels)[0, 0].sigmoid().numpy()
    np.testing.assert_allclose(read(tmp_path / "map.tif")[4:, 6:], wanted[4:, 6:], atol=1e-5)
    predict_map(folder, image(45, 61, "odd.tif"), tmp_path / "odd.tif.tif")
    assert read(tmp_path / "odd.tif.tif").shape == (45, 61)


def test_what_a_map_is(tuned, image, tmp_path):
    scene, out = image(600, 520), tmp_path / "map.tif"
    predict_map(tuned("landcover"), scene, out)
    with rasterio.open(out) as raster, rasterio.open(scene) as source:
        assert (raster.crs, raster.transform, raster.shape) == (source.crs, source.transform, source.shape)
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.overviews(1)
        assert (raster.dtypes[0], raster.nodata) == ("uint8", 0)
        assert raster.colormap(1)[10] == (0, 0x64, 0, 255)
        assert raster.tags(1)["class_50"] == "built"
        assert raster.tags()["task"] == "landcover"
        classes = raster.read(1)
    assert (classes[:3, :5] == 0).all()
    assert set(np.unique(classes)) <= {0, *TASKS["landcover"].codes}
    assert (classes == 0).sum() == 15
    predict_map(tuned("roads"), scene, out)
    with rasterio.open(out) as raster:
        density = raster.read(1)
        assert raster.dtypes[0] == "float32" and np.isnan(raster.nodata)
    assert np.isnan(density[:3, :5]).all() and np.isnan(density).sum() == 15
    assert np.nanmin(density) >= 0 and np.nanmax(density) <= 1
    assert sorted(path.name for path in tmp_path.glob("*.tif")) == ["map.tif", "scene.tif"]


def test_dn_reflectance_and_offset_say_the_same(tuned, image, tmp_path):
    folder, out = tuned(), tmp_path / "map.tif"
    predict_map(folder, image(), out)
    plain = read(out)
    product = "S2A_MSIL2A_20230101T101401_N0509_R022_T33UUU_20230101T143000"
    shifted = image(name=f"{product}.tif", offset_dn=1000)
    for scene, options in (
        (shifted, {}),  # by the baseline in its name
        (image(name="shifted.tif", offset_dn=1000), {"offset_dn": 1000}),
        (image(name="bright.tif", offset_dn=1000), {}),  # by its pixels
        (image(name="reflectance.tif", dtype="float32"), {}),
    ):
        predict_map(folder, scene, out, **options)
        np.testing.assert_allclose(read(out), plain, atol=1e-5)
    with rasterio.open(tmp_path / "shifted.tif", "r+") as raster:
        raster.scales, raster.offsets = [1e-4] * 10, [-0.1] * 10
    predict_map(folder, tmp_path / "shifted.tif", out)
    np.testing.assert_allclose(read(out), plain, atol=1e-5)
    predict_map(tuned(harmonise="none"), shifted, out)
    assert np.nanmax(np.abs(read(out) - plain)) > 1e-3


def test_bands_are_taken_by_name(tuned, image, tmp_path):
    folder, out = tuned(), tmp_path / "map.tif"
    predict_map(folder, image(), out)
    plain = read(out)
    mixed = tmp_path / "mixed.tif"
    with rasterio.open(tmp_path / "scene.tif") as raster:
        dn, profile = raster.read(), raster.profile | {"count": 11}
    names = ["B12", "B11", "b8a (narrow)", "B7", "B6", "B5", "B8", "B4", "B3", "B2"]
    with rasterio.open(mixed, "w", **profile) as raster:
        raster.write(np.concatenate([dn[[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]], dn[:1]]))
        raster.descriptions = [*names, "SCL"]
    predict_map(folder, mixed, out)
    np.testing.assert_array_equal(read(out), plain)
    with rasterio.open(mixed, "r+") as raster:
        raster.descriptions = [""] * 11
    with pytest.raises(GeoladderError, match=r"have no names.*--bands"):
        predict_map(folder, mixed, out)
    predict_map(folder, mixed, out, bands=[*names, "SCL"])
    np.testing.assert_array_equal(read(out), plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptions": [*BANDS[:9], "SWIR"]}, "lacks B12; the models need B02"),
        ({"descriptions": [*BANDS[:9], "B11"]}, "two bands called B11"),
        ({"transform": Affine(20, 0, 0, 0, -20, 0)}, "pixels of 20 x 20 m.*--res 10"),
        ({"transform": Affine(8, 6, 0, 6, -8, 0)}, "north-up"),
        ({"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 13, 0, -1e-4, 52)}, "rio warp"),
        ({"crs": None}, "has no coordinate system"),
    ],
)
def test_an_unfit_image_is_refused_by_name(tuned, image, tmp_path, change, message):
    with pytest.raises(GeoladderError, match=message):
        predict_map(tuned(), image(**change), tmp_path / "map.tif")
    assert not list(tmp_path.glob("*map*"))


def test_what_is_no_image_or_no_model_is_refused(tuned, image, tmp_path, capsys):
    (tmp_path / "text.tif").write_text("no image")
    folder, scene = tuned(), image()
    with pytest.raises(GeoladderError, match="no readable raster"):
        predict_map(folder, tmp_path / "text.tif", tmp_path / "map.tif")
    with pytest.raises(GeoladderError, match="the image itself"):
        predict_map(folder, scene, scene)
    with pytest.raises(GeoladderError, match="names 2 bands"):
        predict_map(folder, scene, tmp_path / "map.tif", bands=["B02", "B03"])
    assert main(["predict-map", str(tmp_path), str(scene), "--out", str(tmp_path / "map.tif")]) == 1
    assert "no model card" in capsys.readouterr().err


def test_a_broken_image_leaves_nothing(tuned, image, tmp_path):
    scene = image(600, 600, compress="deflate")
    whole = scene.read_bytes()
    half = len(whole) // 2
    scene.write_bytes(whole[:half] + bytes(half // 2) + whole[half + half // 2 :])
    with pytest.raises(GeoladderError, match=r"scene\.tif cannot be read .*fetch it again"):
        predict_map(tuned(), scene, tmp_path / "map.tif")
    assert not list(tmp_path.glob("*map*"))


def test_bands_of_20_m_are_brought_to_10_m(image, tmp_path):
    """A ramp stays the same ramp, wherever the window lies."""
    step = {"10m": 10, "20m": 20}
    files = []
    for name, bands in (("10m", BANDS[:4]), ("20m", BANDS[4:])):
        side = 640 // step[name]
        centre_m = (np.arange(side) + 0.5) * step[name]
        ramp = np.broadcast_to(1000 + centre_m, (len(bands), side, side)).astype(np.uint16)
        files.append(tmp_path / f"{name}.tif")
        place = {"crs": "EPSG:32633", "transform": Affine(step[name], 0, 0, 0, -step[name], 640)}
        shape = {"count": len(bands), "height": side, "width": side, "dtype": "uint16"}
        with rasterio.open(files[-1], "w", driver="GTiff", **shape, **place) as raster:
            raster.write(ramp)
            raster.descriptions = bands
    with open_scene(files) as scene:
        whole = scene.read(rasterio.windows.Window(0, 0, 64, 64)).dn
        part = scene.read(rasterio.windows.Window(10, 20, 16, 16)).dn
    np.testing.assert_array_equal(part, whole[:, 20:36, 10:26])
    np.testing.assert_allclose(whole[4, 5, 1:-1], whole[0, 5, 1:-1], atol=1)
