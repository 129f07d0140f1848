"""The operator `geoladder::wavefront_scan`: the CPU kernels with gradients, shapes on `meta`, and FLOPs.

Unusual: its FLOPs are counted by a formula here, since no counter looks into a scan.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from geoladder.models.wavefront_cpu import ROWS, backward, forward


@torch.library.custom_op("geoladder::wavefront_scan", mutates_args=(), device_types="cpu")
def wavefront_op(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> tuple[Tensor, Tensor]:
    """Scan contiguous tensors: u and the steps (B, H, W, D); a_top, a_left (N, D); b, c (B, H, W, N); skip (D,).

    Returns:
        y (B, H, W, D), and the kept states (B, ceil(H / ROWS) - 1, W, N, D) for the backward pass.
    """
    y, states = torch.empty_like(u), u.new_empty(_states_shape(u, a_top))
    inputs = (u, top, left, a_top, a_left, b, c, skip)
    forward(*(each.detach().numpy() for each in (*inputs, y, states)))
    return y, states


@torch.library.custom_op("geoladder::wavefront_scan_backward", mutates_args=(), device_types="cpu")
def wavefront_backward_op(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    grad: Tensor, states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the eight inputs, given that of y."""
    inputs = (u, top, left, a_top, a_left, b, c, skip)
    gradients = tuple(torch.zeros_like(each) for each in inputs)
    backward(*(each.detach().numpy() for each in (*inputs, grad, states, *gradients)))
    return gradients  # type: ignore[return-value]


def _states_shape(u: Tensor, a: Tensor) -> tuple[int, int, int, int, int]:
    batch, height, columns, channels = u.shape
    return batch, (height - 1) // ROWS, columns, a.shape[0], channels


@wavefront_op.register_fake
def _(u, top, left, a_top, a_left, b, c, skip):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return torch.empty_like(u), u.new_empty(_states_shape(u, a_top))


@wavefront_backward_op.register_fake
def _(u, top, left, a_top, a_left, b, c, skip, grad, states):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return tuple(torch.empty_like(each) for each in (u, top, left, a_top, a_left, b, c, skip))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, _states: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    if grad is None:
        return (None,) * 8
    *inputs, states = ctx.saved_tensors
    return wavefront_backward_op(*inputs, grad.contiguous(), states)


wavefront_op.register_autograd(_gradients, setup_context=_save)


@register_flop_formula(torch.ops.geoladder.wavefront_scan)
def wavefront_flops(u: Any, top: Any, left: Any, a_top: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of a forward scan: per cell, channel and state 13; per cell and channel 6.

    13 is the 9 of a selective scan and the second neighbour's step times rate, exponential, product and sum.
    """
    batch, height, columns, channels = u
    return batch * height * columns * channels * (13 * a_top[0] + 6)


@register_flop_formula(torch.ops.geoladder.wavefront_scan_backward)
def wavefront_backward_flops(u: Any, top: Any, left: Any, a_top: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of the backward scan: 9 to recompute a state, 21 for the gradients, plus 18 per cell and channel."""
    batch, height, columns, channels = u
    return batch * height * columns * channels * (30 * a_top[0] + 18)
