"""The Triton kernels of the two-dimensional scan on a GPU: forward, and backward from one kept row in CHUNK.

One warp scans BLOCK channels of an image, a channel a lane with all its states in registers, row by row;
the states of the row above wait in memory that only this program uses. The backward pass goes through bands
of CHUNK rows from the last: it recomputes their states into such memory from the row kept before, and
reverses them. Sums over channels are kept by block and added in a fixed order, so results are the same bits
in every run. bfloat16 is read and written as it is; everything between is float32, or float64 where the
rates are.

Sizes: batch B, rows H, columns W, channels D, states N. Tensors are contiguous: u, top and left (B, H, W,
D), b and c (B, H, W, N), both rates (N, D), skip (D,). Every kernel runs on a CPU in Triton's interpreter,
too.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoladder.models.backends import CHUNK
from geoladder.models.scan_triton import BLOCK, LN_2, WARP_STATES, state_tile, step_size, step_slope


@triton.jit
def _share_of_top(i, j):
    """Weight of the neighbour above; the one to the left has the rest."""
    return tl.where(i == 0, 0.0, tl.where(j == 0, 1.0, 0.5))


@triton.jit
def _cell(u, top, left, b, rate_top, rate_left, cell, d, n, channels, order, SOFTPLUS: tl.constexpr):
    """Of one cell: x, raw and true steps (BLOCK,), input weights (STATES,), both decays (STATES, BLOCK)."""
    row, keep = cell * channels + d, d < channels
    x = tl.load(u + row, mask=keep, other=0).to(rate_top.dtype)
    raw_top = tl.load(top + row, mask=keep, other=0).to(rate_top.dtype)
    raw_left = tl.load(left + row, mask=keep, other=0).to(rate_top.dtype)
    step_top, step_left = step_size(raw_top, SOFTPLUS), step_size(raw_left, SOFTPLUS)
    weights = tl.load(b + cell * order + n, mask=n < order, other=0).to(rate_top.dtype)
    decay_top, decay_left = tl.exp2(step_top[None, :] * rate_top), tl.exp2(step_left[None, :] * rate_left)
    return x, raw_top, raw_left, step_top, step_left, weights, decay_top, decay_left


@triton.jit
def _forward(
    u, top, left, rates_top, rates_left, b, c, skip, y, states, row, height, width, channels, order,
    CHUNK: tl.constexpr, STATES: tl.constexpr, BLOCK: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Fill y (B, H, W, D) and the last rows of states of all bands but the last (B, bands - 1, W, N, D)."""
    item = tl.program_id(0).to(tl.int64)
    d, n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, STATES)
    tile, keep, one = (
        state_tile(d, n, channels),
        (n < order)[:, None] & (d < channels)[None, :],
        order * channels,
    )
    rate_top = tl.load(rates_top + tile, mask=keep, other=0)
    rate_left = tl.load(rates_left + tile, mask=keep, other=0)
    through = tl.load(skip + d, mask=d < channels, other=0)
    u += item * height * width * channels
    top += item * height * width * channels
    left += item * height * width * channels
    y += item * height * width * channels
    b += item * height * width * order
    c += item * height * width * order
    row += item * width * one
    states += item * (tl.cdiv(height, CHUNK) - 1) * width * one
    for i in range(height):
        h = tl.zeros_like(rate_top)
        last_of_band = (i % CHUNK == CHUNK - 1) & (i < height - 1)
        for j in range(width):
            cell, by_top = i * width + j, _share_of_top(i, j)
            above = tl.load(row + j * one + tile, mask=keep & (i > 0), other=0)
            x, _, _, step_top, step_left, b_k, decay_top, decay_left = _cell(
                u, top, left, b, rate_top, rate_left, cell, d, n, channels, order, SOFTPLUS
            )
            c_k = tl.load(c + cell * order + n, mask=n < order, other=0).to(rate_top.dtype)
            fresh = (by_top * step_top + (1 - by_top) * step_left) * x
            h = by_top * decay_top * above + (1 - by_top) * decay_left * h + fresh[None, :] * b_k[:, None]
            tl.store(row + j * one + tile, h, mask=keep)
            tl.store(states + (i // CHUNK * width + j) * one + tile, h, mask=keep & last_of_band)
            tl.store(y + cell * channels + d, tl.sum(h * c_k[:, None], 0) + through * x, mask=d < channels)
        tl.debug_barrier()  # what one lane has stored, another may read


@triton.jit
def _above(states, history, band, i, j, width, tile, keep, one, CHUNK: tl.constexpr):
    """State of the cell above: of the band before in its first row, of none above the first band."""
    first = i == band * CHUNK
    kept = tl.load(states + ((band - 1) * width + j) * one + tile, mask=keep & first & (band > 0), other=0)
    past = tl.load(
        history + ((i - 1 - band * CHUNK) * width + j) * one + tile, mask=keep & (i > band * CHUNK), other=0
    )
    return kept + past


@triton.jit
def _recompute(
    u, top, left, b, rate_top, rate_left, states, history, band, end, width, tile, keep, d, n, channels, order,
    CHUNK: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Fill `history` (CHUNK, W, N, D) with the states of a band's rows, up to row `end`."""
    one = order * channels
    for i in range(band * CHUNK, end):
        h = tl.zeros_like(rate_top)
        for j in range(width):
            cell, by_top = i * width + j, _share_of_top(i, j)
            above = _above(states, history, band, i, j, width, tile, keep, one, CHUNK)
            x, _, _, step_top, step_left, b_k, decay_top, decay_left = _cell(
                u, top, left, b, rate_top, rate_left, cell, d, n, channels, order, SOFTPLUS
            )
            fresh = (by_top * step_top + (1 - by_top) * step_left) * x
            h = by_top * decay_top * above + (1 - by_top) * decay_left * h + fresh[None, :] * b_k[:, None]
            tl.store(history + ((i - band * CHUNK) * width + j) * one + tile, h, mask=keep)
        tl.debug_barrier()


@triton.jit
def _backward(
    u, top, left, rates_top, rates_left, b, c, skip, gy, states, history, row,
    gu, gtop, gleft, grates_top, grates_left, gb, gc, gskip, batch, height, width, channels, order,
    CHUNK: tl.constexpr, STATES: tl.constexpr, BLOCK: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Fill the gradients: as the inputs, but of rates and skip by item, gb and gc by block (blocks, B, H, W, N)."""
    item = tl.program_id(0).to(tl.int64)
    d, n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, STATES)
    tile, keep, one = (
        state_tile(d, n, channels),
        (n < order)[:, None] & (d < channels)[None, :],
        order * channels,
    )
    rate_top = tl.load(rates_top + tile, mask=keep, other=0)
    rate_left = tl.load(rates_left + tile, mask=keep, other=0)
    through = tl.load(skip + d, mask=d < channels, other=0)
    u += item * height * width * channels
    top += item * height * width * channels
    left += item * height * width * channels
    gy += item * height * width * channels
    gu += item * height * width * channels
    gtop += item * height * width * channels
    gleft += item * height * width * channels
    b += item * height * width * order
    c += item * height * width * order
    gb += (tl.program_id(1).to(tl.int64) * batch + item) * height * width * order
    gc += (tl.program_id(1).to(tl.int64) * batch + item) * height * width * order
    row += item * width * one
    bands = tl.cdiv(height, CHUNK)
    states += item * (bands - 1) * width * one
    history += item * tl.minimum(height, CHUNK) * width * one
    grate_top, grate_left = tl.zeros_like(rate_top), tl.zeros_like(rate_left)
    gthrough = tl.zeros_like(through)
    for number in range(bands):
        band = bands - 1 - number
        first, end = band * CHUNK, tl.minimum((band + 1) * CHUNK, height)
        _recompute(
            u, top, left, b, rate_top, rate_left, states, history, band, end, width, tile, keep, d, n, channels,
            order, CHUNK, SOFTPLUS,
        )  # fmt: skip
        for back in range(first, end):
            i = end - 1 - (back - first)
            past = history + (i - first) * width * one + tile
            h = tl.load(past + (width - 1) * one, mask=keep, other=0)
            from_right = tl.zeros_like(rate_top)
            for right in range(width):
                j = width - 1 - right
                cell, by_top = i * width + j, _share_of_top(i, j)
                by_left = 1 - by_top
                above = _above(states, history, band, i, j, width, tile, keep, one, CHUNK)
                before = tl.load(past + (j - 1) * one, mask=keep & (j > 0), other=0)
                x, raw_top, raw_left, step_top, step_left, b_k, decay_top, decay_left = _cell(
                    u, top, left, b, rate_top, rate_left, cell, d, n, channels, order, SOFTPLUS
                )
                c_k = tl.load(c + cell * order + n, mask=n < order, other=0).to(rate_top.dtype)
                gout = tl.load(gy + cell * channels + d, mask=d < channels, other=0).to(rate_top.dtype)
                from_below = tl.load(row + j * one + tile, mask=keep & (i < height - 1), other=0)
                gh = gout[None, :] * c_k[:, None] + from_right + from_below
                step = by_top * step_top + by_left * step_left
                gx = tl.sum(gh * b_k[:, None], 0)
                to_top, from_right = by_top * gh * decay_top, by_left * gh * decay_left
                by_decay_top, by_decay_left = to_top * above, from_right * before
                grate_top += by_decay_top * step_top[None, :]
                grate_left += by_decay_left * step_left[None, :]
                gthrough += gout * x
                gstep_top = tl.sum(by_decay_top * rate_top, 0) * LN_2 + by_top * gx * x
                gstep_left = tl.sum(by_decay_left * rate_left, 0) * LN_2 + by_left * gx * x
                place, inside = cell * channels + d, d < channels
                tl.store(row + j * one + tile, to_top, mask=keep)
                tl.store(gu + place, gout * through + gx * step, mask=inside)
                tl.store(gtop + place, gstep_top * step_slope(raw_top, SOFTPLUS), mask=inside)
                tl.store(gleft + place, gstep_left * step_slope(raw_left, SOFTPLUS), mask=inside)
                tl.store(gc + cell * order + n, tl.sum(h * gout[None, :], 1), mask=n < order)
                tl.store(gb + cell * order + n, tl.sum(gh * (step * x)[None, :], 1), mask=n < order)
                h = before
            tl.debug_barrier()
    tl.store(grates_top + item * one + tile, grate_top, mask=keep)
    tl.store(grates_left + item * one + tile, grate_left, mask=keep)
    tl.store(gskip + item * channels + d, gthrough, mask=d < channels)


def forward(
    u: Tensor, top: Tensor, left: Tensor, rates_top: Tensor, rates_left: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scan contiguous tensors, see the module; rates are in units of log 2.

    Returns:
        y as u, and the rows of states kept for the backward pass (B, bands - 1, W, N, D).
    """
    (batch, height, width, channels), order = u.shape, len(rates_top)
    y, row = torch.empty_like(u), rates_top.new_empty(batch, width, order, channels)
    states = rates_top.new_empty(batch, -(-height // CHUNK) - 1, width, order, channels)
    if y.numel():
        with torch.cuda.device_of(u):
            _forward[batch, triton.cdiv(channels, BLOCK)](
                u, top, left, rates_top, rates_left, b, c, skip, y, states, row, height, width, channels, order,
                **_sizes(order, softplus),
            )  # fmt: skip
    return y, states


def backward(
    u: Tensor, top: Tensor, left: Tensor, rates_top: Tensor, rates_left: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    gy: Tensor, states: Tensor, softplus: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of the inputs, given that of y and the kept states; those of both rates are those of A (N, D)."""
    (batch, height, width, channels), order = u.shape, len(rates_top)
    blocks = triton.cdiv(channels, BLOCK)
    gu, gtop, gleft = (torch.empty_like(tensor) for tensor in (u, top, left))
    grates_top, grates_left = rates_top.new_zeros(2, batch, order, channels)
    gb, gc = rates_top.new_empty(2, blocks, *b.shape)
    gskip, row = rates_top.new_zeros(batch, channels), rates_top.new_empty(batch, width, order, channels)
    history = rates_top.new_empty(batch, min(height, CHUNK), width, order, channels)
    if gu.numel():
        with torch.cuda.device_of(u):
            _backward[batch, blocks](
                u, top, left, rates_top, rates_left, b, c, skip, gy, states, history, row,
                gu, gtop, gleft, grates_top, grates_left, gb, gc, gskip, batch, height, width, channels, order,
                **_sizes(order, softplus),
            )  # fmt: skip
    return gu, gtop, gleft, grates_top.sum(0), grates_left.sum(0), gb.sum(0), gc.sum(0), gskip.sum(0)


def _sizes(order: int, softplus: bool) -> dict[str, int]:
    states = triton.next_power_of_2(order)
    warps = max(1, states // WARP_STATES)
    return dict(CHUNK=CHUNK, STATES=states, BLOCK=BLOCK, SOFTPLUS=softplus, num_warps=warps)
