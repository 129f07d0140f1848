"""Which pixels of a chip are hidden from the model: whole blocks, an exact share of each chip."""

import torch

from geoladder.errors import GeoladderError


def block_masks(
    batch: int, height_px: int, width_px: int, block_px: int, ratio: float, generator: torch.Generator
) -> torch.Tensor:
    """Hide the same number of blocks in every chip, drawn uniformly without replacement.

    Args:
        batch: number of chips.
        height_px: chip height, a multiple of `block_px`.
        width_px: chip width, a multiple of `block_px`.
        block_px: side of a block.
        ratio: share of blocks hidden, rounded to whole blocks; at least one is hidden and one stays visible.
        generator: source of randomness, on the CPU.

    Returns:
        (batch, 1, height_px, width_px) bool, True where hidden.

    Raises:
        GeoladderError: blocks do not tile the chip, or a chip has fewer than two blocks.
    """
    if height_px % block_px or width_px % block_px or height_px * width_px < 2 * block_px**2:
        raise GeoladderError(
            f"mask blocks of {block_px} px do not tile chips of {height_px} x {width_px} px; "
            "pretrain.objective.mask_block_px must divide cleaning.chip_px"
        )
    rows, columns = height_px // block_px, width_px // block_px
    hidden = min(max(round(ratio * rows * columns), 1), rows * columns - 1)
    order = torch.rand(batch, rows * columns, generator=generator).argsort(dim=1)
    blocks = (order < hidden).view(batch, 1, rows, columns)
    return blocks.repeat_interleave(block_px, 2).repeat_interleave(block_px, 3)
