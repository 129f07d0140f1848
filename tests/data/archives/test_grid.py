"""The MajorTOM grid, against the metadata and georeference of real tiles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from geoladder.data.archives import grid
from geoladder.errors import GeoladderError

SAMPLE = Path(__file__).parents[3].parent / "shared" / "samples" / "majortom"


@given(st.floats(-89.9, 89.9), st.floats(-180, 179.999999))
def test_round_trip(lat: float, lon: float) -> None:
    cell = grid.cell_of(lat, lon)
    row, column = grid.row_column(cell)
    assert grid.cell_name(row, column) == cell
    corner = grid.corner_of(cell)
    assert corner[0] - 1e-6 <= lat <= corner[0] + grid.ROW_DEG + 1e-6
    width = 360 / grid.columns_in_row(row)
    assert (lon - corner[1] + 1e-6) % 360 <= width + 2e-6  # a cell may lie across the date line
    assert grid.cell_of(*corner) == cell


def test_known_cells() -> None:
    assert grid.ROWS == 2004
    assert grid.cell_of(-38.84599, -72.520887) == "433D_629L"
    assert grid.cell_of(57.259933, 9.871855) == "637U_59R"
    assert grid.cell_of(0.0, 0.0) == "0U_0R"
    assert grid.cell_of(-0.001, -0.001) == "1D_1L"


@pytest.mark.parametrize(
    ("place", "epsg"),
    [((60.4, 5.3), 32632), ((60.4, 2.0), 32631), ((78.2, 15.6), 32633), ((78.2, 8.0), 32631), ((78.0, 25.0), 32635),
     ((-33.9, 18.4), 32734), ((35.7, 139.7), 32654), ((0.5, -179.0), 32601)],
)  # fmt: skip
def test_utm_zone_with_exceptions(place: tuple[float, float], epsg: int) -> None:
    assert grid.utm_epsg(grid.cell_of(*place)) == epsg


def test_the_date_line_has_two_names() -> None:
    assert grid.columns_in_row(794) == 1284
    assert grid.row_column("794U_642R") == grid.row_column("794U_642L") == (794, -642)
    assert grid.corner_of("794U_642R") == grid.corner_of("794U_642L")
    assert grid.footprint("794U_642R") == grid.footprint("794U_642L")
    with pytest.raises(GeoladderError, match=r"columns -642\.\.641"):
        grid.row_column("794U_643R")


@pytest.mark.parametrize("name", ["", "433_629", "433D629L", "1002U_0R", "1003D_0R", "0U_3000R", "-1U_0R"])
def test_bad_names(name: str) -> None:
    with pytest.raises(GeoladderError):
        grid.row_column(name)


@pytest.mark.parametrize("place", [(90.0, 0.0), (0.0, 181.0), (float("nan"), 0.0)])
def test_bad_places(place: tuple[float, float]) -> None:
    with pytest.raises(GeoladderError, match="no grid cell"):
        grid.cell_of(*place)


@pytest.mark.skipif(not SAMPLE.exists(), reason="real MajorTOM sample not at hand")
def test_footprints_of_real_tiles() -> None:
    metadata = pd.read_parquet(SAMPLE / "metadata.parquet")
    images = pq.ParquetFile(SAMPLE / "images" / "part_00001.parquet")
    for index, row in metadata.iterrows():
        epsg, left, bottom, size = grid.footprint(row.grid_cell)
        assert f"EPSG:{epsg}" == row.crs
        with (
            MemoryFile(images.read_row_group(index, ["B02"])["B02"][0].as_py()) as memory,
            memory.open() as tif,
        ):
            np.testing.assert_allclose(tif.bounds, (left, bottom, left + size, bottom + size), atol=1e-3)
        centre = grid.to_lat_lon(epsg, left + size / 2, bottom + size / 2)
        np.testing.assert_allclose(centre, (row.centre_lat, row.centre_lon), atol=1e-5)
        # the corner of the cell lies 340 m inside the image
        np.testing.assert_allclose(
            grid.to_lat_lon(epsg, left + 340, bottom + 340), grid.corner_of(row.grid_cell), atol=1e-7
        )
