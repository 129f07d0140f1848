"""The mixer written out, the paper-size models' counts, and what every family must do, on tiny models."""

import pytest
import torch
from torch.nn import functional

from geoladder.counting import count_gflops, count_parameters
from geoladder.errors import GeoladderError
from geoladder.models.backbone import start_steps
from geoladder.models.build import PretrainModel
from geoladder.models.mamba import PaperMambaUPerNet
from geoladder.models.mamba2d import M2DMixer, Mamba2D
from geoladder.models.wavefront import wavefront_scan

MAMBA2D_41M = {"width": 64, "dims": [64, 128, 320, 512], "depths": [3, 3, 9, 3], "decoder": 320}
MAMBA_P16_100M = {"width": 768, "depth": 12, "patch": 16}
PX = 64
"""Mamba2D's last stage has 2 x 2 cells at this size, so that every direction of it is used."""


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make()


def tiny_mamba2d():
    return Mamba2D(8, [1, 1, 2, 1], 16, d_state=3, expand=2)


def tiny_paper():
    return PaperMambaUPerNet(16, 4, 16, d_state=3, expand=2)


@pytest.fixture(params=[tiny_mamba2d, tiny_paper], ids=["mamba2d", "paper"])
def make(request):
    return request.param


def image(batch=2, height=PX, width=PX, bands=10):
    return torch.randn(batch, bands, height, width, generator=torch.Generator().manual_seed(1))


def block_mask(batch=2, px=PX, block=16):
    hidden = torch.rand(batch, 1, px // block, px // block, generator=torch.Generator().manual_seed(2)) < 0.5
    return hidden.repeat_interleave(block, 2).repeat_interleave(block, 3)


def test_mixer_has_the_published_parameters():
    shapes = {name: tuple(parameter.shape) for name, parameter in M2DMixer(64, 16, 2).named_parameters()}
    assert shapes == {
        "in_proj.weight": (128, 64), "in_proj.bias": (128,), "x_proj.weight": (40, 128), "x_proj.bias": (40,),
        "dt_proj_top.weight": (128, 4), "dt_proj_top.bias": (128,), "dt_proj_left.weight": (128, 4),
        "dt_proj_left.bias": (128,), "A_top_log": (128, 16), "A_left_log": (128, 16), "D": (128,),
        "out_proj.weight": (64, 128), "out_proj.bias": (64,),
    }  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
def test_mixer_equals_its_description(turned):
    torch.manual_seed(0)
    mixer = M2DMixer(8, 4, 2, turned).double()
    start_steps(mixer.dt_proj_top, mixer.dt_proj_left)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    u = functional.gelu(mixer.in_proj(x.flip(1, 2) if turned else x))
    parts = mixer.x_proj(u)
    top = functional.softplus(mixer.dt_proj_top(parts[..., :1]))
    left = functional.softplus(mixer.dt_proj_left(parts[..., 1:2]))
    grids = [grid.permute(0, 3, 1, 2) for grid in (u, top, left, parts[..., 2:6], parts[..., 6:])]
    rates = [-mixer.A_top_log.exp(), -mixer.A_left_log.exp()]
    y = wavefront_scan(*grids[:3], *rates, *grids[3:], mixer.D).permute(0, 2, 3, 1)
    y = mixer.out_proj(functional.gelu(y))
    assert torch.allclose(mixer(x), y.flip(1, 2) if turned else y, atol=1e-6)


def test_a_turned_mixer_sees_the_opposite_corner():
    for turned, seen in ((False, (slice(1, None), slice(2, None))), (True, (slice(None, 2), slice(None, 3)))):
        torch.manual_seed(0)
        mixer = M2DMixer(8, 2, 1, turned)
        x = torch.randn(1, 3, 4, 8)
        other = x.clone()
        other[:, 1, 2] += 1
        changed = (mixer(x) != mixer(other)).any(-1)[0]
        assert changed[seen].all()
        assert changed.sum() == changed[seen].numel()


def test_initial_steps_are_in_range_and_alike():
    mixer = M2DMixer(16, 4, 2)
    start_steps(mixer.dt_proj_top, mixer.dt_proj_left)
    steps = functional.softplus(mixer.dt_proj_top.bias)
    assert steps.min() >= 0.00099
    assert steps.max() <= 0.101
    assert torch.equal(mixer.dt_proj_top.bias, mixer.dt_proj_left.bias)


def test_mamba2d_has_the_published_size_and_cost():
    with torch.device("meta"):
        model = Mamba2D(**MAMBA2D_41M)
    parts = count_parameters(model)
    assert parts["encoder"] == pytest.approx(31.98e6, rel=1e-3)
    assert parts["total"] == pytest.approx(41e6, rel=1e-2)
    assert parts["total"] == parts["encoder"] + parts["decoder"]
    gflops = count_gflops(model, 128)
    assert gflops.forward - gflops.scan_forward == pytest.approx(4.62, rel=1e-2)
    cells = sum(
        n * d * (32 >> i) ** 2 for i, (d, n) in enumerate(zip((64, 128, 320, 512), (3, 3, 9, 3), strict=True))
    )
    assert gflops.scan_forward == pytest.approx(2 * cells * (13 * 16 + 6) / 1e9)


def test_mamba2d_of_expand_1_has_the_size_of_the_authors_second_version():
    """Theirs has 27.74 M with a second B (0.08 M)."""
    with torch.device("meta"):
        model = Mamba2D(**MAMBA2D_41M, expand=1)
    assert count_parameters(model)["encoder"] == pytest.approx(27.74e6 - 0.08e6, rel=1e-3)


def test_paper_mamba_has_the_published_size_and_cost():
    with torch.device("meta"):
        model = PaperMambaUPerNet(**MAMBA_P16_100M)
    parts = count_parameters(model)
    assert parts["total"] == pytest.approx(103.9e6, rel=1e-3)
    gflops = count_gflops(model, 128)
    assert gflops.forward - gflops.scan_forward == pytest.approx(19.3, rel=3e-2)
    assert gflops.scan_forward == pytest.approx(12 * 64 * 1536 * (13 * 16 + 6) / 1e9)


def test_shapes_at_any_size(make):
    model = seeded(make)
    for height, width in ((32, 32), (32, 96), (64, 64)):
        features = model(image(height=height, width=width))
        assert features.dense.shape == (2, model.dense_channels, height, width)
        assert features.summary.shape == (2, model.summary_dim)
        assert features.dense.isfinite().all()


def test_hidden_pixels_do_not_leak(make):
    model, x, mask = seeded(make).eval(), image(), block_mask()
    assert mask.any()
    other = torch.where(mask, 100 * torch.randn_like(x), x)
    for one, two in zip(model(x, mask), model(other, mask), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(model(x, mask).dense, model(x).dense)


def test_no_mask_is_an_empty_mask(make):
    model = seeded(make).eval()
    empty = torch.zeros(2, 1, PX, PX, dtype=torch.bool)
    assert torch.equal(model(image()).dense, model(image(), empty).dense)


def test_every_image_is_on_its_own(make):
    model, x = seeded(make).eval(), image(batch=3)
    assert torch.allclose(model(x).dense[1:2], model(x[1:2]).dense, atol=1e-5)


def test_every_parameter_learns(make):
    model = seeded(lambda: PretrainModel(make()))
    x = image()
    out = model(x, block_mask())
    loss = (
        (out.reconstruction - x).square().mean()
        + out.targets["geo"].square().sum()
        + out.targets["climate"].logsumexp(1).sum()
    )
    loss.backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert still == []


def test_context_reaches_across_the_image(make):
    """The last pixel's change reaches the first, which a scan in one direction alone would not let it."""
    model = seeded(make).eval()
    x = image()
    other = x.clone()
    other[:, :, -1, -1] += 100
    for one, two in zip(model.encoder(x, None)[0], model.encoder(other, None)[0], strict=True):
        changed = (one != two).any(1)
        assert changed[:, -1, -1].all()
    assert changed.all()


def test_bf16_autocast_is_close_and_trains(make):
    model = seeded(lambda: PretrainModel(make())).eval()
    exact = model(image(), block_mask()).reconstruction
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(image(), block_mask()).reconstruction
    rough.float().square().mean().backward()
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_a_few_steps_lower_the_loss(make):
    model = seeded(lambda: PretrainModel(make()))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    x = functional.interpolate(image(height=4, width=4), size=(PX, PX), mode="bilinear")
    mask, losses = block_mask(), []
    for _ in range(15):
        loss = (model(x, mask).reconstruction - x).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


def test_same_seed_same_model(make):
    one, two = seeded(make), seeded(make)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_sizes_and_bands_that_do_not_fit_are_named(make):
    model = seeded(make)
    with pytest.raises(GeoladderError, match=rf"multiples of {model.stride_px} pixels; got 64 x 40"):
        model(image(width=40))
    with pytest.raises(GeoladderError, match=r"\(B, 10, H, W\); got \(2, 9, 64, 64\)"):
        model(image(bands=9))


@pytest.mark.parametrize(
    "wrong",
    [{"dims": [8, 16, 32]}, {"dims": [9, 16, 32, 64]}, {"depths": [1, 1, 1]}, {"decoder": 12}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_arguments_that_do_not_fit_are_named(wrong):
    kwargs = {"width": 8, "depths": [1, 1, 1, 1], "decoder": 16} | wrong
    with pytest.raises(GeoladderError, match="a Mamba2D needs 4 dims, the first of them its width"):
        Mamba2D(**kwargs)


def test_paper_arguments_that_do_not_fit_are_named():
    for kwargs in ({"width": 18, "depth": 4}, {"width": 16, "depth": 3}, {"width": 16, "depth": 0}):
        with pytest.raises(GeoladderError, match="a width and a depth that are multiples of 4"):
            PaperMambaUPerNet(patch=16, **kwargs)


def test_dims_follow_the_width():
    assert [down.out_channels for down in Mamba2D(8, [1, 1, 1, 1], 16).encoder.downs] == [16, 40, 64]
