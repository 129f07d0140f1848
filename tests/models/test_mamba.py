"""The mixer against mamba_ssm's layout, and the orders in which a grid is read."""

import pytest
import torch

from geoladder.errors import GeoladderError
from geoladder.models.backbone import start_steps
from geoladder.models.mamba import SWEEPS, MambaUPerNet, Mixer
from geoladder.models.scan import reading_orders
from geoladder.models.tokens import position_code, tap_blocks

MAMBA_SSM = {
    "A_log": (96, 16), "D": (96,), "in_proj.weight": (192, 48), "conv1d.weight": (96, 1, 4), "conv1d.bias": (96,),
    "x_proj.weight": (35, 96), "dt_proj.weight": (96, 3), "dt_proj.bias": (96,), "out_proj.weight": (48, 96),
}  # fmt: skip
"""State dict of mamba_ssm.Mamba(48) (version 2.2, d_state 16, d_conv 4, expand 2, dt_rank 48 / 16)."""


class MambaSsm(torch.nn.Module):
    """Stand-in with the parameters of the public package, which needs a CUDA compiler to install."""

    def __init__(self):
        super().__init__()
        for name, shape in MAMBA_SSM.items():
            *parents, leaf = name.split(".")
            for parent in parents:
                if not hasattr(self, parent):
                    self.add_module(parent, torch.nn.Module())
            owner = self.get_submodule(".".join(parents))
            owner.register_parameter(leaf, torch.nn.Parameter(torch.randn(shape)))


def test_weights_go_to_mamba_ssm_and_back():
    package, ours = MambaSsm(), Mixer(48, 16, 2, (0,))
    theirs = {name: parameter.clone() for name, parameter in package.state_dict().items()}
    ours.load_state_dict(theirs, strict=True)
    for parameter in package.parameters():
        torch.nn.init.zeros_(parameter)
    package.load_state_dict(ours.state_dict(), strict=True)
    assert theirs.keys() == MAMBA_SSM.keys()
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in package.state_dict().items())


def test_mixer_equals_mamba_written_out():
    """The algorithm of arXiv 2312.00752 token by token, in float64, on one row of tokens."""
    torch.manual_seed(0)
    mixer = Mixer(8, 4, 2, (0,)).double()
    start_steps(mixer.dt_proj)
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
    mixer = Mixer(16, 4, 2, (0,))
    start_steps(mixer.dt_proj)
    steps = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert steps.min() >= 0.00099
    assert steps.max() <= 0.101


@pytest.mark.parametrize("order", range(4))
def test_an_order_reads_every_token_once(order):
    assert sorted(reading_orders(3, 4)[order]) == list(range(12))


def test_four_blocks_look_in_four_directions():
    first_read = [reading_orders(2, 3)[order][:2] for (order,) in SWEEPS["alternate"]]
    assert first_read == [[0, 1], [5, 4], [0, 3], [5, 2]]


def test_a_sweep_sees_only_what_it_read_before():
    for number, order in enumerate(reading_orders(3, 4)):
        torch.manual_seed(0)
        mixer = Mixer(8, 2, 1, (number,))
        x = torch.randn(1, 3, 4, 8)
        other = x.clone()
        other.view(1, 12, 8)[:, order[6]] += 1
        changed = (mixer(x) != mixer(other)).any(-1).flatten()
        assert not changed[order[:6]].any()
        assert changed[order[6:]].all()


def test_several_orders_are_summed():
    both = Mixer(8, 2, 1, (0, 1))
    x = torch.randn(1, 3, 4, 8)
    one, two = (Mixer(8, 2, 1, (order,)) for order in (0, 1))
    for mixer in (one, two):
        mixer.load_state_dict(both.state_dict())
    assert torch.allclose(both(x), one(x) + two(x), atol=1e-6)


@pytest.mark.parametrize("sweep", ["bidirectional", "cross"])
def test_a_sweep_of_several_orders_sees_everything(sweep):
    torch.manual_seed(0)
    mixer = Mixer(8, 2, 1, *SWEEPS[sweep])
    x = torch.randn(1, 3, 4, 8)
    other = x.clone()
    other[:, 1, 2] += 1
    assert (mixer(x) != mixer(other)).any(-1).all()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_blocks_take_turns_in_the_chosen_sweeps(sweep):
    torch.manual_seed(0)
    model = MambaUPerNet(8, 4, 4, decoder=8, stem=4, d_state=2, expand=1, sweep=sweep)
    assert [block.mixer.sweep for block in model.encoder.blocks] == [*SWEEPS[sweep] * 4][:4]
    features = model(torch.randn(1, 10, 16, 24))
    assert features.dense.shape == (1, 8, 16, 24)
    assert features.dense.isfinite().all()


def test_sweeps_differ_in_what_they_compute_and_not_in_their_weights():
    def model(**sweep):
        torch.manual_seed(0)
        return MambaUPerNet(8, 4, 4, decoder=8, stem=4, d_state=2, expand=1, **sweep)

    x = torch.randn(1, 10, 16, 16)
    default, alternate = model(), model(sweep="alternate")
    assert torch.equal(default(x).dense, alternate(x).dense)
    for sweep in ("bidirectional", "cross"):
        other = model(sweep=sweep)
        assert all(
            torch.equal(one, two) for one, two in zip(default.parameters(), other.parameters(), strict=True)
        )
        assert not torch.equal(default(x).dense, other(x).dense)


def test_unknown_sweep_is_named():
    with pytest.raises(GeoladderError, match="alternate, bidirectional, cross; got 'spiral'"):
        MambaUPerNet(8, 4, 4, decoder=8, stem=4, d_state=2, expand=1, sweep="spiral")


def test_position_code_tells_all_places_apart():
    code = position_code(5, 7, 12, temperature=10)
    assert code.shape == (5, 7, 12)
    places = torch.from_numpy(code).flatten(0, 1)
    distance = torch.cdist(places, places) + torch.eye(35)
    assert distance.min() > 0.05
    assert (position_code(5, 9, 12, temperature=10)[:, :7] == code).all()


def test_taps_are_equally_spaced():
    assert tap_blocks(32) == [7, 15, 23, 31]
    assert tap_blocks(4) == [0, 1, 2, 3]
