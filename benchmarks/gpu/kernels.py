"""Special kernels: each backend that runs here against float64 on the CPU, then its time and memory.

The floor of an operation's time is that of moving its inputs, outputs and gradients once through the memory.
"""

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import torch
from benchmarks.gpu.ceilings import copy_bandwidth
from benchmarks.gpu.check import SEED, Check, Row, at_most, left_out
from torch import Tensor
from torch.nn import functional

from geoladder.models import causal_conv, scan, wavefront
from geoladder.models.causal_conv import causal_convolution
from geoladder.models.scan import selective_scan
from geoladder.models.wavefront import wavefront_scan

LIMITS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Largest error, as a share of the largest value: of outputs and of every gradient."""
NOTHING = 1e-3
"""Share of the largest value of all under which a tensor counts as nothing."""
ONLY_ON = {"numba": "cpu", "triton": "cuda"}
FUSED = ("mamba_ssm", "causal_conv1d")
"""Backends of optional packages, which run where they are chosen."""
Operation = Callable[..., Tensor]


def kernels(check: Check) -> Iterator[Row]:
    """Parity of every kernel and backend in float32 and bfloat16; time, memory and bytes of the scans."""
    for name, backends, make in OPERATIONS:
        for setting, operation in backends(check.device).items():
            for dtype in LIMITS:
                label = f"{setting}, {str(dtype).removeprefix('torch.')}"
                for shape in SHAPES:
                    if check.out_of_time():
                        yield left_out(name, label, "out of time")
                        continue
                    inputs = make(*shape)
                    error = largest_error(operation, inputs, dtype, check.device)
                    yield at_most(
                        LIMITS[dtype], name, f"{label}, {shape}", "error of y and gradients", error, "1"
                    )
    yield from scan_speeds(check)


SHAPES = [(2, 16, 1, 4), (2, 16, 37, 8), (1, 64, 256, 16)]
"""Batch, channels, tokens, states."""


def scan_inputs(batch: int, channels: int, length: int, states: int) -> list[Tensor]:
    """u, delta, A, B, C, D of a selective scan; float64 on the CPU, seeded."""
    generator = torch.Generator().manual_seed(SEED)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    delta = functional.softplus(draw(batch, channels, length))
    rates = -torch.rand(channels, states, generator=generator, dtype=torch.float64) - 0.1
    return [
        draw(batch, channels, length), delta, rates, draw(batch, states, length), draw(batch, states, length),
        draw(channels),
    ]  # fmt: skip


def grid_inputs(batch: int, channels: int, length: int, states: int) -> list[Tensor]:
    """Inputs of `wavefront_scan` on a grid of at most `length` cells, eight columns wide."""
    generator = torch.Generator().manual_seed(SEED)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    grid = (max(1, length // 8), min(length, 8))
    steps = [functional.softplus(draw(batch, channels, *grid)) for _ in range(2)]
    rates = [-torch.rand(channels, states, generator=generator, dtype=torch.float64) - 0.1 for _ in range(2)]
    weights = [draw(batch, states, *grid) for _ in range(2)]
    return [draw(batch, channels, *grid), *steps, *rates, *weights, draw(channels)]


def convolution_inputs(batch: int, channels: int, length: int, states: int) -> list[Tensor]:
    """x, weight and bias of a causal convolution of four taps; it knows no states."""
    generator = torch.Generator().manual_seed(SEED)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return [draw(batch, length, channels), draw(channels, 1, 4), draw(channels)]


def attention_inputs(batch: int, channels: int, length: int, states: int) -> list[Tensor]:
    """Queries, keys and values of two heads, `channels` wide."""
    generator = torch.Generator().manual_seed(SEED)
    return [
        torch.randn(batch, 2, length, channels, generator=generator, dtype=torch.float64) for _ in range(3)
    ]


def backends_of(module: ModuleType, operation: Operation) -> Callable[[str], dict[str, Operation]]:
    """What gives the backends of an operation that can run on a device."""

    def backends(device: str) -> dict[str, Operation]:
        chosen = module.choose_backend(device).name
        names = [
            name
            for name in module.BACKENDS
            if name == chosen or (name not in FUSED and ONLY_ON.get(name, device) == device)
        ]
        if chosen == "torch":  # Triton is there and does not work, or is not there
            names = [name for name in names if name != "triton"]
        return {name: partial(operation, backend=name) for name in names}

    return backends


def torch_only(operation: Operation) -> Callable[[str], dict[str, Operation]]:
    """An operation with one form on all devices."""
    return lambda _: {"torch": operation}


OPERATIONS: list[tuple[str, Callable[[str], dict[str, Operation]], Callable[..., list[Tensor]]]] = [
    ("selective scan", backends_of(scan, selective_scan), scan_inputs),
    ("wavefront scan", backends_of(wavefront, wavefront_scan), grid_inputs),
    ("causal convolution", backends_of(causal_conv, causal_convolution), convolution_inputs),
    ("attention", torch_only(functional.scaled_dot_product_attention), attention_inputs),
]


def results(operation: Operation, inputs: list[Tensor]) -> list[Tensor]:
    """Output and gradients of the mean square of it, float64 on the CPU."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    y = operation(*leaves)
    gradients = torch.autograd.grad(
        y.float().square().mean() if y.dtype != torch.float64 else y.square().mean(), leaves
    )
    return [tensor.detach().double().cpu() for tensor in (y, *gradients)]


def largest_error(operation: Operation, inputs: list[Tensor], dtype: torch.dtype, device: str) -> float:
    """Largest difference to float64 on the CPU, as a share of each tensor's largest value.

    The reference gets the inputs rounded to `dtype`, so that only the computation is judged. Gradients that are
    nothing beside the others (those of attention's queries, with one token) are judged by the size of these.
    """
    rounded = [tensor.to(dtype) for tensor in inputs]
    reference = REFERENCES.get(getattr(operation, "func", operation), operation)
    expected = results(reference, [tensor.double() for tensor in rounded])
    actual = results(operation, [tensor.to(device) for tensor in rounded])
    floor = NOTHING * max(float(tensor.abs().max()) for tensor in expected)
    return max(
        float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=floor))
        for ours, theirs in zip(actual, expected, strict=True)
    )


def scan_loop(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The recurrence of `selective_scan` as a plain loop over tokens, the reference of all backends."""
    h = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    outputs = []
    for t in range(u.shape[2]):
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta * u)[:, :, t, None] * B[:, None, :, t]
        outputs.append((h * C[:, None, :, t]).sum(-1))
    return torch.stack(outputs, -1) + u * D[:, None]


REFERENCES: dict[object, Operation] = {
    selective_scan: scan_loop,
    wavefront_scan: partial(wavefront_scan, backend="torch"),
    causal_convolution: partial(causal_convolution, backend="torch"),
}
"""Operations whose reference is another form; those of the others are themselves in float64."""


def scan_speeds(check: Check) -> Iterator[Row]:
    """Milliseconds, peak memory and times the bandwidth floor of scans and convolution, by backend and dtype."""
    bandwidth = copy_bandwidth(check)
    for name, backends, make in OPERATIONS[:3]:
        # The torch form of the wavefront scan keeps all states of all cells: too much for long sequences.
        lengths = [64, 256] if name == "wavefront scan" else [64, 256, 1024]
        for length in [16] if check.dry else lengths:
            shape = (check.sized(16, 1), check.sized(1536, 8), length, 16)
            for dtype in LIMITS:
                inputs = [tensor.to(check.device, dtype).requires_grad_() for tensor in make(*shape)]
                # Inputs are read in both passes, their gradients written; y is as large as the first.
                floor_s = (3 * sum(tensor.nbytes for tensor in inputs) + 2 * inputs[0].nbytes) / bandwidth
                for backend, operation in backends(check.device).items():
                    setting = f"{backend}, {str(dtype).removeprefix('torch.')}, {shape}"
                    if check.out_of_time():
                        yield left_out(name, setting, "out of time")
                        continue
                    yield from speed(check, name, setting, partial(step_of, operation, inputs), floor_s)


def speed(check: Check, name: str, setting: str, step: Callable[[], None], floor_s: float) -> Iterator[Row]:
    """Milliseconds of a step, how often the floor fits in, and on a card its peak memory."""
    seconds = check.seconds(step, repeats=5)
    yield Row(name, setting, "forward and backward", seconds * 1e3, "ms")
    yield Row(name, setting, "time over the bandwidth floor", seconds / floor_s, "1")
    if check.device == "cuda":
        yield Row(name, setting, "peak memory", check.peak_bytes(step) / 1e6, "MB")


def step_of(operation: Operation, inputs: list[Tensor]) -> None:
    """Forward and backward pass."""
    torch.autograd.grad(operation(*inputs).sum(), inputs)
