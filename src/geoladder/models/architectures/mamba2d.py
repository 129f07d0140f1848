"""`mamba2d`: hierarchical, with a two-dimensional scan; channels double by stage, or nearly.

It exists at paper size only, where nothing was tuned: its rates are what the authors' come to on 32 devices.
"""

from geoladder.registry.architecture import Architecture, multiples

ARCHITECTURE = Architecture(
    name="mamba2d",
    title="Mamba2D",
    colour="#cc78bc",
    classes={"": "geoladder.models.mamba2d:Mamba2D"},
    rungs={
        "41M": dict(
            width=64, dims=[64, 128, 320, 512], depths=[3, 3, 9, 3], d_state=16, expand=2, decoder=320
        )
    },
    base_width=64,
    pretrain_lr=0.0005,
    finetune_lr=0.001,
    sides_px=multiples(32),
)
