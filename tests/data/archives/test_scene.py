"""Units of a scene's bands, as tags, names and pixels tell them."""

import numpy as np
import pytest
import rasterio

from geoladder.data.archives.scene import open_scene
from geoladder.errors import GeoladderError
from tiny_archives import TEN, TWENTY

SIDE_PX = 32


@pytest.fixture
def scene(tmp_path):
    """Open files of one band each; `changes` by band: dtype, scale and offset."""

    def write(dn=3000, **changes):
        paths = []
        for name in (*TEN, *TWENTY):
            of = (
                {"dtype": "uint16", "scale": 1.0, "offset": 0.0}
                | changes.get("all", {})
                | changes.get(name, {})
            )
            paths.append(tmp_path / f"{name}.tif")
            size = {"width": SIDE_PX, "height": SIDE_PX, "count": 1, "dtype": of["dtype"]}
            place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
            with rasterio.open(paths[-1], "w", driver="GTiff", **size, **place) as raster:
                raster.write(np.full((SIDE_PX, SIDE_PX), dn, of["dtype"]), 1)
                raster.scales, raster.offsets = [of["scale"]], [of["offset"]]
        return open_scene(paths)

    return write


@pytest.mark.parametrize(("scale", "offset"), [(1.0, -1000.0), (1e-4, -0.1)])
def test_an_offset_counts_in_the_unit_of_its_scale(scene, scale, offset):
    with scene(all={"scale": scale, "offset": offset}) as opened:
        assert opened.offset_dn == 1000


@pytest.mark.parametrize("other", [{"scale": 1e-4}, {"offset": -1000.0}, {"dtype": "float32"}])
def test_bands_of_different_units_are_refused(scene, other):
    with pytest.raises(GeoladderError, match=r"differ in their units: .* of B8A"), scene(B8A=other):
        pass


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf, -1.0])
def test_a_scale_that_tells_no_unit_is_refused(scene, scale):
    with pytest.raises(GeoladderError, match="has the scale"), scene(all={"scale": scale}):
        pass
