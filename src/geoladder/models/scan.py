"""The selective scan of Mamba (S6; Gu and Dao, arXiv 2312.00752, algorithm 2), by whichever backend is fastest here.

Backends, among which `auto` picks by the device and logs the reason once:

- `numba`: compiled kernels with their own backward pass (geoladder.models.scan_kernels); CPU, and counting on `meta`
- `torch`: chunks of a log-step scan in plain torch, any device; what a GPU without mamba-ssm gets
- `mamba_ssm`: the fused CUDA kernel of the package mamba-ssm, where it is installed

The first is the torch operator `geoladder::selective_scan`. Besides the inputs, its backward pass keeps a state for
each chunk of tokens, as much memory as one input where there are as many states as tokens in a chunk. No compiler is
needed on the user's machine. Compiled code is cached on disk by numba: beside the kernels, in the user's cache folder
where that is read-only, or in NUMBA_CACHE_DIR. Batch items are shared out to as many Python threads as torch uses;
results are the same bits for any number of them. numba's own threads would not survive a fork.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from geoladder.errors import GeoladderError
from geoladder.models.backends import Backend, FusedKernel, check_shapes
from geoladder.models.scan_kernels import CHUNK, Tensors, backward, forward

FUSED = FusedKernel("selective scan", "mamba-ssm", "mamba_ssm.ops.selective_scan_interface:selective_scan_fn")
TORCH_CHUNK = 64
"""Tokens the `torch` backend scans at once, in 6 doubling steps."""
PARALLEL = 1 << 20
"""Elements (batch x length x channels x states) from which a second thread pays."""
LOG2_E = 1 / math.log(2)


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, backend: str = "auto"
) -> Tensor:
    """Run h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t];  y[t] = C[t] . h[t] + D u[t], from h = 0.

    Any strides. Half precision is computed in float32; y (B, D, L) has the dtype of `u`.

    Inputs u and step sizes delta, positive (after softplus), are (B, D, L), decay rates A, negative, (D, N), input
    weights B and output weights C by token (B, N, L), skip weights D (D,). The module lists the backends.

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot run on this device.
    """
    needs = (
        "selective scan needs u and delta (B, D, L), A (D, N), B and C (B, N, L), D (D,) with L at least 1"
    )
    check_shapes(needs, "BDL BDL DN BNL BNL D", u, delta, A, B, C, D)
    name = choose_backend(u.device.type).name if backend == "auto" else backend
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
def choose_backend(device_type: str) -> Backend:
    """Backend for a kind of device (`cpu`, `cuda`, `meta`, ...); the reason is logged once."""
    return FUSED.choose(device_type, otherwise="numba" if device_type in ("cpu", "meta") else "torch")


def warm_up() -> None:
    """Compile the CPU kernels, or load them from numba's cache on disk, so that forked children need not."""
    with torch.enable_grad():
        u, delta, a, b, c, skip = (torch.ones((1,) * n, requires_grad=True) for n in (3, 3, 2, 3, 3, 1))
        selective_scan(u, delta, a, b, c, skip, "numba").sum().backward()


@torch.library.custom_op("geoladder::selective_scan", mutates_args=(), device_types="cpu")
def scan_op(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """Selective scan of u, delta (B, L, D); a (D, N); b, c (B, L, N); skip (D,), all float32 or all float64.

    Any strides, though only contiguous tensors are not copied.

    Returns:
        y (B, L, D), and the states before each chunk of tokens (B, chunks, N, D), kept for the backward pass.
    """
    y, states = _outputs(u, a)
    _share(forward, states, _inputs(u, delta, a, b, c, skip), y.numpy(), states.numpy())
    return y, states


@torch.library.custom_op("geoladder::selective_scan_backward", mutates_args=(), device_types="cpu")
def scan_backward_op(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, gy: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (u, delta, a, b, c, skip), given that of y and the kept states."""
    gu, gdelta, gb, gc = (u.new_zeros(tokens.shape) for tokens in (u, delta, b, c))
    grates, gskip = u.new_zeros(u.shape[0], *a.mT.shape), u.new_zeros(u.shape[0], *skip.shape)
    gradients = Tensors(*(tensor.numpy() for tensor in (gu, gdelta, gb, gc, grates, gskip)))
    inputs, gy = _inputs(u, delta, a, b, c, skip), gy.detach().contiguous()
    _share(backward, states, inputs, gy.numpy(), states.detach().numpy(), gradients)
    return gu, gdelta, grates.sum(0).mT.contiguous(), gb, gc, gskip.sum(0)


def _outputs(u: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, channels = u.shape
    return u.new_empty(u.shape), u.new_empty(batch, -(-length // CHUNK), a.shape[1], channels)


def _inputs(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensors:
    # FSDP frees the storage of a parameter, which torch refuses once numpy has seen it: so `skip` is copied.
    tensors = (u, delta, b, c, a.mT * LOG2_E, skip.clone())
    return Tensors(*(tensor.detach().contiguous().numpy() for tensor in tensors))


def _share(kernel: Callable[..., None], states: Tensor, *arguments: Any) -> None:  # noqa: ANN401
    """Run a kernel on all batch items, on several threads where there is enough to do."""
    batch = states.shape[0]
    threads = min(torch.get_num_threads(), batch) if states.numel() * CHUNK >= PARALLEL else 1
    if threads == 1:
        kernel(*arguments, 0, batch)
    else:
        bounds = pairwise(batch * part // threads for part in range(threads + 1))
        list(_pool(os.getpid(), threads).map(lambda share: kernel(*arguments, *share), bounds))


@cache
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """One for each process: a forked child inherits a pool, but not its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="selective-scan")


scan_op.register_fake(lambda u, delta, a, b, c, skip: _outputs(u, a))
scan_backward_op.register_fake(lambda *inputs: tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:6]))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, gy: Tensor | None, _states: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    if gy is None:
        return (None,) * 6
    *inputs, states = ctx.saved_tensors
    return scan_backward_op(*inputs, gy, states)


scan_op.register_autograd(_gradients, setup_context=_save)


@register_flop_formula(torch.ops.geoladder.selective_scan)
def scan_flops(u: Any, delta: Any, a: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of a forward scan: per token, channel and state 9 (as mamba_ssm counts them), plus the skip's 2."""
    return math.prod(u) * (9 * a[1] + 2)


@register_flop_formula(torch.ops.geoladder.selective_scan_backward)
def scan_backward_flops(u: Any, delta: Any, a: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of the backward scan: 5 to recompute the state, 15 for the gradients, plus 8 per token and channel."""
    return math.prod(u) * (20 * a[1] + 8)


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


BACKENDS: dict[str, Callable[..., Tensor]] = {"numba": _numba, "torch": _chunked, "mamba_ssm": _fused}
