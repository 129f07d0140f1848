"""RS3Mamba: sizes by part as counted on the authors' class, its blocks, and what it does with images and masks."""

import pytest
import torch
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from geoladder.cost.profile import profile
from geoladder.errors import GeoladderError
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.models.resnet import ResNet
from geoladder.models.rs3mamba import ORDERS, SS2D, RS3Mamba
from geoladder.models.unetformer import WINDOW, GlobalLocalAttention

SMALL = {
    "width": 12,
    "depths": [1, 1, 2, 1],
    "resnet": [1, 1, 1, 1],
    "heads": 4,
    "decoder": 64,
    "latent": 12,
    "image_px": 64,
    "d_state": 4,
}


def small(**changes):
    torch.manual_seed(0)
    return RS3Mamba(**(SMALL | changes))


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_parts_of_168m_are_those_of_the_authors():
    with torch.device("meta"):
        model = build_backbone("rs3mamba", "168M")
    assert millions(model.encoder.cnn) == pytest.approx(23.5, abs=0.05)
    assert millions(model.encoder.ssm) == pytest.approx(22.1, abs=0.07)
    assert millions(model.encoder.fusions) == pytest.approx(88.1, abs=0.05)
    assert millions(model.encoder.to_latent) == pytest.approx(33.6, abs=0.05)
    assert millions(model.decoder) == pytest.approx(0.7, abs=0.01)


def test_resnet_50_has_its_maps_and_its_published_parameters():
    with torch.device("meta"):
        resnet = ResNet(3, 64, [3, 4, 6, 3])
        x, maps = resnet.stem(torch.empty(1, 3, 64, 64)), []
        for stage in resnet.stages:
            x = stage(x)
            maps.append(x)
    count = millions(resnet)
    assert [tuple(level.shape[1:]) for level in maps] == [
        (256, 16, 16),
        (512, 8, 8),
        (1024, 4, 4),
        (2048, 2, 2),
    ]
    assert count == pytest.approx(25.557 - 2.049, abs=0.001)  # without its classifier


def test_features_and_embedding_have_their_shapes():
    features = small()(torch.randn(2, 10, 64, 64))
    assert features.dense.shape == (2, 64, 64, 64)
    assert features.summary.shape == (2, 12)


def test_hidden_pixels_do_not_leak():
    model = PretrainModel(small())
    x, mask = torch.randn(2, 10, 64, 64), torch.rand(2, 1, 64, 64) < 0.5
    other = torch.where(mask, torch.randn_like(x), x)
    for one, two in zip(tree_leaves(model(x, mask)), tree_leaves(model(other, mask)), strict=True):
        assert torch.equal(one, two)


def test_every_parameter_learns():
    model = PretrainModel(small())
    torch.autograd.backward([part.square().sum() for part in tree_leaves(model(torch.randn(2, 10, 64, 64)))])
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_ss2d_is_its_recurrence():
    """Against the recurrence written out token by token, in the order of each direction."""
    torch.manual_seed(0)
    mixer, x = SS2D(12, 4, 2), torch.randn(2, 3, 5, 12)
    torch.nn.init.normal_(mixer.A_logs)
    torch.nn.init.normal_(mixer.Ds)
    wide, gate = mixer.in_proj(x).chunk(2, -1)
    grid = functional.silu(mixer.conv(wide.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    by_rows = [(row, column) for row in range(3) for column in range(5)]
    by_columns = [(row, column) for column in range(5) for row in range(3)]
    total = torch.zeros_like(grid)
    for direction, order in enumerate((by_rows, by_columns, by_rows[::-1], by_columns[::-1])):
        state = torch.zeros(2, 24, 4)
        for row, column in order:
            u = grid[:, row, column]
            step, b, c = mixer.x_projs[direction](u).split([mixer.dt_rank, 4, 4], -1)
            delta = functional.softplus(mixer.dt_projs[direction](step))
            decay = torch.exp(-delta[..., None] * mixer.A_logs[direction].exp())
            state = decay * state + (delta * u)[..., None] * b[:, None]
            total[:, row, column] += (state * c[:, None]).sum(-1) + mixer.Ds[direction] * u
    expected = mixer.out_proj(mixer.norm(total) * functional.silu(gate))
    assert torch.allclose(mixer(x), expected, atol=1e-5)


def test_168m_is_within_tolerance_with_and_without_its_scan():
    cost = profile("rs3mamba", "168M")
    assert cost["published"]["misses"] == []
    tokens_of = {96: 1024, 192: 256, 384: 64, 768: 16}
    scan = sum(
        depth * len(ORDERS) * tokens * 2 * dim * (9 * 16 + 2)
        for depth, (dim, tokens) in zip([2, 2, 9, 2], tokens_of.items(), strict=True)
    )
    assert cost["gflops_scan_fwd"] == pytest.approx(scan / 1e9, rel=1e-9)


def test_four_directions_see_the_whole_grid():
    torch.manual_seed(0)
    mixer = SS2D(8, 4, 2)
    x = torch.randn(1, 5, 4, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixer(x)[0, 2, 1].sum(), x)
    assert (gradient.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("side", [WINDOW, 2 * WINDOW, 12, 4])
def test_windows_attend_within_themselves(side):
    """Against attention written out for the first window, zeros where the map ends."""
    torch.manual_seed(0)
    layer = GlobalLocalAttention(8, 8, heads=2)
    x = torch.randn(1, 8, side, side)
    padded = functional.pad(x, (0, -side % WINDOW, 0, -side % WINDOW))
    q, k, v = layer.qkv(padded)[0, :, :WINDOW, :WINDOW].reshape(3, 2, 4, WINDOW**2)
    scores = torch.einsum("hcq,hck->hqk", q, k) / 2 + layer.bias_table[layer.index].permute(2, 0, 1)
    expected = torch.einsum("hqk,hck->hcq", scores.softmax(-1), v).reshape(8, WINDOW, WINDOW)
    assert torch.allclose(layer._attend(padded)[0, :, :WINDOW, :WINDOW], expected, atol=1e-5)
    assert layer(x, x).shape == x.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10}, "width 10"),
        ({"depths": [1, 1]}, "4 depths"),
        ({"decoder": 12}, "decoder 12"),
        ({"image_px": 48}, "image_px 48"),
        ({"image_px": 0}, "image_px 0"),
        ({"image_px": -32}, "image_px -32"),
        ({"width": 0}, "width 0"),
        ({"heads": 5}, "heads 5"),
        ({"d_state": 0}, "d_state 0"),
    ],
)
def test_arguments_that_do_not_fit(changes, message):
    with pytest.raises(GeoladderError, match=message):
        small(**changes)


def test_another_size_is_refused():
    with pytest.raises(GeoladderError, match="64 x 64 pixels only"):
        small()(torch.randn(1, 10, 128, 128))
