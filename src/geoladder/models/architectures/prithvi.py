"""`prithvi`: Prithvi-EO-2.0 for one date, external: weights are released, not made here.

Rungs `-TL` take time and location. That of layout `paper` has the decoder of arXiv 2506.14765; the others have that
of our ViTs of the paper's sizes. Patches of 14 pixels (600M) fit few images, so those rungs resize them inside.
"""

from typing import cast

from geoladder.data.labels.bands import BANDS
from geoladder.registry.architecture import Architecture, Input, Kwargs, multiples

HLS = Input(
    bands={
        "B02": (1087.0, 2248.0),
        "B03": (1342.0, 2179.0),
        "B04": (1433.0, 2178.0),
        "B8A": (2734.0, 1850.0),
        "B11": (1958.0, 1242.0),
        "B12": (1363.0, 1049.0),
    },
    harmonise="baseline",  # harmonised Landsat and Sentinel-2 reflectance has no offset
)
ORDER = HLS.order(BANDS)
VIT_L = Kwargs(width=1024, depth=24, heads=16, patch=16, order=ORDER)
VIT_H = Kwargs(width=1280, depth=32, heads=16, patch=14, order=ORDER, resizes=1)
TL = Kwargs(coordinates=1)


def _sides_px(kwargs: Kwargs) -> range:
    """Multiples of a patch; any from one patch on where images are resized."""
    patch_px = cast("int", kwargs["patch"])
    return range(patch_px, 10_001) if "resizes" in kwargs else multiples(patch_px)


ARCHITECTURE = Architecture(
    name="prithvi",
    title="Prithvi-EO-2.0",
    colour="#949494",
    classes={"": "geoladder.models.prithvi:Prithvi", "paper": "geoladder.models.prithvi:PaperPrithvi"},
    rungs={
        "300M": VIT_L,
        "300M-TL": VIT_L | TL,
        "600M": VIT_H,
        "600M-TL": VIT_H | TL,
        "600M-TL-paper": VIT_H | TL | Kwargs(layout="paper"),
    },
    base_width=1024,
    pretrain_lr=None,
    finetune_lr=0.0001,
    sides_px=_sides_px,
    input=HLS,
)
