"""ResNet with bottlenecks (He et al., 2016, arXiv 1512.03385) as a pyramid of four maps at strides 4, 8, 16 and 32.

Stages are called one by one, since what enters the next is not always what left the last. GroupNorm in place
of BatchNorm (Wu and He, 2018, arXiv 1803.08494), at the same number of parameters: the images on one device differ
between 1 and 32 GPUs, and results must not.
"""

from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 4
GROUP = 16
"""Channels normalised together."""


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm over GROUP channels, or over all where they are no multiple of it."""
    return nn.GroupNorm(channels // GROUP if channels % GROUP == 0 else 1, channels)


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and norm; (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, group_norm(outputs))


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a residual; (B, inputs, H, W) to (B, 4 inner, H / stride, W / stride)."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.norm1, self.norm2, self.norm3 = group_norm(inner), group_norm(inner), group_norm(outputs)
        self.match: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.match = conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        y = functional.relu(self.norm2(self.conv2(y)))
        return functional.relu(self.norm3(self.conv3(y)) + self.match(x))


class ResNet(nn.Module):
    """Stem and four stages of 4 w, 8 w, 16 w and 32 w channels; `width` w is 64, `depths` 3, 4, 6, 3 in ResNet-50."""

    def __init__(self, bands: int, width: int, depths: list[int]) -> None:
        super().__init__()
        self.dims = [EXPANSION * width * 2**stage for stage in range(len(depths))]
        self.conv = nn.Conv2d(bands, width, 7, stride=2, padding=3, bias=False)
        self.norm = group_norm(width)
        inputs = [width, *self.dims[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                _Bottleneck(inputs[stage], width * 2**stage, stride=2 if stage else 1),
                *(_Bottleneck(self.dims[stage], width * 2**stage, stride=1) for _ in range(depth - 1)),
            )
            for stage, depth in enumerate(depths)
        )

    def stem(self, x: Tensor) -> Tensor:
        """(B, bands, H, W) to (B, width, H / 4, W / 4), what the first of `stages` takes."""
        x = functional.relu(self.norm(self.conv(x)))
        return functional.max_pool2d(x, 3, stride=2, padding=1)
