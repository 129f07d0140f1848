"""Activations a training step keeps, estimated on the `meta` device.

Unusual: they are not modelled by formulas but taken from autograd itself, which is asked what it keeps for the
backward pass. Attention counts as a fused kernel keeps it (inputs, output, one number per row) and not as the matrix
of all pairs, since that is what runs on a GPU.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def activation_bytes(model: nn.Module, px: int, bands: int = 10, dtype: torch.dtype = torch.float32) -> int:
    """Bytes kept for the backward pass by one image of `px` x `px` pixels, with all activations of `dtype`.

    Under bf16-mixed a few are kept in float32 (norms, the scan), so bfloat16 is a lower bound there and float32 an
    upper one. Activations of a batch are in proportion.

    Raises:
        GeoladderError: the model cannot take that size.
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

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        q, k, v, *_ = ctx.saved_tensors
        return q, k, v


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        if func is functional.scaled_dot_product_attention:
            return _Kept.apply(*args[:3])
        return func(*args, **(kwargs or {}))
