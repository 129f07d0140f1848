"""The Triton kernels of the selective scan on a GPU: forward, and backward from one kept state in CHUNK tokens.

One warp scans BLOCK channels of a sequence, a channel a lane with all its states in registers, token by
token. The backward pass goes through spans of SPAN tokens from the last: it recomputes their states from
the one kept before, holds them in registers, and reverses them. Sums over channels are kept by block and
added in a fixed order, so results are the same bits in every run. bfloat16 is read and written as it is;
everything between is float32, or float64 where the rates are.

Sizes: batch B, groups G, sequences S = G x B of L tokens (sequence g B + i is group g of item i), channels
D, states N. Tensors are contiguous: u and gy (B, L, D), by group delta (G, B, L, D), rates (G, N, D), b and
c (G, B, L, N), skip (G, D), places (G, L) int32 or None. Every kernel runs on a CPU in Triton's
interpreter, too.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from geoladder.models.backends import CHUNK

SPAN = 8
"""Tokens whose states the backward pass holds in registers; CHUNK is a multiple of it."""
BLOCK = 32
"""Channels of a program: the lanes of a warp."""
WARP_STATES = 16
"""States of a channel that one lane holds; more are shared out to more warps."""
LN_2 = tl.constexpr(math.log(2))


@triton.jit
def step_size(raw, SOFTPLUS: tl.constexpr):
    """Of what a projection gave, the step: its softplus, if that is asked for, else itself.

    log(1 + z) is log(w) z / (w - 1) with w = 1 + z rounded, exact to the last places also where z is small
    (Kahan).
    """
    step = raw
    if SOFTPLUS:
        z = tl.exp(-tl.abs(raw))
        w = 1 + z
        step = tl.maximum(raw, 0.0) + tl.where(w == 1, z, tl.log(w) * (z / (w - 1)))
    return step


@triton.jit
def step_slope(raw, SOFTPLUS: tl.constexpr):
    """Derivative of `step_size`."""
    slope = tl.full(raw.shape, 1, raw.dtype)
    if SOFTPLUS:
        slope = 1 / (1 + tl.exp(-raw))
    return slope


@triton.jit
def state_tile(d, n, channels):
    """Places of (STATES, BLOCK) numbers.

    The compiler is told that no two are neighbours: else it would share a channel out among lanes.
    """
    return tl.max_contiguous(n[:, None] * channels + d[None, :], (1, 1))


@triton.jit
def _place(places, t, length, ORDERED: tl.constexpr):
    """Where the token that is read as number `t` lies."""
    place = tl.minimum(t, length - 1)
    if ORDERED:
        place = tl.load(places + place)
    return place


@triton.jit
def _decay_and_input(u, delta, b, rate, place, valid, d, n, channels, order, SOFTPLUS: tl.constexpr):
    """Of one token: x, raw and true step (BLOCK,), input weights (STATES,), decay (STATES, BLOCK).

    A token that is not `valid` changes no state.
    """
    row, keep = place * channels + d, (d < channels) & valid
    x = tl.load(u + row, mask=keep, other=0).to(rate.dtype)
    raw = tl.load(delta + row, mask=keep, other=0).to(rate.dtype)
    step = tl.where(keep, step_size(raw, SOFTPLUS), 0)
    weights = tl.load(b + place * order + n, mask=(n < order) & valid, other=0).to(rate.dtype)
    return x, raw, step, weights, tl.exp2(step[None, :] * rate)


@triton.jit
def _forward(
    u, delta, rates, b, c, skip, places, y, states, batch, length, channels, order,
    CHUNK: tl.constexpr, SPAN: tl.constexpr, STATES: tl.constexpr, BLOCK: tl.constexpr,
    SOFTPLUS: tl.constexpr, ORDERED: tl.constexpr,
):  # fmt: skip
    """Fill y (S, L, D) and the states before each chunk (S, chunks, N, D)."""
    sequence = tl.program_id(0).to(tl.int64)
    group = sequence // batch
    d, n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, STATES)
    tile, keep = state_tile(d, n, channels), (n < order)[:, None] & (d < channels)[None, :]
    rate = tl.load(rates + group * order * channels + tile, mask=keep, other=0)
    through = tl.load(skip + group * channels + d, mask=d < channels, other=0)
    u += sequence % batch * length * channels
    delta += sequence * length * channels
    y += sequence * length * channels
    b += sequence * length * order
    c += sequence * length * order
    states += sequence * tl.cdiv(length, CHUNK) * order * channels
    places += group * length
    h = tl.zeros_like(rate)
    for start in range(0, length, SPAN):
        if start % CHUNK == 0:
            tl.store(states + start // CHUNK * order * channels + tile, h, mask=keep)
        rows = ()
        for k in tl.static_range(SPAN):
            valid = start + k < length
            place = _place(places, start + k, length, ORDERED)
            x, _, step, b_t, decay = _decay_and_input(
                u, delta, b, rate, place, valid, d, n, channels, order, SOFTPLUS
            )
            c_t = tl.load(c + place * order + n, mask=(n < order) & valid, other=0).to(rate.dtype)
            h = decay * h + (step * x)[None, :] * b_t[:, None]
            rows += (tl.sum(h * c_t[:, None], 0) + through * x,)
        # Stores wait until the span is done: between them the compiler would not move loads ahead.
        for k in tl.static_range(SPAN):
            place = _place(places, start + k, length, ORDERED)
            tl.store(y + place * channels + d, rows[k], mask=(d < channels) & (start + k < length))


@triton.jit
def _backward(
    u, delta, rates, b, c, skip, places, gy, states, gu, gdelta, grates, gb, gc, gskip,
    batch, sequences, length, channels, order,
    CHUNK: tl.constexpr, SPAN: tl.constexpr, STATES: tl.constexpr, BLOCK: tl.constexpr,
    SOFTPLUS: tl.constexpr, ORDERED: tl.constexpr,
):  # fmt: skip
    """Fill the gradients by sequence.

    These are gu and gdelta (S, L, D), grates (S, N, D), gskip (S, D), and by block gb and gc (blocks, S, L, N).
    """
    sequence = tl.program_id(0).to(tl.int64)
    group = sequence // batch
    d, n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, STATES)
    tile, keep = state_tile(d, n, channels), (n < order)[:, None] & (d < channels)[None, :]
    rate = tl.load(rates + group * order * channels + tile, mask=keep, other=0)
    through = tl.load(skip + group * channels + d, mask=d < channels, other=0)
    u += sequence % batch * length * channels
    gy += sequence % batch * length * channels
    delta += sequence * length * channels
    gu += sequence * length * channels
    gdelta += sequence * length * channels
    b += sequence * length * order
    c += sequence * length * order
    gb += (tl.program_id(1).to(tl.int64) * sequences + sequence) * length * order
    gc += (tl.program_id(1).to(tl.int64) * sequences + sequence) * length * order
    states += sequence * tl.cdiv(length, CHUNK) * order * channels
    places += group * length
    carry, grate, gthrough = tl.zeros_like(rate), tl.zeros_like(rate), tl.zeros_like(through)
    for number in range(tl.cdiv(length, SPAN)):
        start = (tl.cdiv(length, SPAN) - 1 - number) * SPAN
        chunk = start // CHUNK
        h = tl.load(states + chunk * order * channels + tile, mask=keep, other=0)
        for t in range(chunk * CHUNK, start):
            place = _place(places, t, length, ORDERED)
            x, _, step, b_t, decay = _decay_and_input(
                u, delta, b, rate, place, True, d, n, channels, order, SOFTPLUS
            )
            h = decay * h + (step * x)[None, :] * b_t[:, None]
        history = ()
        for k in tl.static_range(SPAN):
            valid = start + k < length
            place = _place(places, start + k, length, ORDERED)
            x, _, step, b_t, decay = _decay_and_input(
                u, delta, b, rate, place, valid, d, n, channels, order, SOFTPLUS
            )
            gout = tl.load(gy + place * channels + d, mask=(d < channels) & valid, other=0).to(rate.dtype)
            history += (h,)
            h = decay * h + (step * x)[None, :] * b_t[:, None]
            tl.store(gc + place * order + n, tl.sum(h * gout[None, :], 1), mask=(n < order) & valid)
        for k in tl.static_range(SPAN - 1, -1, -1):
            valid = start + k < length
            place = _place(places, start + k, length, ORDERED)
            row, within = place * channels + d, (d < channels) & valid
            x, raw, step, b_t, decay = _decay_and_input(
                u, delta, b, rate, place, valid, d, n, channels, order, SOFTPLUS
            )
            c_t = tl.load(c + place * order + n, mask=(n < order) & valid, other=0).to(rate.dtype)
            gout = tl.load(gy + row, mask=within, other=0).to(rate.dtype)
            gh = carry + gout[None, :] * c_t[:, None]
            gx = tl.sum(gh * b_t[:, None], 0)
            carry = gh * decay
            by_decay = carry * history[k]
            gstep = tl.sum(by_decay * rate, 0) * LN_2 + gx * x
            grate += by_decay * step[None, :]
            gthrough += gout * x
            tl.store(gu + row, gout * through + gx * step, mask=within)
            tl.store(gdelta + row, gstep * step_slope(raw, SOFTPLUS), mask=within)
            tl.store(gb + place * order + n, tl.sum(gh * (step * x)[None, :], 1), mask=(n < order) & valid)
    tl.store(grates + sequence * order * channels + tile, grate, mask=keep)
    tl.store(gskip + sequence * channels + d, gthrough, mask=d < channels)


def _sizes(order: int) -> dict[str, int]:
    states = triton.next_power_of_2(order)
    return dict(CHUNK=CHUNK, SPAN=SPAN, STATES=states, BLOCK=BLOCK, num_warps=max(1, states // WARP_STATES))


def forward(
    u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, c: Tensor, skip: Tensor, places: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scan contiguous tensors, see the module; rates are in units of log 2.

    Returns:
        y by group (G, B, L, D), of the dtype of `u` where there is one group, and the states before each
        chunk.
    """
    (groups, batch, length, channels), order = delta.shape, rates.shape[1]
    y = u.new_empty(delta.shape, dtype=u.dtype if groups == 1 else rates.dtype)
    states = rates.new_empty(groups, batch, -(-length // CHUNK), order, channels)
    grid = (groups * batch, triton.cdiv(channels, BLOCK))
    if y.numel():
        with torch.cuda.device_of(u):
            _forward[grid](
                u, delta, rates, b, c, skip, u if places is None else places, y, states,
                batch, length, channels, order,
                SOFTPLUS=softplus, ORDERED=places is not None, **_sizes(order),
            )  # fmt: skip
    return y, states


def backward(
    u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, c: Tensor, skip: Tensor, places: Tensor | None,
    gy: Tensor, states: Tensor, softplus: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients, given that of y (B, L, D) and the kept states; arguments else as `forward`.

    Returns:
        Those of u by group (G, B, L, D), delta, rates (G, N, D), of A and not of the rates in units of log
        2, b, c and skip.
    """
    (groups, batch, length, channels), order = delta.shape, rates.shape[1]
    grid = (groups * batch, triton.cdiv(channels, BLOCK))
    gu, gdelta = (
        u.new_empty(delta.shape, dtype=u.dtype if groups == 1 else rates.dtype),
        torch.empty_like(delta),
    )
    grates, gskip = rates.new_zeros(groups, batch, order, channels), rates.new_zeros(groups, batch, channels)
    gb, gc = rates.new_empty(2, grid[1], *b.shape)
    if gu.numel():
        with torch.cuda.device_of(u):
            _backward[grid](
                u, delta, rates, b, c, skip, u if places is None else places, gy, states,
                gu, gdelta, grates, gb, gc, gskip, batch, groups * batch, length, channels, order,
                SOFTPLUS=softplus, ORDERED=places is not None, **_sizes(order),
            )  # fmt: skip
    return gu, gdelta, grates.sum(1), gb.sum(0).to(b.dtype), gc.sum(0).to(c.dtype), gskip.sum(1)
