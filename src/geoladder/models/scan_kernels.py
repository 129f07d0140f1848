"""The numba kernels of the selective scan on a CPU: forward, and backward from one kept state in CHUNK tokens.

Unusual: LANES neighbouring channels are one value (geoladder.models.lanes) and stay in registers along a chunk of
tokens, one state after the other; everything else about that chunk lies in `work`, a stack of tiles of CHUNK tokens x
LANES channels, in the nearest cache. The backward pass recomputes the states of a chunk and reverses them while they
are there, so memory stays near that of the inputs.

Sizes: batch B, tokens L, channels D, states N; `blocks` of LANES channels, the last one padded by zeros; `chunks` of
CHUNK tokens, the last one short. Inputs come as flat memory and strides (`u`, `u_at`), so any strides do. A kernel
works on the batch items `first` to `last` and takes no lock, so threads can share a batch; no sum crosses items, so
results do not depend on how they share it.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numba import njit

from geoladder.models.exp2_lanes import exp2
from geoladder.models.lanes import (
    LANES,
    everywhere,
    load,
    load_first,
    spread,
    store,
    store_first,
    totals,
    transpose,
)

Array: TypeAlias = np.ndarray
Strides: TypeAlias = tuple[int, int, int]
"""Elements between batch items, tokens, and channels (or states)."""
Place: TypeAlias = tuple[int, int, int]
"""Of a chunk in memory: first element, elements between tokens, and between channels (or states)."""

CHUNK = LANES
"""Tokens between two kept states. As many as lanes, so that a tile is square and the sums of its rows are a value."""
TILE = CHUNK * LANES
STEP, U, X, GY, OUT, GX, GSTEP, DECAY, BEFORE, PRODUCT, CARRY = range(0, 11 * TILE, TILE)
"""Where tiles begin in `work`: delta, u, delta * u, gradient of y; y; gradients of delta * u and of delta by way of
the decay; of one state: its decays, its values before each token, and products that await their sum over channels.
From CARRY on, for all blocks and states, the gradient that goes to the chunk before."""
MADE_OF = "615ab18e50a7"
"""First digits of the SHA-256 of lanes.py and exp2_lanes.py, whose code goes into the kernels. numba's cache on disk
looks at this file alone, so this file has to change when they do; a test sees to it."""
LOG2_E = 1 / math.log(2)
LN_2 = math.log(2)


def workspace(blocks: int, order: int) -> int:
    """Elements of `work`. They must be zeros at first."""
    return CARRY + blocks * order * LANES


def _kernel(function: Callable[..., None]) -> Callable[..., None]:
    compiled: Callable[..., None] = njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


@njit
def _place(at: Strides, item: int, token: int, channel: int) -> Place:
    return item * at[0] + token * at[1] + channel * at[2], at[1], at[2]


@njit
def _read(work: Array, tile: int, source: Array, place: Place, size: int, width: int) -> None:
    """Copy `size` tokens x `width` channels to a tile; channels beyond are zeros."""
    start, token, channel = place
    if channel == 1:
        for t in range(size):
            store(work, tile + t * LANES, load_first(source, start + t * token, width))
    elif token == 1 and size == CHUNK and width == LANES:
        transpose(work, tile, source, start, channel)
    else:
        for t in range(size):
            for d in range(LANES):
                work[tile + t * LANES + d] = source[start + t * token + d * channel] if d < width else 0


@njit
def _write(target: Array, start: int, token: int, work: Array, tile: int, size: int, width: int) -> None:
    for t in range(size):
        store_first(target, start + t * token, load(work, tile + t * LANES), width)


@njit
def _forward_chunk(
    work: Array, rates: Array, states: Array, rate: int, kept: int, following: int, order: int,
    b: Array, b_place: Place, c: Array, c_place: Place, size: int,
) -> None:  # fmt: skip
    """Add C . h to OUT, state by state, from the states at `kept`; keep those after it at `following`, if not 0."""
    b_start, b_token, b_state = b_place
    c_start, c_token, c_state = c_place
    for n in range(0, order * LANES, LANES):
        rate_n, h = load(rates, rate + n), load(states, kept + n)
        for t in range(size):
            at = t * LANES
            decay = exp2(load(work, STEP + at) * rate_n)
            h = decay * h + load(work, X + at) * spread(b, b_start + t * b_token)
            store(work, OUT + at, load(work, OUT + at) + h * spread(c, c_start + t * c_token))
        if following:
            store(states, following + n, h)
        b_start += b_state
        c_start += c_state


@njit
def _prepare(work: Array, skip: Array, d: int, size: int) -> None:
    """Fill X and start OUT with the skip."""
    skip_d = load(skip, d)
    for at in range(0, size * LANES, LANES):
        u = load(work, U + at)
        store(work, X + at, u * load(work, STEP + at))
        store(work, OUT + at, u * skip_d)


@_kernel
def forward(
    u: Array, u_at: Strides, delta: Array, delta_at: Strides, rates: Array, b: Array, b_at: Strides,
    c: Array, c_at: Strides, skip: Array, y: Array, states: Array, work: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Fill y (B, L, D) and the states before each chunk (B, chunks, blocks, N, LANES).

    u, delta (B, L, D); rates (blocks, N, LANES), A in units of log 2; b, c (B, L, N); skip (blocks * LANES,).
    """
    _, length, channels = y.shape
    _, chunks, blocks, order, _ = states.shape
    states[first:last, 0] = 0
    for i in range(first, last):
        for chunk in range(chunks):
            t = chunk * CHUNK
            size = min(CHUNK, length - t)
            b_place, c_place = _place(b_at, i, t, 0), _place(c_at, i, t, 0)
            for block in range(blocks):
                d = block * LANES
                width = min(LANES, channels - d)
                _read(work, STEP, delta, _place(delta_at, i, t, d), size, width)
                _read(work, U, u, _place(u_at, i, t, d), size, width)
                _prepare(work, skip, d, size)
                kept = ((i * chunks + chunk) * blocks + block) * order * LANES
                following = kept + blocks * order * LANES if chunk + 1 < chunks else 0
                _forward_chunk(
                    work, rates, states, d * order, kept, following, order, b, b_place, c, c_place, size
                )
                _write(y, (i * length + t) * channels + d, channels, work, OUT, size, width)


@njit
def _backward_chunk(
    work: Array, rates: Array, rate: int, states: Array, kept: int, grates: Array, grate: int, order: int,
    b: Array, b_place: Place, c: Array, c_place: Place, gb: Array, gc: Array, g: int, size: int,
) -> None:  # fmt: skip
    """Recompute the chunk and reverse it, state by state; add to GX, GSTEP, grates, gb, gc; carry on from CARRY."""
    b_start, b_token, b_state = b_place
    c_start, c_token, c_state = c_place
    for n in range(0, order * LANES, LANES):
        rate_n, h = load(rates, rate + n), load(states, kept + n)
        for t in range(size):
            at = t * LANES
            decay = exp2(load(work, STEP + at) * rate_n)
            store(work, BEFORE + at, h)
            store(work, DECAY + at, decay)
            h = decay * h + load(work, X + at) * spread(b, b_start + t * b_token)
            store(work, PRODUCT + at, load(work, GY + at) * h)
        store(gc, g + n, load(gc, g + n) + totals(work, PRODUCT))
        gh, grate_n = load(work, CARRY + rate + n), load(grates, grate + n)
        for t in range(size - 1, -1, -1):
            at = t * LANES
            gh = gh + load(work, GY + at) * spread(c, c_start + t * c_token)
            store(work, PRODUCT + at, gh * load(work, X + at))
            store(work, GX + at, load(work, GX + at) + gh * spread(b, b_start + t * b_token))
            gh = gh * load(work, DECAY + at)
            through_decay = gh * load(work, BEFORE + at)
            store(work, GSTEP + at, load(work, GSTEP + at) + through_decay * rate_n)
            grate_n = grate_n + through_decay * load(work, STEP + at)
        store(gb, g + n, load(gb, g + n) + totals(work, PRODUCT))
        store(work, CARRY + rate + n, gh)
        store(grates, grate + n, grate_n)
        b_start += b_state
        c_start += c_state


@njit
def _finish(work: Array, skip: Array, d: int, gskip: Array, place: int, size: int) -> None:
    """Turn GX and GSTEP into the gradients of u and delta; add to gskip."""
    ln_2, skip_d, gskip_d = everywhere(work.dtype.type(LN_2)), load(skip, d), load(gskip, place)
    for at in range(0, size * LANES, LANES):
        u, gy, gx = load(work, U + at), load(work, GY + at), load(work, GX + at)
        gskip_d = gskip_d + gy * u
        store(work, GSTEP + at, load(work, GSTEP + at) * ln_2 + gx * u)
        store(work, GX + at, gx * load(work, STEP + at) + gy * skip_d)
    store(gskip, place, gskip_d)


@_kernel
def backward(
    u: Array, u_at: Strides, delta: Array, delta_at: Strides, rates: Array, b: Array, b_at: Strides,
    c: Array, c_at: Strides, skip: Array, gy: Array, gy_at: Strides, states: Array,
    gu: Array, gdelta: Array, grates: Array, gb: Array, gc: Array, gskip: Array,
    work: Array, first: int, last: int,
) -> None:  # fmt: skip
    """Fill the gradients gu, gdelta (B, L, D); add to the others, which are given as zeros.

    grates, of A (B, blocks, N, LANES); gb, gc (B, chunks, N, CHUNK); gskip (B, blocks, LANES). Others as `forward`.
    """
    _, length, channels = gu.shape
    _, chunks, blocks, order, _ = states.shape
    for i in range(first, last):
        work[CARRY:] = 0
        for chunk in range(chunks - 1, -1, -1):
            t = chunk * CHUNK
            size = min(CHUNK, length - t)
            b_place, c_place = _place(b_at, i, t, 0), _place(c_at, i, t, 0)
            for block in range(blocks):
                d = block * LANES
                width = min(LANES, channels - d)
                _read(work, STEP, delta, _place(delta_at, i, t, d), size, width)
                _read(work, U, u, _place(u_at, i, t, d), size, width)
                _read(work, GY, gy, _place(gy_at, i, t, d), size, width)
                _prepare(work, skip, d, size)
                work[GX:DECAY] = 0
                kept = ((i * chunks + chunk) * blocks + block) * order * LANES
                grate, g = (i * blocks + block) * order * LANES, (i * chunks + chunk) * order * CHUNK
                _backward_chunk(
                    work, rates, d * order, states, kept, grates, grate, order,
                    b, b_place, c, c_place, gb, gc, g, size,
                )  # fmt: skip
                _finish(work, skip, d, gskip, (i * blocks + block) * LANES, size)
                start = (i * length + t) * channels + d
                _write(gu, start, channels, work, GX, size, width)
                _write(gdelta, start, channels, work, GSTEP, size, width)
