"""The authors' U-Net: sizes by part as counted on their class, and what it does with images and masks."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from geoladder.counting import count_parameters
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.models.geoaware_unet import GeoAwareUNet

SMALL = {"width": 4, "dims": [4, 4, 8, 8, 8], "depths": [1, 2, 1, 1, 1], "latent": 16, "image_px": 32}


def small(**changes):
    torch.manual_seed(0)
    return GeoAwareUNet(**(SMALL | changes))


def millions(*modules):
    return sum(parameter.numel() for module in modules for parameter in module.parameters()) / 1e6


def test_parts_of_44m_are_those_of_the_authors():
    with torch.device("meta"):
        model = build_backbone("geoaware_unet", "44M")
    encoder, decoder = model.encoder, model.decoder
    assert millions(encoder.stem) == pytest.approx(2.10, abs=0.01)
    assert millions(encoder.stages) == pytest.approx(10.69, abs=0.005)
    assert millions(decoder.stages) == pytest.approx(10.69, abs=0.005)
    assert millions(encoder.to_latent) == pytest.approx(8.39, abs=0.005)
    assert millions(decoder.from_latent) == pytest.approx(8.40, abs=0.005)
    assert millions(decoder.ups) == pytest.approx(1.61, abs=0.005)
    assert millions(decoder.last_norm) == pytest.approx(1.05, abs=0.005)
    assert millions(decoder.head) == pytest.approx(0.66, abs=0.005)
    assert count_parameters(model)["norm"] / 1e6 == pytest.approx(24.0, abs=0.05)
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert sum(layer.weight.numel() for layer in convolutions) / 1e6 == pytest.approx(2.83, abs=0.015)


def test_features_and_embedding_have_their_shapes():
    features = small()(torch.randn(2, 10, 32, 32))
    assert features.dense.shape == (2, 10, 32, 32)
    assert features.summary.shape == (2, 16)


def test_hidden_pixels_do_not_leak():
    model = PretrainModel(small())
    x, mask = torch.randn(2, 10, 32, 32), torch.rand(2, 1, 32, 32) < 0.5
    other = torch.where(mask, torch.randn_like(x), x)
    for one, two in zip(tree_leaves(model(x, mask)), tree_leaves(model(other, mask)), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(model(x).reconstruction, model(other).reconstruction)


def test_every_parameter_learns_and_the_loss_falls():
    model = PretrainModel(small())
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    x, losses = torch.randn(4, 10, 32, 32), []
    for _ in range(12):
        reconstruction, targets, _ = model(x)
        loss = (reconstruction - x).square().mean()
        loss = loss + sum((target - 1).square().mean() for target in targets.values())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert losses[-1] < 0.8 * losses[0]


def test_another_size_is_refused_with_what_takes_it():
    for height, width in ((64, 64), (48, 32)):
        with pytest.raises(GeoladderError, match=rf"32 x 32 pixels only.*`unet`.*got {height} x {width}"):
            small()(torch.randn(1, 10, height, width))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_px": 40}, "multiple of 16"),
        ({"dims": [4, 4, 8]}, "5 stages"),
        ({"width": 5}, "the first of them `width`"),
        ({"depths": [1, 1, 0, 1, 1]}, "5 stages"),
    ],
)
def test_arguments_that_do_not_fit(changes, message):
    with pytest.raises(GeoladderError, match=message):
        small(**changes)
