"""Counted operations against closed formulas, family by family."""

import pytest
import torch
from torch import nn

from geoladder.counting import count_gflops, gflops_fwd
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.models.upernet import POOLS
from geoladder.registry.ladder import rung

BANDS = 10
HEADS = 4 + 31


def model(architecture, size):
    with torch.device("meta"):
        return PretrainModel(build_backbone(architecture, size))


def unet(px, width, depths, dense):
    side = [(px // 2**level) ** 2 for level in range(4)]
    c = [width, 2 * width, 4 * width]
    macs = side[1] * 4 * (BANDS + 1) * c[0]
    macs += sum(9 * depth * side[level + 1] * c[level] ** 2 for level, depth in enumerate(depths))
    macs += sum(side[level + 2] * 4 * c[level] * c[level + 1] for level in (0, 1))  # downs
    macs += sum(side[level + 2] * c[level] * c[level + 1] for level in (0, 1))  # ups
    macs += sum(9 * side[level + 1] * c[level] ** 2 for level in (0, 1))
    macs += side[1] * 4 * c[0] * dense + side[0] * 9 * ((BANDS + 1) * dense + dense**2)
    return macs + c[2] ** 2 + side[0] * dense * BANDS + c[2] * HEADS


def upernet(px, dim, channels, patch):
    tokens = (px // patch) ** 2
    macs = 4 * tokens * dim * channels + 2 * tokens * dim * channels  # laterals
    macs += sum(bins**2 for bins in POOLS) * dim * channels
    macs += tokens // 4 * (dim + len(POOLS) * channels) * channels
    macs += 9 * channels**2 * (4 * tokens + tokens + tokens)
    macs += 4 * tokens * channels**2 + tokens * 3 * channels**2
    return macs + px**2 * channels**2 + px**2 * (BANDS + 1) * channels + px**2 * channels * BANDS


def patches(px, dim, patch, stem):
    return (px // 2) ** 2 * 16 * BANDS * stem + (px // patch) ** 2 * (patch // 2) ** 2 * stem * dim


def vit(px, width, depth, heads, patch, decoder, stem, mlp_ratio=4):
    tokens = (px // patch) ** 2 + 1
    block = tokens * width**2 * (4 + 2 * mlp_ratio) + 2 * tokens**2 * width
    return (
        patches(px, width, patch, stem) + depth * block + upernet(px, width, decoder, patch) + width * HEADS
    )


def mamba(px, width, depth, patch, decoder, stem, d_state, expand, mlp_ratio=4):
    tokens, inner, rank = (px // patch) ** 2, expand * width, -(-width // 16)
    mixer = inner * (2 * width + 4 + rank + 2 * d_state + rank + width)
    block = tokens * (mixer + 2 * mlp_ratio * width**2)
    return (
        patches(px, width, patch, stem) + depth * block + upernet(px, width, decoder, patch) + width * HEADS
    )


@pytest.mark.parametrize("px", [32, 64])
@pytest.mark.parametrize("size", ["xs", "m"])
@pytest.mark.parametrize(
    ("architecture", "formula"), [("unet", unet), ("vit_upernet", vit), ("mamba_upernet", mamba)]
)
def test_forward_equals_the_closed_formula(architecture, formula, size, px):
    gflops = count_gflops(model(architecture, size), px)
    macs = formula(px, **rung(architecture, size).kwargs)
    assert (gflops.forward - gflops.scan_forward) * 1e9 == pytest.approx(2 * macs, rel=1e-12)


def test_scan_counts_by_its_formula():
    kwargs = rung("mamba_upernet", "s").kwargs
    tokens, channels = (64 // kwargs["patch"]) ** 2, kwargs["expand"] * kwargs["width"]
    expected = kwargs["depth"] * tokens * channels * (9 * kwargs["d_state"] + 2)
    assert count_gflops(model("mamba_upernet", "s"), 64).scan_forward * 1e9 == pytest.approx(
        expected, rel=1e-12
    )
    assert count_gflops(model("vit_upernet", "s"), 64).scan_forward == 0


@pytest.mark.parametrize("architecture", ["unet", "vit_upernet", "mamba_upernet"])
def test_backward_is_about_two_forward_passes(architecture):
    """Exactly two, but for the first layers, whose input needs no gradient; a scan's backward is a little more."""
    gflops = count_gflops(model(architecture, "m"), 64)
    assert 1.7 < gflops.backward / gflops.forward < 2.2


@pytest.mark.parametrize("groups", [1, 4, 12])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_grouped_convolution_costs_two_forward_passes_backwards(kind, groups):
    layers = nn.Sequential(nn.Conv2d(10, 12, 1), kind(12, 12, 3, groups=groups))
    gflops = count_gflops(layers, 16)
    first = 2 * 16**2 * 10 * 12 / 1e9
    assert gflops.backward == pytest.approx(first + 2 * (gflops.forward - first))


def test_forward_alone_and_with_backward_agree_and_leave_the_model_as_it_is():
    real = PretrainModel(build_backbone("vit_upernet", "xs"))
    before = {name: value.clone() for name, value in real.state_dict().items()}
    assert gflops_fwd(real, 32) == count_gflops(real, 32).forward
    assert all(torch.equal(value, before[name]) for name, value in real.state_dict().items())
    assert all(parameter.grad is None for parameter in real.parameters())


def test_an_image_the_model_cannot_take():
    with pytest.raises(GeoladderError, match="multiples of 8"):
        count_gflops(model("unet", "xs"), 20)
