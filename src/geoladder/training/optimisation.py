"""What every training step shares: its number format, its optimiser, and its learning rate.

The peak learning rate comes from the study and is scaled to the rung's width in `geoladder.models.ladder.scaled_lr`.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from geoladder.errors import GeoladderError

Precision = Literal["auto", "32-true", "bf16-mixed"]
Resolved = Literal["32-true", "bf16-mixed"]


def cosine_with_warmup(steps: int, warmup_share: float) -> Callable[[int], float]:
    """Multiplier of the peak learning rate at each step.

    Rises linearly over the first `warmup_share` of the steps, then falls along a half cosine that would reach zero
    one step after the last (Loshchilov and Hutter 2017, without restarts).
    """
    warmup = math.floor(steps * warmup_share)

    def multiplier(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(steps - warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    return multiplier


def adamw(
    model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) on the trainable parameters.

    Weights of linear layers and convolutions decay; norms, biases, tokens and the decay rates and skips of a state
    space model do not.
    """
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    # Norms over channels and pixels have weights of three dimensions.
    norms = {
        id(p) for layer in model.modules() if isinstance(layer, nn.LayerNorm) for p in layer.parameters()
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = (
                name.rpartition(".")[2] == "weight" and parameter.ndim > 1 and id(parameter) not in norms
            )
            (decaying if is_matrix else others).append(parameter)
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas, fused=True)


def per_step(optimizer: torch.optim.Optimizer, steps: int, warmup_share: float) -> dict[str, Any]:
    """An optimiser and its warmed-up cosine, stepped after every batch, in the form Lightning takes."""
    schedule = LambdaLR(optimizer, cosine_with_warmup(steps, warmup_share))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Choice(NamedTuple):
    """What was chosen, and the reason in words."""

    name: Resolved
    reason: str


def choose_precision(wanted: Precision) -> Choice:
    """`auto` means bf16-mixed on GPUs that have bf16, 32-true elsewhere.

    CPUs are left at 32 bit even where they have bf16 units (AMX): on the rungs meant for them, autocast's casts cost
    what the matrix products save. Milliseconds of a training step on one AMX core, 32 chips of 32 px, 32 bit against
    bf16: U-Net of 31k parameters 19 / 19, of 465k 48 / 44; ViT of 13k 32 / 55, of 229k 76 / 92.

    Raises:
        GeoladderError: bf16 is asked for on a GPU that lacks it.
    """
    on_gpu = torch.cuda.is_available()
    if wanted == "bf16-mixed" and on_gpu and not gpu_has_bf16():
        raise GeoladderError(
            f"compute.precision is bf16-mixed, but {torch.cuda.get_device_name()} has no bf16 (NVIDIA has it from "
            "compute capability 8.0 on: A100, RTX 30 and later); use auto or 32-true"
        )
    if wanted != "auto":
        return Choice(wanted, "asked for")
    if not on_gpu:
        return Choice("32-true", "auto, and no GPU")
    if gpu_has_bf16():
        return Choice("bf16-mixed", "auto, and the GPU has bf16")
    return Choice("32-true", "auto, and the GPU has no bf16")


def gpu_has_bf16() -> bool:
    """Whether the GPU computes in bf16 itself; torch would otherwise count a slow emulation, too."""
    return torch.cuda.is_bf16_supported(including_emulation=False)
