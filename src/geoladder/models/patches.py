"""Pixels to tokens: a patch embedding with a small convolutional stem, or a plain one; a learned mask token.

A 4x4 convolution of stride 2 comes before the patches ("early convolutions", Xiao et al., 2021,
arXiv 2106.14881), since a small model has only a few hundred steps to learn what one convolution knows. Hidden
pixels are filled before it, so nothing leaks. Place is not coded here: a ViT needs it, a scan has its order.

Both classes take pixels (B, bands, H, W), filled where hidden, to tokens (B, rows, columns, dim) of `patch` pixels a
side; a patch whose pixels are all `hidden` (B, 1, H, W bool) is the mask token.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.errors import GeoladderError


def with_mask_token(tokens: Tensor, hidden: Tensor | None, patch: int, mask_token: Tensor) -> Tensor:
    """Tokens (B, rows, columns, dim) with the mask token (dim,) where a patch of `patch` pixels a side is hidden.

    None in place of what is `hidden` (B, 1, H, W bool) hides nothing.
    """
    if hidden is None:
        return tokens
    wholly = functional.max_pool2d((~hidden).float(), patch)[:, 0, :, :, None] == 0
    return torch.where(wholly, mask_token.to(tokens.dtype), tokens)


class PatchEmbedding(nn.Module):
    """By a convolution to `stem` channels at half resolution, GELU, and a linear map of each patch; see the module.

    Raises:
        GeoladderError: `patch` is odd.
    """

    def __init__(self, bands: int, dim: int, patch: int, stem: int) -> None:
        if patch % 2:
            raise GeoladderError(
                f"patches after a convolution of stride 2 need an even side; got patch {patch}"
            )
        super().__init__()
        self.patch = patch
        self.stem = nn.Conv2d(bands, stem, 4, stride=2, padding=1)
        self.embed = nn.Conv2d(stem, dim, patch // 2, stride=patch // 2)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> Tensor:
        """Tokens."""
        tokens = self.embed(functional.gelu(self.stem(pixels))).permute(0, 2, 3, 1)
        return with_mask_token(tokens, hidden, self.patch, self.mask_token)


class PlainPatches(nn.Module):
    """By one linear map of each patch; see the module.

    It is the usual convolution whose stride is its kernel, written as the matrix product it is: on CPUs with AMX
    torch 2.13 returns wrong numbers for such a convolution of stride 16 in bf16 (compare pytorch issue 169688).
    """

    def __init__(self, bands: int, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(bands * patch**2, dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, pixels: Tensor, hidden: Tensor | None) -> Tensor:
        """Tokens."""
        cut = pixels.unflatten(2, (-1, self.patch)).unflatten(4, (-1, self.patch))
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3)  # rows, columns, bands x side x side
        return with_mask_token(self.embed(patches), hidden, self.patch, self.mask_token)
