"""`terramind`: TerraMind v1 for Sentinel-2 L2A, external: weights are released, not made here.

Rungs of layout `paper` have the decoder of arXiv 2506.14765; the others have that of our ViTs of the paper's sizes.
"""

from geoladder.data.labels.bands import BANDS
from geoladder.registry.architecture import Architecture, Input, Kwargs, Release, multiples

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
MODALITY = r"encoder_embeddings\.untok_sen2l2a@224\."
BASE_FILE = "ibm-esa-geospatial/TerraMind-1.0-base/TerraMind_v1_base.pt"
LARGE_FILE = "ibm-esa-geospatial/TerraMind-1.0-large/TerraMind_v1_large.pt"
V1 = Release(
    files={"base": BASE_FILE, "large": LARGE_FILE, "base-paper": BASE_FILE, "large-paper": LARGE_FILE},
    rules={
        MODALITY + r"mod_emb": "encoder.patches.modality",
        MODALITY + r"proj\.weight": "encoder.patches.embed.weight",
        r"encoder\.(\d+)\.(norm[12])\.weight": r"encoder.blocks.\1.\2.weight",
        r"encoder\.(\d+)\.attn\.(qkv|proj)\.weight": r"encoder.blocks.\1.\2.weight",
        r"encoder\.(\d+)\.mlp\.(fc[123])\.weight": r"encoder.blocks.\1.\2.weight",
        r"encoder_norm\.weight": "encoder.norm.weight",
    },
    ignore=[
        MODALITY + r"pos_emb",  # the fixed code of place
        r"encoder\.\d+\.norm[12]\.bias|encoder_norm\.bias",  # zeros that are not trained
        r"encoder_embeddings\.(?!untok_sen2l2a@224).*",  # other modalities
        r"(decoder|decoder_\w+|tokenizer|sampler)\..*|mask_token|dec_\w+(\..*)?",
    ],
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
    sides_px=multiples(32),
    input=S2L2A,
    release=V1,
)
