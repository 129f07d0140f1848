"""Which number format a run computes in."""

from typing import Literal

import torch

Precision = Literal["auto", "32-true", "bf16-mixed"]


def resolve_precision(asked: Precision) -> Literal["32-true", "bf16-mixed"]:
    """`auto` means bf16-mixed on GPUs that have bf16, 32-true elsewhere.

    CPUs are left at 32 bit even where they have bf16 units (AMX): on the rungs meant for them, autocast's casts cost
    what the matrix products save. Milliseconds of a training step on one AMX core, 32 chips of 32 px, 32 bit against
    bf16: U-Net of 31k parameters 19 / 19, of 465k 48 / 44; ViT of 13k 32 / 55, of 229k 76 / 92.
    """
    if asked != "auto":
        return asked
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"
