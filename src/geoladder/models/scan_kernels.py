"""The numba kernels of the selective scan on a CPU: forward, and backward from one kept state in CHUNK tokens.

A block of BLOCK neighbouring channels is scanned along a chunk of tokens, one state after the other. What belongs to
a chunk and block is copied to small tiles (CHUNK, BLOCK) made in the kernel, the last block padded by zeros: the
compiler turns a loop over a constant number of channels into vector instructions where it knows that arrays do not
overlap (rows of states are half as fast where they are cut from one array). The backward pass recomputes the states
of a chunk and reverses them while they are in the nearest cache.

Sizes: batch B, tokens L, channels D, states N. All arrays are C-contiguous and of one dtype, float32 or float64. No
sum crosses items of the batch, and sums over channels have a fixed order, so results are the same however items are
shared out.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from geoladder.models.backends import CHUNK
from geoladder.runs.compiled import njit

Array = np.ndarray

BLOCK = 16
"""Channels worked on together: one register of float32 with AVX-512, two with AVX2."""
LN_2 = math.log(2)

ROUNDER = np.float32(1.5 * 2**23 + 127)
"""Added to a power of 2, it leaves no binary places, and in the lowest bits the exponent as a float32 has it."""
TAYLOR = tuple(np.float32(LN_2**k / math.factorial(k)) for k in reversed(range(8)))
"""Coefficients of the Taylor series of 2**x, the highest first."""
LOWEST, HIGHEST = np.float32(-100), np.float32(127)
"""Powers of 2 are clipped to these: above at the last normal number, below long before the first, since products that
are not normal numbers cost a processor a hundred times as much."""


class Tensors(NamedTuple):
    """Inputs or their gradients: u, delta (B, L, D); b, c (B, L, N).

    Inputs have rates (N, D), those of decay in units of log 2, and skip (D,). Gradients, zeros at first, have rates
    (B, N, D) and skip (B, D) by item.
    """

    u: Array
    delta: Array
    b: Array
    c: Array
    rates: Array
    skip: Array


def exp2(x: float) -> float:
    """2 to the power x; the compiled version computes in the type of `x`, float32 or float64.

    In float32 it is our own, since a call to libm would undo the vectors: the Taylor series on [-1/2, 1/2] times a
    power of 2 made from bits, within 2 units in the last place. NaN passes through, and 2**0 is exactly 1.
    """
    return math.exp2(x)


@overload(exp2, inline="always")
def _compile(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba compares the signatures
    if x == types.float64:
        return lambda x: np.exp2(x)

    def single(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba compares the signatures
        power = LOWEST if x < LOWEST else x  # compared this way round a NaN stays
        power = HIGHEST if power > HIGHEST else power
        rounded = np.float32(power + ROUNDER)
        r = power - (rounded - ROUNDER)
        series = TAYLOR[0]
        for coefficient in TAYLOR[1:]:
            series = series * r + coefficient
        bits = np.int32(rounded.view(np.int32) << 23)
        return series * bits.view(np.float32)

    return single


_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
"""Only products and sums may be contracted: NaN and infinity keep their meaning, so a diverged run is seen."""
_part = njit(inline="always")
"""Part of a kernel, copied into it: only there does the compiler know that its arrays do not overlap."""


@_part
def _add_totals(target: Array, product: Array, item: int, token: int, state: int, size: int) -> None:
    """Add sums over the BLOCK channels, half onto half, to `target` (B, L, N); `product` is overwritten."""
    for t in range(size):
        for d in range(BLOCK // 2):
            product[t, d] += product[t, d + BLOCK // 2]
        for d in range(BLOCK // 4):
            product[t, d] += product[t, d + BLOCK // 4]
        total = (product[t, 0] + product[t, 2]) + (product[t, 1] + product[t, 3])
        target[item, token + t, state] += total


@_kernel
def forward(inputs: Tensors, y: Array, states: Array, item: int, stop: int) -> None:
    """Of the items from `item` to `stop`, fill y (B, L, D) and the states before each chunk (B, chunks, N, D)."""
    u, delta, b, c, rates, skip = inputs
    _, length, channels = u.shape
    order = rates.shape[0]
    step, x, out = np.zeros((3, CHUNK, BLOCK), u.dtype)
    h, rate = np.zeros((order, BLOCK), u.dtype), np.zeros((order, BLOCK), u.dtype)
    skip_block = np.zeros(BLOCK, u.dtype)
    for i in range(item, stop):
        for start in range(0, channels, BLOCK):
            end = min(start + BLOCK, channels)
            width = end - start
            h[:] = 0
            step[:] = 0
            x[:] = 0
            rate[:, :width] = rates[:, start:end]
            skip_block[:width] = skip[start:end]
            for chunk in range(states.shape[1]):
                first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, length)
                size = last - first
                states[i, chunk, :, start:end] = h[:, :width]
                step[:size, :width] = delta[i, first:last, start:end]
                x[:size, :width] = u[i, first:last, start:end]
                for t in range(size):
                    for d in range(BLOCK):
                        out[t, d] = x[t, d] * skip_block[d]
                        x[t, d] *= step[t, d]
                for n in range(order):
                    for t in range(size):
                        b_n, c_n = b[i, first + t, n], c[i, first + t, n]
                        for d in range(BLOCK):
                            h[n, d] = exp2(step[t, d] * rate[n, d]) * h[n, d] + x[t, d] * b_n
                            out[t, d] += h[n, d] * c_n
                y[i, first:last, start:end] = out[:size, :width]


@_part
def _finish(
    inputs: Tensors, gradients: Tensors, step: Array, gout: Array, gx: Array, gstep: Array,
    item: int, token: int, channel: int, size: int, width: int,
) -> None:  # fmt: skip
    """Of a tile, the gradients of u, delta and skip from those of y, delta * u and delta by way of the decay."""
    ln_2 = gx.dtype.type(LN_2)
    for t in range(size):
        for d in range(width):
            u, skip = inputs.u[item, token + t, channel + d], inputs.skip[channel + d]
            gradients.skip[item, channel + d] += gout[t, d] * u
            gradients.delta[item, token + t, channel + d] = gx[t, d] * u + gstep[t, d] * ln_2
            gradients.u[item, token + t, channel + d] = gout[t, d] * skip + gx[t, d] * step[t, d]


@_kernel
def backward(inputs: Tensors, gy: Array, states: Array, gradients: Tensors, item: int, stop: int) -> None:
    """Of the items from `item` to `stop`, fill the gradients, given that of y (B, L, D) and the kept states."""
    u, delta, b, c, rates, _ = inputs
    _, _, gb, gc, grates, _ = gradients
    _, length, channels = u.shape
    order = rates.shape[0]
    step, x, gout, gx, gstep, decay = np.zeros((6, CHUNK, BLOCK), u.dtype)
    h, product = np.zeros((CHUNK + 1, BLOCK), u.dtype), np.zeros((CHUNK, BLOCK), u.dtype)
    rate, carry = np.zeros((order, BLOCK), u.dtype), np.zeros((order, BLOCK), u.dtype)
    grate = np.zeros((order, BLOCK), u.dtype)
    for i in range(item, stop):
        for start in range(0, channels, BLOCK):
            end = min(start + BLOCK, channels)
            width = end - start
            rate[:, :width] = rates[:, start:end]
            grate[:] = 0
            carry[:] = 0
            h[:] = 0
            step[:] = 0
            x[:] = 0
            gout[:] = 0
            for chunk in range(states.shape[1] - 1, -1, -1):
                first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, length)
                size = last - first
                step[:size, :width] = delta[i, first:last, start:end]
                x[:size, :width] = u[i, first:last, start:end]
                gout[:size, :width] = gy[i, first:last, start:end]
                x *= step
                gx[:] = 0
                gstep[:] = 0
                for n in range(order):
                    h[0, :width] = states[i, chunk, n, start:end]
                    for t in range(size):
                        b_n = b[i, first + t, n]
                        for d in range(BLOCK):
                            decay[t, d] = exp2(step[t, d] * rate[n, d])
                            h[t + 1, d] = decay[t, d] * h[t, d] + x[t, d] * b_n
                            product[t, d] = gout[t, d] * h[t + 1, d]
                    _add_totals(gc, product, i, first, n, size)
                    for t in range(size - 1, -1, -1):
                        b_n, c_n = b[i, first + t, n], c[i, first + t, n]
                        for d in range(BLOCK):
                            gh = carry[n, d] + gout[t, d] * c_n
                            product[t, d] = gh * x[t, d]
                            gx[t, d] += gh * b_n
                            gh *= decay[t, d]
                            carry[n, d] = gh
                            through_decay = gh * h[t, d]
                            gstep[t, d] += through_decay * rate[n, d]
                            grate[n, d] += through_decay * step[t, d]
                    _add_totals(gb, product, i, first, n, size)
                _finish(inputs, gradients, step, gout, gx, gstep, i, first, start, size, width)
            grates[i, :, start:end] = grate[:, :width]
