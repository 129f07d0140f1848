"""The exponential that numba kernels call in their innermost loops.

Unusual: in float32 it is our own (range reduction and a polynomial, within 2 units in the last place), since a call
to libm would undo the vectors. NaN passes through; arguments beyond float32's range are clipped.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
EXP_LOWEST = np.float32(-87.0)
EXP_HIGHEST = np.float32(88.0)


@intrinsic
def _two_to(typingctx: Any, exponent: Any) -> Any:  # noqa: ANN401 - numba's types
    """2**exponent as float32, for an int32 exponent in -126..127, by writing the bits of the exponent."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        integer = ir.IntType(32)
        bits = builder.shl(builder.add(args[0], ir.Constant(integer, 127)), ir.Constant(integer, 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), codegen


def exp(x: float) -> float:
    """Return e to the power x; the compiled version computes in the type of `x`, float32 or float64."""
    return math.exp(x)


@overload(exp, inline="always")
def _compile(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba compares the signatures
    if x == types.float64:
        return lambda x: math.exp(x)

    def single(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba compares the signatures
        """Cephes expf: 2**k times a polynomial on [-ln2/2, ln2/2]; arguments beyond float32's range are clipped."""
        clipped = min(max(x, EXP_LOWEST), EXP_HIGHEST)
        k = np.floor(clipped * LOG2_E + np.float32(0.5))
        r = clipped - k * LN2_HIGH - k * LN2_LOW
        power: Any = _two_to(np.int32(k))  # type: ignore[call-arg]
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        return (p * r * r + r + np.float32(1.0)) * power + (x - x)  # x - x keeps a NaN

    return single
