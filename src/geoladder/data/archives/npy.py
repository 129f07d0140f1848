"""Opening npy files of images with their checks; PhilEO Bench and PhilEO Globe share the layout."""

from pathlib import Path

import numpy as np

from geoladder.bounds import check_array, plain_file
from geoladder.data.archives.folders import remedy
from geoladder.data.labels.bands import BANDS
from geoladder.errors import GeoladderError


def label_path(images: Path, kind: str) -> Path:
    """Label file beside an image file: `..._s2.npy` -> `..._label_<kind>.npy`."""
    return images.with_name(images.name.removesuffix("_s2.npy") + f"_label_{kind}.npy")


def open_npy(path: Path) -> np.ndarray:
    """Memory map an npy file; raises GeoladderError where it is missing, truncated, too large or no npy file."""
    try:
        array = np.load(plain_file(path), mmap_mode="r")
        if not isinstance(array, np.ndarray):
            raise ValueError("it is a zip of arrays")
        check_array(array)
        return array
    except (OSError, ValueError, EOFError, OverflowError) as problem:
        raise GeoladderError(f"{path} cannot be read ({problem}); {remedy(path, problem)}") from None


def open_labels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Memory map a label file; raises GeoladderError as `open_npy`, or where it has another shape, or no numbers."""
    labels = open_npy(path)
    if labels.dtype.kind not in "biuf":
        raise GeoladderError(f"{path} holds {labels.dtype}; numbers are expected, whole or floating")
    if labels.shape != shape:
        raise GeoladderError(
            f"{path} has shape {labels.shape}, but its images need {shape}: labels and images are of different "
            "versions; unpack or fetch both again"
        )
    return labels


def open_images(path: Path) -> np.ndarray:
    """Memory map an image file: (N, P, P, 10) uint16 DN.

    Raises GeoladderError as `open_npy`, or where it has another shape, band count or dtype.
    """
    images = open_npy(path)
    if images.ndim != 4 or images.shape[3] != len(BANDS) or images.shape[1] != images.shape[2]:
        raise GeoladderError(
            f"{path} has shape {images.shape}; (patches, px, px, {len(BANDS)}) is expected, bands last in the order "
            f"{' '.join(BANDS)}"
        )
    if images.dtype != np.uint16:
        raise GeoladderError(f"{path} is {images.dtype}; uint16 DN are expected")
    return images
