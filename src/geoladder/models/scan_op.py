"""The selective scan as a torch operator, `geoladder::selective_scan`, whichever kernels run it.

One operator for the numba kernels of a CPU and the Triton kernels of a GPU, so that shapes, FLOPs and what
autograd keeps are said once: the inputs as they came, half precision too, and a state in CHUNK tokens, from
which the backward pass recomputes all others. The softplus of step sizes is part of it, so its result is
not kept. Autograd, torch.compile, FSDP and activation checkpointing see one operator and never look into
it. On `meta`, where models are counted, it has shapes and FLOPs alone.

Several scans of the same tokens, each with parameters and a reading order of its own, are one call:
`groups`. Sizes: batch B, groups G, tokens L, channels D, states N.
"""

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from geoladder.models.backends import CHUNK, triton_kernels, working_dtype
from geoladder.models.scan_gradient import LOG2_E, register_gradient


@torch.library.custom_op("geoladder::selective_scan", mutates_args=())
def scan_op(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, places: Tensor | None,
    softplus: bool, kernels: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Selective scan of u (B, L, D), summed over groups.

    By group are delta (G, B, L, D), a (G, D, N), b and c (G, B, L, N), skip (G, D).

    Any strides, though only contiguous tensors are not copied; half precision is computed in float32.
    `places` (G, L) int32 are the tokens in the order in which each group reads them, None reads as they
    lie. With `softplus`, delta is given before it. `kernels` are `numba` or `triton`.

    Returns:
        y (B, L, D) of the dtype of u, and the states before each chunk of tokens (G, B, chunks, N, D),
        float32 or float64, kept for the backward pass.
    """
    y, states = _module(kernels, u).forward(*_inputs(u, delta, a, b, c, skip), places, softplus)
    return y.sum(0).to(u.dtype) if len(y) > 1 else y[0].to(u.dtype), states


@torch.library.custom_op("geoladder::selective_scan_backward", mutates_args=())
def scan_backward_op(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, places: Tensor | None,
    gy: Tensor, states: Tensor, softplus: bool, kernels: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of (u, delta, a, b, c, skip), given that of y and the kept states."""
    inputs = _inputs(u, delta, a, b, c, skip)
    module = _module(kernels, u)
    gu, gdelta, grates, *rest = module.backward(*inputs, places, gy.contiguous(), states, softplus)
    gradients = (gu.sum(0) if len(gu) > 1 else gu[0], gdelta, grates.mT.contiguous(), *rest)
    gu, gdelta, ga, gb, gc, gskip = (
        gradient.to(tensor.dtype)
        for gradient, tensor in zip(gradients, (u, delta, a, b, c, skip), strict=True)
    )
    return gu, gdelta, ga, gb, gc, gskip


def _load_triton() -> ModuleType:
    from geoladder.models import scan_triton

    return scan_triton


def _module(kernels: str, u: Tensor) -> ModuleType:
    """The kernels; imported when they are wanted, since numba serves no GPU and Triton no CPU."""
    if kernels == "triton":
        return triton_kernels(_load_triton, u)
    from geoladder.models import scan_numba

    return scan_numba


def _inputs(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> tuple[Tensor, ...]:
    """As the kernels take them: contiguous; rates (G, N, D) in units of log 2 and skip float32 or float64."""
    working = working_dtype(u)
    rates = a.to(working).mT * LOG2_E
    return tuple(tensor.detach().contiguous() for tensor in (u, delta, rates, b, c, skip.to(working)))


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, a: Tensor, *_: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    groups, batch, length, channels = delta.shape
    working = working_dtype(u)
    states = u.new_empty(groups, batch, -(-length // CHUNK), a.shape[2], channels, dtype=working)
    return u.new_empty(u.shape), states


register_gradient(scan_op, scan_backward_op, tensors=7, differentiable=6)


@register_flop_formula(torch.ops.geoladder.selective_scan)
def scan_flops(_u: Any, delta: Any, a: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of a forward scan: per token, channel and state 9 (as mamba_ssm counts them), plus the skip's 2."""
    return math.prod(delta) * (9 * a[2] + 2)


@register_flop_formula(torch.ops.geoladder.selective_scan_backward)
def scan_backward_flops(_u: Any, delta: Any, a: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of the backward scan: 5 to recompute the state, 15 for the gradients, plus 8 per token and channel."""
    return math.prod(delta) * (20 * a[2] + 8)
