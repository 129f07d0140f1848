"""The table of sizes, and what a rung costs."""

import json
import subprocess
import sys

import pytest
import torch

from geoladder.counting import count_parameters, gflops_fwd
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone, build_from
from geoladder.registry import ARCHITECTURES
from geoladder.registry.ladder import rung, scaled_lr

LADDERS = ["unet", "vit_upernet", "mamba_upernet"]
OURS = [(architecture, size) for architecture in LADDERS for size in ("xs", "s", "m")]
ALL = [(architecture, size) for architecture, entry in ARCHITECTURES.items() for size in entry.rungs]


def parameters(architecture, size):
    with torch.device("meta"):
        return count_parameters(PretrainModel(build_backbone(architecture, size)))


def test_reading_the_ladder_costs_no_torch():
    code = (
        "import sys, geoladder.registry.ladder as l; l.rung('unet', 'xs'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("architecture", LADDERS)
def test_three_sizes_span_sixteen_times_in_parameters(architecture):
    totals = [parameters(architecture, size)["total"] for size in ("xs", "s", "m")]
    assert totals == sorted(totals)
    assert totals[2] >= 16 * totals[0]
    assert totals[2] <= 500_000


@pytest.mark.parametrize(
    ("architecture", "size"), [*OURS, ("unet", "44M"), ("unet", "200M"), ("pixel", "mlp")]
)
def test_parts_add_up_and_the_encoder_leads(architecture, size):
    counts = parameters(architecture, size)
    assert counts["total"] == counts["encoder"] + counts["decoder"] + counts["heads"]
    assert counts["encoder"] > counts["decoder"]
    assert counts["norm"] < 0.05 * counts["total"]


@pytest.mark.parametrize(("architecture", "size"), ALL)
def test_rung_is_json_and_rebuilds_the_model(architecture, size):
    chosen = rung(architecture, size)
    with torch.device("meta"):
        one = build_backbone(architecture, size)
        two = build_from(architecture, json.loads(json.dumps(chosen.kwargs)))
    assert chosen.width == chosen.kwargs["width"]
    shapes = [{name: p.shape for name, p in model.state_dict().items()} for model in (one, two)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("architecture", [*LADDERS, "pixel"])
def test_other_band_counts(architecture):
    backbone = build_backbone(architecture, next(iter(ARCHITECTURES[architecture].rungs)), bands=6)
    assert backbone(torch.zeros(1, 6, 16, 16)).dense.shape[2:] == (16, 16)


def test_lr_is_given_at_the_base_width_and_falls_as_width_grows():
    for architecture in LADDERS:
        assert scaled_lr(0.01, rung(architecture, "s")) == 0.01
        widths = [rung(architecture, size).width for size in ("xs", "s", "m")]
        rates = [scaled_lr(0.01, rung(architecture, size)) for size in ("xs", "s", "m")]
        assert [rate * width for rate, width in zip(rates, widths, strict=True)] == pytest.approx(
            [0.01 * ARCHITECTURES[architecture].base_width] * 3
        )


def test_unknown_names_say_what_there_is():
    with pytest.raises(
        GeoladderError, match="unknown architecture 'vit_upernett'; did you mean 'vit_upernet'"
    ):
        rung("vit_upernett", "xs")
    with pytest.raises(GeoladderError, match="unet has no layout 'paper'"):
        build_from("unet", {"layout": "paper", "width": 8})
    with pytest.raises(GeoladderError, match="unet has no size 'xxl'; the ladder has xs, s, m"):
        build_backbone("unet", "xxl")
    with pytest.raises(GeoladderError, match="cannot be built from"):
        build_from("unet", {"width": 8, "length": 3})
    with pytest.raises(GeoladderError, match="got width 10"):
        build_from("vit_upernet", {**rung("vit_upernet", "xs").kwargs, "width": 10})
    with pytest.raises(GeoladderError, match="depth 3"):
        build_from("mamba_upernet", {**rung("mamba_upernet", "xs").kwargs, "depth": 3})


def convolution(inputs, outputs, kernel, pixels):
    return 2 * inputs * outputs * kernel**2 * pixels


def upernet_flops(width, channels, patch, px, bands):
    grid = (px // patch) ** 2
    fine, coarse = 4 * grid, grid // 4
    total = convolution(width, channels, 2, grid) + 2 * convolution(width, channels, 1, grid)
    total += convolution(width, channels, 1, 1) + convolution(width, channels, 1, 4)  # pools of 1 and 4 bins
    total += convolution(width + 2 * channels, channels, 1, coarse)
    total += convolution(channels, channels, 3, fine) + 2 * convolution(channels, channels, 3, grid)
    total += convolution(channels, channels, 1, fine) + convolution(3 * channels, channels, 1, grid)
    return (
        total + convolution(channels, channels, patch // 2, fine) + convolution(bands + 1, channels, 1, px**2)
    )


def patch_flops(kwargs, px):
    stem, width, patch = kwargs["stem"], kwargs["width"], kwargs["patch"]
    return convolution(10, stem, 4, (px // 2) ** 2) + convolution(stem, width, patch // 2, (px // patch) ** 2)


@pytest.mark.parametrize("px", [32, 64])
def test_vit_flops_by_hand(px):
    kwargs = rung("vit_upernet", "s").kwargs
    width, tokens = kwargs["width"], (px // kwargs["patch"]) ** 2 + 1
    block = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width
    want = (
        patch_flops(kwargs, px) + 4 * block + upernet_flops(width, kwargs["decoder"], kwargs["patch"], px, 10)
    )
    assert gflops_fwd(build_backbone("vit_upernet", "s"), px) == pytest.approx(want / 1e9, rel=1e-9)


@pytest.mark.parametrize("px", [32, 64])
def test_mamba_flops_by_hand(px):
    kwargs = rung("mamba_upernet", "s").kwargs
    width, states = kwargs["width"], kwargs["d_state"]
    inner, rank, tokens = kwargs["expand"] * width, -(-width // 16), (px // kwargs["patch"]) ** 2
    linear = width * 2 * inner + inner * (rank + 2 * states) + rank * inner + inner * width + 8 * width**2
    block = tokens * (2 * linear + 2 * 4 * inner + inner * (9 * states + 2))
    want = (
        patch_flops(kwargs, px) + 4 * block + upernet_flops(width, kwargs["decoder"], kwargs["patch"], px, 10)
    )
    assert gflops_fwd(build_backbone("mamba_upernet", "s"), px) == pytest.approx(want / 1e9, rel=1e-9)


def test_unet_flops_by_hand():
    width, dense, px = 16, rung("unet", "s").kwargs["dense"], 32
    areas = [(px // 2**level) ** 2 for level in (1, 2, 3)]
    want = convolution(11, width, 2, areas[0]) + convolution(11, dense, 3, px**2) + 2 * (4 * width) ** 2
    want += convolution(width, dense, 2, areas[0]) + convolution(dense, dense, 3, px**2)
    for level, blocks in enumerate((1 + 1, 1 + 1, 2)):  # encoder and decoder
        want += blocks * convolution(width * 2**level, width * 2**level, 3, areas[level])
    for level in (0, 1):
        channels = width * 2**level
        want += convolution(channels, 2 * channels, 2, areas[level + 1])
        want += convolution(2 * channels, channels, 1, areas[level + 1])
    assert gflops_fwd(build_backbone("unet", "s"), px) == pytest.approx(want / 1e9, rel=1e-9)


def test_counting_leaves_the_model_alone():
    backbone = build_backbone("mamba_upernet", "xs")
    gflops_fwd(backbone, 32)
    assert {parameter.device.type for parameter in backbone.parameters()} == {"cpu"}
