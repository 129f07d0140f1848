"""The causal depthwise convolution of Mamba, with its activation, by whichever backend is fastest here.

Backends (`auto` picks the first that works and logs the reason once, see geoladder.models.backends):

- `causal_conv1d`: the fused CUDA kernel of the package causal-conv1d, where it is installed; 2 to 4 taps
- `triton`: our kernels for GPUs (geoladder.models.causal_conv_triton), which need nothing beside torch;
  they are the torch operator `geoladder::causal_convolution`
- `torch`: a convolution of images of one row, whose memory has channels last: on a CPU torch is several
  times quicker at that than at `conv1d`
"""

import math
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from geoladder.errors import GeoladderError
from geoladder.models.backends import (
    Backend,
    FusedKernel,
    check_shapes,
    choose,
    triton_kernels,
    working_dtype,
)

FUSED = FusedKernel("causal convolution", "causal-conv1d", "causal_conv1d:causal_conv1d_fn")
CHANNELS_LAST_MULTIPLE = 8
"""Of this many channels the fused kernel takes tokens as they lie in memory; other numbers it wants transposed."""


def causal_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, backend: str = "auto", silu: bool = False
) -> Tensor:
    """Compute y[t] = bias + sum over k of weight[k] x[t - K + 1 + k], with zeros before the first token.

    Tokens x and y are (B, L, D), filters `weight` (D, 1, K), as those of `nn.Conv1d(D, D, K, groups=D)`,
    and `bias` (D,). With `silu`, y is what that makes of the sum. The module lists the backends.

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot run here.
    """
    check_shapes("causal convolution needs x (B, L, D) and weight (D, 1, K)", "BTD D1K", x, weight)
    name = choose_backend(x.device.type).name if backend == "auto" else backend
    if name not in BACKENDS:
        raise GeoladderError(f"convolution backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")
    return BACKENDS[name](x, weight, bias, silu)


@torch.compiler.assume_constant_result
def choose_backend(device_type: str) -> Backend:
    """Backend for a kind of device (`cpu`, `cuda`, `meta`, ...); the reason is logged once."""
    return chosen(device_type)


@cache
def chosen(device_type: str) -> Backend:
    """As `choose_backend`, which torch.compile does not look into."""
    on_gpu = {"causal_conv1d": FUSED.find, "triton": lambda: _try_out(device_type)}
    return choose("causal convolution", device_type, on_gpu if device_type == "cuda" else {})


def _try_out(device_type: str) -> None:
    """Compile the kernels by both passes over one token."""
    with torch.enable_grad():
        x, weight = (torch.ones(1, 1, size, device=device_type, requires_grad=True) for size in (1, 4))
        torch.autograd.grad(causal_convolution(x, weight, None, "triton").sum(), x)[0].item()


@torch.library.custom_op("geoladder::causal_convolution", mutates_args=())
def convolution_op(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
    """As `causal_convolution`, by Triton."""
    kernels = triton_kernels(_load_triton, x)
    return kernels.forward(*_operands(x, weight, bias), silu)


@torch.library.custom_op("geoladder::causal_convolution_backward", mutates_args=())
def convolution_backward_op(
    x: Tensor, weight: Tensor, bias: Tensor, gy: Tensor, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, given that of y."""
    kernels = triton_kernels(_load_triton, x)
    gx, gweight, gbias = kernels.backward(*_operands(x, weight, bias), gy.contiguous(), silu)
    return gx, gweight.T.unsqueeze(1).contiguous().to(weight.dtype), gbias.to(bias.dtype)


def _load_triton() -> ModuleType:
    from geoladder.models import causal_conv_triton

    return causal_conv_triton


def _operands(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the kernels take them: contiguous; weight (K, D) and bias float32 or float64."""
    working = working_dtype(x)
    taps = weight.detach().squeeze(1).T.to(working).contiguous()
    return x.detach().contiguous(), taps, bias.detach().to(working).contiguous()


@convolution_op.register_fake
def _(x: Tensor, *_: Any) -> Tensor:  # noqa: ANN401
    return x.new_empty(x.shape)


@convolution_backward_op.register_fake
def _(*inputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:3])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    *tensors, ctx.silu = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    return *convolution_backward_op(*ctx.saved_tensors, gy, ctx.silu), None


convolution_op.register_autograd(_gradients, setup_context=_save)


@register_flop_formula(torch.ops.geoladder.causal_convolution)
def _(x: Any, weight: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs as torch counts those of its own convolution: 2 for each tap."""
    return 2 * math.prod(x) * weight[2]


@register_flop_formula(torch.ops.geoladder.causal_convolution_backward)
def _(x: Any, weight: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    return 4 * math.prod(x) * weight[2]


def _triton(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    return convolution_op(x, weight, weight.new_zeros(len(weight)) if bias is None else bias, silu)


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    padded = functional.pad(x, (0, 0, weight.shape[2] - 1, 0))
    rows = padded.transpose(1, 2).unsqueeze(2)  # (B, D, 1, L + K - 1), channels last in memory
    y = functional.conv2d(rows, weight.unsqueeze(2), bias, groups=weight.shape[0])
    y = y.squeeze(2).transpose(1, 2)
    return functional.silu(y) if silu else y


def _fused(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    wide = x.shape[2] % CHANNELS_LAST_MULTIPLE == 0
    channels_first = x.contiguous().mT if wide else x.mT.contiguous()  # (B, D, L)
    return FUSED(channels_first, weight.squeeze(1), bias, activation="silu" if silu else None).mT


BACKENDS = {"causal_conv1d": _fused, "triton": _triton, "torch": _torch}
