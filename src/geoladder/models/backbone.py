"""What every architecture is to the rest of the package: pixels in, dense features and one summary vector out.

Hiding is the backbone's own work. It is given the true pixels and a mask, so that a U-Net can fill
and a token model can put a learned token, and no caller can forget one of the two. Random numbers of initial weights
come from torch's current generator.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from geoladder.errors import GeoladderError

Fill = Literal["mean", "zero", "noise"]
NOISE_SEED = 0
STEP_RANGE = (0.001, 0.1)
"""Of the initial step sizes of a selective scan (Gu and Dao, arXiv 2312.00752)."""


class Features(NamedTuple):
    """Output of a backbone: `dense` (B, F, H, W) at full resolution, `summary` (B, S) of the whole image."""

    dense: Tensor
    summary: Tensor


class Backbone(nn.Module):
    """An architecture without heads.

    A class need not inherit from it: a module with `fill`, `dense_channels`, `summary_dim` and this `forward` is one
    too. Classes of families raise GeoladderError where their arguments do not fit together.

    `encoder` takes pixels and mask to a list of maps and the summary of `summary_dim` numbers; `decoder` takes these
    maps and the pixels to `dense_channels` dense features. Images have sides of multiples of `stride_px` pixels. If
    `side_px` is not 0, both sides must be that, and `why` is the reason that the error message gives.
    """

    fill: Fill = "mean"
    """What hidden pixels are replaced by, see `hide`."""
    mask_channel = True
    """Whether the mask is one more channel of the pixels that encoder and decoder get."""
    channels_last = True
    """Whether pixels and weights lie channels-last in memory, which CPUs and tensor cores are quickest with."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        bands: int,
        stride_px: int,
        dense_channels: int,
        summary_dim: int,
        side_px: int = 0,
        why: str = "",
    ) -> None:
        super().__init__()
        self.bands, self.stride_px, self.side_px, self.why = bands, stride_px, side_px, why
        self.dense_channels, self.summary_dim = dense_channels, summary_dim
        self.encoder, self.decoder = encoder, decoder
        if self.channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image x (B, bands, H, W), float32 standardised reflectance.

        `mask` (B, 1, H, W) is bool and True where a pixel is hidden; None hides nothing.

        Raises:
            GeoladderError: another number of bands, or a size the family cannot take.
        """
        pixels = self.visible(x, mask)
        maps, summary = self.encoder(pixels, mask)
        return Features(self.decoder(maps, pixels), summary)

    def visible(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Pixels with hidden ones filled, (B, bands or with the mask bands + 1, H, W); arguments as `forward`."""
        if self.side_px and x.ndim == 4 and x.shape[2:] != (self.side_px, self.side_px):
            raise GeoladderError(
                f"this {type(self).__name__} takes images of {self.side_px} x {self.side_px} pixels only, since "
                f"{self.why}; got {x.shape[2]} x {x.shape[3]}"
            )
        check_input(x, self.bands, self.stride_px)
        filled, hidden = hide(x, mask, self.fill)
        pixels = torch.cat([filled, hidden], 1) if self.mask_channel else filled
        return pixels.contiguous(memory_format=torch.channels_last) if self.channels_last else pixels


def sides_taken(backbone: nn.Module) -> tuple[int, int]:
    """The only side of images that a backbone takes, in pixels (0: any), and of what their sides are multiples.

    A backbone that does not inherit from ours need not say: it takes any.
    """
    return int(getattr(backbone, "side_px", 0)), max(1, int(getattr(backbone, "stride_px", 1)))


def hide(x: Tensor, mask: Tensor | None, fill: Fill = "mean") -> tuple[Tensor, Tensor]:
    """Replace hidden pixels of `x` by `fill`; arguments as `Backbone.forward`. Nothing hidden is used.

    `mean`: the image's own over its visible pixels, band by band. `zero`: the mean of the whole Earth; every family
    then first spends a good part of a short run on a plateau, which seeds leave at different times
    (docs/synthetic_earth.md). `noise`: normal numbers, as the authors' (arXiv 2506.14765), but the same ones in every
    call, so that runs can be repeated and taken up again.

    Returns:
        x (B, bands, H, W) with hidden pixels filled, and the mask as (B, 1, H, W) in the dtype of x.
    """
    if mask is None:
        return x, torch.zeros_like(x[:, :1])
    if fill == "zero":
        return x.masked_fill(mask, 0), mask.to(x.dtype)
    if fill == "noise":
        generator = torch.Generator().manual_seed(NOISE_SEED)
        noise = torch.randn(x.shape[1:], generator=generator).to(x)
        return torch.where(mask, noise, x), mask.to(x.dtype)
    visible = (~mask).to(x.dtype)
    mean = (x * visible).sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(mask, mean, x), mask.to(x.dtype)


def check_input(x: Tensor, bands: int, stride: int) -> None:
    """Refuse an image the model cannot take.

    Raises:
        GeoladderError: `x` is not (B, bands, H, W), or H or W is not a positive multiple of `stride` pixels.
    """
    if x.ndim != 4 or x.shape[1] != bands:
        raise GeoladderError(f"the model takes images of shape (B, {bands}, H, W); got {tuple(x.shape)}")
    height, width = x.shape[2:]
    if height % stride or width % stride or not height or not width:
        fits = tuple(max(1, round(side / stride)) * stride for side in (height, width))
        raise GeoladderError(
            f"the model takes images whose sides are multiples of {stride} pixels; got {height} x {width}. "
            f"The nearest that fits is {fits[0]} x {fits[1]}"
        )


class Started(nn.Module):
    """A layer that sets some of its initial weights itself, after `init_weights`."""

    def start(self, depth: int) -> None:
        """Set these weights, in an encoder of `depth` blocks; parts that are `Started` too set theirs."""
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
