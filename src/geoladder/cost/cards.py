"""Graphics cards that plans are made for, and what of a training step fits on one.

Without torch, so that a plan starts at once. A step needs weights, gradients, the optimiser's moments and kept
activations; what the allocator loses to fragments, and workspaces of convolutions, are left to `HEADROOM`.
"""

STATE_BYTES = 16
"""Per parameter, float32: weight, gradient and the two moments of AdamW."""
BF16_COPY_BYTES = 2
"""Per parameter under bf16-mixed: autocast keeps the cast weights until the backward pass."""
HEADROOM = 0.9
"""Share of a card's memory that a step may fill."""
PEAK_TFLOPS = {"a100-40": 312, "a100-80": 312, "h100-80": 989, "h200-141": 989}
"""Of each card, whose name ends with its GB of memory: 1e12 dense bf16 operations per second with float32 sums, by
NVIDIA's data sheets."""


def step_bytes(parameters: int, activations: int, batch: int, shards: int = 1) -> int:
    """Bytes of a training step in bf16-mixed on one device.

    Of `batch` images, each with `activations` bytes of activations; `shards` devices share weights, gradients and
    moments (FSDP; 1 under DDP).
    """
    return round(parameters * STATE_BYTES / shards) + parameters * BF16_COPY_BYTES + activations * batch


def largest_batch(card_bytes: float, parameters: int, activations: int, shards: int = 1) -> int:
    """Images that fit on a card at once in powers of two; 0 where not even one does."""
    batch = 1
    while step_bytes(parameters, activations, batch, shards) <= HEADROOM * card_bytes:
        batch *= 2
    return batch // 2
