"""The causal convolution along tokens before a Mamba scan, a filter a channel, by whichever backend is fastest here.

In plain torch it is a convolution of images of one row, whose memory has channels last: on a CPU torch is
several times quicker at that than at `conv1d`. On a GPU with the package causal-conv1d it is that package's kernel.
`auto` picks by the device and logs the reason once.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

from torch import Tensor
from torch.nn import functional

from geoladder.errors import GeoladderError
from geoladder.models.backends import FusedKernel, check_shapes

Backend = Literal["auto", "torch", "causal_conv1d"]
FUSED = FusedKernel("causal convolution", "causal-conv1d", "causal_conv1d:causal_conv1d_fn")
CHANNELS_LAST_MULTIPLE = 8
"""Of this many channels the fused kernel takes tokens as they lie in memory; other numbers it wants transposed."""


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, backend: Backend = "auto") -> Tensor:
    """Compute y[t] = bias + sum over k of weight[k] x[t - K + 1 + k], with zeros before the first token.

    Args:
        x: (B, L, D) tokens.
        weight: (D, 1, K) filters, as those of `nn.Conv1d(D, D, K, groups=D)`; causal_conv1d takes a K of 2 to 4.
        bias: (D,), or None.
        backend: see the module.

    Returns:
        y (B, L, D).

    Raises:
        GeoladderError: shapes that do not fit, an unknown backend, or one that cannot be imported.
    """
    check_shapes("causal convolution needs x (B, L, D) and weight (D, 1, K)", "BTD D1K", x, weight)
    name = choose_backend(x.device.type) if backend == "auto" else backend
    if name not in BACKENDS:
        raise GeoladderError(f"convolution backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")
    return BACKENDS[name](x, weight, bias)


@cache
def choose_backend(device_type: str) -> str:
    """Backend for a kind of device (`cpu`, `cuda`, `meta`, ...); the reason is logged once."""
    return FUSED.choose(device_type, otherwise="torch")


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padded = functional.pad(x, (0, 0, weight.shape[2] - 1, 0))
    rows = padded.transpose(1, 2).unsqueeze(2)  # (B, D, 1, L + K - 1), channels last in memory
    y = functional.conv2d(rows, weight.unsqueeze(2), bias, groups=weight.shape[0])
    return y.squeeze(2).transpose(1, 2)


def _fused(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    wide = x.shape[2] % CHANNELS_LAST_MULTIPLE == 0
    channels_first = x.contiguous().mT if wide else x.mT.contiguous()  # (B, D, L)
    return FUSED(channels_first, weight.squeeze(1), bias).mT


BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "torch": _torch,
    "causal_conv1d": _fused,
}
