"""Run by the Python of an environment with TerraTorch: its backbones as ours, and ours as its backbone.

python both_ways.py FOLDER      where FOLDER holds a trained model of ours and images.pt, maps.pt
"""

import copy
import sys
from pathlib import Path

import torch
from terratorch.models import EncoderDecoderFactory
from terratorch.registry import BACKBONE_REGISTRY

import geoladder.terratorch  # noqa: F401  (registers the backbone)
from geoladder.counting import gflops_fwd
from geoladder.errors import GeoladderError
from geoladder.models.build import FinetuneModel, build_backbone


def ours_as_theirs(folder):
    backbone = BACKBONE_REGISTRY.build("geoladder", source=str(folder)).eval()
    images, maps = torch.load(folder / "images.pt"), torch.load(folder / "maps.pt")
    with torch.no_grad():
        made = backbone(images)
    assert backbone.out_channels == [part.shape[1] for part in maps]
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(made, maps, strict=True))
    model = EncoderDecoderFactory().build_model(
        task="segmentation",
        backbone="geoladder",
        backbone_source=str(folder),
        decoder="UperNetDecoder",
        decoder_channels=32,
        num_classes=3,
    )
    assert model(images).output.shape == (len(images), 3, *images.shape[2:])


def theirs_as_ours(name):
    torch.manual_seed(0)
    model = FinetuneModel(build_backbone("terratorch", name), 1)
    x = torch.randn(1, 10, 64, 64)
    out = model.eval()(x)
    assert out.shape == (1, 1, 64, 64)
    assert torch.equal(copy.deepcopy(model).eval()(x), out)
    assert gflops_fwd(model, 64) > 0
    out.sum().backward()
    assert all(p.grad is not None for p in model.backbone.decoder.parameters())


def main(folder):
    ours_as_theirs(folder)
    for name in ("timm_resnet18", "prithvi_eo_tiny"):
        theirs_as_ours(name)
    try:
        build_backbone("terratorch", "no_such_backbone")
    except GeoladderError as problem:
        assert "TerraTorch has no backbone 'no_such_backbone'" in str(problem)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
