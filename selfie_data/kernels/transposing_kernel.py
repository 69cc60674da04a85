"""Rows of bytes become columns, 16 x 16 at a time, as vector instructions.

    out[to + j * out_stride + i] = source[start + min(i, last) * stride + j]       i, j < 16

Four rounds in which vectors i and i + 8 are zipped; whatever the machine has for that (SSE's unpack, NEON's zip).
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

SIDE = 16
_ROUNDS = 4  # 2 ** 4 = SIDE

_BYTES, _LANE, _INDEX = ir.VectorType(ir.IntType(8), SIDE), ir.IntType(32), ir.IntType(64)


def _zip_mask(half: int) -> Any:
    """Returns which of 32 bytes, those of two vectors, the first (0) or second (1) vector of their zip is made of."""
    first = half * SIDE // 2
    order = [place for j in range(first, first + SIDE // 2) for place in (j, j + SIDE)]
    return ir.Constant(ir.VectorType(_LANE, SIDE), order)


@intrinsic  # type: ignore[untyped-decorator]
def transpose(
    _: Any,
    source: Any,
    start: Any,  # noqa: ARG001
    stride: Any,  # noqa: ARG001
    last: Any,  # noqa: ARG001
    out: Any,
    to: Any,  # noqa: ARG001
    out_stride: Any,  # noqa: ARG001
) -> Any:
    """The step above. Both arrays are uint8, one-dimensional and contiguous; rows past `last` are not read."""
    index = types.int64
    signature = types.void(source, index, index, index, out, index, index)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, stride, last, out, to, out_stride = arguments
        pixels, result = (
            builder.gep(context.make_array(signature.args[number])(context, builder, array).data, [first])
            for number, array, first in ((0, source, start), (4, out, to))
        )

        def vector(base: Any, row: Any, step: Any) -> Any:
            return builder.bitcast(builder.gep(base, [builder.mul(row, step)]), _BYTES.as_pointer())

        rows = []
        for number in range(SIDE):
            row = ir.Constant(_INDEX, number)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            rows.append(builder.load(vector(pixels, row, stride), align=1))
        masks = [_zip_mask(0), _zip_mask(1)]
        for _round in range(_ROUNDS):
            pairs = zip(rows[: SIDE // 2], rows[SIDE // 2 :], strict=True)
            rows = [builder.shuffle_vector(one, other, mask) for one, other in pairs for mask in masks]
        for number, column in enumerate(rows):
            builder.store(column, vector(result, ir.Constant(_INDEX, number), out_stride), align=1)
        return context.get_dummy_value()

    return signature, emit
