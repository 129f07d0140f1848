"""The selective scan on a CPU: two numba kernels and the torch operator `geoladder::selective_scan` around them.

Unusual: time is the outer loop and channels the inner one, so that a block of neighbouring channels fills the vector
units while each recurrence stays sequential. Inner loops run over a constant number of channels, padded by zeros:
loops of unknown length cost twice as much. The forward pass keeps one state in `CHUNK` tokens; the backward pass
recomputes the states of a chunk from it, so memory stays near that of the inputs.

No compiler is needed on the user's machine. Compiled code is cached on disk by numba: beside this file, in the user's
cache folder where that is read-only, or in NUMBA_CACHE_DIR. The kernels run on one thread and hold no lock.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from geoladder.models.exp_cpu import exp

Array = np.ndarray
Kernel = Callable[..., None]

CHUNK = 16
"""Tokens between two kept states, whose states and decays fit the nearest caches."""
BLOCK = 32
"""Channels worked on together; widths that are multiples of it waste nothing."""
FAST = {"reassoc", "contract", "nsz", "arcp"}
"""NaN and infinity keep their meaning, so that a diverged run is seen."""


def _kernel(function: Kernel) -> Kernel:
    return njit(cache=True, fastmath=FAST, nogil=True)(function)


def _part(function: Kernel) -> Kernel:
    """Part of a kernel: copied into it, since only there the compiler knows that the work arrays do not overlap."""
    return njit(inline="always")(function)


@_kernel
def _forward(
    u: Array, delta: Array, a: Array, b: Array, c: Array, skip: Array, y: Array, states: Array
) -> None:
    """Fill `y` and the states before each chunk.

    u, delta, y (B, L, D); a (N, D); b, c (B, L, N); skip (D,); states (B, ceil(L / CHUNK), N, D).
    """
    batch, length, channels = u.shape
    order = a.shape[0]
    h = np.empty((order, BLOCK), u.dtype)
    decay_rate = np.zeros((order, BLOCK), u.dtype)
    step = np.zeros(BLOCK, u.dtype)
    x = np.zeros(BLOCK, u.dtype)
    out = np.empty(BLOCK, u.dtype)
    for start in range(0, channels, BLOCK):
        width = min(BLOCK, channels - start)
        decay_rate[:, :width] = a[:, start : start + width]
        for i in range(batch):
            h[:] = 0
            for t in range(length):
                if t % CHUNK == 0:
                    states[i, t // CHUNK, :, start : start + width] = h[:, :width]
                for d in range(width):
                    step[d] = delta[i, t, start + d]
                    x[d] = step[d] * u[i, t, start + d]
                out[:] = 0
                for n in range(order):
                    b_n, c_n = b[i, t, n], c[i, t, n]
                    for d in range(BLOCK):
                        h[n, d] = exp(step[d] * decay_rate[n, d]) * h[n, d] + x[d] * b_n
                        out[d] += h[n, d] * c_n
                for d in range(width):
                    y[i, t, start + d] = out[d] + u[i, t, start + d] * skip[start + d]


@_part
def _recompute(
    step: Array, x: Array, gy: Array, a: Array, b: Array, h: Array, decay: Array, gc: Array, size: int
) -> None:
    """States h[1:] and decays of one chunk from h[0]; adds this block's share of the gradient of C to `gc`.

    step, x, gy (CHUNK, BLOCK); a (N, BLOCK); b, gc (size, N); h (CHUNK + 1, N, BLOCK); decay (CHUNK, N, BLOCK).
    """
    for t in range(size):
        for n in range(a.shape[0]):
            b_n = b[t, n]
            for d in range(BLOCK):
                decay[t, n, d] = exp(step[t, d] * a[n, d])
            total = h.dtype.type(0)
            for d in range(BLOCK):
                after = decay[t, n, d] * h[t, n, d] + x[t, d] * b_n
                h[t + 1, n, d] = after
                total += gy[t, d] * after
            gc[t, n] += total


@_part
def _reverse(
    t: int, step: Array, x: Array, gy: Array, a: Array, b: Array, c: Array, h: Array, decay: Array,
    carry: Array, ga: Array, gb: Array, through_x: Array, through_step: Array,
) -> None:  # fmt: skip
    """One token backwards: the gradient of its state moves from `carry` to the token before.

    `through_x` and `through_step` (BLOCK,) receive the gradients of delta * u and of delta by way of the decay.
    """
    through_x[:] = 0
    through_step[:] = 0
    for n in range(a.shape[0]):
        b_n, c_n = b[t, n], c[t, n]
        total = h.dtype.type(0)
        for d in range(BLOCK):
            gh = carry[n, d] + gy[t, d] * c_n
            total += gh * x[t, d]
            through_x[d] += gh * b_n
            carry[n, d] = gh * decay[t, n, d]
        gb[t, n] += total
        for d in range(BLOCK):
            through_decay = carry[n, d] * h[t, n, d]
            through_step[d] += through_decay * a[n, d]
            ga[n, d] += through_decay * step[t, d]


@_kernel
def _backward(
    u: Array, delta: Array, a: Array, b: Array, c: Array, skip: Array, gy: Array, states: Array,
    gu: Array, gdelta: Array, ga: Array, gb: Array, gc: Array, gskip: Array,
) -> None:  # fmt: skip
    """Fill gu and gdelta, add to ga, gb, gc and gskip (given as zeros). Shapes as in `_forward`."""
    batch, length, channels = u.shape
    order = a.shape[0]
    h = np.zeros((CHUNK + 1, order, BLOCK), u.dtype)
    decay = np.zeros((CHUNK, order, BLOCK), u.dtype)
    carry, rate, grate = np.zeros((3, order, BLOCK), u.dtype)
    step, x, grad = np.zeros((3, CHUNK, BLOCK), u.dtype)
    through_x, through_step = np.zeros((2, BLOCK), u.dtype)
    for start in range(0, channels, BLOCK):
        width = min(BLOCK, channels - start)
        stop = start + width
        rate[:, :width] = a[:, start:stop]
        grate[:] = 0
        for padded in (step, x, grad):
            padded[:] = 0
        for i in range(batch):
            carry[:] = 0
            for chunk in range(states.shape[1] - 1, -1, -1):
                first = chunk * CHUNK
                last = min(first + CHUNK, length)
                size = last - first
                h[0, :, :width] = states[i, chunk, :, start:stop]
                step[:size, :width] = delta[i, first:last, start:stop]
                x[:size, :width] = u[i, first:last, start:stop] * delta[i, first:last, start:stop]
                grad[:size, :width] = gy[i, first:last, start:stop]
                b_chunk, c_chunk = b[i, first:last], c[i, first:last]
                gb_chunk, gc_chunk = gb[i, first:last], gc[i, first:last]
                _recompute(step, x, grad, rate, b_chunk, h, decay, gc_chunk, size)
                for t in range(size - 1, -1, -1):
                    _reverse(
                        t, step, x, grad, rate, b_chunk, c_chunk, h, decay,
                        carry, grate, gb_chunk, through_x, through_step,
                    )  # fmt: skip
                    for d in range(width):
                        u_d, gy_d = u[i, first + t, start + d], grad[t, d]
                        gu[i, first + t, start + d] = through_x[d] * step[t, d] + gy_d * skip[start + d]
                        gdelta[i, first + t, start + d] = through_x[d] * u_d + through_step[d]
                        gskip[start + d] += gy_d * u_d
        ga[:, start:stop] += grate[:, :width]


@torch.library.custom_op("geoladder::selective_scan", mutates_args=(), device_types="cpu")
def scan_op(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """Selective scan of contiguous tensors: u, delta (B, L, D); a (N, D); b, c (B, L, N); skip (D,).

    Returns:
        y (B, L, D) and the states before each chunk (B, ceil(L / CHUNK), N, D), kept for the backward pass.
    """
    y, states = torch.empty_like(u), u.new_empty(_states_shape(u, a))
    _forward(*(each.detach().numpy() for each in (u, delta, a, b, c, skip, y, states)))
    return y, states


@torch.library.custom_op("geoladder::selective_scan_backward", mutates_args=(), device_types="cpu")
def scan_backward_op(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, grad: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (u, delta, a, b, c, skip), given that of y."""
    inputs = (u, delta, a, b, c, skip)
    gradients = tuple(torch.zeros_like(each) for each in inputs)
    _backward(*(each.detach().numpy() for each in (*inputs, grad, states, *gradients)))
    return gradients  # type: ignore[return-value]


def _states_shape(u: Tensor, a: Tensor) -> tuple[int, int, int, int]:
    return u.shape[0], -(-u.shape[1] // CHUNK), a.shape[0], u.shape[2]


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(u), u.new_empty(_states_shape(u, a))


@scan_backward_op.register_fake
def _(u, delta, a, b, c, skip, grad, states):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return tuple(torch.empty_like(each) for each in (u, delta, a, b, c, skip))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, _states: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    if grad is None:
        return (None,) * 6
    *inputs, states = ctx.saved_tensors
    return scan_backward_op(*inputs, grad.contiguous(), states)


scan_op.register_autograd(_gradients, setup_context=_save)


@register_flop_formula(torch.ops.geoladder.selective_scan)
def scan_flops(u: Any, delta: Any, a: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of a forward scan: per token, channel and state 9 (as mamba_ssm counts them), plus the skip's 2."""
    batch, length, channels = u
    return batch * length * channels * (9 * a[0] + 2)


@register_flop_formula(torch.ops.geoladder.selective_scan_backward)
def scan_backward_flops(u: Any, delta: Any, a: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of the backward scan: 5 to recompute the state, 15 for the gradients, plus 8 per token and channel."""
    batch, length, channels = u
    return batch * length * channels * (20 * a[0] + 8)
