"""The paper's ViT-UPerNet: what its sizes contain, and what it does with images, masks and other sizes."""

import pytest
import torch
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from geoladder.counting import count_parameters
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.models.tokens import PlainPatches, position_code
from geoladder.models.upernet import PaperUPerNet
from geoladder.models.vit import PAPER_TEMPERATURE, PaperViTUPerNet

SMALL = {"width": 16, "depth": 4, "heads": 2, "patch": 4}
AUTHORS_HEADS = 1024 * (4 + 4 + 1 + 11) + 20
"""Of the released code, counted into the encoder of 100M."""


def small(**changes):
    torch.manual_seed(0)
    return PaperViTUPerNet(**(SMALL | changes))


@pytest.mark.parametrize(
    ("size", "encoder", "decoder"),
    [
        ("100M", 102.03, 10.27),
        ("100M-23T", 101.49, 9.61),
        ("300M", 303.53, 15.08),
        ("P16-100M", 87.07, 12.05),
    ],
)
def test_parts_are_those_of_the_authors(size, encoder, decoder):
    with torch.device("meta"):
        model = build_backbone("vit_upernet", size)
    counts = count_parameters(model)
    stem = sum(parameter.numel() for parameter in model.encoder.stem.parameters())  # theirs counts as decoder
    heads = AUTHORS_HEADS if size == "100M" else 0
    assert (counts["encoder"] - stem + heads) / 1e6 == pytest.approx(encoder, abs=0.006)
    assert (counts["decoder"] + stem) / 1e6 == pytest.approx(decoder, abs=0.006)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48)])
@pytest.mark.parametrize("patch", [4, 8])
def test_dense_features_at_any_size(patch, height, width):
    features = small(patch=patch, latent=6)(torch.randn(2, 10, height, width))
    assert features.dense.shape == (2, 256, height, width)
    assert features.summary.shape == (2, 6)


def test_hidden_pixels_do_not_leak():
    model = PretrainModel(small(latent=6, code_px=32))
    x, mask = torch.randn(2, 10, 32, 32), torch.rand(2, 1, 32, 32) < 0.5
    mask[:, :, :8, :8] = True
    other = torch.where(mask, torch.randn_like(x), x)
    for one, two in zip(tree_leaves(model(x, mask)), tree_leaves(model(other, mask)), strict=True):
        assert torch.equal(one, two)


def test_the_kept_place_code_changes_nothing_but_the_count():
    kept, computed = small(code_px=32), small()
    computed.load_state_dict({k: v for k, v in kept.state_dict().items() if k != "encoder.position"})
    x = torch.randn(2, 10, 32, 32)
    assert torch.equal(kept(x).dense, computed(x).dense)
    assert kept.encoder.position.requires_grad is False
    code = torch.from_numpy(position_code(8, 8, 16, PAPER_TEMPERATURE))
    assert torch.equal(kept.encoder.position[1:], code.flatten(0, 1))
    assert kept(torch.randn(1, 10, 64, 64)).dense.isfinite().all()


def test_every_trained_parameter_learns():
    model = PretrainModel(small(latent=6, stem_px=32, code_px=32))
    x, mask = torch.randn(2, 10, 32, 32), torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[:, :, :16] = True
    torch.autograd.backward([part.square().sum() for part in tree_leaves(model(x, mask))])
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "heads 3"),
        ({"depth": 3}, "depth 3"),
        ({"stem_px": 20}, "stem_px 20"),
        ({"code_px": 10}, "code_px 10"),
    ],
)
def test_arguments_that_do_not_fit(changes, message):
    with pytest.raises(GeoladderError, match=message):
        small(**changes)


def test_images_that_do_not_fit():
    with pytest.raises(GeoladderError, match="multiples of 8 pixels"):
        small()(torch.randn(1, 10, 32, 36))
    for side in (64, 36):
        with pytest.raises(GeoladderError, match=r"32 x 32 pixels only.*any multiple of 8"):
            small(stem_px=32)(torch.randn(1, 10, side, side))
    with pytest.raises(GeoladderError, match="multiple of 4 channels"):
        PaperUPerNet(6)


@pytest.mark.parametrize("patch", [4, 16])
def test_plain_patches_are_a_convolution_whose_stride_is_its_kernel(patch):
    torch.manual_seed(0)
    patches, x = PlainPatches(10, 32, patch), torch.randn(2, 10, 32, 48)
    weight = patches.embed.weight.view(32, 10, patch, patch)
    expected = functional.conv2d(x, weight, patches.embed.bias, stride=patch).permute(0, 2, 3, 1)
    assert torch.allclose(patches(x, None), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(patches(x, None).float(), expected, atol=0.1)
