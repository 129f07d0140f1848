"""How large a model is: parameters by part, and FLOPs of a forward and a backward pass.

The affine weights of norms are told apart, and of these the maps with a weight per channel and pixel: they are more
than half of the authors' "44M" U-Net, so a law in the number of parameters must say which it counts.

FLOPs are counted on the `meta` device: no weight is allocated, nothing runs. Attention is taken apart into matrix
products before counting, because torch 2.13 counts fused attention on a CPU as 0 (pytorch issue 195460), and
selective scans, which no tool knows, count by the formulas registered beside their kernels. A multiplication and an
addition are 2 FLOPs; elementwise work and norms are not counted.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
EMBEDDINGS = ("cls", "mask_token", "position")
PARTS = ("total", "encoder", "decoder", "heads", "norm", "norm_maps", "embeddings")


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of a backbone, or of a model with heads.

    Returns:
        `total`, which is the sum of `encoder`, `decoder` and `heads`; and of the total, `norm` (weights and biases
        of norms), of that `norm_maps` (of norms over channels and pixels), and `embeddings` (class and mask tokens,
        stored place codes).
    """
    counts = dict.fromkeys(PARTS, 0)
    norms = {id(p) for layer in model.modules() if isinstance(layer, NORMS) for p in layer.parameters()}
    for name, parameter in model.named_parameters():
        path = name.removeprefix("backbone.").split(".")
        part = path[0] if path[0] in ("encoder", "decoder") else "heads"
        size = parameter.numel()
        counts["total"] += size
        counts[part] += size
        counts["norm"] += size * (id(parameter) in norms)
        counts["norm_maps"] += size * (id(parameter) in norms and parameter.ndim > 1)
        counts["embeddings"] += size * (path[-1] in EMBEDDINGS)
    return counts


SCANS = "geoladder."
"""Namespace of our operators in the counter's table; all of them are scans."""


class Gflops(NamedTuple):
    """GFLOP (1e9) of one image: forward pass, backward pass, and the scans' share of the forward pass."""

    forward: float
    backward: float
    scan_forward: float


def gflops_fwd(model: nn.Module, px: int, bands: int = 10) -> float:
    """GFLOP (1e9) of a forward pass of one image of `px` x `px` pixels. The model itself is left as it is.

    Raises:
        GeoladderError: the model cannot take that size.
    """
    with _counting() as counter, torch.no_grad():
        _meta(model)(torch.empty(1, bands, px, px, device="meta"))
    return counter.get_total_flops() / 1e9


def count_gflops(model: nn.Module, px: int, bands: int = 10) -> Gflops:
    """Count both passes of one image of `px` x `px` pixels. The model itself is left as it is.

    Raises:
        GeoladderError: the model cannot take that size.
    """
    twin = _meta(model)
    with _counting() as counter:
        outputs = twin(torch.empty(1, bands, px, px, device="meta"))
        forward = counter.get_total_flops()
        scan = sum(n for op, n in counter.get_flop_counts()["Global"].items() if str(op).startswith(SCANS))
        torch.autograd.backward([tensor.sum() for tensor in _tensors(outputs)])
    return Gflops(forward / 1e9, (counter.get_total_flops() - forward) / 1e9, scan / 1e9)


def _tensors(outputs: Any) -> list[Tensor]:  # noqa: ANN401  (whatever a model returns)
    """All tensors of a model's outputs: one, or tuples and dictionaries of them."""
    if isinstance(outputs, Tensor):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    return [tensor for part in parts for tensor in _tensors(part)]


def _meta(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to("meta")


def conv_backward_flops(grad: Any, x: Any, weight: Any, *rest: Any, **_: Any) -> int:  # noqa: ANN401 - shapes
    """FLOPs of a convolution's backward pass: those of the forward pass for each gradient that is asked for.

    Torch 2.13's own formula counts the gradient of a grouped convolution's weight once for each group too often.
    """
    transposed, wanted = rest[4], rest[7]
    gradients: int = sum(wanted[:2])
    return gradients * conv_flop_count(x, weight, grad, transposed=transposed)


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    formulas = {torch.ops.aten.convolution_backward: conv_backward_flops}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with sdpa_kernel(SDPBackend.MATH), counter:
        yield counter
