"""Run by the Python of an environment with TerraTorch: taps of one of its backbones with random weights, to compare.

    python reference.py NAME OPTIONS FOLDER

writes weights.pt (the state dict) and taps.pt (pixels, coordinates, taps in float64, the same in float32 as `single`,
number of parameters) into FOLDER. OPTIONS are JSON: `px` is the side of the images, `absent` the channels that are
zero, `channels` their number, `coordinates` whether time and location are given; the rest is TerraTorch's. With a
`depth`, parameters are counted at the whole one.
"""

import json
import sys
from pathlib import Path

import torch
from terratorch.registry import BACKBONE_REGISTRY

IMAGES, SPREAD = 2, 0.02


def main(name, options, folder):
    px, coordinates, channels, absent = (
        options.pop(key) for key in ("px", "coordinates", "channels", "absent")
    )
    torch.manual_seed(7)
    model = BACKBONE_REGISTRY.build(name, pretrained=False, **options).eval()
    whole = model
    if options.pop("depth", None):
        with torch.device("meta"):
            whole = BACKBONE_REGISTRY.build(name, pretrained=False, **options)
    pixels = torch.randn(IMAGES, channels, px, px)
    pixels[:, absent] = 0
    places = torch.tensor([[2021.0, 153.0, 55.7, 12.6], [2018.0, 0.0, -33.9, 151.2]])
    given = {"temporal_coords": places[:, None, :2], "location_coords": places[:, 2:]} if coordinates else {}
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms are zeros and ones otherwise
            parameter.add_(SPREAD * torch.randn_like(parameter))
        torch.save(model.state_dict(), folder / "weights.pt")
        single = model(pixels, **given)
        taps = model.double()(pixels.double(), **given)
    count = sum(parameter.numel() for parameter in whole.parameters())
    made = {
        "pixels": pixels,
        "coordinates": places if coordinates else None,
        "taps": taps,
        "single": single,
        "parameters": count,
    }
    torch.save(made, folder / "taps.pt")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))
