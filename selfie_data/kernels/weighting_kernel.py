"""One step of resampling as vector instructions: several neighbouring bytes, each a weighted sum over a few taps.

    out[at + j] = (2**21 + sum over t of source[start + t * stride + j] * weights[first + t]) >> 22       j < 16

Numba widens products of 32-bit integers to 64 bits, so a loop written in Python needs twice the registers and runs at a
third of the speed. This writes LLVM's portable vector code instead: SSE, AVX or NEON, whatever the machine has.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

PRECISION_BITS = 32 - 8 - 2  # see `pipelines.backends.plain_resize`
ROW_LANES = 16

_BYTE, _INT = ir.IntType(8), ir.IntType(32)


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    source, start, stride, weights, first, taps, out, at = arguments
    kinds = signature.args
    vector, narrow = ir.VectorType(_INT, ROW_LANES), ir.VectorType(_BYTE, ROW_LANES)
    undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0] * ROW_LANES)

    def address(kind: Any, array: Any, index: Any) -> Any:
        return builder.gep(context.make_array(kind)(context, builder, array).data, [index])

    pixels, weight = address(kinds[0], source, start), address(kinds[3], weights, first)
    total = cgutils.alloca_once_value(builder, ir.Constant(vector, [1 << (PRECISION_BITS - 1)] * ROW_LANES))
    with cgutils.for_range(builder, taps) as loop:
        here = builder.bitcast(builder.gep(pixels, [builder.mul(loop.index, stride)]), narrow.as_pointer())
        values = builder.zext(builder.load(here, align=1), vector)
        one = builder.insert_element(undefined, builder.load(builder.gep(weight, [loop.index])), ir.Constant(_INT, 0))
        product = builder.mul(values, builder.shuffle_vector(one, undefined, zeros))
        builder.store(builder.add(builder.load(total), product), total)
    shifted = builder.lshr(builder.load(total), ir.Constant(vector, [PRECISION_BITS] * ROW_LANES))
    target = builder.bitcast(address(kinds[6], out, at), narrow.as_pointer())
    builder.store(builder.trunc(shifted, narrow), target, align=1)
    return context.get_dummy_value()


def _signature(source: Any, weights: Any, out: Any) -> Any:
    index = types.int64
    return types.void(source, index, index, weights, index, index, out, index)


@intrinsic  # type: ignore[untyped-decorator]
def weigh_row(
    _: Any,
    source: Any,
    start: Any,  # noqa: ARG001
    stride: Any,  # noqa: ARG001
    weights: Any,
    first: Any,  # noqa: ARG001
    taps: Any,  # noqa: ARG001
    out: Any,
    at: Any,  # noqa: ARG001
) -> Any:
    """The step above. Arrays are one-dimensional and contiguous: uint8, int32 and uint8."""
    return _signature(source, weights, out), _emit
