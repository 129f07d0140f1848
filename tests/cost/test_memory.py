"""Kept activations against what autograd keeps in a real run, and what fits on a card."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

from geoladder.cost.rung_cost import HEADROOM, RungCost
from geoladder.counting import activation_bytes
from geoladder.models.backends import CHUNK
from geoladder.models.build import PretrainModel, build_backbone
from geoladder.models.scan import cross_scan, selective_scan
from geoladder.models.wavefront import wavefront_scan


def really_kept(model, px, batch):
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.zeros(batch, 10, px, px))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("architecture", ["unet", "vit_upernet", "mamba_upernet"])
def test_as_much_as_a_real_run_keeps(architecture):
    model = PretrainModel(build_backbone(architecture, "s"))
    assert 4 * activation_bytes(model, 32) == pytest.approx(really_kept(model, 32, 4), rel=0.05)


def test_a_chain_of_layers_keeps_their_inputs():
    chain = nn.Sequential(nn.Conv2d(10, 6, 1), nn.Sigmoid(), nn.Conv2d(6, 2, 1))
    assert activation_bytes(chain, 8) == 4 * 64 * (10 + 6)
    assert activation_bytes(chain, 8, dtype=torch.bfloat16) == 2 * 64 * (10 + 6)


def test_attention_counts_as_a_fused_kernel_keeps_it():
    model = PretrainModel(build_backbone("vit_upernet", "m"))
    assert activation_bytes(model, 128) < 4.2 * activation_bytes(model, 64)
    with sdpa_kernel(SDPBackend.MATH):
        assert really_kept(model, 128, 1) > 1.5 * activation_bytes(model, 128)


def test_largest_batch_fits_and_twice_it_does_not():
    cost = RungCost(100_000_000, 0.0, 0.0, 300_000_000)
    for shards in (1, 8):
        batch = cost.largest_batch(40e9, shards)
        assert cost.step_bytes(batch, shards) <= HEADROOM * 40e9
        assert cost.step_bytes(2 * batch, shards) > HEADROOM * 40e9


def test_a_model_too_large_for_a_card_unless_it_is_shared():
    assert RungCost(3_000_000_000, 0.0, 0.0, 1).largest_batch(40e9) == 0
    assert RungCost(3_000_000_000, 0.0, 0.0, 10**9).largest_batch(40e9, shards=8) > 0


SCAN_TOKENS, SCAN_CHANNELS, SCAN_STATES = 64, 12, 8


def kept_by(scan, *shapes):
    """Bytes that a scan of float32 tensors keeps on meta for its backward pass."""
    inputs = [torch.empty(shape, device="meta", requires_grad=True) for shape in shapes]
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        y = scan(*inputs)
    states = sum(size for size, _ in kept.values()) - sum(4 * tensor.numel() for tensor in inputs)
    return states, 4 * y.numel()


def test_a_scan_keeps_its_inputs_and_a_state_in_each_chunk():
    """Of the plan's memory: no result of a softplus, no state of every token, no copy in another order."""
    length, d, n = SCAN_TOKENS, SCAN_CHANNELS, SCAN_STATES
    rates = ((d, n), (2, n, length), (2, n, length), (d,))
    of_selective, y = kept_by(lambda *x: selective_scan(*x, softplus=True), *[(2, d, length)] * 2, *rates)
    assert of_selective == 4 * 2 * length // CHUNK * n * d  # in each of the chunks of a sequence
    assert of_selective < y
    orders = torch.empty(4, length, dtype=torch.int32, device="meta")
    grouped = ((4, 2, length, d), (4, d, n), (4, 2, length, n), (4, 2, length, n), (4, d))
    of_cross, _ = kept_by(lambda *x: cross_scan(*x, orders), (2, length, d), *grouped)
    assert of_cross == 4 * of_selective + 4 * orders.numel()
    side = 32
    grid, states = (2, d, side, side), (2, n, side, side)
    inputs = (grid, grid, grid, (d, n), (d, n), states, states, (d,))
    of_wavefront, _ = kept_by(lambda *x: wavefront_scan(*x, softplus=True), *inputs)
    assert (
        of_wavefront == 4 * 2 * (side // CHUNK - 1) * side * n * d
    )  # in every 16th row of a grid, but the first
