"""`pixel`: the per-pixel baseline, two hidden layers that see one pixel at a time; fine-tuned beside every grid."""

from geoladder.registry.architecture import Architecture, multiples

ARCHITECTURE = Architecture(
    name="pixel",
    title="per-pixel model",
    colour="#737373",
    classes={"": "geoladder.models.pixel:PixelMLP"},
    rungs={"mlp": {"width": 64, "depth": 2}},
    base_width=64,
    pretrain_lr=None,
    finetune_lr=0.012,
    sides_px=multiples(1),
)
