"""The selective scan of Mamba (S6; Gu and Dao, arXiv 2312.00752, algorithm 2), by whichever backend is fastest here.

Backends (`auto` picks the first that works and logs the reason once, see geoladder.models.backends):

- `mamba_ssm`: the fused CUDA kernel of the package mamba-ssm, where it is installed
- `triton`: our kernels for GPUs (geoladder.models.scan_triton), which need nothing beside torch
- `numba`: our kernels for CPUs (geoladder.models.scan_kernels)
- `torch`: chunks of a log-step scan in plain torch, any device

`numba` and `triton` are one torch operator (geoladder.models.scan_op). Besides the inputs, its backward
pass keeps a state for each chunk of tokens, as much memory as one input where there are as many states as
tokens in a chunk.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backends import Backend, FusedKernel, check_shapes, choose, working_dtype
from geoladder.models.demand import demanded_scan
from geoladder.models.scan_op import scan_op

FUSED = FusedKernel("selective scan", "mamba-ssm", "mamba_ssm.ops.selective_scan_interface:selective_scan_fn")
TORCH_CHUNK = 64
"""Tokens the `torch` backend scans at once, in 6 doubling steps."""


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    backend: str = "auto",
    softplus: bool = False,
) -> Tensor:
    """Run h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t];  y[t] = C[t] . h[t] + D u[t], from h = 0.

    Any strides. Half precision is computed in float32; y (B, D, L) has the dtype of `u`.

    Inputs u and step sizes delta are (B, D, L), decay rates A, negative, (D, N), input weights B and output
    weights C by token (B, N, L), skip weights D (D,). Step sizes are positive, or, with `softplus`, what a
    softplus makes so: then its result is not kept for the backward pass. The module lists the backends.

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot run on this device.
    """
    needs = (
        "selective scan needs u and delta (B, D, L), A (D, N), B and C (B, N, L), D (D,) with L at least 1"
    )
    check_shapes(needs, "BDL BDL DN BNL BNL D", u, delta, A, B, C, D)
    name = _backend(u, backend)
    if name in OPERATOR:
        grouped = (tensor.unsqueeze(0) for tensor in (delta.mT, A, B.mT, C.mT, D))
        y, _states = scan_op(u.mT, *grouped, None, softplus, name)
        return y.mT
    working = working_dtype(u)
    with torch.autocast(u.device.type, enabled=False):
        y = FORMS[name](*(tensor.to(working) for tensor in (u, delta, A, B, C, D)), softplus)
    return y.to(u.dtype)


def cross_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    orders: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Scan the same tokens in several orders, each with parameters of its own; the sum of the outputs, in place.

    By `triton` all orders are one launch, and no reordered copy is made. Inputs u are (B, L, D); by order
    delta (G, B, L, D), before a softplus, A (G, D, N), B and C (G, B, L, N), D (G, D). All are given where
    the tokens lie. `orders` (G, L) are the tokens as each scan reads them. y is (B, L, D), of the dtype of
    `u`.

    Raises:
        GeoladderError: as `selective_scan`.
    """
    needs = (
        "cross scan needs u (B, L, D), delta (G, B, L, D), A (G, D, N), B and C (G, B, L, N), D (G, D), orders "
        "(G, L) with L at least 1"
    )
    check_shapes(needs, "BLD GBLD GDN GBLN GBLN GD GL", u, delta, A, B, C, D, orders)
    name = _backend(u, backend)
    if name in OPERATOR:
        return scan_op(u, delta, A, B, C, D, orders.int(), True, name)[0]
    outputs = []
    for *tokens, rates, skip, order in zip(delta, B, C, A, D, orders, strict=True):
        read, step, b, c = (tensor.index_select(1, order).mT for tensor in (u, *tokens))
        y = selective_scan(read, step, rates, b, c, skip, backend=name, softplus=True)
        outputs.append(y.mT.index_select(1, order.argsort()))
    return torch.stack(outputs).sum(0)


def reading_orders(rows: int, columns: int) -> list[list[int]]:
    """Tokens of a grid, numbered row by row, as read by rows from the first or last, and by columns from either."""
    by_rows = list(range(rows * columns))
    by_columns = [row * columns + column for column in range(columns) for row in range(rows)]
    return [by_rows, by_rows[::-1], by_columns, by_columns[::-1]]


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
    on_gpu: dict[str, Callable[[], object]] = {
        "mamba_ssm": FUSED.find,
        "triton": lambda: warm_up("triton", device_type),
    }
    on_cpu: dict[str, Callable[[], object]] = {"numba": _import_numba}
    candidates: dict[str, dict[str, Callable[[], object]]] = {"cuda": on_gpu, "cpu": on_cpu, "meta": on_cpu}
    return choose("selective scan", device_type, candidates.get(device_type, {}), demanded)


def warm_up(backend: str = "numba", device_type: str = "cpu") -> None:
    """Compile kernels, or load them from their cache on disk, so that forked children need not: run both passes once.

    Raises:
        Exception: whatever a compiler or driver raises where they cannot run.
    """
    with torch.enable_grad():
        inputs = [
            torch.ones((1,) * ndim, device=device_type, requires_grad=True) for ndim in (3, 3, 2, 3, 3, 1)
        ]
        y = selective_scan(*inputs, backend=backend)
        torch.autograd.grad(y.sum(), inputs)[0].item()


def _import_numba() -> None:
    import geoladder.models.scan_numba  # noqa: F401


def _backend(u: Tensor, backend: str) -> str:
    name = choose_backend(u.device.type).name if backend == "auto" else backend
    if name not in BACKENDS:
        raise GeoladderError(f"scan backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")
    if name == "numba" and u.device.type not in ("cpu", "meta"):
        raise GeoladderError(
            f"scan backend numba runs on the CPU, but the tensors are on {u.device}; use auto or torch"
        )
    return name


def _chunked(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, softplus: bool
) -> Tensor:
    """Chunk by chunk; in a chunk, states of all tokens at once by doubling (Hillis and Steele)."""
    delta = functional.softplus(delta) if softplus else delta
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


def _fused(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, softplus: bool) -> Tensor:
    tensors = (u.contiguous(), delta.contiguous(), a, b.contiguous(), c.contiguous(), skip)
    return FUSED(*tensors, delta_softplus=softplus)


OPERATOR = ("triton", "numba")
"""Backends that are kernels of the torch operator."""
FORMS: dict[str, Callable[..., Tensor]] = {"mamba_ssm": _fused, "torch": _chunked}
"""The others."""
BACKENDS = ("mamba_ssm", *OPERATOR, "torch")
