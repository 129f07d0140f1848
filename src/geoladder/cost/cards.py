"""Graphics cards that plans are made for: memory, and dense bf16 operations per second from NVIDIA's data sheets."""

from typing import NamedTuple


class Card(NamedTuple):
    """One kind of GPU."""

    memory_gb: float
    """1e9 bytes, as the name says."""
    peak_tflops: float
    """1e12 operations per second, bf16 with float32 sums, without sparsity."""


CARDS = {
    "a100-40": Card(40, 312),
    "a100-80": Card(80, 312),
    "h100-80": Card(80, 989),
    "h200-141": Card(141, 989),
}
