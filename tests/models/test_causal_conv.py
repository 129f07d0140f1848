"""The causal convolution against a loop over its definition, and the fused kernel's call against a stand-in."""

import logging
import subprocess
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models import causal_conv
from geoladder.models.causal_conv import causal_convolution, choose_backend, chosen


def example(batch, length, channels, kernel, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, length, channels), (channels, 1, kernel), (channels,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def by_definition(x, weight, bias):
    y = torch.zeros_like(x) + (0 if bias is None else bias)
    last = weight.shape[2] - 1
    for t in range(x.shape[1]):
        for k in range(weight.shape[2]):
            if t - last + k >= 0:
                y[:, t] += weight[:, 0, k] * x[:, t - last + k]
    return y


def gradients(function, inputs):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    y = function(*leaves)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y).sin()
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_equals_its_definition(batch, length, channels, kernel, seed):
    x, weight, bias = example(batch, length, channels, kernel, seed)
    assert torch.allclose(causal_convolution(x, weight, bias), by_definition(x, weight, bias))
    assert torch.allclose(causal_convolution(x, weight, None), by_definition(x, weight, None))
    activated = causal_convolution(x, weight, bias, silu=True)
    assert torch.allclose(activated, functional.silu(by_definition(x, weight, bias)))


def test_no_token_hears_of_a_later_one():
    x, weight, bias = example(2, 7, 3, 4)
    changed = x.clone()
    changed[:, 4:] += 1
    before, after = (causal_convolution(tokens, weight, bias) for tokens in (x, changed))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.isclose(before[:, 4:], after[:, 4:]).any()


@pytest.fixture
def package(monkeypatch):
    """A stand-in for causal-conv1d that computes by torch and notes what it was given."""
    calls = []

    def causal_conv1d_fn(x, weight, bias=None, activation=None):
        calls.append((x.shape, x.stride(), weight.shape))
        assert weight.ndim == 2
        padded = functional.pad(x, (weight.shape[1] - 1, 0))
        y = functional.conv1d(padded, weight[:, None], bias, groups=len(weight))
        return functional.silu(y) if activation == "silu" else y

    module = types.ModuleType("causal_conv1d")
    module.causal_conv1d_fn = causal_conv1d_fn
    monkeypatch.setitem(sys.modules, "causal_conv1d", module)
    return calls


@pytest.mark.parametrize(
    ("channels", "stride"),
    [(16, (80, 1, 16)), (6, (30, 5, 1))],
    ids=["channels last where the kernel takes it", "tokens last for other widths"],
)
def test_fused_kernel_gets_its_layout_and_gives_the_same(package, channels, stride):
    inputs = example(2, 5, channels, 4)
    fused = gradients(lambda *tensors: causal_convolution(*tensors, backend="causal_conv1d"), inputs)
    plain = gradients(lambda *tensors: causal_convolution(*tensors, backend="torch"), inputs)
    assert package == [((2, channels, 5), stride, (channels, 4))]
    assert all(torch.allclose(one, other) for one, other in zip(fused, plain, strict=True))


def test_fused_kernel_gets_its_layout_from_a_slice(package):
    x, weight, bias = example(2, 5, 32, 4)
    got = causal_convolution(x[..., :16], weight[:16], bias[:16], backend="causal_conv1d")
    assert package == [((2, 16, 5), (80, 1, 16), (16, 4))]
    assert torch.allclose(got, by_definition(x[..., :16], weight[:16], bias[:16]))


@pytest.fixture
def fresh_choice():
    chosen.cache_clear()
    yield
    chosen.cache_clear()


@pytest.mark.usefixtures("fresh_choice", "package")
def test_choice_is_logged_once_with_its_reason(caplog):
    caplog.set_level(logging.INFO)
    devices = ("cpu", "cpu", "cuda")
    assert [choose_backend(device).name for device in devices] == ["torch", "torch", "causal_conv1d"]
    assert [record.getMessage() for record in caplog.records] == [
        "causal convolution by torch (tensors are on cpu)",
        "causal convolution by causal_conv1d (a GPU)",
    ]


@pytest.mark.usefixtures("fresh_choice")
@pytest.mark.parametrize("package", [None, types.ModuleType("causal_conv1d")], ids=["absent", "broken"])
def test_triton_and_then_torch_take_the_place_of_the_package(caplog, monkeypatch, package):
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "causal_conv1d", package)
    monkeypatch.setattr(causal_conv, "_try_out", lambda _: None)
    assert choose_backend("cuda").name == "triton"
    chosen.cache_clear()

    def cannot_compile(_):
        raise RuntimeError("PassManager::run failed")

    monkeypatch.setattr(causal_conv, "_try_out", cannot_compile)
    assert choose_backend("cuda").name == "torch"
    first, second = (record.getMessage() for record in caplog.records)
    assert ("is not installed" if package is None else "does not work") in first
    assert second == f"{first.removesuffix(')').replace('by triton', 'by torch')}; triton does not work: " + (
        "RuntimeError: PassManager::run failed)"
    )


def test_meta_tensors_have_the_right_shape():
    inputs = [tensor.to("meta") for tensor in example(2, 5, 6, 4)]
    assert causal_convolution(*inputs).shape == (2, 5, 6)


def test_bad_input_is_named(monkeypatch):
    x, weight, bias = example(2, 5, 6, 4)
    with pytest.raises(GeoladderError, match=r"\(2, 6, 5\), \(6, 1, 4\)"):
        causal_convolution(x.mT, weight, bias)
    with pytest.raises(GeoladderError, match="'cudnn' is unknown; use auto, causal_conv1d, triton, torch"):
        causal_convolution(x, weight, bias, backend="cudnn")
    monkeypatch.setitem(sys.modules, "causal_conv1d", None)
    with pytest.raises(GeoladderError, match="install causal-conv1d"):
        causal_convolution(x, weight, bias, backend="causal_conv1d")


def test_models_import_neither_triton_nor_the_fused_packages():
    wanted = "import sys, geoladder.models.mamba, geoladder.models.scan; "
    loaded = "print([name for name in ('causal_conv1d', 'mamba_ssm') if name in sys.modules])"
    # A package that is there but cannot be imported must not matter: None in sys.modules makes an import fail.
    broken = "import sys; sys.modules.update(causal_conv1d=None, mamba_ssm=None, triton=None); "
    shown = subprocess.run(
        [sys.executable, "-c", wanted + loaded], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
    subprocess.run([sys.executable, "-c", broken + wanted], check=True)
