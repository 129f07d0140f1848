"""The numba kernels of the selective scan as an operator calls them: tensors in, batch items shared out to threads.

No compiler is needed on the user's machine. Compiled code is cached on disk by numba: beside the kernels,
in the user's cache folder where that is read-only, or in NUMBA_CACHE_DIR; where none will do, it stays in memory.
Batch items are shared out to as many Python threads as torch uses; results are the same bits for any number of
them. numba's own threads would not survive a fork.

Tensors have the shapes of geoladder.models.scan_triton, whose functions these are on a CPU; groups run one
after the other.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from geoladder.models.backends import CHUNK
from geoladder.models.scan_kernels import Tensors
from geoladder.models.scan_kernels import backward as backward_kernel
from geoladder.models.scan_kernels import forward as forward_kernel

PARALLEL = 1 << 20
"""Elements (batch x length x channels x states) from which a second thread pays."""


def forward(
    u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, c: Tensor, skip: Tensor, places: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Arguments and results of `geoladder.models.scan_triton.forward`."""
    groups, batch, length, channels = delta.shape
    y = rates.new_empty(delta.shape)
    states = rates.new_empty(groups, batch, -(-length // CHUNK), rates.shape[1], channels)
    for group in range(groups):
        inputs = _inputs(group, u, delta, rates, b, c, skip, places, softplus)
        outputs = y[group] if places is None else torch.empty_like(y[group])
        _share(forward_kernel, states[group], inputs, outputs.numpy(), states[group].numpy())
        if places is not None:
            y[group, :, places[group]] = outputs
    return y, states


def backward(
    u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, c: Tensor, skip: Tensor, places: Tensor | None,
    gy: Tensor, states: Tensor, softplus: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Arguments and results of `geoladder.models.scan_triton.backward`."""
    groups, batch, _, channels = delta.shape
    gu, gdelta, gb, gc = (
        rates.new_zeros(*delta.shape[:3], size) for size in (channels, channels, b.shape[3], b.shape[3])
    )
    grates, gskip = rates.new_zeros(groups, batch, *rates.shape[1:]), rates.new_zeros(groups, batch, channels)
    for group in range(groups):
        inputs = _inputs(group, u, delta, rates, b, c, skip, places, softplus)
        order = slice(None) if places is None else places[group]
        gradients = Tensors(*(tensor[group].numpy() for tensor in (gu, gdelta, gb, gc, grates, gskip)))
        outputs = gy[:, order].to(rates.dtype).contiguous()
        _share(backward_kernel, states[group], inputs, outputs.numpy(), states[group].numpy(), gradients)
        for tokens in (gu[group], gdelta[group], gb[group], gc[group]):
            if places is not None:
                tokens[:, order] = tokens.clone()
    if softplus:
        gdelta = torch.ops.aten.softplus_backward(gdelta, delta.to(rates.dtype), 1, 20)
    return gu, gdelta, grates.sum(1), gb, gc, gskip.sum(1)


def _inputs(
    group: int, u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, c: Tensor, skip: Tensor, places: Tensor | None,
    softplus: bool,
) -> Tensors:  # fmt: skip
    """What the kernels take of one group, in the order in which it reads the tokens."""
    order = slice(None) if places is None else places[group]
    step = delta[group].to(rates.dtype)
    step = torch.nn.functional.softplus(step) if softplus else step
    tokens = (tensor[:, order].to(rates.dtype) for tensor in (u, step, b[group], c[group]))
    # FSDP frees the storage of a parameter, which torch refuses once numpy has seen it: so `skip` is copied.
    tensors = (*tokens, rates[group], skip[group].clone())
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
