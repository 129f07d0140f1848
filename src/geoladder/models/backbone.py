"""What every architecture is to the rest of the package: pixels in, dense features and one summary vector out.

Hiding is the backbone's own work. It is given the true pixels and a mask, so that a U-Net can fill
and a token model can put a learned token, and no caller can forget one of the two.
"""

from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from geoladder.errors import GeoladderError


class Features(NamedTuple):
    """Output of a backbone: `dense` (B, F, H, W) at full resolution, `summary` (B, S) of the whole image."""

    dense: Tensor
    summary: Tensor


Fill = Literal["mean", "zero", "noise"]
NOISE_SEED = 0


class Backbone(Protocol):
    """An architecture without heads; every family is an `nn.Module` of this form."""

    dense_channels: int
    summary_dim: int
    fill: Fill
    """What hidden pixels are replaced by, see `hide`."""

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Features:
        """Features of an image.

        Args:
            x: (B, bands, H, W) float32 standardised reflectance, H and W multiples of the family's stride.
            mask: (B, 1, H, W) bool, True where a pixel is hidden; None hides nothing.

        Raises:
            GeoladderError: another number of bands, or a size the family cannot take.
        """
        ...


def module(backbone: Backbone) -> nn.Module:
    """The backbone as the `nn.Module` it is."""
    return cast(nn.Module, backbone)


def hide(x: Tensor, mask: Tensor | None, fill: Fill = "mean") -> tuple[Tensor, Tensor]:
    """Replace hidden pixels. Nothing hidden is used.

    Args:
        x: (B, bands, H, W) standardised reflectance.
        mask: (B, 1, H, W) bool, True where hidden; None hides nothing.
        fill: `mean`: the image's own over its visible pixels, band by band. `zero`: the mean of the whole Earth;
            every family then first spends a good part of a short run on a plateau, which seeds leave at different
            times (docs/synthetic_earth.md). `noise`: normal numbers, as the authors' (arXiv 2506.14765), but the
            same ones in every call, so that runs can be repeated and taken up again.

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


def check_side(x: Tensor, side_px: int, claim: str, advice: str = "") -> None:
    """Refuse images (B, bands, H, W) that are not `side_px` pixels a side.

    Raises:
        GeoladderError: `claim`, what was got, and `advice`.
    """
    if tuple(x.shape[2:]) != (side_px, side_px):
        raise GeoladderError(f"{claim}; got {x.shape[2]} x {x.shape[3]}{advice}")


def channels_last(model: nn.Module) -> None:
    """Keep convolution weights channels-last in memory, which CPUs and tensor cores are quickest with."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def init_weights(layer: nn.Module) -> None:
    """Initial weights of a layer, for `nn.Module.apply`; random numbers come from torch's current generator.

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
