"""Every layout from its folder to an index and chips, and what is said of folders that hold none."""

import os
from fractions import Fraction
from typing import get_args

import pandas as pd
import pytest
from layouts import Product, land_cell, mgrs_product, write_globe
from pydantic import ValidationError

from geoladder.data.archives.fasttom import FastTom
from geoladder.data.archives.globe import Globe
from geoladder.data.archives.majortom import MajorTom
from geoladder.data.archives.sources import READERS as OPENED
from geoladder.data.archives.sources import detect, open_archive
from geoladder.data.archives.tile import TILE_COLUMNS, UnwantedTileError
from geoladder.data.archives.tile_tree import FastTomTree, TileTree
from geoladder.data.batches.chips import cut
from geoladder.data.index.build import build_index
from geoladder.errors import GeoladderError
from geoladder.study.corpora import ArchiveSource, Corpus, Select
from geoladder.study.load import parse_study
from geoladder.study.specs import ArchiveSpec, ChipsSpec, FetchSpec, IndexSpec, Layout

NAME = "S2A_MSIL2A_20210630T100559_N0301_R022_T33UUU_20210630T132813"
OFFSET = "S2B_MSIL2A_20190101T100411_N0500_R022_T33UUU_20230101T000000"
READERS = {"majortom": MajorTom, "tree": TileTree, "fasttom_tree": FastTomTree, "globe": Globe}


@pytest.fixture
def folder_of(tmp_path, archive):
    """Write a small archive of a layout: two products of 32 px, one with and one without DN offset."""

    def write(layout):
        folder = tmp_path / layout
        if layout == "majortom":
            archive.folder = folder
            archive.add("1U_1R", NAME, tile_px=32).add("2U_1R", OFFSET, tile_px=32).write()
        elif layout == "globe":
            write_globe(folder, patches=2, px=32)
        else:
            for cell, name in ((land_cell(), NAME), (land_cell(52.5, 13.9), OFFSET)):
                product = Product(cell, name)
                product.write(folder) if layout == "tree" else product.write_fasttom(folder)
        return folder

    return write


def study(tmp_path, **corpus):
    corpora = {"corpora": {"real": {"path": str(tmp_path), **corpus}}, "validation": {"corpus": "real"}}
    grid = {"corpora": ["real"], "architectures": ["unet"], "sizes": ["xs"], "seeds": [0, 1, 2]}
    return parse_study(corpora | {"pretrain": {"grid": [grid]}, "finetune": {"grid": [grid | {}]}} | _arms())


def _arms():
    return {"finetune": {"grid": [{"corpora": ["real"], "architectures": ["unet"], "sizes": ["xs"]}]}}


def index_of(folder, tmp_path, no_bench, **changes):
    values = {
        "archive": "a",
        "bench": "b",
        "one_product_per_cell": True,
        "max_cloud_percent": 80.0,
        "max_nodata_share": 0.99,
        "max_corrupt_share": 0.1,
        "harmonise": "baseline",
        "validation_share": 0.15,
        "bench_buffer_km": 0.0,
    }
    index, ledger = tmp_path / "index.parquet", tmp_path / "ledger.csv"
    build_index(IndexSpec(**(values | changes)), folder, no_bench, index, ledger)
    return pd.read_parquet(index), pd.read_csv(ledger, keep_default_na=False)


def test_each_source_a_study_may_name_has_a_reader():
    assert set(OPENED) == set(get_args(ArchiveSource)) == set(READERS)


@pytest.mark.parametrize("layout", READERS)
def test_each_layout_from_folder_to_chips(folder_of, tmp_path, no_bench, layout):
    folder = folder_of(layout)
    assert detect(folder) == layout
    reader = open_archive(folder, Layout(source=layout))
    assert type(reader) is READERS[layout] is type(open_archive(folder, Layout(source="auto")))
    rows = reader.metadata()
    assert list(rows.columns) == TILE_COLUMNS and len(rows) == 2 and (rows["unusable"] == "").all()
    index, ledger = index_of(folder, tmp_path, no_bench, layout=Layout(source=layout))
    assert len(index) == 2 and ledger["kept"].all()
    assert list(index["offset_dn"].sort_values()) == ([1000, 1000] if layout == "globe" else [0, 1000])
    for row in index.itertuples():
        tile = reader.read(row.part, row.row)
        assert (tile.grid_cell, tile.product_id) == (row.grid_cell, row.product_id)
        assert layout == "majortom" or tile.epsg == row.epsg  # the hand-made parquet has invented places
        chips = cut(tile, 16, 0.3)
        assert chips.dn10.shape == (4, 4, 16, 16) and chips.dn20.shape == (4, 6, 8, 8)


def test_fasttom_is_derived_from_parquet_and_tree(folder_of):
    for layout in ("majortom", "tree"):
        reader = open_archive(folder_of(layout), Layout(source=layout, derive="fasttom", max_ice_share=0.1))
        assert type(reader) is FastTom
        row = reader.metadata().iloc[0]
        assert reader.read(row["part"], row["row"]).dn10.shape == (4, 16, 16)


def test_an_unknown_baseline_of_a_tile_nobody_wants_is_dropped_by_its_reason(tmp_path, no_bench):
    unknown = NAME.replace("N0301", "N9999")
    for cell, mask in ((land_cell(), 0), (land_cell(52.5, 13.9), 3)):
        product = Product(cell, unknown)
        product.mask[:] = mask
        product.write(tmp_path / "tree")
    layout = Layout(source="tree", derive="fasttom")
    index, ledger = index_of(tmp_path / "tree", tmp_path, no_bench, layout=layout, max_corrupt_share=0.0)
    assert sorted(ledger["reason"]) == ["", "no clear and dry quadrant"] and list(index["offset_dn"]) == [
        1000
    ]


def test_a_tree_with_bad_products_goes_on_and_counts_them(tmp_path, no_bench):
    root = tmp_path / "tree"
    good = [Product(land_cell(52.5, 13.4 + 0.3 * k), NAME).write(root) for k in range(3)]
    bad = Product(land_cell(40.0, 20.0), OFFSET).write(root)
    (bad / "B02.tif").write_bytes(b"no tiff")
    layout = Layout(source="tree")
    with pytest.raises(GeoladderError, match=r"1 of 4 rows .* = 0\.1; the first: .*B02.tif is no readable"):
        index_of(root, tmp_path, no_bench, layout=layout)
    index, ledger = index_of(root, tmp_path, no_bench, layout=layout, max_corrupt_share=0.25)
    assert len(index) == len(good) and list(ledger["reason"]).count("unreadable") == 1


def test_globe_keeps_all_patches_of_a_cell_and_one_product_of_it_where_told(tmp_path, no_bench):
    root = tmp_path / "globe"
    write_globe(root, patches=3)
    write_globe(root, product=mgrs_product("20220108T134711"), folder="10_points_filtered_22_01", patches=3)
    layout = Layout(source="globe")
    index, _ = index_of(root, tmp_path, no_bench, layout=layout, one_product_per_cell=False)
    assert len(index) == 6
    index, ledger = index_of(root, tmp_path, no_bench, layout=layout)
    assert len(index) == 3 and set(index["timestamp"].dt.month) == {1}
    assert list(ledger["reason"]).count("duplicate cell") == 3


def test_a_bad_globe_file_is_one_row_of_the_ledger(tmp_path, no_bench, make):
    root = tmp_path / "globe"
    write_globe(root, patches=19)
    write_globe(root, split="val", patches=3)
    make.truncate(next(root.rglob("*_val_s2.npy")))
    _, ledger = index_of(root, tmp_path, no_bench, layout=Layout(source="globe"), one_product_per_cell=False)
    assert list(ledger["reason"]) == [""] * 19 + ["unreadable"]


@pytest.mark.parametrize(
    ("actual", "stated"), [("globe", "tree"), ("tree", "majortom"), ("majortom", "globe")]
)
def test_another_layout_than_the_study_says_is_recognised(folder_of, actual, stated):
    folder = folder_of(actual)
    with pytest.raises(GeoladderError, match=rf"looks like `source: {actual}` .* says `source: {stated}`"):
        open_archive(folder, Layout(source=stated))


def test_linked_folders_are_part_of_the_archive(tmp_path):
    Product(land_cell(), NAME).write(tmp_path / "elsewhere")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "L2A").symlink_to(tmp_path / "elsewhere")
    assert len(open_archive(tmp_path / "archive", Layout(source="tree")).metadata()) == 1


def test_zips_are_explained(tmp_path):
    for name in ("mini_foundation.z01", "mini_foundation.z02", "mini_foundation.zip"):
        (tmp_path / name).write_bytes(b"0" * 1000)
    for source in ("auto", "globe", "majortom"):
        with pytest.raises(GeoladderError) as caught:
            open_archive(tmp_path, Layout(source=source))
        assert "zip -s 0 mini_foundation.zip --out one.zip && unzip one.zip" in str(caught.value)
        assert "3 file(s) of a zip" in str(caught.value) and "at least 6e-06 GB" in str(caught.value)
    (tmp_path / "mini_foundation.zip").unlink()
    with pytest.raises(GeoladderError, match="but not the last one"):
        open_archive(tmp_path, Layout(source="auto"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "one.zip").write_bytes(b"0")
    with pytest.raises(GeoladderError, match=r"&& unzip one.zip`"):
        open_archive(tmp_path / "other", Layout(source="auto"))


def test_what_lies_there_is_listed(tmp_path):
    with pytest.raises(GeoladderError, match="It holds nothing"):
        open_archive(tmp_path, Layout(source="auto"))
    for name in ("notes.txt", "a.jp2", "b.jp2"):
        (tmp_path / name).write_text("")
    with pytest.raises(GeoladderError, match=r"a.jp2, b.jp2, notes.txt \(2 .jp2, 1 .txt\)") as caught:
        open_archive(tmp_path, Layout(source="auto"))
    assert all(f"{layout}: " in str(caught.value) for layout in READERS)
    with pytest.raises(GeoladderError, match=r"no folder at .*nowhere"):
        open_archive(tmp_path / "nowhere")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(GeoladderError, match=r"cannot be listed .*Permission denied.*chmod"):
        open_archive(tmp_path)


def test_unwanted_is_not_unreadable_to_whoever_asks(tmp_path):
    product = Product(land_cell(), NAME)
    product.mask[:] = 1
    product.write(tmp_path)
    reader = open_archive(tmp_path, Layout(source="tree", derive="fasttom"))
    with pytest.raises(UnwantedTileError) as refused:
        reader.read(reader.metadata()["part"][0], 0)
    assert refused.value.reason == "no clear and dry quadrant"


def test_specs_name_layout_and_selection_only_where_they_differ(tmp_path):
    plain = study(tmp_path, source="majortom")
    for spec in (ArchiveSpec.of(plain, "real"), IndexSpec.of(plain, "real"), ChipsSpec.of(plain, "real")):
        assert "tree" not in spec.canonical() and "2018" not in spec.canonical()
    assert IndexSpec.of(plain, "real").layout == Layout() == ChipsSpec.of(plain, "real").layout
    other = study(tmp_path, source="tree", derive="fasttom", select={"since": "2018-01-01"})
    index = IndexSpec.of(other, "real")
    assert index.layout == Layout(source="tree", derive="fasttom") == ChipsSpec.of(other, "real").layout
    assert IndexSpec.model_validate_json(index.canonical()) == index
    assert ArchiveSpec.of(other, "real").corpus.select == Select()


def test_a_remote_archive_is_what_was_selected_of_it(tmp_path):
    def specs(*kinds, **corpus):
        made = study(tmp_path, source="majortom", **corpus)
        return [kind.of(made, "real") for kind in kinds]

    url = {"path": None, "url": "https://example.org/a"}
    half, most = (
        specs(
            ArchiveSpec,
            IndexSpec,
            FetchSpec,
            **url,
            select={"fraction": fraction, "seed": 3, "since": "2018-01-01"},
        )
        for fraction in ("1/2", "3/4")
    )
    assert half[0].fingerprint != most[0].fingerprint and half[1].fingerprint != most[1].fingerprint
    # The index would draw from what is left.
    assert half[1].select == Select(since="2018-01-01") == most[1].select
    assert half[2].select.fraction == Fraction(1, 2)
    local = specs(ArchiveSpec, IndexSpec, select={"fraction": "1/2"})
    assert local[0] == specs(ArchiveSpec)[0] and local[1].select.fraction == Fraction(1, 2)


def test_another_content_of_the_file_of_cells_is_another_index(tmp_path):
    cells = tmp_path / "cells.txt"
    chosen = study(tmp_path, source="majortom", select={"cells": str(cells)})
    absent = IndexSpec.of(chosen, "real").fingerprint
    cells.write_text("1U_1R\n")
    one = IndexSpec.of(chosen, "real").fingerprint
    cells.write_text("2U_1R\n")
    assert len({absent, one, IndexSpec.of(chosen, "real").fingerprint}) == 3


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({"path": "x"}, "belong to a source that is not synthetic"),
        ({"source": "globe"}, "source: globe needs a `path`"),
        ({"source": "globe", "path": "x", "derive": "fasttom"}, "which globe has not"),
        ({"source": "tree", "path": "x", "max_ice_share": 0.5}, "belong to derive: fasttom"),
        ({"source": "tree", "path": "x", "climate": "stored"}, "belongs to source: globe"),
        ({"select": {"since": "2020-01-02", "until": "2020-01-01"}}, "since 2020-01-02 is after until"),
        ({"select": {"boxes": [[5, 0, 1, 9]]}}, "south below north"),
        ({"select": {"fraction": "5/4"}}, "less than or equal to 1"),
        ({"url": "https://example.org/a"}, "belong to a source that is not synthetic"),
        ({"source": "tree", "url": "https://example.org/a"}, "`url` belongs to source: majortom"),
        ({"source": "majortom", "path": "x", "url": "https://example.org/a"}, "in place of a `path`"),
        ({"source": "majortom", "url": "hf://datasets/o/n@main"}, "names no fixed revision"),
        ({"source": "majortom", "url": "/data/x"}, "is no archive to fetch"),
    ],
)
def test_settings_that_do_not_go_together(corpus, message):
    with pytest.raises(ValidationError, match=message):
        Corpus(**corpus)


def test_settings_that_do_go_together():
    assert (
        Corpus(source="auto", path="x", climate="stored", select={"boxes": [[1, 170, 5, -170]]}).select
        != Select()
    )
