"""UNetFormer's block and decoder (Wang et al., 2022, arXiv 2109.08937).

The block is attention in windows beside convolutions, then an MLP. The convolutions may read another map of the same
size than attention does; so RS3Mamba joins what its two encoders see. Maps that windows do not tile are padded with
zeros. The decoder takes four maps to features of few channels at a quarter of the resolution. It is light; each level
adds its skip by two learned positive shares that sum to 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.resnet import conv_norm, group_norm
from geoladder.models.upernet import resize

WINDOW = 8
MLP_RATIO = 4
HEADS = 8
SQUEEZE = 16


def _separable(channels: int, kernel: int) -> nn.Sequential:
    """Depthwise convolution, norm, pointwise convolution; with an even kernel one row and column less."""
    padding = (kernel - 1) // 2
    depthwise = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=False)
    return nn.Sequential(depthwise, group_norm(channels), nn.Conv2d(channels, channels, 1, bias=False))


class GlobalLocalAttention(nn.Module):
    """Attention in windows of WINDOW x WINDOW, spread across them by strip means, plus convolutions of `local`.

    `dim` channels, a multiple of `heads`; the convolutions read a map of `local_dim`.
    """

    index: Tensor

    def __init__(self, dim: int, local_dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.beyond_edge = heads, "constant"
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.local3, self.local1 = conv_norm(local_dim, dim, 3), conv_norm(local_dim, dim, 1)
        self.proj = _separable(dim, WINDOW)
        self.bias_table = nn.Parameter(0.02 * torch.randn((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("index", _relative_index(), persistent=False)

    def forward(self, x: Tensor, local: Tensor) -> Tensor:
        """(B, dim, H, W) and (B, local_dim, H, W) to (B, dim, H, W)."""
        height, width = x.shape[2:]
        # Zeros are projected too, as in the original: a small map costs as much as one whole window.
        padded = functional.pad(x, (0, -width % WINDOW, 0, -height % WINDOW))
        attended = self._attend(padded)[:, :, :height, :width]
        spread = self._strip_means(attended) + self.local3(local) + self.local1(local)
        return self.proj(functional.pad(spread, (0, 1, 0, 1)))[:, :, :height, :width]

    def _strip_means(self, x: Tensor) -> Tensor:
        """Means over strips of WINDOW rows, and of WINDOW columns, around each place, added.

        What lies beyond the edge counts as zeros; of it, the first row or column after the last may be `reflect`.
        """
        before, after = (WINDOW - 1) // 2, WINDOW // 2 - 1
        down = functional.pad(x, (0, 0, 0, 1), self.beyond_edge)
        across = functional.pad(x, (0, 1, 0, 0), self.beyond_edge)
        down = functional.avg_pool2d(functional.pad(down, (0, 0, before, after)), (WINDOW, 1), stride=1)
        return down + functional.avg_pool2d(
            functional.pad(across, (before, after, 0, 0)), (1, WINDOW), stride=1
        )

    def _attend(self, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        rows, columns = height // WINDOW, width // WINDOW
        windows = self.qkv(x).view(batch, 3, self.heads, dim // self.heads, rows, WINDOW, columns, WINDOW)
        # To 3, B, rows, columns, heads, window, window, channels.
        windows = windows.permute(1, 0, 4, 6, 2, 5, 7, 3)
        q, k, v = windows.reshape(3, -1, self.heads, WINDOW**2, dim // self.heads)
        bias = self.bias_table[self.index].permute(2, 0, 1)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q))
        y = y.view(batch, rows, columns, self.heads, WINDOW, WINDOW, -1)
        return y.permute(0, 3, 6, 1, 4, 2, 5).reshape(batch, dim, height, width)


class GlobalLocalBlock(nn.Module):
    """x + attention(norm(x), local), then + MLP(norm(x)); arguments as `GlobalLocalAttention`."""

    def __init__(self, dim: int, local_dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(dim), group_norm(dim)
        self.attention = GlobalLocalAttention(dim, local_dim, heads)
        self.norm_local: nn.Module = nn.Identity()
        self.activation: Callable[[Tensor], Tensor] = functional.gelu
        self.fc1 = nn.Conv2d(dim, MLP_RATIO * dim, 1)
        self.fc2 = nn.Conv2d(MLP_RATIO * dim, dim, 1)

    def forward(self, x: Tensor, local: Tensor | None = None) -> Tensor:
        """(B, dim, H, W) and (B, local_dim, H, W) to (B, dim, H, W); without `local`, x takes its place."""
        normal = self.norm1(x)
        x = x + self.attention(normal, normal if local is None else self.norm_local(local))
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))


def _relative_index() -> Tensor:
    """Row of the bias table for each pair of places in a window: (WINDOW², WINDOW²) int64."""
    place = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
    apart = place[:, :, None] - place[:, None] + WINDOW - 1
    return apart[0] * (2 * WINDOW - 1) + apart[1]


class WeightedSkip(nn.Module):
    """(B, channels, H, W) at twice the side, plus the skip (B, skip_dim, 2 H, 2 W), by learned shares."""

    def __init__(self, skip_dim: int, channels: int) -> None:
        super().__init__()
        self.activation: Callable[[Tensor], Tensor] = functional.relu
        self.pre = nn.Conv2d(skip_dim, channels, 1, bias=False)
        self.shares = nn.Parameter(torch.ones(2))
        self.post = conv_norm(channels, channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, channels, H, W) and (B, skip_dim, 2 H, 2 W) to (B, channels, 2 H, 2 W)."""
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        positive = functional.relu(self.shares)
        shares = positive / (positive.sum() + 1e-8)
        return self.activation(self.post(shares[0] * self.pre(skip) + shares[1] * x))


class Refinement(nn.Module):
    """As `WeightedSkip`, gated by place and by channel: the last skip."""

    def __init__(self, skip_dim: int, channels: int) -> None:
        super().__init__()
        self.activation: Callable[[Tensor], Tensor] = functional.relu
        self.fuse = WeightedSkip(skip_dim, channels)
        squeezed = max(1, channels // SQUEEZE)
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.down = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.up = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.shortcut = conv_norm(channels, channels, 1)
        self.proj = _separable(channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """As `WeightedSkip.forward`."""
        x = self.fuse(x, skip)
        by_channel = torch.sigmoid(self.up(self.activation(self.down(x.mean((2, 3), keepdim=True)))))
        gated = x * torch.sigmoid(self.place(x)) + x * by_channel
        return self.activation(self.proj(gated) + self.shortcut(x))


class UNetFormerDecoder(nn.Module):
    """Four maps (B, dims[i], rows / 2**i, columns / 2**i) to features (B, channels, H, W); 8 divides `channels`."""

    def __init__(self, dims: list[int], channels: int) -> None:
        super().__init__()
        self.activation: Callable[[Tensor], Tensor] = functional.relu
        self.pre = conv_norm(dims[3], channels, 1)
        self.blocks = nn.ModuleList(GlobalLocalBlock(channels, channels, HEADS) for _ in range(3))
        self.skips = nn.ModuleList([WeightedSkip(dims[2], channels), WeightedSkip(dims[1], channels)])
        self.refine = Refinement(dims[0], channels)
        self.last = conv_norm(channels, channels, 3)

    def forward(self, maps: list[Tensor], pixels: Tensor) -> Tensor:
        """From the coarsest map up to the finest, then resized to the H and W of `pixels` (B, any, H, W)."""
        x = self.blocks[0](self.pre(maps[3]))
        for block, skip, level in zip(self.blocks[1:], self.skips, (2, 1), strict=True):
            x = block(skip(x, maps[level]))
        return resize(self.activation(self.last(self.refine(x, maps[0]))), pixels.shape[2:])
