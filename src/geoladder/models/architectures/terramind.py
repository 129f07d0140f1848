"""`terramind`: TerraMind v1 for Sentinel-2 L2A, external: weights are released, not made here.

Rungs of layout `paper` have the decoder of arXiv 2506.14765; the others have that of our ViTs of the paper's sizes.
"""

from geoladder.data.labels.bands import BANDS
from geoladder.registry.architecture import Architecture, Input, Kwargs, multiples

S2L2A = Input(
    bands={
        "B01": (1390.458, 2106.761),
        "B02": (1503.317, 2141.107),
        "B03": (1718.197, 2038.973),
        "B04": (1853.910, 2134.138),
        "B05": (2199.100, 2085.321),
        "B06": (2779.975, 1889.926),
        "B07": (2987.011, 1820.257),
        "B08": (3083.234, 1871.918),
        "B8A": (3132.220, 1753.829),
        "B09": (3162.988, 1797.379),
        "B11": (2424.884, 1434.261),
        "B12": (1857.648, 1334.311),
    },
    harmonise="none",  # the constants are of a mixture of products with the +1000 DN and without
)
ORDER = S2L2A.order(BANDS)
BASE = Kwargs(width=768, depth=12, heads=12, order=ORDER)
LARGE = Kwargs(width=1024, depth=24, heads=16, order=ORDER)
PAPER = Kwargs(layout="paper")

ARCHITECTURE = Architecture(
    name="terramind",
    title="TerraMind",
    colour="#ca9161",
    classes={
        "": "geoladder.models.terramind:TerraMind",
        "paper": "geoladder.models.terramind:PaperTerraMind",
    },
    rungs={"base": BASE, "large": LARGE, "base-paper": BASE | PAPER, "large-paper": LARGE | PAPER},
    base_width=768,
    pretrain_lr=None,
    finetune_lr=0.0001,
    sides_px=multiples(16),
    input=S2L2A,
)
