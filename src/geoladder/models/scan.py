"""The selective scan of Mamba (S6; Gu and Dao, arXiv 2312.00752, algorithm 2), by whichever backend is fastest here.

Backends:

- `numba`: compiled kernels with their own backward pass (geoladder.models.scan_cpu); CPU, and counting on `meta`
- `torch`: chunks of a log-step scan in plain torch, any device; what a GPU without mamba-ssm gets
- `mamba_ssm`: the fused CUDA kernel of the package mamba-ssm, where it is installed

`auto` picks among them by the device and logs the reason once.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from geoladder.errors import GeoladderError
from geoladder.models.backends import FusedKernel, check_shapes
from geoladder.models.scan_cpu import scan_op

Backend = Literal["auto", "numba", "torch", "mamba_ssm"]
FUSED = FusedKernel("selective scan", "mamba-ssm", "mamba_ssm.ops.selective_scan_interface:selective_scan_fn")
TORCH_CHUNK = 64
"""Tokens the `torch` backend scans at once, in 6 doubling steps."""


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, backend: Backend = "auto"
) -> Tensor:
    """Run h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t];  y[t] = C[t] . h[t] + D u[t], from h = 0.

    Any strides. Half precision is computed in float32, and returned as given.

    Args:
        u: (B, D, L) inputs.
        delta: (B, D, L) step sizes, positive (after softplus).
        A: (D, N) decay rates, negative.
        B: (B, N, L) input weights, by token.
        C: (B, N, L) output weights, by token.
        D: (D,) skip weights.
        backend: see the module.

    Returns:
        y (B, D, L) in the dtype of `u`.

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot run on this device.
    """
    needs = (
        "selective scan needs u and delta (B, D, L), A (D, N), B and C (B, N, L), D (D,) with L at least 1"
    )
    check_shapes(needs, "BDL BDL DN BNL BNL D", u, delta, A, B, C, D)
    name = choose_backend(u.device.type) if backend == "auto" else backend
    if name not in BACKENDS:
        raise GeoladderError(f"scan backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")
    if name == "numba" and u.device.type not in ("cpu", "meta"):
        raise GeoladderError(
            f"scan backend numba runs on the CPU, but the tensors are on {u.device}; use torch"
        )
    working = torch.float64 if u.dtype == torch.float64 else torch.float32
    with torch.autocast(u.device.type if u.device.type != "meta" else "cpu", enabled=False):
        y = BACKENDS[name](*(tensor.to(working) for tensor in (u, delta, A, B, C, D)))
    return y.to(u.dtype)


@cache
def choose_backend(device_type: str) -> str:
    """Backend for a kind of device (`cpu`, `cuda`, `meta`, ...); the reason is logged once."""
    return FUSED.choose(device_type, otherwise="numba" if device_type in ("cpu", "meta") else "torch")


def warm_up() -> None:
    """Compile the CPU kernels, or load them from numba's cache on disk, so that forked children need not."""
    with torch.enable_grad():
        inputs = [torch.ones((1,) * ndim, requires_grad=True) for ndim in (3, 3, 2, 3, 3, 1)]
        selective_scan(*inputs, backend="numba").sum().backward()


def _numba(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    y, _states = scan_op(u.mT, delta.mT, a, b.mT, c.mT, skip)
    return y.mT


def _chunked(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """Chunk by chunk; in a chunk, states of all tokens at once by doubling (Hillis and Steele)."""
    h = u.new_zeros(u.shape[0], u.shape[1], a.shape[1], 1)
    outputs = []
    pieces = (tensor.split(TORCH_CHUNK, dim=-1) for tensor in (u, delta, b, c))
    for u_k, delta_k, b_k, c_k in zip(*pieces, strict=True):
        decay = torch.exp(delta_k[:, :, None] * a[:, :, None])  # (B, D, N, chunk)
        state = (delta_k * u_k)[:, :, None] * b_k[:, None]
        reach = 1
        while reach < u_k.shape[-1]:
            # Each token's pair (decay, state) absorbs that of the token `reach` before it; products of decays
            # only shrink, so nothing overflows.
            earlier, tail = slice(None, -reach), slice(reach, None)
            state = torch.cat(
                [state[..., :reach], state[..., tail] + decay[..., tail] * state[..., earlier]], -1
            )
            decay = torch.cat([decay[..., :reach], decay[..., tail] * decay[..., earlier]], -1)
            reach *= 2
        state = state + decay * h
        h = state[..., -1:]
        outputs.append((state * c_k[:, None]).sum(2))
    return torch.cat(outputs, -1) + u * skip[:, None]


def _fused(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    return FUSED(u.contiguous(), delta.contiguous(), a, b.contiguous(), c.contiguous(), skip)


BACKENDS: dict[str, Callable[..., Tensor]] = {
    "numba": _numba,
    "torch": _chunked,
    "mamba_ssm": _fused,
}
