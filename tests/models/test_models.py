"""What every family must do: shapes, any size, hiding, precision, determinism, and weights that travel."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from geoladder.errors import GeoladderError
from geoladder.models.backbone import hide
from geoladder.models.build import FinetuneModel, PretrainModel, build_backbone, build_from
from geoladder.registry.ladder import rung

SMALL = [("unet", "xs"), ("vit_upernet", "xs"), ("mamba_upernet", "xs"), ("pixel", "mlp")]
PRETRAINED = [pair for pair in SMALL if pair[0] != "pixel"]
STRIDE = {"unet": 8, "vit_upernet": 8, "mamba_upernet": 8, "pixel": 1}


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make()


def image(batch=2, height=32, width=32, bands=10):
    return torch.randn(batch, bands, height, width, generator=torch.Generator().manual_seed(1))


def block_mask(batch=2, px=32, block=4):
    hidden = torch.rand(batch, 1, px // block, px // block, generator=torch.Generator().manual_seed(2)) < 0.6
    return hidden.repeat_interleave(block, 2).repeat_interleave(block, 3)


@pytest.fixture(params=SMALL, ids=lambda pair: pair[0])
def backbone(request):
    return seeded(lambda: build_backbone(*request.param))


@pytest.fixture(params=PRETRAINED, ids=lambda pair: pair[0])
def pretrain_model(request):
    return seeded(lambda: PretrainModel(build_backbone(*request.param)))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48), (128, 64)])
def test_shapes_at_any_size(backbone, height, width):
    features = backbone(image(height=height, width=width))
    assert features.dense.shape == (2, backbone.dense_channels, height, width)
    assert features.summary.shape == (2, backbone.summary_dim)
    assert features.dense.isfinite().all()


def test_sizes_and_bands_that_do_not_fit_are_named(backbone):
    if backbone.stride_px > 1:
        assert backbone(image(height=backbone.stride_px, width=backbone.stride_px)).dense.isfinite().all()
        with pytest.raises(
            GeoladderError, match=r"multiples of 8 pixels; got 32 x 36.*nearest that fits is 32 x"
        ):
            backbone(image(width=36))
    with pytest.raises(GeoladderError, match=r"\(B, 10, H, W\); got \(2, 9, 32, 32\)"):
        backbone(image(bands=9))


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("unet", {"depths": [1, 1]}, r"3 levels.*got \[1, 1\]"),
        ("vit_upernet", {"heads": 5}, "multiple of its heads; got width 12, heads 5"),
        ("vit_upernet", {"depth": 3}, "multiples of 4; got width 12, depth 3"),
        ("vit_upernet", {"patch": 5}, "even side; got patch 5"),
        ("mamba_upernet", {"width": 6}, "multiples of 4; got width 6, depth 4"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_architecture(architecture, changes, message):
    kwargs = rung(architecture, "xs").kwargs | changes
    with pytest.raises(GeoladderError, match=rf"^{architecture} cannot be built from .*{message}"):
        build_from(architecture, kwargs)


def test_hidden_pixels_do_not_leak(backbone):
    x, mask = image(), block_mask()
    other = torch.where(mask, 100 * torch.randn_like(x), x)
    for one, two in zip(backbone(x, mask), backbone(other, mask), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(backbone(x, mask).dense, backbone(x).dense)


@pytest.mark.parametrize("fill", ["zero", "noise"])
def test_other_fills_leak_nothing_either(fill):
    x, mask = image(), block_mask()
    model = seeded(lambda: PretrainModel(build_backbone("unet", "xs"), fill=fill))
    other = torch.where(mask, image(batch=3)[1:] * 5, x)
    assert torch.equal(model(x, mask).reconstruction, model(other, mask).reconstruction)
    assert torch.equal(model(x, mask).reconstruction, model(x, mask).reconstruction)
    mean = seeded(lambda: PretrainModel(build_backbone("unet", "xs")))
    assert not torch.equal(model(x, mask).reconstruction, mean(x, mask).reconstruction)


def test_fills_are_what_their_names_say():
    x, mask = image(), block_mask()
    hidden = mask.expand_as(x)
    assert (hide(x, mask, "zero")[0][hidden] == 0).all()
    noise = hide(x, mask, "noise")[0]
    assert abs(noise[hidden].mean()) < 0.05
    assert abs(noise[hidden].std() - 1) < 0.05
    assert all(torch.equal(hide(x, mask, fill)[0][~hidden], x[~hidden]) for fill in ("mean", "zero", "noise"))


def test_no_mask_is_an_empty_mask(backbone):
    empty = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    assert torch.equal(backbone(image()).dense, backbone(image(), empty).dense)


def test_every_image_is_on_its_own(backbone):
    x = image(batch=3)
    assert torch.allclose(backbone(x).dense[1:2], backbone(x[1:2]).dense, atol=1e-5)


def test_every_parameter_learns(pretrain_model):
    x, mask = image(), block_mask()
    out = pretrain_model(x, mask)
    (
        ((out.reconstruction - x) ** 2).mean()
        + out.targets["geo"].square().sum()
        + out.targets["climate"].logsumexp(1).sum()
    ).backward()
    still = [name for name, p in pretrain_model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_outputs_start_near_zero_and_have_their_shapes(pretrain_model):
    out = pretrain_model(image(), block_mask())
    assert out.reconstruction.shape == (2, 10, 32, 32)
    assert out.targets["geo"].shape == (2, 4)
    assert out.targets["climate"].shape == (2, 31)
    assert list(out.targets) == ["geo", "climate"]
    assert all(output.abs().max() < 0.5 for output in tree_leaves(out))


def test_prior_bias_is_where_a_task_starts(backbone):
    model = FinetuneModel(backbone, 3, prior_bias=[-3.0, 0.0, 2.0])
    mean = model(image()).mean((0, 2, 3))
    assert torch.allclose(mean, torch.tensor([-3.0, 0.0, 2.0]), atol=0.3)
    assert FinetuneModel(backbone, 1, prior_bias=-2.0).head.bias.item() == -2.0


def test_weights_go_from_pretraining_to_fine_tuning(pretrain_model):
    architecture, size = next(
        pair for pair in PRETRAINED if type(build_backbone(*pair)) is type(pretrain_model.backbone)
    )
    tuned = FinetuneModel(build_backbone(architecture, size), 1)
    tuned.backbone.load_state_dict(pretrain_model.backbone.state_dict(), strict=True)
    for one, two in zip(pretrain_model.backbone(image()), tuned.backbone(image()), strict=True):
        assert torch.equal(one, two)


def test_bf16_autocast_is_close(pretrain_model):
    x, mask = image(), block_mask()
    exact = pretrain_model(x, mask).reconstruction
    with torch.autocast("cpu", torch.bfloat16):
        rough = pretrain_model(x, mask).reconstruction
    rough.float().square().mean().backward()
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_same_seed_same_model_and_same_gradients(pretrain_model):
    architecture, size = next(
        pair for pair in PRETRAINED if type(build_backbone(*pair)) is type(pretrain_model.backbone)
    )
    twin = seeded(lambda: PretrainModel(build_backbone(architecture, size)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for model in (pretrain_model, twin):
            (model(image(), block_mask()).reconstruction - image()).square().mean().backward()
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(pretrain_model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, two)
        assert (one.grad is None and two.grad is None) or torch.equal(one.grad, two.grad)


def test_a_pixel_sees_only_itself():
    model = seeded(lambda: build_backbone("pixel", "mlp"))
    x = image()
    other = x.clone()
    other[:, :, 5, 7] += 1
    changed = (model(x).dense != model(other).dense).any(1)
    assert changed[:, 5, 7].all()
    assert changed.sum() == 2


def test_context_reaches_far(pretrain_model):
    """A hidden corner is drawn from what is visible elsewhere."""
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[..., :8, :8] = True
    x = image()
    other = x.clone()
    other[:, :, 24:, 24:] += 1
    difference = (pretrain_model(x, mask).reconstruction - pretrain_model(other, mask).reconstruction).abs()
    assert difference[..., :4, :4].max() > 0


def test_reconstruction_is_learned(pretrain_model):
    """Sixty steps on smooth fields of two materials at least take a quarter off the error of predicting the mean."""
    generator = torch.Generator().manual_seed(0)
    spectra = torch.randn(10, 2, generator=generator)
    coarse = torch.einsum("bk,nkhw->nbhw", spectra, torch.randn(64, 2, 3, 3, generator=generator))
    fields = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=True)
    mask = block_mask(64)
    rate = 0.02 if type(pretrain_model.backbone).__name__ == "UNet" else 0.01
    optimiser = torch.optim.AdamW(pretrain_model.parameters(), lr=rate)
    losses = []
    for step in range(60):
        chosen = slice(8 * (step % 8), 8 * (step % 8) + 8)
        x, hidden = fields[chosen], mask[chosen]
        loss = (pretrain_model(x, hidden).reconstruction - x).square()[hidden.expand_as(x)].mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pretrain_model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-8:]) < 0.75 * sum(losses[:8])
