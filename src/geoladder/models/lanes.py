"""LANES neighbouring numbers as one value of compiled code, on which the kernels of the selective scan compute.

Unusual: a type of our own for numba. A loop over an array is vectorised only where the compiler proves that arrays do
not overlap, and then, by default, in half the width of the machine; a value of this type is vectors from the start,
lives in registers, and becomes the widest vectors there are. `contract` is the only freedom given to the compiler
(a product and a sum may be rounded once): NaN and infinity keep their meaning, and sums their order.

Arrays are C-contiguous, of float32 or float64, and of any shape; an offset counts elements from the array's first.
Nothing checks it. Memory that begins at a multiple of 64 bytes, as torch's does, is read twice as fast.
"""

# ruff: noqa: ANN401 - what numba hands over has no types

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
"""Numbers in a value: 64 bytes of float32, which is one register of AVX-512 and two of AVX2."""
CONTRACT = ("contract",)
INDEX = ir.IntType(32)

Codegen = tuple[Any, Callable[..., Any]]
"""What numba wants of an intrinsic: its signature, and a function that writes its code."""


class Lanes(types.Type):
    """numba's type of LANES numbers of `dtype`, float32 or float64."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, vector(kind.dtype))


def instruction(function: Callable[..., Codegen]) -> Any:
    """A function that compiled code can call, and whose code `function` writes."""
    return intrinsic(function)


def vector(dtype: Any) -> ir.VectorType:
    """LLVM's type of Lanes."""
    return ir.VectorType({types.float32: ir.FloatType(), types.float64: ir.DoubleType()}[dtype], LANES)


def constant(kind: ir.VectorType, number: float) -> ir.Constant:
    """`number` in all lanes."""
    return ir.Constant(kind, [number] * kind.count)


def _indices(lanes: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(INDEX, LANES), lanes)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    """To LANES elements of an array of numba's type `kind`."""
    element = builder.gep(context.make_array(kind)(context, builder, array).data, [offset])
    return builder.bitcast(element, vector(kind.dtype).as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    kind = ir.VectorType(number.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(first, first, _indices([0] * LANES))


def _first(builder: Any, count: Any) -> Any:
    """Mask of the first `count` lanes."""
    number = _spread(builder, builder.trunc(count, INDEX))
    return builder.icmp_signed("<", _indices(list(range(LANES))), number)


def _align(array: Any) -> ir.Constant:
    return ir.Constant(INDEX, array.dtype.bitwidth // 8)


def _call(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    kind = ir.FunctionType(result, [each.type for each in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@instruction
def load(typingctx: Any, array: Any, offset: Any) -> Codegen:
    """LANES elements of `array` from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, array, *args), align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, types.intp), codegen


@instruction
def load_first(typingctx: Any, array: Any, offset: Any, count: Any) -> Codegen:
    """Like `load`, but only the first `count` elements are read; the other lanes are 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, pointer = vector(array.dtype), _pointer(context, builder, array, *args[:2])
        zeros = constant(kind, 0.0)
        masked = [pointer, _align(array), _first(builder, args[2]), zeros]
        return _call(builder, f"llvm.masked.load.v{LANES}f{array.dtype.bitwidth}.p0", kind, masked)

    return Lanes(array.dtype)(array, types.intp, types.intp), codegen


@instruction
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Codegen:
    """Write `value` to LANES elements of `array` from `offset` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, *args[:2])
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@instruction
def store_first(typingctx: Any, array: Any, offset: Any, value: Any, count: Any) -> Codegen:
    """Like `store`, but only the first `count` lanes are written."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, *args[:2])
        masked = [args[2], pointer, _align(array), _first(builder, args[3])]
        _call(builder, f"llvm.masked.store.v{LANES}f{array.dtype.bitwidth}.p0", ir.VoidType(), masked)
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp), codegen


@instruction
def spread(typingctx: Any, array: Any, offset: Any) -> Codegen:
    """The element of `array` at `offset`, in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        return _spread(builder, builder.load(builder.gep(data, [args[1]])))

    return Lanes(array.dtype)(array, types.intp), codegen


@instruction
def everywhere(typingctx: Any, number: Any) -> Codegen:
    """`number`, float32 or float64, in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return Lanes(number)(number), codegen


@instruction
def _sum(typingctx: Any, left: Any, right: Any) -> Codegen:
    return left(left, right), lambda _context, builder, _signature, args: builder.fadd(*args, flags=CONTRACT)


@instruction
def _product(typingctx: Any, left: Any, right: Any) -> Codegen:
    return left(left, right), lambda _context, builder, _signature, args: builder.fmul(*args, flags=CONTRACT)


@overload(operator.add)
def _(left, right):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba compares the signatures
    if isinstance(left, Lanes) and left == right:
        return lambda left, right: _sum(left, right)
    return None


@overload(operator.mul)
def _(left, right):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba compares the signatures
    if isinstance(left, Lanes) and left == right:
        return lambda left, right: _product(left, right)
    return None


def _halves(builder: Any, p: Any, q: Any, half: int) -> tuple[Any, Any]:
    """Of each run of 2 * `half` lanes, the lower half of `p` beside that of `q`, and the upper halves likewise."""
    lower = [lane - half + LANES if lane & half else lane for lane in range(LANES)]
    upper = [lane + half for lane in lower]
    return builder.shuffle_vector(p, q, _indices(lower)), builder.shuffle_vector(p, q, _indices(upper))


def _rows(context: Any, builder: Any, kind: Any, array: Any, offset: Any, stride: Any) -> list[Any]:
    rows = []
    for _ in range(LANES):
        pointer = _pointer(context, builder, kind, array, offset)
        rows.append(builder.load(pointer, align=kind.dtype.bitwidth // 8))
        offset = builder.add(offset, stride)
    return rows


@instruction
def totals(typingctx: Any, array: Any, offset: Any) -> Codegen:
    """Of LANES values that follow one another in `array`: the sum of the first one's lanes, of the second's, ..."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(context, builder, array, args[0], args[1], ir.Constant(args[1].type, LANES))
        half = LANES // 2
        while half:
            pairs = (_halves(builder, rows[row], rows[row + half], half) for row in range(half))
            rows = [builder.fadd(lower, upper) for lower, upper in pairs]
            half //= 2
        return rows[0]

    return Lanes(array.dtype)(array, types.intp), codegen


@instruction
def transpose(typingctx: Any, target: Any, start: Any, source: Any, offset: Any, stride: Any) -> Codegen:
    """Read LANES values `stride` elements apart; write lane 0 of all of them to `target`, then lane 1, and so on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(context, builder, source, args[2], args[3], args[4])
        half = LANES // 2
        while half:
            for row in range(LANES):
                if not row & half:
                    rows[row], rows[row + half] = _halves(builder, rows[row], rows[row + half], half)
            half //= 2
        for index, row in enumerate(rows):
            place = builder.add(args[1], ir.Constant(args[1].type, index * LANES))
            pointer = _pointer(context, builder, target, args[0], place)
            builder.store(row, pointer, align=target.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), codegen
