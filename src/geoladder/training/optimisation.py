"""What every training step shares: its optimiser, and its learning rate.

The peak learning rate comes from the study and is scaled to the rung's width in `registry.ladder.scaled_lr`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


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
