"""The 2-D selective scan of Mamba2D (Baty et al., arXiv 2412.16146), by Triton kernels or in plain torch.

Unusual: a cell's state comes from two neighbours at once, the one above and the one to the left, each with
its own input-dependent step and decay rates, and the two are averaged over the neighbours that exist:

    from above     t[i,j] = exp(delta_top[i,j] A_top) h[i-1,j]    + delta_top[i,j] B[i,j] u[i,j] from the
    left  l[i,j] = exp(delta_left[i,j] A_left) h[i,j-1]  + delta_left[i,j] B[i,j] u[i,j] h = (t + l) / 2
    inside;  h = l in the first row (in its first cell with h[0,-1] = 0);  h = t in the first column y[i,j]
    = C[i,j] . h[i,j] + D u[i,j]

The average is the authors' and keeps the state bounded: paths to a cell double with every anti-diagonal,
and without the half so would a state that decays slowly.

Backends: `triton`, our kernels for GPUs (geoladder.models.wavefront_triton), and `torch`, which goes
anti-diagonal by anti-diagonal on any device. The kernels are the torch operator
`geoladder::wavefront_scan`. On `meta`, where models are counted, it has shapes and FLOPs alone, since no
counter looks into the elementwise work of the torch form.
"""

import math
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from geoladder.errors import GeoladderError
from geoladder.models.backends import CHUNK, Backend, check_shapes, choose, triton_kernels, working_dtype
from geoladder.models.demand import demanded_scan
from geoladder.models.scan_gradient import LOG2_E, register_gradient

BACKENDS = ("triton", "torch")


def wavefront_scan(
    u: Tensor,
    delta_top: Tensor,
    delta_left: Tensor,
    A_top: Tensor,
    A_left: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    backend: str = "auto",
    softplus: bool = False,
) -> Tensor:
    """Scan a grid from its first row and column to its last; see the module for the recurrence and the backends.

    Any device, any strides, any H and W from 1. Half precision is computed in float32; y is as u in shape
    and dtype.

    Inputs u and step sizes delta are (B, D, H, W), decay rates A, negative, (D, N), input weights B of both
    directions and output weights C by cell (B, N, H, W), skip weights D (D,). Step sizes are positive, or,
    with `softplus`, what a softplus makes so. Of `delta_top` the first row does not count, of `delta_left`
    of the first column only the corner.

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot run on this device.
    """
    inputs = (u, delta_top, delta_left, A_top, A_left, B, C, D)
    needs = (
        "wavefront scan needs u, delta_top and delta_left (B, D, H, W), A_top and A_left (D, N), B and C "
        "(B, N, H, W), D (D,) with H and W at least 1"
    )
    check_shapes(needs, "BDHW BDHW BDHW DN DN BNHW BNHW D", *inputs)
    name = choose_backend(u.device.type).name if backend == "auto" else backend
    if name not in BACKENDS:
        raise GeoladderError(f"wavefront scan backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")
    if name == "triton" or u.is_meta:
        grids = [tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor for tensor in inputs]
        y, _states = wavefront_op(*grids, softplus)
        return y.permute(0, 3, 1, 2)
    working = working_dtype(u)
    with torch.autocast(u.device.type, enabled=False):
        return _diagonals(*(tensor.to(working) for tensor in inputs), softplus=softplus).to(u.dtype)


@torch.compiler.assume_constant_result
def choose_backend(device_type: str) -> Backend:
    """Backend for a kind of device (`cpu`, `cuda`, `meta`, ...); the reason is logged once.

    Raises:
        GeoladderError: the study demands one (`demand_scan`) that does not run here.
    """
    return chosen(device_type, demanded_scan())


@cache
def chosen(device_type: str, demanded: str) -> Backend:
    """As `choose_backend`, which torch.compile does not look into, by what is demanded."""
    candidates = {"triton": lambda: _try_out(device_type)} if device_type == "cuda" else {}
    return choose("wavefront scan", device_type, candidates, demanded)


def _try_out(device_type: str) -> None:
    """Compile the kernels by both passes over one cell."""
    with torch.enable_grad():
        sizes = (4, 4, 4, 2, 2, 4, 4, 1)
        inputs = [torch.ones((1,) * ndim, device=device_type, requires_grad=True) for ndim in sizes]
        torch.autograd.grad(wavefront_scan(*inputs, backend="triton").sum(), inputs)[0].item()


def _diagonals(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    *, softplus: bool,
) -> Tensor:  # fmt: skip
    """All cells of an anti-diagonal at once; both neighbours lie on the one before it."""
    if softplus:
        top, left = functional.softplus(top), functional.softplus(left)
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


@torch.library.custom_op("geoladder::wavefront_scan", mutates_args=())
def wavefront_op(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Scan u, top and left (B, H, W, D) with b and c (B, H, W, N), rates (D, N) and skip (D,), any strides.

    Returns:
        y as u, and the states of every CHUNK-th row (B, rows, W, N, D), float32 or float64, kept for the
        backward pass.
    """
    kernels = triton_kernels(_load_triton, u)
    return kernels.forward(*_operands(u, top, left, a_top, a_left, b, c, skip), softplus)


@torch.library.custom_op("geoladder::wavefront_scan_backward", mutates_args=())
def wavefront_backward_op(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor,
    gy: Tensor, states: Tensor, softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the eight inputs, given that of y and the kept states."""
    inputs = (u, top, left, a_top, a_left, b, c, skip)
    kernels = triton_kernels(_load_triton, u)
    gu, gtop, gleft, *rates, gb, gc, gskip = kernels.backward(
        *_operands(*inputs), gy.contiguous(), states, softplus
    )
    gradients = (gu, gtop, gleft, *(rate.mT.contiguous() for rate in rates), gb, gc, gskip)
    gu, gtop, gleft, ga_top, ga_left, gb, gc, gskip = (
        gradient.to(tensor.dtype) for gradient, tensor in zip(gradients, inputs, strict=True)
    )
    return gu, gtop, gleft, ga_top, ga_left, gb, gc, gskip


def _load_triton() -> ModuleType:
    from geoladder.models import wavefront_triton

    return wavefront_triton


def _operands(*inputs: Tensor) -> tuple[Tensor, ...]:
    """As the kernels take them: contiguous; rates (N, D) in units of log 2 and skip float32 or float64."""
    u, top, left, a_top, a_left, b, c, skip = inputs
    working = working_dtype(u)
    rates = (a.to(working).mT * LOG2_E for a in (a_top, a_left))
    return tuple(tensor.detach().contiguous() for tensor in (u, top, left, *rates, b, c, skip.to(working)))


@wavefront_op.register_fake
def _(u: Tensor, _top: Tensor, _left: Tensor, a_top: Tensor, *_: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    batch, height, width, channels = u.shape
    working = working_dtype(u)
    rows = -(-height // CHUNK) - 1
    return u.new_empty(u.shape), u.new_empty(batch, rows, width, a_top.shape[1], channels, dtype=working)


register_gradient(wavefront_op, wavefront_backward_op, tensors=8, differentiable=8)


@register_flop_formula(torch.ops.geoladder.wavefront_scan)
def _(u: Any, _top: Any, _left: Any, a_top: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of a forward scan: per cell, channel and state 13, per cell and channel 6.

    13 are the 9 of a selective scan and the second neighbour's step times rate, exponential, product and
    sum.
    """
    return math.prod(u) * (13 * a_top[1] + 6)


@register_flop_formula(torch.ops.geoladder.wavefront_scan_backward)
def _(u: Any, _top: Any, _left: Any, a_top: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of the backward scan: per cell, channel and state 9 to recompute it and 21 for gradients; 18 besides."""
    return math.prod(u) * (30 * a_top[1] + 18)
