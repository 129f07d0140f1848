"""The selective scan on a CPU as the torch operator `geoladder::selective_scan`, around two numba kernels.

Unusual: nothing is copied into a layout of the kernels (geoladder.models.scan_kernels); they read tensors of any
strides. Besides the inputs, the backward pass keeps a state for each chunk of tokens, as much memory as one input
where there are as many states as tokens in a chunk.

No compiler is needed on the user's machine. Compiled code is cached on disk by numba: beside this file, in the user's
cache folder where that is read-only, or in NUMBA_CACHE_DIR. Batch items are shared out to as many Python threads as
torch uses; results are the same bits for any number of them. numba's own threads would not survive a fork.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from geoladder.models.lanes import LANES
from geoladder.models.scan_kernels import CHUNK, LOG2_E, Strides, backward, forward, workspace

PARALLEL = 1 << 20
"""Elements (batch x length x channels x states) from which a second thread pays."""


@torch.library.custom_op("geoladder::selective_scan", mutates_args=(), device_types="cpu")
def scan_op(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    """Selective scan of u, delta (B, L, D); a (D, N); b, c (B, L, N); skip (D,), all float32 or all float64.

    Returns:
        y (B, L, D), contiguous, and the states before each chunk of tokens, kept for the backward pass.
    """
    y, states = _outputs(u, a)
    inputs = (*_memory(u), *_memory(delta), _rates(a), *_memory(b), *_memory(c), _skip(skip))
    _share(forward, (*inputs, y.numpy(), states.numpy()), states)
    return y, states


@torch.library.custom_op("geoladder::selective_scan_backward", mutates_args=(), device_types="cpu")
def scan_backward_op(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, gy: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (u, delta, a, b, c, skip), given that of y and the kept states."""
    batch, chunks, blocks, order, _ = states.shape
    gu, gdelta = u.new_empty(u.shape), u.new_empty(u.shape)
    gb, gc = (u.new_zeros(batch, chunks, order, CHUNK) for _ in range(2))
    grates, gskip = u.new_zeros(batch, blocks, order, LANES), u.new_zeros(batch, blocks, LANES)
    inputs = (*_memory(u), *_memory(delta), _rates(a), *_memory(b), *_memory(c), _skip(skip), *_memory(gy))
    outputs = (each.numpy() for each in (states.detach(), gu, gdelta, grates, gb, gc, gskip))
    _share(backward, (*inputs, *outputs), states)
    length, channels = u.shape[1:]
    ga = grates.sum(0).mT.reshape(blocks * LANES, order)[:channels]
    gb, gc = (each.mT.reshape(batch, chunks * CHUNK, order)[:, :length].contiguous() for each in (gb, gc))
    return gu, gdelta, ga, gb, gc, gskip.sum(0).flatten()[:channels]


def _outputs(u: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, channels = u.shape
    blocks, chunks = -(-channels // LANES), -(-length // CHUNK)
    return u.new_empty(u.shape), u.new_empty(batch, chunks, blocks, a.shape[1], LANES)


def _memory(tensor: Tensor) -> tuple[np.ndarray, Strides]:
    """From a tensor's first element to its last, and the strides to find the others with."""
    if tensor.numel() == 0:
        return tensor.new_empty(0).numpy(), (0, 0, 0)
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    batch, token, channel = tensor.stride()
    return tensor.detach().as_strided((span,), (1,)).numpy(), (batch, token, channel)


def _rates(a: Tensor) -> np.ndarray:
    """(D, N) to (blocks, N, LANES), padded by zeros, so that decays are powers of 2."""
    channels, order = a.shape
    padded = functional.pad(a.detach(), (0, 0, 0, -channels % LANES)) * LOG2_E
    return padded.view(-1, LANES, order).mT.contiguous().numpy()


def _skip(skip: Tensor) -> np.ndarray:
    return functional.pad(skip.detach(), (0, -skip.shape[0] % LANES)).numpy()


def _share(kernel: Callable[..., None], arguments: tuple[Any, ...], states: Tensor) -> None:
    """Run a kernel on all batch items, on several threads where there is enough to do."""
    batch, _, blocks, order, _ = states.shape
    threads = min(torch.get_num_threads(), batch) if states.numel() * CHUNK >= PARALLEL else 1
    works = [states.new_zeros(workspace(blocks, order)).numpy() for _ in range(threads)]
    bounds = [batch * part // threads for part in range(threads + 1)]
    parts = list(zip(works, bounds[:-1], bounds[1:], strict=True))
    if threads == 1:
        kernel(*arguments, *parts[0])
    else:
        list(_pool(os.getpid(), threads).map(lambda part: kernel(*arguments, *part), parts))


@cache
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """One for each process: a forked child inherits a pool, but not its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="selective-scan")


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    return _outputs(u, a)


@scan_backward_op.register_fake
def _(u, delta, a, b, c, skip, gy, states):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return tuple(each.new_empty(each.shape) for each in (u, delta, a, b, c, skip))


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
    batch, length, channels = u
    return batch * length * channels * (9 * a[1] + 2)


@register_flop_formula(torch.ops.geoladder.selective_scan_backward)
def scan_backward_flops(u: Any, delta: Any, a: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of the backward scan: 5 to recompute the state, 15 for the gradients, plus 8 per token and channel."""
    batch, length, channels = u
    return batch * length * channels * (20 * a[1] + 8)
