"""Selective scan, forward and backward: the compiled kernels against their bars, in one process.

    python benchmarks/scan.py [--threads N]

Prints CPU nanoseconds per (batch x length x channel x state) element, and each bar with the measured value; exits
with 1 if a bar is missed. The bars are ratios of medians of interleaved repeats, which a busy machine moves little.
The rivals are the plain loop over tokens under autograd, and a scan over the whole length in log2(length) doubling
steps (Hillis and Steele), with the same scan, time reversed, as its backward pass. Memory is the most that torch has
allocated at one time in a step (the kernels allocate a few tiles themselves), over what any scan has to hold: inputs,
outputs and gradients.

Kernels of explicit vector instructions were here before, 2 to 2.5 times as fast as these at the same bits. A step of
`mamba_upernet` xs, s and m (batch 16, 32 px, one thread) took 7, 6 and 8 % less with them, the default study 2 % (17
cells of 352 such steps, and some 65 fine-tunings of 80, in 1,425 core seconds).
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from statistics import median

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler announces itself otherwise; read by its import

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from geoladder.models.scan import selective_scan, warm_up

SHAPES = {  # batch, length, channels, states
    "rung xs, 32 px": (32, 64, 12, 8),
    "rung s, 32 px": (32, 64, 32, 8),
    "rung m, 32 px": (32, 64, 64, 8),
    "L 64": (16, 64, 768, 16),
    "L 256": (4, 256, 1536, 16),
    "L 1024": (4, 1024, 384, 16),
}
LOOP_BARS = {"L 64": 2.0, "L 256": 2.5, "L 1024": 3.5}
"""Times faster than the loop, by shape."""
LOG_STEP_BAR = 15.0
REPEATS = 3
MEMORY_BARS = {"channels last": 1.5, "tokens last": 1.8}
"""The mixer's tensors have neighbouring channels side by side in memory; others have tokens, and are copied."""


def inputs(layout: str, batch: int, length: int, channels: int, states: int) -> list[Tensor]:
    """u, delta, A, B, C, D, and a gradient of y; seeded."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> Tensor:
        values = torch.randn(batch, length, count, generator=generator).mT
        return values if layout == "channels last" else values.contiguous()

    rates = -torch.rand(channels, states, generator=generator)
    delta = 0.1 * tokens(channels).sigmoid()
    leaves = [tokens(channels), delta, rates, tokens(states), tokens(states), torch.ones(channels)]
    return [*(leaf.requires_grad_() for leaf in leaves), tokens(channels)]


def prefix(decay: Tensor, state: Tensor) -> Tensor:
    """h[t] = decay[t] h[t-1] + state[t] along dimension 1, in place, in log2(length) doubling steps."""
    reach = 1
    while reach < state.shape[1]:
        state[:, reach:] += decay[:, reach:] * state[:, :-reach]
        decay[:, reach:] = decay[:, reach:] * decay[:, :-reach]
        reach *= 2
    return state


class LogSteps(torch.autograd.Function):
    """h from decay and state, all (B, L, D, N); backwards the same scan with time reversed."""

    @staticmethod
    def forward(ctx, decay, state):  # noqa: D102
        h = prefix(decay.clone(), state.clone())
        ctx.save_for_backward(decay, h)
        return h

    @staticmethod
    def backward(ctx, grad):  # noqa: D102
        decay, h = ctx.saved_tensors
        following = torch.cat([decay[:, 1:], torch.zeros_like(decay[:, :1])], 1)
        through = prefix(following.flip(1), grad.flip(1)).flip(1)
        before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
        return through * before, through


def log_step_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """All states of all tokens at once; arguments as `selective_scan`."""
    decay = torch.exp(delta.mT[..., None] * a)
    h = LogSteps.apply(decay, (delta * u).mT[..., None] * b.mT[:, :, None])
    return (h @ c.mT[..., None]).squeeze(-1).mT + u * skip[:, None]


def loop(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """The recurrence as a plain loop over tokens; arguments as `selective_scan`."""
    h = u.new_zeros(u.shape[0], u.shape[1], a.shape[1])
    outputs = []
    for u_t, delta_t, b_t, c_t in zip(*(tensor.unbind(-1) for tensor in (u, delta, b, c)), strict=True):
        h = torch.exp(delta_t[..., None] * a) * h + (delta_t * u_t)[..., None] * b_t[:, None]
        outputs.append((h * c_t[:, None]).sum(-1))
    return torch.stack(outputs, -1) + u * skip[:, None]


RIVALS: dict[str, Callable[..., Tensor]] = {
    "kernels": lambda *tensors: selective_scan(*tensors, backend="numba"),
    "loop": loop,
    "log steps": log_step_scan,
}


def step(scan: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Forward and backward; y and all gradients."""
    *leaves, gy = tensors
    y = scan(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, gy)


def times_ns(tensors: list[Tensor], elements: int, rivals: Iterable[str]) -> dict[str, float]:
    """Median CPU time (wall time with several threads) per element of each rival."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(REPEATS):
        for name, seconds in taken.items():
            start = clock()
            step(RIVALS[name], tensors)
            seconds.append(clock() - start)
    return {name: 1e9 * median(seconds) / elements for name, seconds in taken.items()}


def memory_factor(tensors: list[Tensor]) -> float:
    """Peak of torch's allocations in a step of the kernels, over inputs + y + gradients."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        results = step(RIVALS["kernels"], tensors)
    inputs_bytes = sum(tensor.nbytes for tensor in tensors)
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = inputs_bytes
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak / (inputs_bytes + sum(tensor.nbytes for tensor in results))


def judge(shape: str, layout: str, ns: dict[str, float], memory: float) -> bool:
    """Print each bar of a shape with the measured value; True if all are met."""
    bars = [
        ("times faster than the loop, at least", LOOP_BARS[shape], ns["loop"] / ns["kernels"]),
        ("times faster than log steps, at least", LOG_STEP_BAR, ns["log steps"] / ns["kernels"]),
        ("memory over inputs + outputs + gradients, at most", MEMORY_BARS[layout], memory),
    ]
    met = [value <= bar if "at most" in name else value >= bar for name, bar, value in bars]
    for passed, (name, bar, value) in zip(met, bars, strict=True):
        print(f"    {'pass' if passed else 'FAIL'}  {name} {bar}: {value:.2f}")
    return all(met)


def check(shape: str, layout: str) -> bool:
    """Measure one shape; print its bars, if it has any."""
    tensors = inputs(layout, *SHAPES[shape])
    rivals = RIVALS if shape in LOOP_BARS else ("kernels", "loop")
    ns = times_ns(tensors, math.prod(SHAPES[shape]), rivals)
    report = ", ".join(f"{name} {value:.2f}" for name, value in ns.items())
    print(f"{shape:15} {SHAPES[shape]!s:20} {layout:13} ns per element: {report}", flush=True)
    return shape not in LOOP_BARS or judge(shape, layout, ns, memory_factor(tensors))


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(options.parse_args().threads)
    start = time.perf_counter()
    warm_up()
    print(f"warm-up (compile, or load from cache): {time.perf_counter() - start:.2f} s")
    sys.exit(not all([check(shape, layout) for shape in SHAPES for layout in MEMORY_BARS]))
