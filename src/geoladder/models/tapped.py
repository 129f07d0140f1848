"""What every token encoder does with its blocks: run them, tap four of them, and start them calm.

Unusual: nothing here knows what a block is; tokens may be a row (B, N, dim) or a grid (B, rows, columns, dim).
"""

from collections.abc import Callable, Iterable

from torch import Tensor, nn


def run_tapped(
    blocks: nn.ModuleList, norm: nn.Module, x: Tensor, to_map: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Run tokens through all blocks, and through `norm` after the last.

    Args:
        blocks: of the encoder.
        norm: its final norm.
        x: tokens that enter the first block.
        to_map: tokens to a map (B, dim, rows, columns).

    Returns:
        Maps of what left the four tapped blocks, the last of them normalised, and that last one's tokens.
    """
    taps, tapped = [], tap_blocks(len(blocks))
    for i, block in enumerate(blocks):
        x = block(x)
        if i == len(blocks) - 1:
            x = norm(x)
        if i in tapped:
            taps.append(to_map(x))
    return taps, x


def tap_blocks(depth: int) -> list[int]:
    """Four equally spaced blocks (from 0) whose outputs are tapped, the last block among them.

    The authors tap blocks 5, 15, 23 and 31 of 32 in one place and others elsewhere; this gives 7, 15, 23, 31.
    """
    return [depth * k // 4 - 1 for k in (1, 2, 3, 4)]


def damp(last_layers: Iterable[nn.Linear], depth: int) -> None:
    """Scale down layers that end residual branches, two in each block, so that depth does not grow the signal."""
    for last in last_layers:
        last.weight.data.mul_((2 * depth) ** -0.5)
