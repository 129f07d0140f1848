"""Initial weights. Random numbers come from torch's current generator."""

import math

import torch
from torch import nn

STEP_RANGE = (0.001, 0.1)
"""Of the initial step sizes of a selective scan (Gu and Dao, arXiv 2312.00752)."""


class Started(nn.Module):
    """A layer that has more to set at the start than `init_weights` does."""

    def start(self, depth: int) -> None:
        """Set the layer's own weights, in an encoder of `depth` blocks; those of its parts are theirs to set."""
        raise NotImplementedError


def start(encoder: nn.Module, depth: int) -> None:
    """Give all layers of an encoder of `depth` blocks their initial weights."""
    encoder.apply(init_weights)
    for layer in encoder.modules():
        if isinstance(layer, Started):
            layer.start(depth)


def init_weights(layer: nn.Module) -> None:
    """Initial weights of a layer, for `nn.Module.apply`.

    Linear: normal of deviation 1/sqrt(fan-in), cut at 2 deviations, so that activations keep their size at any
    width. Convolution: the same with sqrt(2), for the half of the signal a GELU keeps (He et al., 2015). Bias: 0.
    """
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        # A transposed convolution whose stride is its kernel reads each input channel once per output.
        fan_in = layer.in_channels if isinstance(layer, nn.ConvTranspose2d) else layer.weight[0].numel()
        deviation = ((2.0 if isinstance(layer, nn.Conv2d) else 1.0) / fan_in) ** 0.5
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def damp(last: nn.Linear, branches: int) -> None:
    """Scale down a layer that ends one of `branches` residual branches, so that depth does not grow the signal."""
    last.weight.data.mul_(branches**-0.5)


def start_steps(*layers: nn.Linear) -> None:
    """Give `layers` (rank to channels, before a softplus) the same initial steps, log-uniform in STEP_RANGE."""
    low, high = (math.log(bound) for bound in STEP_RANGE)
    with torch.no_grad():
        step = torch.exp(low + (high - low) * torch.rand_like(layers[0].bias))
        for layer in layers:
            layer.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse of softplus
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)


def log_rates(channels: int, d_state: int) -> nn.Parameter:
    """Logarithms (channels, d_state) of the initial decay rates of a selective scan, 1 to `d_state` (S4D-real)."""
    return nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(channels, 1))
