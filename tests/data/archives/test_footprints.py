import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoladder.data.archives.footprints import Boxes
from geoladder.data.archives.grid import FOOTPRINT_M, centre_of, footprint, to_lat_lon
from geoladder.data.index.away import TURNED

places = st.tuples(st.floats(-80, 80), st.floats(-180, 180))


def boxes(*middles, side_m=10_000):
    lat_deg, lon_deg = np.array(middles).T
    return Boxes.around(lat_deg, lon_deg, side_m)


@given(
    st.lists(places, min_size=1, max_size=12), st.lists(places, min_size=1, max_size=4), st.floats(10, 5e6)
)
def test_overlap_by_the_plain_rule(middles, others, side_m):
    """All pairs, with longitudes moved by whole turns until they are nearest."""
    ours, theirs = boxes(*middles, side_m=side_m), boxes(*others, side_m=side_m)

    def pair(a, b):
        turn = 360 * round(((a[1] + a[3]) - (b[1] + b[3])) / 720)
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] + turn and b[1] + turn < a[3]

    plain = [any(pair(a, b) for b in zip(*theirs, strict=True)) for a in zip(*ours, strict=True)]
    assert ours.overlaps(theirs).tolist() == plain


def test_connected_places_are_those_of_a_chain():
    middles = [(0, 0), (0, 0.08), (0, 0.16), (5, 5), (math.nan, math.nan), (0, 0.3)]
    place = boxes(*middles).connected()
    assert place[0] == place[1] == place[2] and len(set(place)) == 4


@pytest.mark.parametrize("cell", ["433D_629L", "637U_59R", "700U_3R", "0U_0R", "880U_170L"])
def test_the_box_of_a_tile_holds_its_corners(cell):
    """A tile is square in its UTM zone, and the box is not."""
    epsg, left_m, bottom_m, side_m = footprint(cell)
    middle = to_lat_lon(epsg, left_m + side_m / 2, bottom_m + side_m / 2)
    box = boxes(middle, side_m=TURNED * FOOTPRINT_M)
    for x in (0, side_m):
        for y in (0, side_m):
            lat_deg, lon_deg = to_lat_lon(epsg, left_m + x, bottom_m + y)
            assert box.south[0] < lat_deg < box.north[0] and box.west[0] < lon_deg < box.east[0]
    assert abs(middle[0] - centre_of(cell)[0]) < 0.01
