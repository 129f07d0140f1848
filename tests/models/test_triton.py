"""The Triton kernels in Triton's interpreter on a CPU against loops in float64; compiled for cards not at hand."""

import copy
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import test_causal_conv
import test_scan
import test_wavefront
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from geoladder.counting import conv_backward_flops
from geoladder.models import causal_conv, mamba, mamba2d, rs3mamba, scan, wavefront
from geoladder.models.backends import Backend
from geoladder.models.causal_conv import causal_convolution, convolution_op
from geoladder.models.scan import cross_scan, selective_scan
from geoladder.models.scan_op import scan_op
from geoladder.models.wavefront import wavefront_op, wavefront_scan

pytest.importorskip("triton", reason="Triton is in the extra triton-test")

LIMITS = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (2e-2, 2e-2), torch.float64: (1e-12, 1e-12)}
"""Largest error of y, and of gradients, as a share of the largest value."""
NOTHING = 1e-3
"""Share of the largest gradient of all under which a gradient counts as nothing."""


def assert_same(inputs, operation, reference):
    """Values and gradients of an operation against a reference that gets the same inputs in float64."""
    expected = values_and_gradients([tensor.double() for tensor in inputs], reference)
    results = values_and_gradients(inputs, operation)
    floor = NOTHING * max(float(want.abs().max()) for want in expected[1:])
    for number, (got, want) in enumerate(zip(results, expected, strict=True)):
        share = float((got.double() - want).abs().max() / want.abs().max().clamp(min=floor))
        assert got.dtype == inputs[max(0, number - 1)].dtype
        assert share <= LIMITS[inputs[0].dtype][min(number, 1)], f"result {number} is off by {share}"


def values_and_gradients(inputs, operation):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    y = operation(*leaves)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).sin().to(y.dtype)
    gradients = torch.autograd.grad(y, leaves, weights, allow_unused=True)
    pairs = zip(gradients, leaves, strict=True)
    return [
        y.detach(),
        *(torch.zeros_like(leaf) if gradient is None else gradient for gradient, leaf in pairs),
    ]


def soft_scan(u, delta, *rest):
    return test_scan.reference(u, functional.softplus(delta), *rest)


def soft_cells(u, top, left, *rest):
    return test_wavefront.cell_by_cell(u, functional.softplus(top), functional.softplus(left), *rest)


by_triton = partial(selective_scan, backend="triton", softplus=True)
cells_by_triton = partial(wavefront_scan, backend="triton", softplus=True)
convolved_by_triton = partial(causal_convolution, backend="triton", silu=True)


def convolved(*inputs):
    return functional.silu(test_causal_conv.by_definition(*inputs))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 1, 1, 1), torch.float32),
        ((2, 33, 9, 3), torch.float32),
        ((1, 3, 18, 20), torch.float32),
        ((2, 5, 9, 4), torch.bfloat16),
        ((1, 2, 3, 2), torch.float64),
    ],
)
def test_scan_equals_the_loop(shape, dtype):
    assert_same([tensor.to(dtype) for tensor in test_scan.example(*shape)], by_triton, soft_scan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_scan_equals_the_loop_of_each_order(dtype):
    *inputs, orders = test_scan.cross_example(1, 3, 1, 3, 2)
    inputs = [tensor.to(dtype) for tensor in inputs]
    operation = partial(cross_scan, orders=orders, backend="triton")
    assert_same(inputs, operation, partial(test_scan.one_by_one, orders=orders))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 1, 1, 1, 1), torch.float32),
        ((2, 33, 2, 3, 3), torch.float32),
        ((1, 2, 18, 1, 2), torch.float32),
        ((1, 3, 2, 2, 4), torch.bfloat16),
    ],
)
def test_wavefront_equals_the_recurrence(shape, dtype):
    inputs = [tensor.to(dtype) for tensor in test_wavefront.example(*shape)]
    assert_same(inputs, cells_by_triton, soft_cells)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 1, 1, 1), torch.float32),
        ((2, 37, 70, 4), torch.float32),
        ((1, 3, 2, 5), torch.float32),
        ((2, 9, 16, 4), torch.bfloat16),
    ],
)
def test_convolution_equals_its_definition(shape, dtype):
    inputs = [tensor.to(dtype) for tensor in test_causal_conv.example(*shape)]
    assert_same(inputs, convolved_by_triton, convolved)


def odd(tensor, dim):
    """The same numbers, every second of twice as many along a dimension."""
    return tensor.repeat_interleave(2, dim).unflatten(dim, (-1, 2)).select(dim + 1, 0)


def test_any_strides():
    u, delta, a, b, c, skip = (tensor.float() for tensor in test_scan.example(2, 3, 4, 2))
    strided = [
        u.mT.contiguous().mT,
        odd(delta, 2),
        a.T.contiguous().T,
        b.flip(1),
        c[:1].expand(2, 2, 4),
        odd(skip, 0),
    ]
    y = selective_scan(*strided, backend="triton")
    want = test_scan.reference(*(tensor.double() for tensor in strided))
    assert torch.allclose(y.double(), want, atol=1e-5)
    x, weight, bias = (tensor.float() for tensor in test_causal_conv.example(2, 5, 6, 4))
    y = convolved_by_triton(odd(x, 2), odd(weight, 0), bias[:1].expand(6))
    want = convolved(*(tensor.double() for tensor in (x, weight, bias[:1].expand(6))))
    assert torch.allclose(y.double(), want, atol=1e-5)


def test_empty_batches_have_empty_results():
    u, delta, a, b, c, skip = (tensor.float() for tensor in test_scan.example(1, 3, 4, 2))
    y, *gradients = values_and_gradients([u[:0], delta[:0], a, b[:0], c[:0], skip], by_triton)
    assert y.shape == gradients[0].shape == (0, 3, 4)
    assert not gradients[2].any()
    x, weight, bias = (tensor.float() for tensor in test_causal_conv.example(1, 5, 6, 4))
    assert values_and_gradients([x[:0], weight, bias], convolved_by_triton)[0].shape == (0, 5, 6)


def test_a_nan_is_seen():
    inputs = [tensor.float() for tensor in test_scan.example(1, 2, 2, 2)]
    inputs[1][0, 0, 0] = float("nan")
    assert by_triton(*inputs).isnan().any()


def test_flops_are_those_of_the_other_backends():
    inputs = [tensor.float().requires_grad_() for tensor in test_scan.example(1, 2, 3, 2)]
    x, weight, bias = (tensor.float().requires_grad_() for tensor in test_causal_conv.example(1, 3, 2, 4))
    counts, formulas = {}, {torch.ops.aten.convolution_backward: conv_backward_flops}
    for backend in ("triton", "numba", "torch"):
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            if backend != "torch":
                selective_scan(*inputs, backend=backend).sum().backward()
            if backend != "numba":
                causal_convolution(x, weight, bias, backend).sum().backward()
        counts[backend] = counter.get_total_flops()
    assert counts["triton"] == counts["numba"] + counts["torch"]


@pytest.fixture
def triton_everywhere(monkeypatch):
    """`auto` picks the Triton kernels."""
    for module in (scan, causal_conv, wavefront):
        monkeypatch.setattr(module, "choose_backend", lambda _: Backend("triton", "a test"))


def steps(mixer, x):
    y = mixer(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(mixer.parameters()))]


MIXERS = {
    "cross": lambda: mamba.Mixer(4, 2, 1, (0, 1, 2, 3)),
    "ss2d": lambda: rs3mamba.SS2D(4, 2, 1),
    "m2d": lambda: mamba2d.M2DMixer(4, 2, 1),
}


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("cross", "ss2d")), "m2d"]
)
def test_mixers_run_by_triton_checkpointed_and_compiled(name, request):
    torch.manual_seed(0)
    mixer, x = MIXERS[name](), torch.randn(1, 1, 3, 4)
    want = steps(mixer, x)
    request.getfixturevalue("triton_everywhere")
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=False)
    for form in (partial(checkpoint, mixer, use_reentrant=False), compiled):
        y = form(x)
        got = [y.detach(), *torch.autograd.grad(y.square().sum(), list(mixer.parameters()))]
        assert all(
            torch.allclose(one, other, atol=1e-5, rtol=1e-4) for one, other in zip(got, want, strict=True)
        )


@pytest.fixture
def group_of_one():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXERS)
def test_mixers_run_by_triton_in_parallel_and_sharded(name, group_of_one, triton_everywhere):
    torch.manual_seed(0)
    mixer, x = MIXERS[name](), torch.randn(1, 1, 3, 4)
    want = steps(mixer, x)
    for spread in (DistributedDataParallel, partial(fully_shard, mesh=group_of_one)):
        twin = spread(copy.deepcopy(mixer))
        for _ in range(2):  # sharded weights are freed after a pass and gathered for the next
            twin.zero_grad()
            y = twin(x)
            y.square().sum().backward()
        gradients = [parameter.grad for parameter in twin.parameters()]
        full = [grad.full_tensor() if isinstance(grad, DTensor) else grad for grad in gradients]
        assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip([y, *full], want, strict=True))


def test_bf16_goes_in_and_out():
    inputs = [tensor.bfloat16() for tensor in test_scan.example(1, 2, 2, 2)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        by_triton(*(tensor.requires_grad_() for tensor in inputs))
    assert {tensor.dtype for tensor in kept[:6]} == {torch.bfloat16}
    assert kept[6].dtype == torch.float32  # the states
    assert kept[6].numel() == 2 * 2  # one for the only chunk


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9),
    st.sampled_from([torch.float32, torch.bfloat16]), st.floats(0.01, 30.0), st.integers(0, 10**6),
)  # fmt: skip
def test_scan_of_any_shape_and_step(batch, channels, length, order, dtype, size, seed):
    inputs = test_scan.example(batch, channels, length, order, seed=seed, size=size)
    assert_same(
        [tensor.to(dtype) for tensor in inputs],
        partial(selective_scan, backend="triton"),
        test_scan.reference,
    )


@pytest.mark.slow
@settings(max_examples=7, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 40), st.integers(1, 18), st.integers(1, 4), st.integers(1, 5),
    st.sampled_from([torch.float32, torch.bfloat16]), st.floats(0.01, 30.0), st.integers(0, 10**6),
)  # fmt: skip
def test_wavefront_of_any_shape_and_step(batch, channels, height, width, order, dtype, size, seed):
    inputs = test_wavefront.example(batch, channels, height, width, order, seed=seed, size=size)
    operation = partial(wavefront_scan, backend="triton")
    assert_same([tensor.to(dtype) for tensor in inputs], operation, test_wavefront.cell_by_cell)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2), st.integers(1, 70), st.integers(1, 70), st.integers(1, 5), st.integers(0, 10**6))
def test_convolution_of_any_shape(batch, length, channels, kernel, seed):
    inputs = [tensor.float() for tensor in test_causal_conv.example(batch, length, channels, kernel, seed)]
    assert_same(inputs, convolved_by_triton, convolved)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scan", "wavefront", "convolution"])
def test_operators_are_registered_soundly(name):
    grids = [
        tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
        for tensor in test_wavefront.example(1, 2, 1, 2, 1)
    ]
    operator, inputs, rest = {
        "scan": (scan_op, test_scan.operands(test_scan.example(1, 2, 2, 1)), (None, True, "triton")),
        "wavefront": (wavefront_op, [grid.float().contiguous() for grid in grids], (True,)),
        "convolution": (
            convolution_op, [tensor.float() for tensor in test_causal_conv.example(1, 2, 2, 3)], (True,),
        ),
    }[name]  # fmt: skip
    torch.library.opcheck(operator, [*(tensor.requires_grad_() for tensor in inputs), *rest])


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_cards_that_are_not_here(capability):
    """Triton brings its own assembler, so what only the compiler refuses is seen without a GPU."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_triton.py")
    done = subprocess.run(
        [sys.executable, script, str(capability)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["scan", "scan", "cross", "cross", *["wavefront"] * 2, *["convolution"] * 2]


def test_a_card_whose_kernels_fail_gets_the_torch_form(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(
        wavefront, "_try_out", lambda _: (_ for _ in ()).throw(RuntimeError("no ptxas\nfor sm_999"))
    )
    wavefront.chosen.cache_clear()
    assert (
        str(wavefront.choose_backend("cuda")) == "torch (a GPU; triton does not work: RuntimeError: no ptxas)"
    )
    wavefront.chosen.cache_clear()
    assert len(caplog.records) == 1
