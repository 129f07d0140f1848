"""The two numba kernels of the 2-D wavefront scan on a CPU; geoladder.models.wavefront_op makes an operator of them.

Unusual: there is no wavefront in it. Anti-diagonals are for machines that want many cells at once; here a block of
neighbouring channels fills the vector units instead, and cells are visited row by row, so that the state of the row
above lies in one small buffer and that of the cell to the left in another. Inner loops run over a constant number of
channels, padded by zeros: loops of unknown length cost twice as much. The forward pass keeps the states of one row in
`ROWS`; the backward pass recomputes the rows between from it.

Compiled code is cached on disk by numba, as that of the selective scan. Kernels run on one thread and hold no lock.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from geoladder.models.exp_cpu import exp

Array = np.ndarray
Kernel = Callable[..., Any]

ROWS = 8
"""Rows between two kept ones, whose states and decays fit the second cache on grids of 32 columns and 16 states."""
BLOCK = 32
"""Channels worked on together; widths that are multiples of it waste nothing."""
FAST = {"reassoc", "contract", "nsz", "arcp"}
"""NaN and infinity keep their meaning, so that a diverged run is seen."""


def _kernel(function: Kernel) -> Kernel:
    return njit(cache=True, fastmath=FAST, nogil=True)(function)


def _part(function: Kernel) -> Kernel:
    """Part of a kernel: copied into it, since only there the compiler knows that the work arrays do not overlap."""
    return njit(inline="always")(function)


@_part
def _shares(row: int, column: int, like: Array) -> tuple[float, float]:
    """Weights of the neighbours above and to the left: the mean over those that exist; the corner counts as left."""
    number = like.dtype.type
    if row == 0:
        return number(0), number(1)
    if column == 0:
        return number(1), number(0)
    return number(0.5), number(0.5)


@_kernel
def forward(
    u: Array, top: Array, left: Array, a_top: Array, a_left: Array, b: Array, c: Array, skip: Array,
    y: Array, states: Array,
) -> None:  # fmt: skip
    """Fill `y` and the states of the rows before each chunk of rows but the first.

    u, top, left, y (B, H, W, D); a_top, a_left (N, D); b, c (B, H, W, N); skip (D,);
    states (B, ceil(H / ROWS) - 1, W, N, D).
    """
    batch, height, columns, channels = u.shape
    order = a_top.shape[0]
    h = np.empty((columns, order, BLOCK), u.dtype)
    before = np.empty((order, BLOCK), u.dtype)
    rate_top, rate_left = np.zeros((2, order, BLOCK), u.dtype)
    step_top, step_left, x, out = np.zeros((4, BLOCK), u.dtype)
    for start in range(0, channels, BLOCK):
        width = min(BLOCK, channels - start)
        rate_top[:, :width] = a_top[:, start : start + width]
        rate_left[:, :width] = a_left[:, start : start + width]
        for i in range(batch):
            h[:] = 0
            for r in range(height):
                if r % ROWS == 0 and r > 0:
                    states[i, r // ROWS - 1, :, :, start : start + width] = h[:, :, :width]
                before[:] = 0
                for k in range(columns):
                    by_top, by_left = _shares(r, k, u)
                    for d in range(width):
                        step_top[d] = top[i, r, k, start + d]
                        step_left[d] = left[i, r, k, start + d]
                        x[d] = (by_top * step_top[d] + by_left * step_left[d]) * u[i, r, k, start + d]
                    out[:] = 0
                    for n in range(order):
                        b_n, c_n = b[i, r, k, n], c[i, r, k, n]
                        for d in range(BLOCK):
                            above = by_top * exp(step_top[d] * rate_top[n, d]) * h[k, n, d]
                            beside = by_left * exp(step_left[d] * rate_left[n, d]) * before[n, d]
                            before[n, d] = above + beside + x[d] * b_n
                            h[k, n, d] = before[n, d]
                            out[d] += before[n, d] * c_n
                    for d in range(width):
                        y[i, r, k, start + d] = out[d] + u[i, r, k, start + d] * skip[start + d]


@_part
def _recompute(
    row: int, slot: int, step_top: Array, step_left: Array, x: Array, gy: Array, rate_top: Array, rate_left: Array,
    b: Array, h: Array, decay_top: Array, decay_left: Array, gc: Array,
) -> None:  # fmt: skip
    """States h[slot + 1] and decays of a row from h[slot], the row above; adds a share of the gradient of C to `gc`.

    step_top, step_left, x, gy (W, BLOCK) of the row; rates (N, BLOCK); b, gc (W, N); h (ROWS + 1, W + 1, N, BLOCK),
    whose column 0 is the zeros before the first; decays (ROWS, W, N, BLOCK), times the neighbours' shares.
    """
    for k in range(b.shape[0]):
        by_top, by_left = _shares(row, k, h)
        for n in range(rate_top.shape[0]):
            b_n = b[k, n]
            for d in range(BLOCK):
                decay_top[slot, k, n, d] = by_top * exp(step_top[k, d] * rate_top[n, d])
                decay_left[slot, k, n, d] = by_left * exp(step_left[k, d] * rate_left[n, d])
            total = h.dtype.type(0)
            for d in range(BLOCK):
                above = decay_top[slot, k, n, d] * h[slot, k + 1, n, d]
                beside = decay_left[slot, k, n, d] * h[slot + 1, k, n, d]
                after = above + beside + x[k, d] * b_n
                h[slot + 1, k + 1, n, d] = after
                total += gy[k, d] * after
            gc[k, n] += total


@_part
def _reverse(
    k: int, slot: int, step_top: Array, step_left: Array, x: Array, gy: Array, rate_top: Array, rate_left: Array,
    b: Array, c: Array, h: Array, decay_top: Array, decay_left: Array, carry_up: Array, carry_left: Array,
    g_top: Array, g_left: Array, gb: Array, through_x: Array, through_top: Array, through_left: Array,
) -> None:  # fmt: skip
    """One cell backwards: the gradient of its state moves to the cell above (`carry_up`) and the one to the left.

    carry_up (W, N, BLOCK); carry_left (N, BLOCK); `through_x`, `through_top` and `through_left` (BLOCK,) receive the
    gradients of the input term and of the two steps by way of the decays.
    """
    through_x[:] = 0
    through_top[:] = 0
    through_left[:] = 0
    for n in range(rate_top.shape[0]):
        b_n, c_n = b[k, n], c[k, n]
        total = h.dtype.type(0)
        for d in range(BLOCK):
            gh = carry_up[k, n, d] + carry_left[n, d] + gy[k, d] * c_n
            total += gh * x[k, d]
            through_x[d] += gh * b_n
            carry_up[k, n, d] = gh * decay_top[slot, k, n, d]
            carry_left[n, d] = gh * decay_left[slot, k, n, d]
        gb[k, n] += total
        for d in range(BLOCK):
            by_top = carry_up[k, n, d] * h[slot, k + 1, n, d]
            by_left = carry_left[n, d] * h[slot + 1, k, n, d]
            through_top[d] += by_top * rate_top[n, d]
            through_left[d] += by_left * rate_left[n, d]
            g_top[n, d] += by_top * step_top[k, d]
            g_left[n, d] += by_left * step_left[k, d]


@_part
def _load(
    row: int, width: int, start: int, u: Array, top: Array, left: Array, gy: Array,
    step_top: Array, step_left: Array, x: Array, grad: Array,
) -> None:  # fmt: skip
    """Copy a block of channels of one row (W, D) to (W, BLOCK), with the input term x but for its factor B."""
    for k in range(u.shape[0]):
        by_top, by_left = _shares(row, k, u)
        for d in range(width):
            step_top[k, d], step_left[k, d] = top[k, start + d], left[k, start + d]
            grad[k, d] = gy[k, start + d]
            x[k, d] = (by_top * step_top[k, d] + by_left * step_left[k, d]) * u[k, start + d]


@_part
def _write(
    row: int, k: int, width: int, start: int, u: Array, skip: Array, step_top: Array, step_left: Array, gy: Array,
    through_x: Array, through_top: Array, through_left: Array, gu: Array, gtop: Array, gleft: Array, gskip: Array,
) -> None:  # fmt: skip
    """Gradients of one cell's input and steps from what `_reverse` gathered; adds to that of the skip."""
    by_top, by_left = _shares(row, k, u)
    for d in range(width):
        u_d, gy_d = u[k, start + d], gy[k, d]
        step = by_top * step_top[k, d] + by_left * step_left[k, d]
        gu[k, start + d] = through_x[d] * step + gy_d * skip[start + d]
        gtop[k, start + d] = by_top * through_x[d] * u_d + through_top[d]
        gleft[k, start + d] = by_left * through_x[d] * u_d + through_left[d]
        gskip[start + d] += gy_d * u_d


@_kernel
def backward(
    u: Array, top: Array, left: Array, a_top: Array, a_left: Array, b: Array, c: Array, skip: Array,
    gy: Array, states: Array,
    gu: Array, gtop: Array, gleft: Array, ga_top: Array, ga_left: Array, gb: Array, gc: Array, gskip: Array,
) -> None:  # fmt: skip
    """Fill gu, gtop and gleft, add to the other gradients (given as zeros). Shapes as in `forward`."""
    batch, height, columns, channels = u.shape
    order = a_top.shape[0]
    h = np.zeros((ROWS + 1, columns + 1, order, BLOCK), u.dtype)
    decay_top = np.empty((ROWS, columns, order, BLOCK), u.dtype)
    decay_left = np.empty((ROWS, columns, order, BLOCK), u.dtype)
    carry_up = np.empty((columns, order, BLOCK), u.dtype)
    carry_left = np.empty((order, BLOCK), u.dtype)
    rate_top = np.zeros((order, BLOCK), u.dtype)
    rate_left = np.zeros((order, BLOCK), u.dtype)
    g_top = np.zeros((order, BLOCK), u.dtype)
    g_left = np.zeros((order, BLOCK), u.dtype)
    step_top, step_left, x, grad = np.zeros((4, ROWS, columns, BLOCK), u.dtype)
    through_x = np.zeros(BLOCK, u.dtype)
    through_top = np.zeros(BLOCK, u.dtype)
    through_left = np.zeros(BLOCK, u.dtype)
    for start in range(0, channels, BLOCK):
        width = min(BLOCK, channels - start)
        stop = start + width
        rate_top[:, :width], rate_left[:, :width] = a_top[:, start:stop], a_left[:, start:stop]
        g_top[:], g_left[:] = 0, 0
        if width < BLOCK:
            step_top[:], step_left[:], x[:], grad[:] = 0, 0, 0, 0
        for i in range(batch):
            carry_up[:] = 0
            for chunk in range((height - 1) // ROWS, -1, -1):
                first = chunk * ROWS
                rows = min(ROWS, height - first)
                h[0] = 0
                if chunk > 0:
                    h[0, 1:, :, :width] = states[i, chunk - 1, :, :, start:stop]
                for s in range(rows):
                    r = first + s
                    _load(
                        r, width, start, u[i, r], top[i, r], left[i, r], gy[i, r],
                        step_top[s], step_left[s], x[s], grad[s],
                    )  # fmt: skip
                    _recompute(
                        r, s, step_top[s], step_left[s], x[s], grad[s], rate_top, rate_left,
                        b[i, r], h, decay_top, decay_left, gc[i, r],
                    )  # fmt: skip
                for s in range(rows - 1, -1, -1):
                    r = first + s
                    carry_left[:] = 0
                    for k in range(columns - 1, -1, -1):
                        _reverse(
                            k, s, step_top[s], step_left[s], x[s], grad[s], rate_top, rate_left,
                            b[i, r], c[i, r], h, decay_top, decay_left, carry_up, carry_left,
                            g_top, g_left, gb[i, r], through_x, through_top, through_left,
                        )  # fmt: skip
                        _write(
                            r, k, width, start, u[i, r], skip, step_top[s], step_left[s], grad[s],
                            through_x, through_top, through_left, gu[i, r], gtop[i, r], gleft[i, r], gskip,
                        )  # fmt: skip
        ga_top[:, start:stop] += g_top[:, :width]
        ga_left[:, start:stop] += g_left[:, :width]
