"""The mixer against mamba_ssm's layout, and the orders in which a grid is read."""

import pytest
import torch

from geoladder.models.mamba import SWEEPS, Mixer, rows_forward
from geoladder.models.upernet import tap_blocks
from geoladder.models.vit import position_code


def test_parameters_are_named_and_shaped_as_in_mamba_ssm():
    shapes = {name: tuple(p.shape) for name, p in Mixer(48, 16, 2, rows_forward).state_dict().items()}
    assert shapes == {
        "A_log": (96, 16), "D": (96,), "in_proj.weight": (192, 48), "conv1d.weight": (96, 1, 4), "conv1d.bias": (96,),
        "x_proj.weight": (35, 96), "dt_proj.weight": (96, 3), "dt_proj.bias": (96,), "out_proj.weight": (48, 96),
    }  # fmt: skip


def test_mixer_equals_mamba_written_out():
    """The algorithm of arXiv 2312.00752 token by token, in float64, on one row of tokens."""
    torch.manual_seed(0)
    mixer = Mixer(8, 4, 2, rows_forward).double()
    mixer.init_steps()
    x = torch.randn(2, 1, 11, 8, dtype=torch.float64)
    inputs, gate = mixer.in_proj(x[:, 0]).chunk(2, -1)
    u = torch.nn.functional.silu(mixer.conv1d(inputs.mT)[..., :11]).mT
    step, b, c = mixer.x_proj(u).split([mixer.dt_rank, 4, 4], -1)
    delta = torch.nn.functional.softplus(mixer.dt_proj(step))
    h, outputs = torch.zeros(2, 16, 4, dtype=torch.float64), []
    for t in range(11):
        decay = torch.exp(-delta[:, t, :, None] * mixer.A_log.exp())
        h = decay * h + delta[:, t, :, None] * b[:, t, None] * u[:, t, :, None]
        outputs.append((h * c[:, t, None]).sum(-1) + mixer.D * u[:, t])
    want = mixer.out_proj(torch.stack(outputs, 1) * torch.nn.functional.silu(gate))
    assert torch.allclose(mixer(x)[:, 0], want, atol=1e-6)


def test_initial_steps_are_in_range():
    mixer = Mixer(16, 4, 2, rows_forward)
    mixer.init_steps()
    steps = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert steps.min() >= 0.00099
    assert steps.max() <= 0.101


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_reads_every_token_once(sweep):
    for order in sweep(3, 4):
        assert sorted(order) == list(range(12))


def test_four_blocks_look_in_four_directions():
    first_read = [sweep(2, 3)[0][:2] for sweep in SWEEPS]
    assert first_read == [[0, 1], [5, 4], [0, 3], [5, 2]]


def test_a_sweep_sees_only_what_it_read_before():
    for sweep in SWEEPS:
        torch.manual_seed(0)
        mixer = Mixer(8, 2, 1, sweep)
        x = torch.randn(1, 3, 4, 8)
        other = x.clone()
        order = sweep(3, 4)[0]
        other.view(1, 12, 8)[:, order[6]] += 1
        changed = (mixer(x) != mixer(other)).any(-1).flatten()
        assert not changed[order[:6]].any()
        assert changed[order[6:]].all()


def test_several_orders_are_summed():
    both = Mixer(8, 2, 1, lambda r, c: [*SWEEPS[0](r, c), *SWEEPS[1](r, c)])
    x = torch.randn(1, 3, 4, 8)
    one, two = (Mixer(8, 2, 1, sweep) for sweep in SWEEPS[:2])
    for mixer in (one, two):
        mixer.load_state_dict(both.state_dict())
    assert torch.allclose(both(x), one(x) + two(x), atol=1e-6)


def test_position_code_tells_all_places_apart():
    code = position_code(5, 7, 12)
    assert code.shape == (35, 12)
    distance = torch.cdist(code, code) + torch.eye(35)
    assert distance.min() > 0.05
    assert torch.equal(position_code(5, 9, 12).view(5, 9, 12)[:, :7].reshape(35, 12), code)


def test_taps_are_equally_spaced():
    assert tap_blocks(32) == [7, 15, 23, 31]
    assert tap_blocks(4) == [0, 1, 2, 3]
