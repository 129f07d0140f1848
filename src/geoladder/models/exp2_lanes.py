"""2 to a power, in all lanes at once, for the innermost loops of numba kernels.

Unusual: it is our own, since a call to libm would undo the vectors. Adding a number so large that no binary places
are left rounds x to an integer k, and leaves k, biased as the exponent of a number wants it, in the lowest bits: one
shift makes 2**k of them. The Taylor series on [-1/2, 1/2] does the rest, within 2 units in the last place. NaN
passes through; 2**0 is exactly 1. Powers out of range are clipped: above at the last normal number, below long before
the first, since its products with other numbers would not be normal, and cost a processor a hundred times as much.
"""

import math
from typing import Any

from llvmlite import ir
from numba import types

from geoladder.models.lanes import CONTRACT, LANES, Codegen, constant, instruction

FORMATS = {types.float32: (23, 127, 7, -100), types.float64: (52, 1023, 13, -900)}
"""Bits of the fraction, bias of the exponent, degree of the series, and the lowest power: for a decay, nothing."""


@instruction
def exp2(typingctx: Any, x: Any) -> Codegen:  # noqa: ANN401 - numba's types
    """2**x by lane, for x of type Lanes."""
    fraction, bias, degree, smallest = FORMATS[x.dtype]
    integers = ir.VectorType(ir.IntType(x.dtype.bitwidth), LANES)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        power, kind = args[0], args[0].type
        lowest, highest = constant(kind, float(smallest)), constant(kind, float(bias))
        # Compared this way round a NaN stays.
        power = builder.select(builder.fcmp_ordered("<", power, lowest), lowest, power)
        power = builder.select(builder.fcmp_ordered(">", power, highest), highest, power)
        large = constant(kind, 1.5 * 2.0**fraction + bias)
        rounded = builder.fadd(power, large)
        rest = builder.fsub(power, builder.fsub(rounded, large))
        series = constant(kind, 0.0)
        for k in range(degree, -1, -1):
            term = constant(kind, math.log(2) ** k / math.factorial(k))
            series = builder.fadd(builder.fmul(series, rest, flags=CONTRACT), term, flags=CONTRACT)
        exponent = builder.shl(builder.bitcast(rounded, integers), ir.Constant(integers, [fraction] * LANES))
        return builder.fmul(series, builder.bitcast(exponent, kind), flags=CONTRACT)

    return x(x), codegen
