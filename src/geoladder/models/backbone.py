"""What every architecture is to the rest of the package: pixels in, dense features and one summary vector out.

Hiding is the backbone's own work. It is given the true pixels and a mask, so that a U-Net can fill
and a token model can put a learned token, and no caller can forget one of the two.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from geoladder.errors import GeoladderError

Fill = Literal["mean", "zero", "noise"]
NOISE_SEED = 0


class Features(NamedTuple):
    """Output of a backbone: `dense` (B, F, H, W) at full resolution, `summary` (B, S) of the whole image."""

    dense: Tensor
    summary: Tensor


class Backbone(nn.Module):
    """An architecture without heads; a module with `fill`, `dense_channels`, `summary_dim` and this call is one too.

    Args:
        encoder: from pixels and mask to a list of maps and the summary (B, summary_dim).
        decoder: from those maps and the pixels to the dense features.
        bands: of the image.
        stride_px: H and W must be multiples of it.
        dense_channels: F of the features.
        summary_dim: S of the features.
        side_px: the only H and W it takes; 0 takes any.
        why: it takes no other, for the error message.
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
        """Features of an image.

        Args:
            x: (B, bands, H, W) float32 standardised reflectance.
            mask: (B, 1, H, W) bool, True where a pixel is hidden; None hides nothing.

        Raises:
            GeoladderError: another number of bands, or a size the family cannot take.
        """
        pixels = self.visible(x, mask)
        maps, summary = self.encoder(pixels, mask)
        return Features(self.decoder(maps, pixels), summary)

    def visible(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Pixels with hidden ones filled, (B, bands or with the mask bands + 1, H, W); arguments as `forward`."""
        check_input(x, self.bands, self.stride_px)
        height, width = x.shape[2:]
        if self.side_px and not height == width == self.side_px:
            raise GeoladderError(
                f"this {type(self).__name__} takes images of {self.side_px} x {self.side_px} pixels only, since "
                f"{self.why}; got {height} x {width}"
            )
        filled, hidden = hide(x, mask, self.fill)
        pixels = torch.cat([filled, hidden], 1) if self.mask_channel else filled
        return pixels.contiguous(memory_format=torch.channels_last) if self.channels_last else pixels


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
