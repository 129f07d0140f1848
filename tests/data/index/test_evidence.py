"""Names, tags and pixels of an archive held against each other, and what a study may say of them."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml

from geoladder.data.archives.majortom import MajorTom
from geoladder.data.index.build import build_index
from geoladder.data.index.evidence import read_evidence
from geoladder.errors import GeoladderError
from geoladder.report.inspect import inspect
from geoladder.runs.digest import discard
from geoladder.study.load import parse_study
from geoladder.study.specs import ArchiveSpec, IndexSpec
from tiny_archives import TEN, TWENTY, product

OLD, NEW = product(number="0214"), product(number="0500")
PX = 16
CI = Path(__file__).parents[3] / "studies/ci.yaml"


@pytest.fixture
def run(tmp_path, no_bench):
    """Index an archive; return the index and its findings by question."""

    def build(folder, **changes):
        values = {
            **{"archive": "a", "bench": "b", "one_product_per_cell": True, "max_cloud_percent": 80.0},
            **{"max_nodata_share": 0.99, "max_corrupt_share": 0.1, "harmonise": "baseline"},
            **{"validation_share": 0.15, "bench_buffer_km": 0.0},
        }
        index = tmp_path / "index.parquet"
        build_index(IndexSpec(**(values | changes)), folder, no_bench, index, tmp_path / "ledger.csv")
        findings = read_evidence(tmp_path / "evidence.json").findings
        return pd.read_parquet(index), {finding.question: finding for finding in findings}

    return build


def add(archive, products, darkest, **kwargs):
    for number, (name, dark) in enumerate(zip(products, darkest, strict=True)):
        archive.add(f"{number}U_1R", name, darkest=dark, tile_px=PX, **kwargs)
    return archive.write()


def image(
    change=None,
    value=1500,
    side_px=PX,
    dtype=np.uint16,
    mask=None,
    offset=None,
    ext=".tif",
    scale=1e-4,
    **profile,
):
    """A band as a GeoTIFF, or another format, in bytes."""
    pixels = np.full((side_px, side_px), value, dtype)
    if change:
        change(pixels)
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    size = {"count": 1, "height": side_px, "width": side_px, "dtype": pixels.dtype}
    options = {"driver": "GTiff"} | place | size | profile
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile(ext=ext) as memory:
        with memory.open(**options) as raster:
            raster.write(pixels, 1)
            if offset is not None:
                raster.scales, raster.offsets = (scale,), (offset,)
            if mask is not None:
                raster.write_mask(mask)
        return memory.read()


def bands(**options):
    """All ten bands made alike."""
    return {name: image(**options) for name in TEN} | {
        name: image(**options, side_px=PX // 2) for name in TWENTY
    }


def gap(value):
    def change(pixels):
        pixels[: len(pixels) // 2] = value

    return change


def test_an_offset_that_is_gone_stops_the_index(archive, run, tmp_path):
    folder = add(archive, [NEW] * 4 + [OLD] * 4, [20] * 4 + [20] * 4)
    message = r"04.00 and later: 1000 DN; 0 of 4 agree, not 0U_1R .*`pixels`.*`none`.*`baseline`"
    with pytest.raises(GeoladderError, match=message):
        run(folder)
    assert not (tmp_path / "index.parquet").exists() and not (tmp_path / "evidence.json").exists()


@pytest.mark.parametrize(
    ("harmonise", "offsets"), [("baseline", [1000, 1000, 0]), ("pixels", [0, 0, 0]), ("none", [0, 0, 0])]
)
def test_a_study_says_who_is_right(archive, run, harmonise, offsets):
    folder = add(archive, [NEW, NEW, OLD], [20, 30, 20])
    index, findings = run(folder, harmonise=harmonise, harmonise_stated=True)
    assert list(index["offset_dn"]) == offsets
    assert findings["DN offset of baselines 04.00 and later"].contradicting == 2


def test_pixels_decide_bright_tiles_by_others_of_their_baseline(archive, run):
    names, darkest = [NEW] * 5 + [OLD] * 5, [20, 30, 40, 50, 1500, *[1100] * 4, 60]
    index, _ = run(add(archive, names, darkest), harmonise="pixels", harmonise_stated=True)
    assert list(index["offset_dn"]) == [0] * 5 + [1000] * 4 + [0]


def test_single_contradictions_are_counted_and_said(archive, run, caplog):
    folder = add(archive, [NEW] * 20, [20] + [1200] * 19)
    index, findings = run(folder)
    finding = findings["DN offset of baselines 04.00 and later"]
    assert (finding.compared, finding.contradicting) == (20, 1) and "0U_1R" in finding.first
    assert set(index["offset_dn"]) == {1000} and "19 of 20 agree" in caplog.text


def test_an_offset_that_names_deny_stops_where_most_of_many_are_bright(archive, run):
    with pytest.raises(GeoladderError, match=r"before 04.00: 0 DN; 1 of 12 agree"):
        run(add(archive, [OLD] * 12, [20] + [1200] * 11))


def test_a_few_bright_tiles_without_offset_are_deserts(archive, run):
    index, _ = run(add(archive, [OLD] * 12, [20] * 8 + [1200] * 4))
    assert set(index["offset_dn"]) == {0}


@pytest.mark.parametrize("tags", [{"offset": -0.1}, {"offset": -1000.0, "scale": 1.0}])
def test_tags_of_scale_and_offset_are_heard(archive, run, tags):
    add(archive, [OLD, OLD], [20, 20], image=bands(change=gap(20), **tags))
    with pytest.raises(GeoladderError, match=r"DN offset by tags: by name; 0 of 2 agree, .*tag: 1000 DN x 2"):
        run(archive.folder)


@pytest.mark.parametrize("scale", [2.75e-5, 0.0, np.nan, np.inf, -1.0])
def test_a_scale_of_other_units_stops_the_index(archive, run, scale):
    add(archive, [OLD, OLD], [20, 20], image=bands(change=gap(20), offset=0.0, scale=scale))
    with pytest.raises(GeoladderError, match=r"a stored 1: 1 DN; 0 of 2 agree"):
        run(archive.folder)


@pytest.mark.parametrize(
    "marked",
    [
        {"change": gap(65_535), "nodata": 65_535},
        {"change": gap(65_535)},
        {"change": gap(9999), "nodata": 9999},
        {"change": gap(0), "nodata": 0},
        {"change": gap(77), "mask": "half"},
    ],
)
def test_fill_of_every_kind_becomes_0(archive, marked):
    data = {}
    for name in (*TEN, *TWENTY):
        side = PX if name in TEN else PX // 2
        options = dict(marked)
        if "mask" in options:
            options["mask"] = np.repeat([0, 255], side // 2).astype(np.uint8)[:, None].repeat(side, 1)
        data[name] = image(**options, side_px=side)
    archive.add("1U_1R", OLD, tile_px=PX, image=data).write()
    tile = MajorTom(archive.folder).read("part_00001.parquet", 0)
    for stack in (tile.dn10, tile.dn20):
        half = stack.shape[1] // 2
        assert not stack[:, :half].any() and (stack[:, half:] == 1500).all()


def test_single_saturated_pixels_stay(archive):
    def saturate(pixels):
        pixels[3, 3] = 65_535

    data = {"B02": image(saturate, side_px=64)}
    archive.add("1U_1R", OLD, tile_px=64, image=data).write()
    assert MajorTom(archive.folder).read("part_00001.parquet", 0).dn10[0, 3, 3] == 65_535


def test_a_cloud_mask_keeps_its_classes_and_loses_its_fill(archive):
    def classes(pixels):
        pixels[0, :4] = [0, 1, 2, 9]

    mask = image(classes, 0, dtype=np.uint8, nodata=9)
    archive.add("1U_1R", OLD, tile_px=PX, image={"cloud_mask": mask})
    mask = image(classes, 0, dtype=np.uint8, nodata=0)
    archive.add("2U_1R", OLD, tile_px=PX, image={"cloud_mask": mask}).write()
    tiles = [MajorTom(archive.folder).read("part_00001.parquet", row).cloud_mask[0, :5] for row in (0, 1)]
    np.testing.assert_array_equal(tiles, [[0, 1, 2, 4, 0], [0, 1, 2, 9, 0]])


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_numbers_of_a_cloud_mask_that_uint8_lacks_are_no_class(archive, kind):
    def classes(pixels):
        pixels[0, :4] = [1, 256, -32_768, 3] if kind is np.int16 else [1, 0.5, np.nan, 3]

    archive.add("1U_1R", OLD, tile_px=PX, image={"cloud_mask": image(classes, 0, dtype=kind)}).write()
    mask = MajorTom(archive.folder).read("part_00001.parquet", 0).cloud_mask
    assert mask.dtype == np.uint8
    assert mask[0, :5].tolist() == [1, 255, 255 if kind is np.int16 else 4, 3, 0]


def test_cloud_masks_of_another_legend_stop_the_index(archive, run):
    scene_classes = {"cloud_mask": image(value=9, dtype=np.uint8)}
    with pytest.raises(GeoladderError, match=r"cloud mask: 0 clear, .*0 of 2 agree.*Write the masks anew"):
        run(add(archive, [OLD] * 2, [20] * 2, image=scene_classes))


def test_a_cloud_mask_may_hold_anything_where_there_are_no_data(archive, run):
    half = {"cloud_mask": image(gap(255), 0, dtype=np.uint8)} | bands(change=gap(0))
    index, findings = run(add(archive, [OLD] * 2, [20] * 2, image=half))
    assert len(index) == 2 and not findings["cloud mask"].contradicting


def test_large_numbers_in_bulk_that_no_tag_explains_stop_the_index(archive, run):
    archive.add("1U_1R", OLD, tile_px=PX, image=bands(change=gap(55_537))).write()
    with pytest.raises(GeoladderError, match=r"no data: .*0 of 1 agree.*write it into the nodata tag"):
        run(archive.folder)


@pytest.mark.parametrize(("cloudy_px", "stated", "percent"), [(128, 0.5, 50.0), (1, 0.4, 0.4), (0, 0.0, 0.0)])
def test_cloud_cover_in_shares_is_told_by_masks(archive, run, cloudy_px, stated, percent):
    def clouds(pixels):
        pixels.ravel()[:cloudy_px] = 1

    mask = {"cloud_mask": image(clouds, 0, dtype=np.uint8)}
    folder = add(archive, [OLD] * 3, [20] * 3, image=mask, meta={"cloud_cover": stated})
    index, findings = run(folder)
    assert index["cloud_percent"].tolist() == pytest.approx([percent] * 3)
    if stated:
        assert findings["unit of cloud_cover"].decision == ("shares" if percent > 1 else "percents")
    with pytest.raises(GeoladderError, match=r"no usable tile .* cloud") if percent > 30 else nullcontext():
        run(folder, max_cloud_percent=30.0)


def test_a_stray_makes_no_percents_of_cloud_cover_in_shares(archive, run):
    def clouds(pixels):
        pixels.ravel()[:128] = 1

    mask = {"cloud_mask": image(clouds, 0, dtype=np.uint8)}
    add(archive, [OLD] * 20, [20] * 20, image=mask, meta={"cloud_cover": 0.5})
    archive.metadata[3]["cloud_cover"] = 55.0
    index, _ = run(archive.write())
    assert index["cloud_percent"].tolist() == [50.0] * 19


def test_cloud_cover_without_a_mask_is_warned_of(archive, run, caplog):
    mask = {"cloud_mask": image(value=4, dtype=np.uint8)}
    run(add(archive, [OLD], [20], image=mask, meta={"cloud_cover": 0.9}))
    assert "no cloud mask tells whether these are shares" in caplog.text


def test_jpeg_2000_and_dictionaries_are_read(archive, run):
    lossless = {"ext": ".jp2", "driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
    archive.add("1U_1R", OLD, tile_px=PX, darkest=20, image={"B02": image(**lossless)})
    folder = archive.write()
    part = folder / "images/part_00001.parquet"
    table = pq.read_table(part)
    for name in (*TEN, "cloud_mask", "grid_cell"):
        table = table.set_column(
            table.schema.get_field_index(name), name, table.column(name).dictionary_encode()
        )
    pq.write_table(table, part, row_group_size=1)
    _, findings = run(folder)
    assert findings["format"].says["tag"] == {"JP2OpenJPEG": 1}
    assert (MajorTom(folder).read(part.name, 0).dn10[0] == 1500).all()


def test_jpeg_2000_without_a_place_is_named(archive):
    bare = image(driver="JP2OpenJPEG", ext="")
    archive.add("1U_1R", OLD, tile_px=PX, image={"B02": bare}).write()
    with pytest.raises(
        GeoladderError, match=r"band B02 is JPEG 2000 without a coordinate system; .* GeoTIFF"
    ):
        MajorTom(archive.folder).read("part_00001.parquet", 0)


def test_a_column_of_something_else_is_named(archive, run):
    archive.add("1U_1R", OLD, tile_px=PX, image={"B03": [1, 2]})
    with pytest.raises(
        GeoladderError, match=r"holds list<.*> in column B03; the bytes of a GeoTIFF are expected"
    ):
        run(archive.write())


def test_evidence_is_shown_and_garbage_is_no_evidence(archive, run, tmp_path):
    run(add(archive, [NEW] * 2, [1200] * 2))
    for shown in (tmp_path / "evidence.json", tmp_path / "index.parquet"):
        assert "DN offset of baselines 04.00 and later: 1000 DN; 2 of 2 agree" in inspect(shown)
    assert "by name 1000; the darkest band's first percentile is" in inspect(
        archive.folder / "images/part_00001.parquet", tmp_path / "look.png"
    )
    for garbage in ("{", "[]", json.dumps({"findings": [{}]}), '{"findings": 3}'):
        discard(tmp_path / "evidence.json")
        (tmp_path / "evidence.json").write_text(garbage)
        with pytest.raises(GeoladderError, match=r"evidence.json holds no evidence .* index the files again"):
            inspect(tmp_path / "evidence.json")


def test_how_a_corpus_is_harmonised_changes_its_index_alone():
    def study(**more):
        raw = yaml.safe_load(CI.read_text())
        raw["corpora"]["majortom"] = {"source": "majortom", "path": "/data/x"} | more
        return parse_study(raw)

    plain, stated = study(), study(harmonise="pixels")
    assert ArchiveSpec.of(plain, "majortom") == ArchiveSpec.of(stated, "majortom")
    before, after = (IndexSpec.of(of, "majortom") for of in (plain, stated))
    assert (before.harmonise, before.harmonise_stated) == ("baseline", False)
    assert (after.harmonise, after.harmonise_stated) == ("pixels", True)
    assert "harmonise_stated" not in before.canonical() and before.fingerprint != after.fingerprint
