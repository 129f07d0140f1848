"""`vit_upernet`: a ViT with a UPerNet decoder.

Rungs of layout `paper` (arXiv 2506.14765) are the authors' models: plain patches, a UPerNet of 256 channels. Those of
layout `authors` have the layers of their code, BatchNorm among them, for weights that were trained with it.
"""

from typing import cast

from geoladder.registry.architecture import Architecture, Kwargs, multiples

PAPER: Kwargs = {"layout": "paper", "heads": 16, "latent": 0, "stem_px": 0, "code_px": 0}


AUTHORS: Kwargs = PAPER | {"layout": "authors"}


def dial(width: int) -> Kwargs:
    """Constructor arguments by width w: tokens of w channels in 4 blocks, patches of 4 px.

    Heads have at least 32 channels, the stem w/2 and the decoder w/4 (at least 4).
    """
    heads, decoder, stem = max(1, width // 32), max(4, width // 4), width // 2
    return dict(width=width, depth=4, heads=heads, patch=4, decoder=decoder, stem=stem)


def _sides_px(kwargs: Kwargs) -> range:
    """Multiples of two patches; where a stem has norms with a weight per pixel, its own side only."""
    stem_px = cast("int", kwargs.get("stem_px", 0))
    return range(stem_px, stem_px + 1) if stem_px else multiples(2 * cast("int", kwargs["patch"]))


ARCHITECTURE = Architecture(
    name="vit_upernet",
    title="ViT-UPerNet",
    colour="#de8f05",
    classes={
        "": "geoladder.models.vit:ViTUPerNet",
        "paper": "geoladder.models.vit:PaperViTUPerNet",
        "authors": "geoladder.models.vit:AuthorsViTUPerNet",
    },
    rungs={
        "xs": dial(12),
        "s": dial(32),
        "m": dial(64),
        "100M": PAPER | dict(width=512, depth=32, patch=4, latent=1024, stem_px=128, code_px=128),
        "100M-23T": PAPER | dict(width=512, depth=32, patch=4, latent=1024),
        "300M": PAPER | dict(width=1024, depth=24, patch=4, latent=1024),
        "P8-100M": PAPER | dict(width=768, depth=12, patch=8, code_px=128),
        "P16-100M": PAPER | dict(width=768, depth=12, patch=16, code_px=128),
        "P16-300M": PAPER | dict(width=1024, depth=24, patch=16, code_px=128),
        "100M-authors": AUTHORS
        | dict(
            width=512,
            depth=32,
            patch=4,
            latent=1024,
            stem_px=128,
            code_px=128,
            taps=[7, 15, 23, 31],
            normed_taps=1,
        ),
        "300M-authors": AUTHORS
        | dict(width=1024, depth=24, patch=4, latent=1024, taps=[5, 11, 17, 23], eps=1e-6),
        "P16-100M-authors": AUTHORS | dict(width=768, depth=12, patch=16, code_px=128, taps=[2, 5, 8, 11]),
        "P16-300M-authors": AUTHORS
        | dict(width=1024, depth=24, patch=16, code_px=128, taps=[20, 21, 22, 23], eps=1e-6),
    },
    base_width=32,
    pretrain_lr=0.011,
    finetune_lr=0.008,
    sides_px=_sides_px,
)
