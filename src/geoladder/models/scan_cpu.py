"""The selective scan on a CPU as the torch operator `geoladder::selective_scan`, around two numba kernels.

Besides the inputs, the backward pass keeps a state for each chunk of tokens, as much memory as one input where there
are as many states as tokens in a chunk. No compiler is needed on the user's machine. Compiled code is cached on disk
by numba: beside geoladder.models.scan_kernels, in the user's cache folder where that is read-only, or in
NUMBA_CACHE_DIR. Batch items are shared out to as many Python threads as torch uses; results are the same bits for any
number of them. numba's own threads would not survive a fork.
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

from geoladder.models.scan_kernels import CHUNK, Tensors, backward, forward

PARALLEL = 1 << 20
"""Elements (batch x length x channels x states) from which a second thread pays."""
LOG2_E = 1 / math.log(2)


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


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
    return _outputs(u, a)


@scan_backward_op.register_fake
def _(u, delta, a, b, c, skip, gy, states):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return tuple(tensor.new_empty(tensor.shape) for tensor in (u, delta, a, b, c, skip))


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
