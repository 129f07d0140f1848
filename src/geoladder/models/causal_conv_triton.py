"""The Triton kernels of the causal depthwise convolution on a GPU, with its activation: forward and backward.

A program has a tile of TOKENS x CHANNELS outputs; neighbouring tiles read a few tokens twice, from the
cache. Nothing but the input is kept: the backward pass computes again what went into the activation. Sums
over tokens are kept by tile and added in a fixed order, so results are the same bits in every run. bfloat16
is read and written as it is; everything between is of the dtype of the weights.

Sizes: batch B, tokens L, channels D, taps K. Tensors are contiguous: x and y (B, L, D), weight (K, D), bias
(D,). Every kernel runs on a CPU in Triton's interpreter, too.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS, CHANNELS = 32, 64


@triton.jit
def _input(x, t, d, length, channels, dtype: tl.constexpr):
    """Values of tokens and channels (TOKENS, CHANNELS), zeros where there are none."""
    keep = ((t >= 0) & (t < length))[:, None] & (d < channels)[None, :]
    return tl.load(x + t[:, None] * channels + d[None, :], mask=keep, other=0).to(dtype)


@triton.jit
def _before_activation(x, weight, bias, t, d, length, channels, K: tl.constexpr):
    through = tl.load(bias + d, mask=d < channels, other=0)
    z = tl.zeros((t.shape[0], d.shape[0]), through.dtype) + through[None, :]
    for k in tl.static_range(K):
        w = tl.load(weight + k * channels + d, mask=d < channels, other=0)
        z += w[None, :] * _input(x, t - (K - 1 - k), d, length, channels, through.dtype)
    return z


@triton.jit
def _forward(
    x, weight, bias, y, length, channels,
    K: tl.constexpr, SILU: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Fill y (B, L, D)."""
    item = tl.program_id(2).to(tl.int64) * length * channels
    t = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    z = _before_activation(x + item, weight, bias, t, d, length, channels, K)
    if SILU:
        z = z / (1 + tl.exp(-z))
    keep = (t < length)[:, None] & (d < channels)[None, :]
    tl.store(y + item + t[:, None] * channels + d[None, :], z, mask=keep)


@triton.jit
def _backward(
    x, weight, bias, gy, gx, gweight, gbias, length, channels,
    K: tl.constexpr, SILU: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Fill gx (B, L, D), and by tile of tokens gweight (B, tiles, K, D) and gbias (B, tiles, D)."""
    item = tl.program_id(2).to(tl.int64) * length * channels
    t = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    tile = tl.program_id(2).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    total = tl.zeros((TOKENS, CHANNELS), weight.dtype.element_ty)
    for later in tl.static_range(K):
        # What this token gave to the one that is `later` tokens after it.
        gz = _input(gy + item, t + later, d, length, channels, total.dtype)
        if SILU:
            z = _before_activation(x + item, weight, bias, t + later, d, length, channels, K)
            share = 1 / (1 + tl.exp(-z))
            gz *= share * (1 + z * (1 - share))
        w = tl.load(weight + (K - 1 - later) * channels + d, mask=d < channels, other=0)
        total += w[None, :] * gz
        if later == 0:
            tl.store(gbias + tile * channels + d, tl.sum(gz, 0), mask=d < channels)
            for k in tl.static_range(K):
                taken = _input(x + item, t - (K - 1 - k), d, length, channels, total.dtype)
                tl.store(gweight + (tile * K + k) * channels + d, tl.sum(gz * taken, 0), mask=d < channels)
    keep = (t < length)[:, None] & (d < channels)[None, :]
    tl.store(gx + item + t[:, None] * channels + d[None, :], total, mask=keep)


def forward(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
    """Convolve contiguous tensors, see the module, to y (B, L, D); with `silu`, to what that makes of it."""
    y = torch.empty_like(x)
    if y.numel():
        with torch.cuda.device_of(x):
            _forward[_grid(x)](x, weight, bias, y, *x.shape[1:], **_sizes(weight, silu))
    return y


def backward(
    x: Tensor, weight: Tensor, bias: Tensor, gy: Tensor, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, given that of y."""
    gx, (tiles, _, batch) = torch.empty_like(x), _grid(x)
    gweight, gbias = (
        weight.new_zeros(batch, tiles, *weight.shape),
        weight.new_zeros(batch, tiles, *bias.shape),
    )
    if gx.numel():
        with torch.cuda.device_of(x):
            _backward[_grid(x)](x, weight, bias, gy, gx, gweight, gbias, *x.shape[1:], **_sizes(weight, silu))
    return gx, gweight.sum((0, 1)), gbias.sum((0, 1))


def _grid(x: Tensor) -> tuple[int, int, int]:
    return triton.cdiv(x.shape[1], TOKENS), triton.cdiv(x.shape[2], CHANNELS), x.shape[0]


def _sizes(weight: Tensor, silu: bool) -> dict[str, int]:
    return dict(K=len(weight), SILU=silu, TOKENS=TOKENS, CHANNELS=CHANNELS)
