"""Encoders of released models against TerraTorch's own, with the same random weights, in an environment of its own.

Every tap is held to 1e-5, as it is in float64, and as a share of its largest value in float32.
"""

import json

import pytest
import torch
from beside import needs_terratorch, run_beside
from safetensors.torch import load_file

from geoladder.models.build import build_from
from geoladder.models.tokens import tap_blocks
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import rung
from geoladder.study.downstream_specs import ReleasedSpec
from geoladder.training.released import import_released

pytestmark = [pytest.mark.slow, needs_terratorch]
S2L2A = {"modalities": ["S2L2A"], "channels": 12, "absent": [0, 9], "coordinates": False}
HLS = {"num_frames": 1, "channels": 6, "absent": [], "coordinates": False}
MODELS = {  # TerraTorch's name and options, and the depth if it is not the whole one
    ("terramind", "base"): ("terramind_v1_base", S2L2A, 0),
    ("terramind", "large"): ("terramind_v1_large", S2L2A, 0),
    ("prithvi", "300M"): ("prithvi_eo_v2_300", HLS, 4),
    ("prithvi", "300M-TL"): ("prithvi_eo_v2_300_tl", HLS | {"coordinates": True}, 4),
    ("prithvi", "600M"): ("prithvi_eo_v2_600", HLS, 4),
    ("prithvi", "600M-TL"): ("prithvi_eo_v2_600_tl", HLS | {"coordinates": True}, 4),
}


def their(name, options, folder):
    """Run the reference script there."""
    run_beside("reference.py", name, json.dumps(options), folder)
    return torch.load(folder / "taps.pt", weights_only=True)


@pytest.mark.parametrize(("architecture", "size"), MODELS)
def test_every_tap_is_terratorchs(architecture, size, tmp_path):
    name, options, depth = MODELS[architecture, size]
    entry, kwargs = ARCHITECTURES[architecture], rung(architecture, size).kwargs
    px = 126 if kwargs.get("patch") == 14 else 128
    shallow = {"depth": depth} if depth else {}
    theirs = their(name, options | shallow | {"px": px}, tmp_path)
    weights = tmp_path / entry.release.files[size].rpartition("/")[2]
    (tmp_path / "weights.pt").rename(weights)
    spec = ReleasedSpec(
        architecture=architecture,
        size=size,
        model=kwargs | shallow,
        weights=str(weights),
        input=entry.input,
        release=entry.release,
    )
    import_released(spec, tmp_path / "ours")
    with torch.device("meta"):
        whole, encoder = (build_from(architecture, made).encoder for made in (kwargs, spec.model))
    assert sum(p.numel() for p in whole.parameters()) == theirs["parameters"]
    state = load_file(tmp_path / "ours/model.safetensors")
    encoder.load_state_dict(
        {key.removeprefix("backbone.encoder."): value for key, value in state.items()}, assign=True
    )
    ten = torch.zeros(2, 10, px, px)
    for channel, band in enumerate(encoder.order):
        if band >= 0:
            ten[:, band] = theirs["pixels"][:, channel]
    cls = 1 if architecture == "prithvi" else 0
    with torch.no_grad():
        single, _ = encoder(ten, None, theirs["coordinates"])
        taps, _ = encoder.double()(ten.double(), None, theirs["coordinates"])
    for place, block in enumerate(tap_blocks(len(theirs["taps"]))):
        ours, ours_single = (maps[place].flatten(2).transpose(1, 2) for maps in (taps, single))
        tokens, tokens_single = (theirs[name][block][:, cls:] for name in ("taps", "single"))
        assert (ours - tokens).abs().max() < 1e-5
        # Values reach 4 to 5, of which float32 has seven digits: the bound is on the share of the largest.
        assert (ours_single - tokens_single).abs().max() < 1e-5 * tokens_single.abs().max()
