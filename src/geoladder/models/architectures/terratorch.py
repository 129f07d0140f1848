"""`terratorch`: any backbone of TerraTorch, whose name is the size: `terratorch-timm_resnet18`. See docs/external.md.

What each was trained on differs, so all get reflectance standardised by the study's own statistics.
"""

from geoladder.registry.architecture import Architecture, Input, Kwargs, Release, multiples


def backbone(size: str) -> Kwargs:
    """Constructor arguments by the name of a backbone."""
    return Kwargs(width=1, name=size)


ARCHITECTURE = Architecture(
    name="terratorch",
    title="TerraTorch",
    colour="#fbafe4",
    classes={"": "geoladder.models.terratorch:TerraTorchBackbone"},
    rungs={},
    any_size=backbone,
    base_width=1,
    pretrain_lr=None,
    finetune_lr=0.0001,
    sides_px=multiples(1),
    input=Input(bands={}, harmonise=None),
    release=Release(files={}, rules={r"(.*)": r"encoder.body.\1"}, ignore=[]),
)
