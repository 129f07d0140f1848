"""Geo-location: the chip's place as sine and cosine of longitude and latitude.

Unusual: latitude is encoded at the full period of 360 degrees, which tells any two latitudes apart. The authors'
released code uses a period of 180 degrees, which puts both poles on one point.
"""

from typing import TYPE_CHECKING

import numpy as np

from geoladder.data.labels.targets import great_circle_km
from geoladder.registry.target import Places, Target

if TYPE_CHECKING:
    from torch import Tensor

OUTPUTS = 4


def geo_encoding(lat_deg: np.ndarray, lon_deg: np.ndarray) -> np.ndarray:
    """Encode places (N,) as (sin lon, cos lon, sin lat, cos lat); longitudes may be of any turn.

    Returns:
        (N, 4) float32 in [-1, 1]; different places differ (but for the longitude of a pole).
    """
    lat, lon = np.radians(np.asarray(lat_deg, float)), np.radians(np.asarray(lon_deg, float))
    return np.stack([np.sin(lon), np.cos(lon), np.sin(lat), np.cos(lat)], axis=-1).astype(np.float32)


def decode_geo(encoding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest place to an encoding (N, 4), which may be a prediction off the unit circles.

    Returns:
        lat_deg (N,) in [-90, 90] and lon_deg (N,) in [-180, 180]. A negative cosine of latitude counts as 0.
    """
    sin_lon, cos_lon, sin_lat, cos_lat = np.moveaxis(np.asarray(encoding, float), -1, 0)
    lat = np.arctan2(sin_lat, np.maximum(cos_lat, 0.0))
    return np.degrees(lat), np.degrees(np.arctan2(sin_lon, cos_lon))


def _loss(output: "Tensor", truth: "Tensor") -> "Tensor":
    from torch.nn import functional

    return functional.mse_loss(output, truth, reduction="sum") / OUTPUTS


def _metrics(outputs: np.ndarray, _: np.ndarray, places: Places) -> dict[str, float]:
    away_km = great_circle_km(*decode_geo(outputs), places.lat_deg, places.lon_deg)
    return {"km": float(np.median(away_km))}


TARGET = Target(
    name="geo",
    measure="mse",
    size=lambda _: OUTPUTS,
    encode=lambda _, places: geo_encoding(places.lat_deg, places.lon_deg),
    loss=_loss,
    metrics=_metrics,
    meanings={"km": "median great-circle error of the place, km"},
    order=0,
)
