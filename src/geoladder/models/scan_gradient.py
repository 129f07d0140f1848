"""What the scans' torch operators share: gradients from states that are recomputed.

The package's scans keep a state for each chunk of their inputs; their backward operators recompute all others from
these.
"""

import math
from typing import Any

from torch import Tensor
from torch.library import CustomOpDef

LOG2_E = 1 / math.log(2)
"""Kernels take rates in units of log 2, since they compute powers of 2."""


def register_gradient(scan: CustomOpDef, backward: CustomOpDef, tensors: int, differentiable: int) -> None:
    """Give a scan operator its gradient.

    `scan` takes so many `tensors`, then options, and gives y and the kept states. `backward` takes the tensors, the
    gradient of y, the states and the options, and gives the gradients of the first `differentiable` tensors.
    """

    @backward.register_fake
    def _(*inputs: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
        return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:differentiable])

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
        ctx.options = inputs[tensors:]
        ctx.save_for_backward(*inputs[:tensors], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, gy: Tensor | None, _states: None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        without = (None,) * (tensors - differentiable + len(ctx.options))
        if gy is None:
            return (None,) * differentiable + without
        *inputs, states = ctx.saved_tensors
        return *backward(*inputs, gy, states, *ctx.options), *without

    scan.register_autograd(gradients, setup_context=save)
