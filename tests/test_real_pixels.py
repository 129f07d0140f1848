"""Two real Sentinel-2 tiles all the way: grid, offset, index, chips, statistics, ten steps of pretraining."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine

from geoladder.data.archives import grid
from geoladder.data.archives.majortom import MajorTom
from geoladder.data.archives.sources import open_archive
from geoladder.data.archives.tile import ground_m
from geoladder.data.batches.batch import BandStats, to_reflectance
from geoladder.data.batches.chip_store import training_chips, validation_chips
from geoladder.data.batches.chips import write_chips
from geoladder.data.batches.stats import write_stats
from geoladder.data.index.build import build_index
from geoladder.data.index.split import is_validation
from geoladder.data.labels.bands import BANDS, boa_offset_dn, offset_from_pixels
from geoladder.data.labels.targets import great_circle_km
from geoladder.models.build import build_backbone
from geoladder.study.arms import Arm, Cell, Point
from geoladder.study.downstream_specs import FinetuneSpec
from geoladder.study.load import load_study
from geoladder.study.specs import ChipsSpec, IndexSpec, Layout, PretrainSpec, StatsSpec
from geoladder.training.checkpoints import load_backbone
from geoladder.training.job import Hardware, Inputs
from geoladder.training.pretrain import pretrain

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT.parent / "shared" / "samples" / "majortom"
CELLS = ("433D_629L", "637U_59R")
"""Chile and Denmark, the first with the offset of baseline 04.00 and the second without."""
SIZE = "xs"
STEPS = 10


@pytest.fixture(scope="module", params=CELLS)
def real(request):
    """One of the two tiles, with its row of metadata."""
    if not SAMPLES.is_dir():
        pytest.skip(f"real MajorTOM samples are not at {SAMPLES}")
    reader = MajorTom(SAMPLES)
    rows = reader.metadata()
    row = rows[rows["grid_cell"] == request.param].iloc[0]
    return reader.read(row["part"], row["row"]), row


def test_footprints_lie_on_the_official_grid_to_the_pixel(real):
    tile, _ = real
    epsg, left_m, bottom_m, size_m = grid.footprint(tile.grid_cell)
    assert tile.epsg == epsg
    assert (tile.transform.a, tile.transform.e, tile.transform.b, tile.transform.d) == (10, -10, 0, 0)
    # "To the pixel" is 10 m; the formula meets the published corner to less than a micrometre.
    assert tile.transform.c == pytest.approx(left_m, abs=1e-6)
    assert tile.transform.f == pytest.approx(bottom_m + size_m, abs=1e-6)
    assert tile.dn10.shape[1:] == (size_m / 10, size_m / 10) and tile.dn20.shape[1:] == (
        size_m / 20,
        size_m / 20,
    )


def test_centres_are_where_the_metadata_say(real):
    tile, row = real
    centre_m = ground_m(tile.transform, 534.0, 534.0)
    assert great_circle_km(row["lat_deg"], row["lon_deg"], *grid.to_lat_lon(tile.epsg, *centre_m)) < 1e-3
    assert grid.cell_of(row["lat_deg"], row["lon_deg"]) == tile.grid_cell
    assert row["epsg"] == tile.epsg


def test_the_offset_tile_is_harmonised_and_the_other_untouched(real):
    tile, row = real
    offset_dn = boa_offset_dn(row["product_id"])
    valid = (tile.dn10 > 0).all(axis=0)
    harmonised = to_reflectance(tile.dn10[None], tile.dn20[None], np.array([offset_dn]))[0].numpy()
    plain = to_reflectance(tile.dn10[None], tile.dn20[None], 0)[0].numpy()
    darkest = [np.percentile(band[valid], 1) for band in harmonised[:4]]
    assert min(darkest) < 0.02 and max(darkest) < 0.08  # visible bands and near infrared, over land
    if tile.grid_cell == CELLS[0]:
        assert offset_dn == 1000 and min(np.percentile(band[valid], 1) for band in plain[:4]) > 0.1
        native = plain[:4][:, valid]
        np.testing.assert_allclose(harmonised[:4][:, valid], np.clip(native - 0.1, 0, None), atol=1e-6)
    else:
        assert offset_dn == 0
        np.testing.assert_array_equal(harmonised, plain)
    # The pixels alone tell the same, were the baseline unknown.
    assert offset_from_pixels([*tile.dn10, *tile.dn20]) == offset_dn


@pytest.mark.parametrize("combined", [False, True])
def test_a_real_tile_as_a_tree_is_the_same_tile(real, combined, tmp_path):
    tile, row = real
    folder = tmp_path / "L2A" / tile.grid_cell.partition("_")[0] / tile.grid_cell / tile.product_id
    folder.mkdir(parents=True)
    if combined:
        enlarged = tile.dn20.repeat(2, axis=1).repeat(2, axis=2)
        write_bands(
            folder / "combined.tif", np.concatenate([tile.dn10, enlarged, tile.cloud_mask[None]]), tile
        )
    else:
        for name, pixels in zip(BANDS, [*tile.dn10, *tile.dn20], strict=True):
            write_bands(folder / f"{name}.tif", pixels[None], tile)
        write_bands(folder / "cloud_mask.tif", tile.cloud_mask[None], tile)
    reader = open_archive(tmp_path, Layout(source="auto"))
    record = reader.metadata().iloc[0]
    assert (record["grid_cell"], record["product_id"], record["epsg"]) == (
        tile.grid_cell,
        tile.product_id,
        tile.epsg,
    )
    assert great_circle_km(record["lat_deg"], record["lon_deg"], row["lat_deg"], row["lon_deg"]) < 1e-3
    assert record["nodata_share"] == pytest.approx(row["nodata_share"], abs=1e-3)
    same = reader.read(record["part"], 0)
    for attribute in ("dn10", "dn20", "cloud_mask"):
        np.testing.assert_array_equal(getattr(same, attribute), getattr(tile, attribute))
    assert same.transform.almost_equals(tile.transform)


def write_bands(path, bands, tile):
    """A GeoTIFF of whatever resolution its shape says."""
    step = 10.0 * tile.dn10.shape[1] / bands.shape[1]
    place = {
        "crs": f"EPSG:{tile.epsg}",
        "transform": Affine(step, 0, tile.transform.c, 0, -step, tile.transform.f),
    }
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **shape, **place) as raster:
        raster.write(bands)


@pytest.fixture(scope="module")
def study():
    """The default study, but for what would drop one of the two places."""
    study = load_study(ROOT / "config.yaml")
    # Which cell a share holds out follows from the hash of its name; this share holds out one of the two.
    share = next(k / 100 for k in range(1, 100) if sum(is_validation(cell, k / 100) for cell in CELLS) == 1)
    validation = {"share": share, "bench_buffer_km": 0.0}
    cleaning = {"max_cloud_percent": 100.0, "exclude_bench": "none"}
    return study.model_copy(
        update={
            "validation": study.validation.model_copy(update=validation),
            "cleaning": study.cleaning.model_copy(update=cleaning),
        }
    )


@pytest.fixture(scope="module")
def prepared(study, tmp_path_factory):
    """A folder with chips/ and stats.json: one place to train on, the other to validate on."""
    if not SAMPLES.is_dir():
        pytest.skip(f"real MajorTOM samples are not at {SAMPLES}")
    folder = tmp_path_factory.mktemp("real")
    index, index_spec = folder / "index.parquet", IndexSpec.of(study, "majortom")
    build_index(index_spec, SAMPLES, folder / "no_bench.parquet", index, folder / "ledger.csv")
    write_chips(ChipsSpec.of(study, "majortom"), SAMPLES, index, folder / "chips")
    write_stats(StatsSpec.of(study), folder / "chips", folder / "stats.json")
    return folder


@pytest.fixture(scope="module", params=["unet", "vit_upernet", "mamba_upernet"])
def trained(request, study, prepared, tmp_path_factory):
    """Spec and result folder of a run of ten steps."""
    torch.set_num_threads(1)
    spec = PretrainSpec.of(study, Cell("majortom", request.param, SIZE, 0))
    spec = spec.model_copy(update={"samples": STEPS * spec.batch})
    out = tmp_path_factory.mktemp(request.param)
    chips = prepared / "chips"
    pretrain(spec, Inputs(chips, prepared / "stats.json", chips=chips), Hardware(), out)
    return spec, out


def test_statistics_are_of_reflectance(study, prepared):
    stats = BandStats.load(prepared / "stats.json", StatsSpec.of(study).fingerprint)
    assert all(0.005 < mean < 0.6 for mean in stats.linear.mean)
    assert all(0 < deviation < 0.5 for deviation in stats.linear.std)


def test_ten_steps_on_real_pixels_are_finite_and_lower_the_loss(trained):
    spec, out = trained
    result = json.loads((out / "metrics.json").read_text())
    assert (result["steps"], result["samples_seen"]) == (STEPS, STEPS * spec.batch)
    assert all(np.isfinite(value) for value in result["metrics"].values())
    log = pd.read_csv(out / "log.csv")
    assert log["step"].tolist() == list(range(1, STEPS + 1))
    assert log["loss"].iloc[-3:].mean() < log["loss"].iloc[:3].mean()


def test_the_pretrained_backbone_tells_the_two_places_apart(study, prepared, trained):
    spec, out = trained
    point = Point(Arm("majortom", spec.architecture, SIZE), "roads", 0, 4)
    backbone = build_backbone(spec.architecture, SIZE)
    untrained = next(iter(backbone.state_dict().values())).clone()
    load_backbone(backbone, out, FinetuneSpec.of(study, point, pretrained=spec.fingerprint))
    assert not torch.equal(untrained, next(iter(backbone.state_dict().values())))
    stats = BandStats.load(prepared / "stats.json", spec.stats)
    embeddings = []
    for chips in (
        training_chips(spec, prepared / "chips", stats),
        validation_chips(spec, prepared / "chips", stats),
    ):
        nothing_hidden = torch.zeros(len(chips), 1, chips.side_px, chips.side_px, dtype=torch.bool)
        pixels = chips.batch(np.arange(len(chips)), nothing_hidden).pixels
        with torch.inference_mode():
            embeddings.append(backbone.eval()(pixels).summary)
    assert all(place.shape[1:] == (backbone.summary_dim,) for place in embeddings)
    assert torch.isfinite(torch.cat(embeddings)).all()
    one, other = (place.mean(dim=0) for place in embeddings)
    # Far apart by the spread of single chips, and not by rounding alone.
    assert float(((one - other).abs() / torch.cat(embeddings).std(dim=0)).max()) > 0.5


def test_the_two_places_are_on_different_sides(prepared):
    manifest = pd.read_parquet(prepared / "chips/manifest.parquet")
    assert sorted(manifest["grid_cell"].unique()) == sorted(CELLS)
    assert (manifest.groupby("grid_cell")["split"].nunique() == 1).all()
    assert set(manifest["split"]) == {"train", "val"}
    offsets = manifest.groupby("grid_cell")["offset_dn"].unique().map(list).to_dict()
    assert offsets == {"433D_629L": [1000], "637U_59R": [0]}
