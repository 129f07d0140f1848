"""Chips of archives that are no parquet, all the way from their folders."""

import numpy as np
import pandas as pd
import pytest
from layouts import Product, land_cell, write_globe, write_tif

from geoladder.data.batches.chips import write_chips
from geoladder.data.index.build import build_index
from geoladder.study.specs import ChipsSpec, IndexSpec, Layout

NAME = "S2A_MSIL2A_20210630T100559_N0301_R022_T33UUU_20210630T132813"


@pytest.fixture
def chips_of(tmp_path, no_bench):
    """Index and cut an archive; return the manifest and what was dropped."""

    def run(folder, layout, **changes):
        index_spec = IndexSpec(
            archive="a",
            bench="b",
            one_product_per_cell=False,
            max_cloud_percent=80.0,
            max_nodata_share=0.99,
            max_corrupt_share=0.0,
            harmonise="baseline",
            validation_share=0.15,
            bench_buffer_km=0.0,
            layout=layout,
        )
        index, out = tmp_path / "index.parquet", tmp_path / "chips"
        build_index(index_spec, folder, no_bench, index, tmp_path / "ledger.csv")
        spec = ChipsSpec(
            index=index_spec.fingerprint,
            chip_px=16,
            chip_max_cloud_share=0.3,
            max_corrupt_share=0.0,
            layout=layout,
            **changes,
        )
        write_chips(spec, folder, index, out)
        return pd.read_parquet(out / "manifest.parquet"), pd.read_csv(out / "dropped.csv")

    return run


def test_patches_of_globe_become_chips_with_their_own_places(tmp_path, chips_of):
    arrays = write_globe(tmp_path / "globe", patches=3, px=32, climates=(3, 26))
    chips, _ = chips_of(tmp_path / "globe", Layout(source="globe", climate="stored"))
    assert len(chips) == len(chips[["lat_deg", "lon_deg"]].drop_duplicates()) == 12
    assert chips["lat_deg"].mean() == pytest.approx(arrays["lat_deg"].mean(), abs=1e-4)
    assert (
        set(chips["koppen"]) == {26}
        and set(chips["offset_dn"]) == {1000}
        and set(chips["day_of_year"]) == {208}
    )


def test_tiles_without_a_fasttom_quadrant_are_counted_and_not_unreadable(tmp_path, chips_of):
    for number, mask in enumerate((0, 3)):
        product = Product(land_cell(52.5, 13.4 + 0.5 * number), NAME)
        product.mask[:] = mask
        product.write(tmp_path / "tree")
    chips, dropped = chips_of(tmp_path / "tree", Layout(source="tree", derive="fasttom"))
    assert len(chips) == 1
    assert dropped[["unit", "reason", "count"]].to_numpy().tolist() == [
        ["tile", "no clear and dry quadrant", 1]
    ]


def test_climate_from_a_raster_of_ones_own(tmp_path, chips_of):
    Product(land_cell(), NAME).write(tmp_path / "tree")
    write_tif(tmp_path / "beck.tif", np.full((1, 180, 360), 17, np.uint8), 4326, -180, 90, 1.0)
    chips, _ = chips_of(tmp_path / "tree", Layout(source="tree"), koppen_raster=tmp_path / "beck.tif")
    assert set(chips["koppen"]) == {17}
