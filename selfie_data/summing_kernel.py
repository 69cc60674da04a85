"""Sums and sums of squares of each channel, exact, in one pass over the pixels.

16 pixels, 48 bytes, are taken at a time. Each of the 48 places has a counter for values and one for squares: uint32,
good for 65,536 blocks of 255². Then they are added up by channel, which is the place modulo 3.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from selfie_data.compiled import exported

_LANES = 16
_BLOCK = 3 * _LANES
_BLOCKS = 65_536  # 65,536 * 65,025 < 2**32
_BYTE, _INT = ir.IntType(8), ir.IntType(32)


@intrinsic  # type: ignore[untyped-decorator]
def _count(
    _: Any,
    source: Any,
    at: Any,  # noqa: ARG001
    counts: Any,
    place: Any,  # noqa: ARG001
    squares: Any,  # noqa: ARG001
) -> Any:
    """Adds 16 bytes of `source` from `at` on to counters from `place` on, their squares to those from `squares` on."""
    index = types.int64
    return types.void(source, index, counts, index, index), _emit


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    source, at, counts, place, squares = arguments
    wide, narrow = ir.VectorType(_INT, _LANES), ir.VectorType(_BYTE, _LANES)

    def address(kind: Any, array: Any, index: Any, vector: Any) -> Any:
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

    values = builder.zext(builder.load(address(signature.args[0], source, at, narrow), align=1), wide)
    for index, added in ((place, values), (squares, builder.mul(values, values))):
        counter = address(signature.args[2], counts, index, wide)
        builder.store(builder.add(builder.load(counter, align=4), added), counter, align=4)
    return context.get_dummy_value()


@exported("void(CPointer(uint8), int64, CPointer(uint32), CPointer(uint64))")
def sum_channels(source: Any, pixels: int, counters: Any, sums: Any) -> None:
    """Writes the sums of RGB pixels.

    Args:
        source: uint8 [pixels * 3].
        pixels: how many.
        counters: scratch, uint32 [96].
        sums: uint64 [6]: red, green, blue, and their squares.
    """
    data, counts, totals = carray(source, 3 * pixels), carray(counters, 2 * _BLOCK), carray(sums, 6)
    totals[:] = 0
    blocks = 3 * pixels // _BLOCK
    for start in range(0, blocks, _BLOCKS):
        counts[:] = 0
        for block in range(start, min(start + _BLOCKS, blocks)):
            for place in range(0, _BLOCK, _LANES):
                _count(data, block * _BLOCK + place, counts, place, place + _BLOCK)
        for place in range(_BLOCK):
            totals[place % 3] += counts[place]
            totals[3 + place % 3] += counts[_BLOCK + place]
    for place in range(blocks * _BLOCK, 3 * pixels):
        value = np.uint64(data[place])
        totals[place % 3] += value
        totals[3 + place % 3] += value * value
