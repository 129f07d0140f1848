"""Which number format a run computes in, and why."""

from typing import Literal, NamedTuple

import torch

from geoladder.errors import GeoladderError

Precision = Literal["auto", "32-true", "bf16-mixed"]
Resolved = Literal["32-true", "bf16-mixed"]


class Choice(NamedTuple):
    """What was chosen, and the reason in words."""

    name: Resolved
    reason: str


def choose_precision(asked: Precision) -> Choice:
    """`auto` means bf16-mixed on GPUs that have bf16, 32-true elsewhere.

    CPUs are left at 32 bit even where they have bf16 units (AMX): on the rungs meant for them, autocast's casts cost
    what the matrix products save. Milliseconds of a training step on one AMX core, 32 chips of 32 px, 32 bit against
    bf16: U-Net of 31k parameters 19 / 19, of 465k 48 / 44; ViT of 13k 32 / 55, of 229k 76 / 92.

    Raises:
        GeoladderError: bf16 is asked for on a GPU that lacks it.
    """
    on_gpu = torch.cuda.is_available()
    if asked == "bf16-mixed" and on_gpu and not gpu_has_bf16():
        raise GeoladderError(
            f"compute.precision is bf16-mixed, but {torch.cuda.get_device_name()} has no bf16 (NVIDIA has it from "
            "compute capability 8.0 on: A100, RTX 30 and later); use auto or 32-true"
        )
    if asked != "auto":
        return Choice(asked, "asked for")
    if not on_gpu:
        return Choice("32-true", "auto, and no GPU")
    if gpu_has_bf16():
        return Choice("bf16-mixed", "auto, and the GPU has bf16")
    return Choice("32-true", "auto, and the GPU has no bf16")


def resolve_precision(asked: Precision) -> Resolved:
    """The name of the choice alone; see `choose_precision`."""
    return choose_precision(asked).name


def gpu_has_bf16() -> bool:
    """Whether the GPU computes in bf16 itself; torch would otherwise count a slow emulation, too."""
    return torch.cuda.is_bf16_supported(including_emulation=False)
