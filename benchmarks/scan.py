"""Selective scan, forward and backward on one thread: the compiled kernels against the plain loop, in one process.

    python benchmarks/scan.py

Prints nanoseconds of CPU time per (batch x length x channel x state) element, medians of interleaved repeats, and
the ratios, which do not depend on how busy the machine is.
"""

import time
from statistics import median

import torch

from geoladder.models.scan import selective_scan, warm_up

BACKENDS = ("numba", "torch", "reference")
SHAPES = {  # batch, length, channels, states
    "rung xs, 32 px": (32, 64, 12, 8),
    "rung s, 32 px": (32, 64, 32, 8),
    "rung m, 32 px": (32, 64, 64, 8),
    "L 64": (16, 64, 768, 16),
    "L 256": (4, 256, 1536, 16),
    "L 1024": (4, 1024, 384, 16),
}
REPEATS = 3


def inputs(batch: int, length: int, channels: int, states: int) -> list[torch.Tensor]:
    shapes = [(batch, channels, length), (channels, states), (batch, states, length)]
    u, delta = torch.randn(shapes[0]), 0.1 * torch.rand(shapes[0])
    tensors = [
        u,
        delta,
        -torch.rand(shapes[1]),
        torch.randn(shapes[2]),
        torch.randn(shapes[2]),
        torch.randn(channels),
    ]
    return [each.requires_grad_() for each in tensors]


def seconds(backend: str, tensors: list[torch.Tensor]) -> float:
    start = time.process_time()
    torch.autograd.grad(selective_scan(*tensors, backend=backend).sum(), tensors)
    return time.process_time() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = time.perf_counter()
    warm_up()
    print(f"warm-up (compile, or load from cache): {time.perf_counter() - start:.2f} s")
    for name, shape in SHAPES.items():
        tensors = inputs(*shape)
        elements = torch.tensor(shape).prod().item()
        times = {backend: [] for backend in BACKENDS}
        for _ in range(REPEATS):
            for backend in BACKENDS:
                times[backend].append(seconds(backend, tensors))
        ns = {backend: 1e9 * median(each) / elements for backend, each in times.items()}
        print(
            f"{name:15} {shape!s:20} ns per element: "
            + ", ".join(f"{backend} {value:.2f}" for backend, value in ns.items())
            + f"; reference / numba {ns['reference'] / ns['numba']:.1f}"
        )
