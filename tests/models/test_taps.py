"""Features of a frozen encoder at every pixel."""

import pytest
import torch

from geoladder.errors import GeoladderError
from geoladder.models.build import build_backbone, build_from, logits_of_shares
from geoladder.models.taps import tap_features, tap_maps
from geoladder.registry import ladder

SMALL = {
    "unet": {"width": 6, "depths": [1, 1, 2], "dense": 4},
    "vit_upernet": ladder.rung("vit_upernet", "xs").kwargs,
    "mamba_upernet": ladder.rung("mamba_upernet", "xs").kwargs,
    "mamba2d": {"width": 8, "depths": [1, 1, 1, 1], "decoder": 8},
    "geoaware_unet": {"width": 4, "dims": [4, 4, 8, 8, 8], "depths": [1] * 5, "latent": 8, "image_px": 32},
    "rs3mamba": {"width": 12, "depths": [1] * 4, "resnet": [1] * 4, "heads": 4, "decoder": 8, "latent": 8}
    | {"image_px": 32, "d_state": 4},
}


@pytest.mark.parametrize("architecture", SMALL)
def test_features_are_all_maps_then_the_bands(architecture):
    torch.manual_seed(0)
    backbone = build_from(architecture, SMALL[architecture]).eval()
    pixels = torch.randn(2, 10, 32, 32)
    with torch.inference_mode():
        maps, features = tap_maps(backbone, pixels), tap_features(backbone, pixels)
    assert len(maps) >= 3
    assert features.shape == (2, sum(part.shape[1] for part in maps) + 10, 32, 32)
    assert torch.equal(features[:, -10:], pixels)
    assert features.dtype == torch.float32
    assert features.isfinite().all()


def test_a_map_keeps_its_place():
    """The mean over a cell's pixels of a map without structure at its border is the cell's number."""
    backbone = build_backbone("unet", "xs").eval()
    pixels = torch.randn(1, 10, 32, 32)
    with torch.inference_mode():
        first, features = tap_maps(backbone, pixels)[0], tap_features(backbone, pixels)
    own = features[:, : first.shape[1]]
    # Half resolution: the four pixels of a cell lie a quarter of a cell from its centre.
    inner = torch.nn.functional.avg_pool2d(own, 2)[..., 1:-1, 1:-1]
    kernel = torch.tensor([1.0, 6.0, 1.0]) / 8
    smooth = torch.nn.functional.conv2d(first.flatten(0, 1)[:, None], kernel.outer(kernel)[None, None])
    assert torch.allclose(inner, smooth.view_as(inner), atol=1e-5)


def test_an_image_the_encoder_cannot_take_is_refused():
    with pytest.raises(GeoladderError, match="multiples of 8"):
        tap_features(build_backbone("unet", "xs"), torch.zeros(1, 10, 30, 30))


def test_the_largest_share_is_the_likeliest_class_above_one_too():
    probabilities = logits_of_shares(torch.tensor([1.2, 1.4, -1.6]).view(1, 3, 1, 1)).softmax(1).flatten()
    torch.testing.assert_close(probabilities, torch.tensor([1.2, 1.4, 0.01]) / 2.61)
