"""The 2-D scan against the recurrence written out: values, gradients, any shape, any strides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from geoladder.errors import GeoladderError
from geoladder.models.scan import selective_scan
from geoladder.models.wavefront import wavefront_scan

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def example(batch, channels, height, width, order, dtype=torch.float64, seed=0, size=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    image, cell = (batch, channels, height, width), (batch, order, height, width)
    steps = [size * normal(*image).abs() for _ in range(2)]
    rates = [-normal(channels, order).abs() for _ in range(2)]
    return [normal(*image), *steps, *rates, normal(*cell), normal(*cell), normal(channels)]


def cell_by_cell(u, top, left, a_top, a_left, b, c, skip):
    """The recurrence of the module's docstring, as plainly as it can be written."""
    height, width = u.shape[2:]
    h, rows = {}, []
    for i in range(height):
        for j in range(width):
            fresh = u[:, :, i, j, None] * b[:, None, :, i, j]
            parts = []
            if i > 0:
                step = top[:, :, i, j, None]
                parts.append(torch.exp(step * a_top) * h[i - 1, j] + step * fresh)
            if j > 0:
                step = left[:, :, i, j, None]
                parts.append(torch.exp(step * a_left) * h[i, j - 1] + step * fresh)
            h[i, j] = sum(parts) / len(parts) if parts else left[:, :, i, j, None] * fresh
        rows.append(torch.stack([(h[i, j] * c[:, None, :, i, j]).sum(-1) for j in range(width)], -1))
    return torch.stack(rows, 2) + u * skip[:, None, None]


def values_and_gradients(inputs, scan):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    y = scan(*leaves)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y).sin()
    gradients = torch.autograd.grad((y * weights).sum(), leaves, allow_unused=True)
    pairs = zip(gradients, leaves, strict=True)
    return [
        y.detach(),
        *(torch.zeros_like(leaf) if gradient is None else gradient for gradient, leaf in pairs),
    ]


def assert_same(inputs):
    expected = values_and_gradients([tensor.double() for tensor in inputs], cell_by_cell)
    results = values_and_gradients(inputs, wavefront_scan)
    for got, want in zip(results, expected, strict=True):
        assert got.dtype == inputs[0].dtype
        assert (got - want).abs().max() <= TOLERANCE[inputs[0].dtype] * (1 + want.abs().max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1, 1), (2, 33, 8, 8, 8), (2, 70, 19, 3, 3), (1, 32, 1, 13, 16), (1, 5, 19, 1, 2)],
)
def test_equals_the_recurrence(shape, dtype):
    assert_same(example(*shape, dtype=dtype))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 40), st.integers(1, 18), st.integers(1, 9), st.integers(1, 5),
    st.sampled_from([torch.float32, torch.float64]), st.floats(0.01, 30.0),
    st.integers(0, 10**6),
)  # fmt: skip
def test_equals_the_recurrence_for_any_shape_and_step(
    batch, channels, height, width, order, dtype, size, seed
):
    assert_same(example(batch, channels, height, width, order, dtype, seed, size))


def test_gradcheck():
    leaves = [tensor.requires_grad_() for tensor in example(2, 3, 3, 4, 2)]
    assert torch.autograd.gradcheck(wavefront_scan, leaves)


@pytest.mark.parametrize(("height", "width"), [(1, 37), (37, 1)])
def test_one_row_or_column_is_a_selective_scan(height, width):
    u, top, left, a_top, a_left, b, c, skip = example(2, 5, height, width, 4)
    top[..., :1, :] = left[..., :1, :]  # the corner takes the left step
    got = wavefront_scan(u, top, left, a_top, a_left, b, c, skip)
    step, rates = (left, a_left) if height == 1 else (top, a_top)
    want = selective_scan(
        *(tensor.flatten(2) for tensor in (u, step)), rates, b.flatten(2), c.flatten(2), skip
    )
    assert torch.allclose(got.flatten(2), want, atol=1e-12)


def test_transposing_the_grid_exchanges_the_directions():
    u, top, left, a_top, a_left, b, c, skip = example(2, 3, 4, 6, 2)
    top[..., 0, 0] = left[..., 0, 0]
    got = wavefront_scan(u, top, left, a_top, a_left, b, c, skip)
    turned = wavefront_scan(u.mT, left.mT, top.mT, a_left, a_top, b.mT, c.mT, skip)
    assert torch.allclose(turned.mT, got, atol=1e-12)


def test_a_cell_sees_what_is_above_and_to_the_left():
    inputs = example(1, 2, 5, 6, 3)
    before = wavefront_scan(*inputs)
    inputs[0][:, :, 2, 3] += 1
    changed = (wavefront_scan(*inputs) != before).any(1)[0]
    assert changed[2:, 3:].all()
    assert changed.sum() == 3 * 3


def test_states_stay_bounded_without_decay():
    """Without the average the last of 40 x 40 cells would hold 10^22; with it, at most one step's input a cell."""
    ones = torch.ones(1, 1, 40, 40, dtype=torch.float64)
    still = torch.zeros(1, 1, dtype=torch.float64)
    y = wavefront_scan(ones, ones, ones, still, still, ones, ones, still[0])
    steps = torch.arange(1, 41, dtype=torch.float64)
    assert torch.equal(y[0, 0, 0], steps)
    assert y.max() <= 79


def test_any_strides():
    u, top, left, a_top, a_left, b, c, skip = example(2, 6, 5, 4, 4)
    odd = [
        u.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        top.repeat_interleave(2, 1)[:, ::2],
        left.mT.contiguous().mT,
        a_top.T.contiguous().T,
        a_left[:1].expand(6, 4),
        b.flip(1),
        c[:1].expand(2, 4, 5, 4),
        skip[:1].expand(6),
    ]
    assert_same(odd)


@pytest.mark.parametrize("which", range(8))
def test_a_nan_is_seen(which):
    inputs = example(1, 2, 3, 3, 2, torch.float32)
    inputs[which].reshape(-1)[-1] = float("nan")
    assert wavefront_scan(*inputs).isnan().any()


def test_no_gradient_wanted_and_some_wanted():
    inputs = example(2, 3, 5, 4, 2)
    assert not wavefront_scan(*inputs).requires_grad
    inputs[3].requires_grad_()
    wavefront_scan(*inputs).sum().backward()
    assert inputs[3].grad is not None


def test_half_precision_is_computed_in_float32():
    rounded = [tensor.bfloat16() for tensor in example(2, 8, 5, 4, 4, torch.float32)]
    want = wavefront_scan(*(tensor.float() for tensor in rounded)).bfloat16()
    got = wavefront_scan(*rounded)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, want)


def test_meta_tensors_have_shapes_and_flops_both_ways():
    inputs = [tensor.to("meta").requires_grad_() for tensor in example(2, 6, 9, 5, 4)]
    with FlopCounterMode(display=False) as counter:
        y = wavefront_scan(*inputs)
        forward = counter.get_total_flops()
        y.sum().backward()
    assert y.shape == (2, 6, 9, 5)
    assert forward == 2 * 6 * 9 * 5 * (13 * 4 + 6)
    assert counter.get_total_flops() - forward == 2 * 6 * 9 * 5 * (30 * 4 + 18)
    assert all(tensor.grad.shape == tensor.shape for tensor in inputs)


def test_bad_input_is_named():
    inputs = example(2, 3, 4, 5, 2)
    with pytest.raises(GeoladderError, match=r"\(2, 2, 4, 3\)"):
        wavefront_scan(*inputs[:5], inputs[5][..., :3], *inputs[6:])
    empty = [tensor[..., :0] if tensor.ndim == 4 else tensor for tensor in inputs]
    with pytest.raises(GeoladderError, match="H and W at least 1"):
        wavefront_scan(*empty)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equals_the_recurrence_on_a_gpu():
    inputs = example(2, 33, 7, 9, 4)
    want = values_and_gradients(inputs, cell_by_cell)
    results = values_and_gradients([tensor.cuda() for tensor in inputs], wavefront_scan)
    assert all((got.cpu() - expected).abs().max() < 1e-9 for got, expected in zip(results, want, strict=True))
