"""`mamba_upernet`: as `vit_upernet`, with a selective scan in place of attention.

The rung of layout `paper` (arXiv 2506.14765) has the stated size of a model of which no code is published.
"""

from typing import cast

from geoladder.registry.architecture import Architecture, Kwargs, multiples


def dial(width: int) -> Kwargs:
    """Constructor arguments by width w: tokens and mixers of w channels, 8 states each; the rest as the ViT's."""
    decoder, stem = max(4, width // 4), width // 2
    return dict(width=width, depth=4, patch=4, decoder=decoder, stem=stem, d_state=8, expand=1)


ARCHITECTURE = Architecture(
    name="mamba_upernet",
    title="Mamba-UPerNet",
    colour="#029e73",
    classes={"": "geoladder.models.mamba:MambaUPerNet", "paper": "geoladder.models.mamba:PaperMambaUPerNet"},
    rungs={
        "xs": dial(12),
        "s": dial(32),
        "m": dial(64),
        "P16-100M": {"layout": "paper", "width": 768, "depth": 12, "patch": 16, "d_state": 16, "expand": 2},
    },
    base_width=32,
    pretrain_lr=0.009,
    finetune_lr=0.008,
    sides_px=lambda kwargs: multiples(2 * cast("int", kwargs["patch"])),
)
