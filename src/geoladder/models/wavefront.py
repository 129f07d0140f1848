"""The 2-D selective scan of Mamba2D (Baty et al., arXiv 2412.16146), anti-diagonal by anti-diagonal in plain torch.

Unusual: a cell's state comes from two neighbours at once, the one above and the one to the left, each with its own
input-dependent step and decay rates, and the two are averaged over the neighbours that exist:

    from above     t[i,j] = exp(delta_top[i,j] A_top) h[i-1,j]    + delta_top[i,j] B[i,j] u[i,j]
    from the left  l[i,j] = exp(delta_left[i,j] A_left) h[i,j-1]  + delta_left[i,j] B[i,j] u[i,j]
    h = (t + l) / 2 inside;  h = l in the first row (in its first cell with h[0,-1] = 0);  h = t in the first column
    y[i,j] = C[i,j] . h[i,j] + D u[i,j]

The average is the authors' and keeps the state bounded: paths to a cell double with every anti-diagonal, and without
the half so would a state that decays slowly. On `meta` the scan is one operator without a kernel, which is given its
FLOPs as an argument for the counter to read: no counter looks into the elementwise work of the torch form.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from geoladder.models.backends import check_shapes

torch.library.define("geoladder::wavefront_scan", "(Tensor u, int flops) -> Tensor")


def wavefront_scan(
    u: Tensor,
    delta_top: Tensor,
    delta_left: Tensor,
    A_top: Tensor,
    A_left: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
) -> Tensor:
    """Scan a grid from its first row and column to its last; see the module for the recurrence.

    Any device, any strides, any H and W from 1. Half precision is computed in float32; y is as u in shape and dtype.

    Inputs u and step sizes delta, positive (after softplus), are (B, D, H, W), decay rates A, negative, (D, N), input
    weights B of both directions and output weights C by cell (B, N, H, W), skip weights D (D,). Of `delta_top` the
    first row does not count, of `delta_left` of the first column only the corner.

    Raises:
        GeoladderError: shapes that do not fit.
    """
    inputs = (u, delta_top, delta_left, A_top, A_left, B, C, D)
    needs = (
        "wavefront scan needs u, delta_top and delta_left (B, D, H, W), A_top and A_left (D, N), B and C "
        "(B, N, H, W), D (D,) with H and W at least 1"
    )
    check_shapes(needs, "BDHW BDHW BDHW DN DN BNHW BNHW D", *inputs)
    if u.is_meta:
        return _Counted.apply(*inputs)
    working = torch.float64 if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type, enabled=False):
        return _diagonals(*(tensor.to(working) for tensor in inputs)).to(u.dtype)


def _diagonals(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> Tensor:
    """All cells of an anti-diagonal at once; both neighbours lie on the one before it."""
    height, width = u.shape[2:]
    top_share = u.new_full((height, width), 0.5)  # weight of the neighbour above
    top_share[:, 0] = 1
    top_share[0] = 0
    share_top, share_left = _skew(top_share), _skew(1 - top_share)
    steps = zip(*(_skew(grid).unbind(-1) for grid in (u, top, left, b, c)), strict=True)
    h = u.new_zeros(u.shape[0], u.shape[1], a_top.shape[1], height)  # by row, of the diagonal before
    outputs = []
    for k, (u_k, top_k, left_k, b_k, c_k) in enumerate(steps):
        by_top, by_left = share_top[..., k], share_left[..., k]
        above = functional.pad(h[..., :-1], (1, 0))
        x = (by_top * top_k + by_left * left_k) * u_k
        h = (
            by_top * torch.exp(top_k[:, :, None] * a_top[:, :, None]) * above
            + by_left * torch.exp(left_k[:, :, None] * a_left[:, :, None]) * h
            + x[:, :, None] * b_k[:, None]
        )
        outputs.append((h * c_k[:, None]).sum(2))
    return _straighten(torch.stack(outputs, -1), width) + u * skip[:, None, None]


def _skew(x: Tensor) -> Tensor:
    """(..., H, W) to (..., H, H + W - 1): row i moves i places to the right, so that columns are anti-diagonals."""
    height, width = x.shape[-2:]
    flat = functional.pad(x, (0, height)).flatten(-2)
    return flat[..., : height * (height + width - 1)].unflatten(-1, (height, height + width - 1))


def _straighten(x: Tensor, width: int) -> Tensor:
    """Undo `_skew`, given W."""
    height = x.shape[-2]
    flat = functional.pad(x.flatten(-2), (0, height))
    return flat.unflatten(-1, (height, height + width))[..., :width]


@torch.library.register_fake("geoladder::wavefront_scan")
def _(u: Tensor, flops: int) -> Tensor:
    return torch.empty_like(u)


@register_flop_formula(torch.ops.geoladder.wavefront_scan)
def _(_u: Any, flops: int, **_: Any) -> int:  # noqa: ANN401 - shapes
    return flops


class _Counted(torch.autograd.Function):
    """The scan as far as shapes, FLOPs and what autograd keeps go.

    Forward FLOPs per cell, channel and state are 13: the 9 of a selective scan and the second neighbour's step times
    rate, exponential, product and sum; per cell and channel 6 more. Backward FLOPs per cell, channel and state are 9
    to recompute the state and 21 for the gradients; per cell and channel 18 more.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(*inputs)
        u, order = inputs[0], inputs[3].shape[1]
        return torch.ops.geoladder.wavefront_scan(u, u.numel() * (13 * order + 6))

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        inputs, order = ctx.saved_tensors, ctx.saved_tensors[3].shape[1]
        torch.ops.geoladder.wavefront_scan(gy, gy.numel() * (30 * order + 18))
        return tuple(map(torch.empty_like, inputs))
