"""How large a model is: parameters by part, FLOPs of a forward and a backward pass, and the activations kept between.

The affine weights of norms are also counted apart, and so are the maps among them, which have a weight per channel
and pixel: they are more than half of the authors' "44M" U-Net, so a law in the number of parameters must say which it
counts.

FLOPs and activations are counted on the `meta` device: no weight is allocated, nothing runs. Attention is taken apart
into matrix products before counting FLOPs, because torch 2.13 counts fused attention on a CPU as 0 (pytorch issue
195460), and selective scans, which no tool knows, count by the formulas registered beside their kernels. A
multiplication and an addition are 2 FLOPs; elementwise work and norms are not counted.

Activations are those that autograd keeps for the backward pass. Attention counts as a fused kernel keeps it (inputs,
output, one number per row) and not as the matrix of all pairs, since that is what runs on a GPU.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
EMBEDDINGS = ("cls", "mask_token", "position")


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of a backbone, or of a model with heads.

    Returns:
        `total`, which is the sum of `encoder`, `decoder` and `heads`; and of the total, `norm` (weights and biases
        of norms), of that `norm_maps` (of norms over channels and pixels), and `embeddings` (class and mask tokens,
        stored place codes).
    """
    counts = dict.fromkeys(("total", "encoder", "decoder", "heads", "norm", "norm_maps", "embeddings"), 0)
    norms = {id(p) for layer in model.modules() if isinstance(layer, NORMS) for p in layer.parameters()}
    for name, parameter in model.named_parameters():
        path = name.removeprefix("backbone.").split(".")
        part = path[0] if path[0] in ("encoder", "decoder") else "heads"
        size = parameter.numel()
        counts["total"] += size
        counts[part] += size
        if id(parameter) in norms:
            counts["norm"] += size
            if parameter.ndim > 1:
                counts["norm_maps"] += size
        if path[-1] in EMBEDDINGS:
            counts["embeddings"] += size
    return counts


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
        _outputs(model, px, bands)
    return counter.get_total_flops() / 1e9


def count_gflops(model: nn.Module, px: int, bands: int = 10) -> Gflops:
    """Count both passes of one image; else as `gflops_fwd`."""
    with _counting() as counter:
        outputs = _outputs(model, px, bands)
        forward = counter.get_total_flops()
        operators = counter.get_flop_counts()["Global"]
        # All operators of ours are scans.
        scan = sum(flops for name, flops in operators.items() if str(name).startswith("geoladder."))
        torch.autograd.backward([tensor.sum() for tensor in tree_leaves(outputs)])
    return Gflops(forward / 1e9, (counter.get_total_flops() - forward) / 1e9, scan / 1e9)


def _outputs(model: nn.Module, px: int, bands: int) -> Any:  # noqa: ANN401  (whatever a model returns)
    twin = copy.deepcopy(model).to("meta")
    return twin(torch.empty(1, bands, px, px, device="meta"))


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


def activation_bytes(model: nn.Module, px: int, bands: int = 10, dtype: torch.dtype = torch.float32) -> int:
    """Bytes kept for the backward pass by one image of `px` x `px` pixels, with all activations of `dtype`.

    Under bf16-mixed a few are kept in float32 (norms, the scan), so bfloat16 is a lower bound there and float32 an
    upper one. Activations of a batch are in proportion. Raises as `gflops_fwd`.
    """
    twin = copy.deepcopy(model).to(device="meta", dtype=dtype)
    weights = {parameter.untyped_storage()._cdata for parameter in twin.parameters()}
    kept: dict[int, Tensor] = {}  # holds the tensors, since freed storages lend their address to others

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            kept[storage] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention():
        twin(torch.empty(1, bands, px, px, device="meta", dtype=dtype))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


class _Kept(torch.autograd.Function):
    """Attention as far as memory goes: its output, and what a fused kernel keeps for the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: ANN401
        y = torch.empty(*q.shape[:-1], v.shape[-1], device=q.device, dtype=q.dtype)
        ctx.save_for_backward(q, k, v, y, torch.empty(q.shape[:-1], device=q.device))
        return y


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if func is nn.functional.scaled_dot_product_attention:
            return _Kept.apply(*args[:3])
        return func(*args, **(kwargs or {}))
