"""A Sentinel-2 scene as a user has it, read by windows: the ten bands in one raster file, or in one file each.

Any format of GDAL will do. Bands are known by their names, never by their place alone. Bands on a grid other than
that of B02, as those of 20 m, are brought to it bilinearly.

Unusual: a scene may hold digital numbers (DN) or reflectance, with or without the +1000 DN offset of newer products.
Which it is follows from GDAL's scale and offset, else from the product's name, else from the pixels; the log says so.
A name that the pixels deny is refused. Beside the nodata tag and masks, 65535 in whole numbers is no number.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from geoladder.bounds import check_blocks, plain_file
from geoladder.data.archives.stored import LARGEST_DN
from geoladder.data.labels.bands import (
    BANDS,
    BOA_OFFSET_DN,
    DN_PER_REFLECTANCE,
    IMPOSSIBLE_OFFSET_DN,
    boa_offset_dn,
    darkest_dn,
    offset_from_pixels,
)
from geoladder.errors import GeoladderError

log = logging.getLogger(__name__)

PIXEL_M = 10.0
BRIGHTEST_REFLECTANCE = 3.0
"""Of floating-point pixels: a scene whose 99th percentile is below this is reflectance."""
DARKEST_SCENE_DN = 30.0
"""And one whose 99th percentile is above this is DN."""
PROBES = 4
"""Windows along each side whose pixels tell what a scene holds."""
PROBE_PX = 128
_BAND = re.compile(r"(?:^|_)B0?(?P<number>\d{1,2})(?P<narrow>A?)(?=$|[^0-9A-Za-z])", re.IGNORECASE)
_PRODUCT = re.compile(r"S2[A-D]_MSI\w+")


class Pixels(NamedTuple):
    """A window of a scene."""

    dn: np.ndarray
    """(10, H, W) float32 DN in `BANDS` order, 0 where there is none."""
    valid: np.ndarray
    """(H, W) bool: whether every band has a number here."""


class Layer(NamedTuple):
    """Where a band lies."""

    raster: rasterio.DatasetReader
    number: int


class Scene:
    """An open scene; `open_scene` makes one.

    Attributes:
        crs, transform, shape: its place, and its (rows, columns) of 10 m pixels.
        offset_dn: DN to subtract from valid pixels, if images are harmonised.
        product_id: name of its Sentinel-2 product; empty where neither tags nor file name tell it.
    """

    def __init__(self, layers: dict[str, Layer], where: str, offset_dn: int | None = None) -> None:
        self._layers, self._where = [layers[band] for band in BANDS], where
        grid = self._layers[0].raster
        self.crs: CRS = grid.crs
        self.transform: Affine = grid.transform
        self.shape: tuple[int, int] = grid.shape
        self.product_id = _product_id(grid)
        self._files: dict[rasterio.DatasetReader, list[int]] = {}
        for place, layer in enumerate(self._layers):
            self._files.setdefault(layer.raster, []).append(place)
        self._factor = 1.0
        self._factor, self.offset_dn, reason = self._unit(offset_dn)
        log.info("%s: %d x %d pixels, DN offset %d (%s)", where, *self.shape, self.offset_dn, reason)

    def read(self, window: Window) -> Pixels:
        """Pixels of a window that lies inside the scene; GeoladderError where the file is damaged."""
        dn = np.empty((len(BANDS), window.height, window.width), np.float32)
        valid = np.ones(dn.shape[1:], bool)
        for raster, places in self._files.items():
            numbers = [self._layers[place].number for place in places]
            try:
                stored = raster.read(numbers, window=window)  # at once, since bands may share their blocks
                masked = any(MaskFlags.per_dataset in flags for flags in raster.mask_flag_enums)
                valid &= raster.dataset_mask(window=window) > 0 if masked else True
            except rasterio.errors.RasterioError as problem:
                raise GeoladderError(f"{self._where} cannot be read ({problem}); fetch it again") from None
            for place, number, band in zip(places, numbers, stored, strict=True):
                nodata = raster.nodatavals[number - 1]
                valid &= np.isfinite(band) & (band != (np.nan if nodata is None else nodata))
                if band.dtype == np.uint16:
                    valid &= band != LARGEST_DN
                dn[place] = band
        valid &= (dn != 0).any(axis=0)
        dn *= self._factor
        dn[:, ~valid] = 0
        return Pixels(dn, valid)

    def _unit(self, offset_dn: int | None) -> tuple[float, int, str]:
        """DN of a stored 1, the DN offset, and who says so."""
        raster, number = self._layers[0]
        scale, shift = raster.scales[number - 1], raster.offsets[number - 1]
        probe = self._probe()
        factor, reason = 1.0, "pixels"
        if shift and scale == 1 and np.dtype(raster.dtypes[number - 1]).kind != "f":
            offset, reason = round(-shift), "tags"
        elif scale != 1:
            factor, offset, reason = scale * DN_PER_REFLECTANCE, round(-shift * DN_PER_REFLECTANCE), "tags"
        elif np.dtype(raster.dtypes[number - 1]).kind == "f" and self._is_reflectance(probe):
            factor, offset, reason = float(DN_PER_REFLECTANCE), 0, "reflectance has none"
        elif (known := boa_offset_dn(self.product_id)) is not None:
            offset, reason = known, f"baseline of {self.product_id}"
            if offset_dn is None and known:
                self._check_offset(probe)
        else:
            offset = offset_from_pixels(probe)
        return (factor, offset, reason) if offset_dn is None else (factor, offset_dn, "as given")

    def _check_offset(self, probe: np.ndarray) -> None:
        """Refuse pixels that cannot carry the DN offset that the product's name says."""
        darkest = darkest_dn(probe)
        if darkest < IMPOSSIBLE_OFFSET_DN:
            raise GeoladderError(
                f"{self._where} is of {self.product_id}, which carries +{BOA_OFFSET_DN} DN by its baseline, but the "
                f"first percentile of its darkest band is {darkest:.0f} DN: the offset seems to be removed already. "
                f"Say which with --offset-dn 0 or --offset-dn {BOA_OFFSET_DN}"
            )

    def _probe(self) -> np.ndarray:
        """Stored numbers (10, N) of windows all over the scene, 0 where there is none."""
        height, width = self.shape
        tops, lefts = (
            np.unique(np.linspace(0, max(0, side - PROBE_PX), PROBES).astype(int)) for side in self.shape
        )
        windows = [
            Window(left, top, min(PROBE_PX, width), min(PROBE_PX, height)) for top in tops for left in lefts
        ]
        return np.concatenate([self.read(window).dn.reshape(len(BANDS), -1) for window in windows], axis=1)

    def _is_reflectance(self, probe: np.ndarray) -> bool:
        bright = float(np.percentile(probe[probe > 0], 99)) if (probe > 0).any() else 0.0
        if BRIGHTEST_REFLECTANCE < bright < DARKEST_SCENE_DN:
            raise GeoladderError(
                f"{self._where} holds floating-point numbers up to {bright:.3g} (99th percentile), neither "
                f"reflectance (0..1) nor DN (0..10000); say which with a scale: rio edit-info --scale"
            )
        return bright <= BRIGHTEST_REFLECTANCE


@contextmanager
def open_scene(
    paths: Sequence[Path], bands: Sequence[str] | None = None, offset_dn: int | None = None
) -> Iterator[Scene]:
    """Open the files of one scene.

    Args:
        paths: one file with all bands, or files with some each.
        bands: names of the bands of the only file, in its order; without, the files' own band names count, or for a
            file of one band its name, `..._B02.jp2`. Others than the ten are left out.
        offset_dn: DN to subtract, where the user knows better than tags, names and pixels.

    Raises:
        GeoladderError: a file that is no raster, a band that is missing, without a name or there twice, a place or a
            resolution that will not do, or numbers that are neither DN nor reflectance.
    """
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} other files"
    with ExitStack() as files:
        layers: dict[str, Layer] = {}
        for path in paths:
            raster = files.enter_context(_opened(path))
            for number, name in enumerate(_names(raster, path, bands), 1):
                if name in layers:
                    raise GeoladderError(f"{where} has two bands called {name}; give each band once")
                layers |= {name: Layer(raster, number)} if name in BANDS else {}
        missing = [band for band in BANDS if band not in layers]
        if missing:
            raise GeoladderError(
                f"{where} lacks {', '.join(missing)}; the models need {' '.join(BANDS)}, all in one file by band "
                "names, or named in the file's order with --bands B02,B03,..."
            )
        _check_grid(layers["B02"].raster, str(layers["B02"].raster.name))
        _check_units(layers, where)
        yield Scene(_aligned(layers, files), where, offset_dn)


def _opened(path: Path) -> rasterio.DatasetReader:
    try:
        if not path.is_dir():  # some formats are folders
            plain_file(path)
        raster = rasterio.open(path)
        check_blocks(raster)
        return raster
    except (rasterio.errors.RasterioError, OSError) as problem:
        raise GeoladderError(f"{path} is no readable raster ({problem}); give a GeoTIFF") from None


def _names(raster: rasterio.DatasetReader, path: Path, bands: Sequence[str] | None) -> list[str]:
    """Name of each band of a file: `B02`, or whatever it is called where it is none of Sentinel-2."""
    if bands is not None and len(bands) != raster.count:
        raise GeoladderError(f"--bands names {len(bands)} bands, but {path} has {raster.count}; name each")
    names = bands or [name or "" for name in raster.descriptions]
    if raster.count == 1 and not _BAND.search(names[0]):
        names = [path.stem]
    if not any(map(_BAND.search, names)):
        raise GeoladderError(
            f"the {raster.count} bands of {path} have no names such as B02 (they are called {names}); say what they "
            f"are with --bands, in the file's order, such as --bands {','.join(BANDS)}"
        )
    return [_standard(name) for name in names]


def _standard(name: str) -> str:
    """`B02` for b2, B2, `B02 (blue)` or T33UUU_20170216T102101_B02; other names as they are."""
    match = _BAND.search(name.strip())
    if match is None:
        return name
    return f"B{int(match['number'])}A" if match["narrow"] else f"B{int(match['number']):02}"


def _check_grid(raster: rasterio.DatasetReader, where: str) -> None:
    """Refuse what does not lie north up on 10 m pixels of a projection in metres."""
    step = raster.transform
    if raster.crs is None:
        raise GeoladderError(f"{where} has no coordinate system; give it one: rio edit-info --crs EPSG:32633")
    projected = raster.crs.is_projected and raster.crs.linear_units_factor[1] == 1
    if not projected or step.b or step.d or step.a <= 0 or step.e >= 0:
        raise GeoladderError(
            f"{where} lies in {raster.crs.to_string()} with the transform {tuple(step)[:6]}; maps need north-up "
            "pixels in metres: rio warp IN.tif OUT.tif --dst-crs EPSG:326xx --res 10, with its UTM zone"
        )
    if abs(step.a - PIXEL_M) > 0.01 * PIXEL_M or abs(step.e + PIXEL_M) > 0.01 * PIXEL_M:
        raise GeoladderError(
            f"{where} has pixels of {step.a:g} x {-step.e:g} m; the models were trained on {PIXEL_M:g} m: "
            "rio warp IN.tif OUT.tif --res 10 --resampling bilinear"
        )
    if np.dtype(raster.dtypes[0]) == np.uint8:
        raise GeoladderError(
            f"{where} is a picture of 8 bits; give DN or reflectance, as the product has them"
        )


def _check_units(layers: dict[str, Layer], where: str) -> None:
    """Refuse bands of different units, which are told by the first alone, and tags that tell none."""
    units = {
        name: (scales[number - 1], offsets[number - 1], np.dtype(dtypes[number - 1]).kind == "f")
        for name, (raster, number) in layers.items()
        for scales, offsets, dtypes in [(raster.scales, raster.offsets, raster.dtypes)]
    }
    blue = units["B02"]
    for name, unit in units.items():
        if not (np.isfinite(unit).all() and unit[0] > 0):
            raise GeoladderError(
                f"band {name} of {where} has the scale {unit[0]} and the offset {unit[1]}; "
                "write it with others: rio edit-info --scale 0.0001"
            )
        if unit != blue:
            raise GeoladderError(
                f"bands of {where} differ in their units: scale, offset and whether numbers are floating are {blue} "
                f"of B02, but {unit} of {name}; write all alike"
            )


def _aligned(layers: dict[str, Layer], files: ExitStack) -> dict[str, Layer]:
    """Layers on the grid of B02."""
    grid = layers["B02"].raster
    target = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
    views = {
        raster: files.enter_context(WarpedVRT(raster, resampling=Resampling.bilinear, **target))
        for raster in dict.fromkeys(layer.raster for layer in layers.values())
        if (raster.crs, raster.transform, raster.shape) != (grid.crs, grid.transform, grid.shape)
    }
    return {name: Layer(views.get(raster, raster), number) for name, (raster, number) in layers.items()}


def _product_id(raster: rasterio.DatasetReader) -> str:
    """First name of a product in the tags or the file name."""
    texts = [*map(str, raster.tags().values()), Path(str(raster.name)).stem]
    return next((match[0] for match in map(_PRODUCT.search, texts) if match), "")
