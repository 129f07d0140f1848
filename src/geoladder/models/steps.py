"""How the step sizes of a selective scan start: log-uniform, as in Mamba (Gu and Dao, arXiv 2312.00752)."""

import math

import torch
from torch import nn

STEP_RANGE = (0.001, 0.1)


def start_steps(*layers: nn.Linear) -> None:
    """Give `layers` (rank to channels, before a softplus) the same initial steps, log-uniform in STEP_RANGE.

    Random numbers come from torch's current generator.
    """
    low, high = (math.log(bound) for bound in STEP_RANGE)
    with torch.no_grad():
        step = torch.exp(low + (high - low) * torch.rand_like(layers[0].bias))
        for layer in layers:
            layer.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)
