"""UNetFormer's block (Wang et al., 2022, arXiv 2109.08937): attention in windows, beside convolutions, then an MLP.

The convolutions may read another map of the same size than attention does; so RS3Mamba joins what its two
encoders see. Maps that windows do not tile are padded with zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoladder.models.resnet import group_norm

WINDOW = 8
MLP_RATIO = 4


class ConvNorm(nn.Sequential):
    """Convolution without bias and norm; (B, inputs, H, W) to (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), group_norm(outputs)
        )


class SeparableConv(nn.Sequential):
    """Depthwise convolution, norm, pointwise convolution; with an even kernel one row and column less."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, kernel, padding=(kernel - 1) // 2, groups=channels, bias=False),
            group_norm(channels),
            nn.Conv2d(channels, channels, 1, bias=False),
        )


class GlobalLocalAttention(nn.Module):
    """Attention in windows of WINDOW x WINDOW, spread across them by strip means, plus convolutions of `local`.

    Args:
        dim: channels; a multiple of `heads`.
        local_dim: channels of the map that the convolutions read.
        heads: of attention.
    """

    index: Tensor

    def __init__(self, dim: int, local_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.local3, self.local1 = ConvNorm(local_dim, dim, 3), ConvNorm(local_dim, dim, 1)
        self.proj = SeparableConv(dim, WINDOW)
        self.bias_table = nn.Parameter(0.02 * torch.randn((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("index", _relative_index(), persistent=False)

    def forward(self, x: Tensor, local: Tensor) -> Tensor:
        """(B, dim, H, W) and (B, local_dim, H, W) to (B, dim, H, W)."""
        height, width = x.shape[2:]
        # Zeros are projected too, as in the original: a small map costs as much as one whole window.
        padded = functional.pad(x, (0, -width % WINDOW, 0, -height % WINDOW))
        attended = self._attend(padded)[:, :, :height, :width]
        spread = _strip_means(attended) + self.local3(local) + self.local1(local)
        return self.proj(functional.pad(spread, (0, 1, 0, 1)))[:, :, :height, :width]

    def _attend(self, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        rows, columns = height // WINDOW, width // WINDOW
        windows = self.qkv(x).view(batch, 3, self.heads, dim // self.heads, rows, WINDOW, columns, WINDOW)
        windows = windows.permute(
            1, 0, 4, 6, 2, 5, 7, 3
        )  # 3, B, rows, columns, heads, window, window, channels
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
        self.fc1 = nn.Conv2d(dim, MLP_RATIO * dim, 1)
        self.fc2 = nn.Conv2d(MLP_RATIO * dim, dim, 1)

    def forward(self, x: Tensor, local: Tensor | None = None) -> Tensor:
        """(B, dim, H, W) and (B, local_dim, H, W) to (B, dim, H, W); without `local`, x takes its place."""
        normal = self.norm1(x)
        x = x + self.attention(normal, normal if local is None else local)
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


def _relative_index() -> Tensor:
    """Row of the bias table for each pair of places in a window: (WINDOW², WINDOW²) int64."""
    place = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
    apart = place[:, :, None] - place[:, None] + WINDOW - 1
    return apart[0] * (2 * WINDOW - 1) + apart[1]


def _strip_means(x: Tensor) -> Tensor:
    """Means over strips of WINDOW rows, and of WINDOW columns, around each place, added; zeros beyond the edge."""
    before, after = (WINDOW - 1) // 2, WINDOW // 2
    down = functional.avg_pool2d(functional.pad(x, (0, 0, before, after)), (WINDOW, 1), stride=1)
    across = functional.avg_pool2d(functional.pad(x, (before, after, 0, 0)), (1, WINDOW), stride=1)
    return down + across
