import logging

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from geoladder.data.archives.grid import centre_of
from geoladder.data.index.build import INDEX_COLUMNS, build_index
from geoladder.data.index.split import is_validation
from geoladder.errors import GeoladderError
from geoladder.study.specs import IndexSpec

PART = "part_00001.parquet"


def spec(**changes):
    values = {
        "archive": "a",
        "bench": "b",
        "one_product_per_cell": True,
        "max_cloud_percent": 80.0,
        "max_nodata_share": 0.99,
        "max_corrupt_share": 0.1,
        "harmonise": "baseline",
        "validation_share": 0.15,
        "bench_buffer_km": 20.0,
    }
    return IndexSpec(**(values | changes))


@pytest.fixture
def run(tmp_path, no_bench):
    """Build the index of an archive and return (index, ledger)."""

    def build(folder, bench_index=no_bench, **changes):
        index, ledger = tmp_path / "index.parquet", tmp_path / "ledger.csv"
        build_index(spec(**changes), folder, bench_index, index, ledger)
        return pd.read_parquet(index), pd.read_csv(ledger, keep_default_na=False)

    return build


def test_every_row_has_its_reason(archive, make, run, caplog):
    archive.add("1U_1R").add("1U_1R", make.product("20210701"), meta={"timestamp": "2021-07-01"})
    archive.add("1U_1R", make.product("20210601"), meta={"timestamp": "2021-06-01"})
    archive.add("2U_1R", meta={"nodata": 1.0}).add("3U_1R", meta={"cloud_cover": 81.0})
    archive.add("4U_1R", image={"grid_cell": "9U_9R"}).add("5U_1R", meta={"crs": "?"})
    archive.add("6U_1R", meta={"timestamp": "never"}).add("7U_1R", part="part_00002.parquet")
    archive.write()
    (archive.folder / "images" / "part_00002.parquet").unlink()
    with caplog.at_level(logging.INFO):
        index, ledger = run(archive.folder, max_corrupt_share=0.2)
    assert list(ledger["reason"]) == [
        "duplicate cell",
        "duplicate cell",
        "",
        "nodata",
        "cloud",
        "metadata mismatch",
        "bad crs",
        "bad timestamp",
        "unreadable",
    ]
    assert list(ledger["kept"]) == [reason == "" for reason in ledger["reason"]]
    assert list(index["product_id"]) == [make.product("20210601")] and list(index.columns) == INDEX_COLUMNS
    summary = [record.getMessage() for record in caplog.records if "9 rows, 1 kept" in record.getMessage()]
    assert len(summary) == 1 and "2 duplicate cell" in summary[0]


def test_seasons_of_a_cell_stay_where_wanted_but_not_repeated_products(archive, make, run):
    archive.add("1U_1R", make.product("20210101")).add("1U_1R", make.product("20210701"))
    archive.add("1U_1R", make.product("20210701")).write()
    _, ledger = run(archive.folder, one_product_per_cell=False)
    assert list(ledger["reason"]) == ["", "", "duplicate product"]


def test_offset_by_baseline_and_pixels_never_by_date(archive, make, run):
    archive.add("1U_1R", make.product("20160101", "0500"), darkest=1200)
    archive.add("2U_1R", make.product("20240101", "0214"), darkest=1200)
    archive.add("3U_1R", make.product("20240101", "9999"), darkest=1200)
    archive.add("4U_1R", make.product("20240101", "9999"), darkest=50).write()
    index, _ = run(archive.folder)
    assert list(index["offset_dn"]) == [1000, 0, 1000, 0]
    assert list(index["baseline"]) == ["0500", "0214", "9999", "9999"]
    index, _ = run(archive.folder, harmonise="none")
    assert list(index["offset_dn"]) == [0, 0, 0, 0]


def test_validation_is_the_same_cells_in_every_archive(archive, run):
    for number in range(60):
        archive.add(f"{number}U_1R", tile_px=8)
    archive.write()
    index, _ = run(archive.folder)
    validation = [is_validation(cell, 0.15) for cell in index["grid_cell"]]
    assert list(index["split"] == "val") == validation and 0 < sum(validation) < 60


def test_validation_keeps_away_from_bench_tests_and_training_does_not(archive, make, run, tmp_path):
    cells = [f"{number}U_1R" for number in range(60)]
    for cell in cells:
        archive.add(cell, tile_px=8, meta={"centre_lat": 45.0, "centre_lon": 9.0})
    archive.write()
    files = [("test", 10.0, 9.0), ("test", 45.1, 9.0), ("train", 45.0, 9.0)]
    bench = make.bench_index(tmp_path / "bench.parquet", files)
    validation = {cell for cell in cells if is_validation(cell, 0.15)}
    _, ledger = run(archive.folder, bench, bench_buffer_km=20.0)  # 0.1 degree is 11.1 km
    assert set(ledger.loc[ledger["reason"] == "near bench test", "grid_cell"]) == validation
    _, ledger = run(archive.folder, bench, bench_buffer_km=11.0)
    assert ledger["kept"].all()


def test_what_overlaps_the_bench_is_in_no_corpus(archive, make, run, tmp_path):
    """Footprints of 10.7 km and of 2.2 km (0.02 degrees): they meet within 0.06 degrees, whatever the middles say."""
    middles = {"1U_1R": (45.0, 9.0), "2U_1R": (45.05, 9.05), "3U_1R": (45.08, 9.0), "4U_1R": (-20.0, 179.97)}
    for cell, (lat_deg, lon_deg) in middles.items():
        archive.add(cell, tile_px=8, meta={"centre_lat": lat_deg, "centre_lon": lon_deg})
    archive.add("5U_1R", tile_px=8, meta={"centre_lat": None, "centre_lon": None})
    archive.add("6U_1R", tile_px=8, meta={"centre_lat": 50.0, "centre_lon": -9.0}).write()
    place = centre_of("5U_1R")
    files = [("test", 45.0, 9.0), ("test", -20.0, -179.98), ("train", 45.09, 9.0), ("test", *place)]
    bench = make.bench_index(tmp_path / "bench.parquet", files)
    options = {"bench_buffer_km": 0.0, "max_corrupt_share": 1.0}
    for exclude, dropped in (("test", "1245"), ("all", "12345"), ("none", "")):
        index, ledger = run(archive.folder, bench, exclude_bench=exclude, **options)
        gone = ledger.loc[ledger["reason"] == f"overlaps bench {exclude}", "grid_cell"]
        assert [cell[0] for cell in gone] == list(dropped)
        assert set(index["grid_cell"]) == set(ledger.loc[ledger["kept"], "grid_cell"])


def test_a_bench_of_unknown_place_excludes_nothing_and_is_warned_of(archive, make, run, tmp_path, caplog):
    archive.add("1U_1R").write()
    bench = make.bench_index(tmp_path / "bench.parquet", [("test", np.nan, np.nan)])
    _, ledger = run(archive.folder, bench)
    assert ledger["kept"].all() and "some files have no location" in caplog.text


def test_too_many_unreadable_rows_stop_with_the_first_file(archive, make, run, tmp_path):
    archive.add("1U_1R").add("2U_1R", part="part_00002.parquet").write()
    make.truncate(archive.folder / "images" / "part_00002.parquet")
    with pytest.raises(GeoladderError, match=r"1 of 2 rows .* = 0\.1; the first: .*part_00002.parquet"):
        run(archive.folder)
    assert not (tmp_path / "index.parquet").exists() and not (tmp_path / "ledger.csv").exists()
    index, ledger = run(archive.folder, max_corrupt_share=0.5)
    assert len(index) == 1 and ledger["reason"][1] == "unreadable"


def test_unreadable_pixels_of_unknown_baseline_are_counted(archive, make, run):
    archive.add("1U_1R").add("2U_1R", make.product(number="9999"), image={"B02": b"?"}).write()
    _, ledger = run(archive.folder, max_corrupt_share=0.5)
    assert list(ledger["reason"]) == ["", "unreadable"]


def test_nothing_left_and_no_bench(archive, run, tmp_path):
    archive.add("1U_1R", meta={"nodata": 1.0}).write()
    with pytest.raises(GeoladderError, match=r"no usable tile .* 1 nodata"):
        run(archive.folder)
    with pytest.raises(GeoladderError, match="is no bench index"):
        run(archive.folder, tmp_path / "absent.parquet")


def test_holes_in_metadata(archive, run):
    archive.add("1U_1R").add("2U_1R")
    archive.add("3U_1R", meta={"grid_cell": None}).add("4U_1R", meta={"cloud_cover": None})
    archive.metadata[1]["parquet_row"] = 5
    archive.metadata[2]["parquet_row"] = None
    archive.write()
    _, ledger = run(archive.folder)
    assert list(ledger["reason"]) == ["", "metadata mismatch", "metadata mismatch", "cloud"]


def test_real_samples(samples, run):
    index, ledger = run(samples)
    assert ledger["kept"].all()
    assert dict(zip(index["grid_cell"], index["offset_dn"], strict=True)) == {
        "433D_629L": 1000,
        "637U_59R": 0,
    }
    assert np.allclose(index["nodata_share"], 0.956, atol=1e-3)


PLACES = {
    "Berlin": (52.5, 13.4, "2018-06-01"),
    "Fiji west": (-17.7, 178.0, "2019-06-01"),
    "Fiji east": (-17.7, -179.5, "2020-06-01"),
    "Atlantic": (0.0, -30.0, "2021-06-01"),
}


@pytest.fixture
def places(archive):
    """A tile at each of four places, and one that has no place and no date."""
    for number, (lat, lon, day) in enumerate(PLACES.values()):
        archive.add(
            f"{number}U_1R",
            tile_px=8,
            meta={"centre_lat": lat, "centre_lon": lon, "timestamp": f"{day} 23:30:00"},
        )
    archive.add("9U_1R", tile_px=8, meta={"centre_lat": None, "centre_lon": None, "timestamp": None})
    return archive.write()


@pytest.mark.parametrize(
    ("select", "kept", "reason"),
    [
        ({"since": "2019-06-01"}, ["Fiji west", "Fiji east", "Atlantic"], "before the first date"),
        ({"until": "2019-06-01"}, ["Berlin", "Fiji west"], "after the last date"),
        ({"boxes": [[-20, 170, -10, -170]]}, ["Fiji west", "Fiji east"], "outside the region"),
        ({"boxes": [[50, 10, 55, 15], [-1, -31, 1, -29]]}, ["Berlin", "Atlantic"], "outside the region"),
        ({"min_land_share": 0.5}, ["Berlin", "Fiji west"], "sea"),
        ({"min_land_share": 0.5, "until": "2018-12-31"}, ["Berlin"], "after the last date"),
        ({"max_cloud_percent": 4.0}, [], "cloud"),
        ({"max_nodata_share": 0.0}, ["Berlin", "Fiji west", "Fiji east", "Atlantic"], "nodata"),
    ],
)
def test_selection_by_metadata_with_its_reason(places, run, select, kept, reason):
    if not kept:
        with pytest.raises(GeoladderError, match=rf"no usable tile in .*: 5 {reason}.*`select`"):
            run(places, select=select)
        return
    index, ledger = run(places, select=select)
    assert list(index["grid_cell"]) == [f"{list(PLACES).index(name)}U_1R" for name in kept]
    if reason != "nodata":
        assert reason in set(ledger["reason"])
    assert not ledger["kept"][4]


def test_named_cells(places, run, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# Fiji\n1U_1R\n2U_1R  # east\n\n433D_629L\n")
    index, ledger = run(places, select={"cells": file})
    assert list(index["grid_cell"]) == ["1U_1R", "2U_1R"]
    assert list(ledger["reason"]) == ["not a named cell", "", "", "not a named cell", "not a named cell"]
    for content, message in (
        ("1U_1R\n2X\n", "mine.txt line 2: '2X' is no grid cell"),
        ("#\n", "lists no grid cell"),
    ):
        file.write_text(content)
        with pytest.raises(GeoladderError, match=message):
            run(places, select={"cells": file})
    with pytest.raises(GeoladderError, match=r"absent.txt cannot be read"):
        run(places, select={"cells": tmp_path / "absent.txt"})


def test_what_is_not_selected_is_not_opened(archive, run):
    archive.add("1U_1R", meta={"timestamp": "2018-01-01"})
    archive.add("2U_1R", part="part_00002.parquet", meta={"timestamp": "2021-01-01"}).write()
    (archive.folder / "images" / "part_00002.parquet").unlink()
    index, ledger = run(archive.folder, max_corrupt_share=0.0, select={"until": "2018-12-31"})
    assert len(index) == 1 and ledger["reason"][1] == "after the last date"


def test_corrupt_rows_are_judged_among_the_selected(archive, run):
    for number in range(9):
        archive.add(f"{number}U_1R", tile_px=8, meta={"timestamp": "2018-01-01"})
    archive.add("9U_1R", tile_px=8).add("10U_1R", part="part_00002.parquet").write()
    (archive.folder / "images" / "part_00002.parquet").unlink()
    run(archive.folder, max_corrupt_share=0.1)  # 1 of 11
    with pytest.raises(GeoladderError, match=r"1 of 2 rows .*part_00002.parquet, which does not exist"):
        run(archive.folder, max_corrupt_share=0.1, select={"since": "2021-01-01"})


def test_a_part_that_may_not_be_read_is_dropped_with_the_remedy(archive, run, monkeypatch, caplog):
    archive.add("1U_1R").add("2U_1R", part="part_00002.parquet").write()
    real = pq.ParquetFile

    def refuse(path, **kwargs):
        if path.name == "part_00002.parquet":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **kwargs)

    monkeypatch.setattr("geoladder.data.archives.majortom.pq.ParquetFile", refuse)
    _, ledger = run(archive.folder, max_corrupt_share=0.5)
    assert list(ledger["reason"]) == ["", "unreadable"]
    assert "Permission denied" in caplog.text and "give the right to read it (chmod u+r" in caplog.text


def test_results_that_cannot_be_written_are_named(archive, run, monkeypatch, tmp_path):
    archive.add("1U_1R").write()

    def refuse(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", refuse)
    with pytest.raises(GeoladderError, match=r"cannot be written .*No space left.* free some disk space"):
        run(archive.folder)
    assert not (tmp_path / "index.parquet").exists()


def test_an_archive_that_lists_nothing(archive, run):
    archive.add("1U_1R").write()
    metadata = archive.folder / "metadata.parquet"
    pd.read_parquet(metadata).iloc[:0].to_parquet(metadata)
    with pytest.raises(GeoladderError, match="lists no tile"):
        run(archive.folder)


def test_places_outside_their_cell_are_warned_of(archive, run, caplog):
    lat, lon = centre_of("500U_100R")
    archive.add("500U_100R", meta={"centre_lat": lat + 0.03, "centre_lon": lon})
    archive.add("501U_100R", meta={"centre_lat": lat, "centre_lon": lon})
    archive.add("502U_100R", meta={"centre_lat": None}).add("nowhere").write()
    run(archive.folder)
    assert "1 of 4 rows lie outside their grid cell by the metadata, the first 501U_100R" in caplog.text
