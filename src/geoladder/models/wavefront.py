"""The 2-D selective scan of Mamba2D (Baty et al., arXiv 2412.16146), by whichever backend is fastest here.

Unusual: a cell's state comes from two neighbours at once, the one above and the one to the left, each with its own
input-dependent step and decay rates, and the two are averaged over the neighbours that exist:

    from above     t[i,j] = exp(delta_top[i,j] A_top) h[i-1,j]    + delta_top[i,j] B[i,j] u[i,j]
    from the left  l[i,j] = exp(delta_left[i,j] A_left) h[i,j-1]  + delta_left[i,j] B[i,j] u[i,j]
    h = (t + l) / 2 inside;  h = l in the first row (in its first cell with h[0,-1] = 0);  h = t in the first column
    y[i,j] = C[i,j] . h[i,j] + D u[i,j]

The average is the authors' and keeps the state bounded: paths to a cell double with every anti-diagonal, and without
the half so would a state that decays slowly. Backends:

- `numba`: compiled kernels with their own backward pass (geoladder.models.wavefront_cpu); CPU, and counting on `meta`
- `torch`: anti-diagonal by anti-diagonal in plain torch, any device

`auto` picks by the device and logs the reason once.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.wavefront_op import wavefront_op

log = logging.getLogger(__name__)

Backend = Literal["auto", "numba", "torch"]


def wavefront_scan(
    u: Tensor,
    delta_top: Tensor,
    delta_left: Tensor,
    A_top: Tensor,
    A_left: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    backend: Backend = "auto",
) -> Tensor:
    """Scan a grid from its first row and column to its last; see the module for the recurrence.

    Any strides, any H and W from 1. Half precision is computed in float32, and returned as given.

    Args:
        u: (B, D, H, W) inputs.
        delta_top: (B, D, H, W) step sizes from the cell above, positive (after softplus); not the first row's.
        delta_left: (B, D, H, W) step sizes from the cell to the left; of the first column only the corner's counts.
        A_top: (D, N) decay rates from above, negative.
        A_left: (D, N) decay rates from the left, negative.
        B: (B, N, H, W) input weights, by cell, of both directions.
        C: (B, N, H, W) output weights, by cell.
        D: (D,) skip weights.
        backend: see the module.

    Returns:
        y (B, D, H, W) in the dtype of `u`.

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot run on this device.
    """
    inputs = (u, delta_top, delta_left, A_top, A_left, B, C, D)
    _check_shapes(*inputs)
    name = choose_backend(u.device.type) if backend == "auto" else backend
    if name not in BACKENDS:
        raise GeoladderError(f"wavefront backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")
    if name == "numba" and u.device.type not in ("cpu", "meta"):
        raise GeoladderError(
            f"wavefront backend numba runs on the CPU, but the tensors are on {u.device}; use torch"
        )
    working = torch.float64 if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type if u.device.type != "meta" else "cpu", enabled=False):
        y = BACKENDS[name](*(each.to(working) for each in inputs))
    return y.to(u.dtype)


@cache
def choose_backend(device_type: str) -> str:
    """Backend for tensors on a device (`cpu`, `cuda`, `meta`, ...); the reason is logged once."""
    name = "numba" if device_type in ("cpu", "meta") else "torch"
    log.info("wavefront scan by %s: tensors are on %s", name, device_type)
    return name


def _check_shapes(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> None:
    shapes = [tuple(each.shape) for each in (u, top, left, a_top, a_left, b, c, skip)]
    if u.ndim == 4 and a_top.ndim == 2 and min(u.shape[2:]) >= 1:
        (batch, channels, height, width), order = u.shape, a_top.shape[1]
        image, rates, cell = tuple(u.shape), (channels, order), (batch, order, height, width)
        if shapes == [image, image, image, rates, rates, cell, cell, (channels,)]:
            return
    raise GeoladderError(
        "wavefront scan needs u, delta_top and delta_left (B, D, H, W), A_top and A_left (D, N), B and C "
        f"(B, N, H, W), D (D,) with H and W at least 1; got {', '.join(map(str, shapes))}"
    )


def _numba(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> Tensor:
    u, top, left, b, c = (each.permute(0, 2, 3, 1).contiguous() for each in (u, top, left, b, c))
    rates = (a_top.T.contiguous(), a_left.T.contiguous())
    y, _states = wavefront_op(u, top, left, *rates, b, c, skip.contiguous())
    return y.permute(0, 3, 1, 2)


def _diagonals(
    u: Tensor, top: Tensor, left: Tensor, a_top: Tensor, a_left: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> Tensor:
    """All cells of an anti-diagonal at once; both neighbours lie on the one before it."""
    height, width = u.shape[2:]
    share_top, share_left = (_skew(each) for each in _shares(height, width, u))
    steps = zip(*(_skew(each).unbind(-1) for each in (u, top, left, b, c)), strict=True)
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


def _shares(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (H, W) of the neighbours above and to the left."""
    top = like.new_full((height, width), 0.5)
    top[:, 0] = 1
    top[0] = 0
    return top, 1 - top


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


BACKENDS: dict[str, Callable[..., Tensor]] = {"numba": _numba, "torch": _diagonals}
