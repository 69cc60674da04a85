"""Sums and sums of squares of each channel, exact, in one pass over the pixels.

16 pixels, 48 bytes, are taken at a time. Each of the 48 places has a counter for values and one for squares: uint32,
good for 65,536 blocks of 255². Then they are added up by channel, which is the place modulo 3.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from selfie_data.kernels.compiled import exported

_LANES = 16
_BLOCK = 3 * _LANES
_BLOCKS = 65_536  # 65,536 * 65,025 < 2**32
_BYTES, _SHORTS, _INTS = (ir.VectorType(ir.IntType(bits), _LANES) for bits in (8, 16, 32))


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    source, start, blocks, counters = arguments

    def address(kind: Any, array: Any, index: Any, vector: Any) -> Any:
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

    totals = [cgutils.alloca_once_value(builder, ir.Constant(_INTS, [0] * _LANES)) for _ in range(6)]  # registers
    with cgutils.for_range(builder, blocks) as loop:
        block = builder.add(start, builder.mul(loop.index, ir.Constant(start.type, _BLOCK)))
        for part in range(3):
            place = builder.add(block, ir.Constant(start.type, part * _LANES))
            narrow = builder.load(address(signature.args[0], source, place, _BYTES), align=1)
            values = builder.zext(narrow, _SHORTS)
            for total, added in ((totals[part], values), (totals[3 + part], builder.mul(values, values))):
                builder.store(builder.add(builder.load(total), builder.zext(added, _INTS)), total)
    for part, total in enumerate(totals):
        target = address(signature.args[3], counters, ir.Constant(start.type, part * _LANES), _INTS)
        builder.store(builder.load(total), target, align=4)
    return context.get_dummy_value()


@intrinsic  # type: ignore[untyped-decorator]
def _count(_: Any, source: Any, start: Any, blocks: Any, counters: Any) -> Any:  # noqa: ARG001
    """Writes the counters, uint32 [96], of `blocks` blocks of `source` from byte `start` on."""
    return types.void(source, types.int64, types.int64, counters), _emit


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
        _count(data, start * _BLOCK, min(_BLOCKS, blocks - start), counts)
        for place in range(_BLOCK):
            totals[place % 3] += counts[place]
            totals[3 + place % 3] += counts[_BLOCK + place]
    for place in range(blocks * _BLOCK, 3 * pixels):
        value = np.uint64(data[place])
        totals[place % 3] += value
        totals[3 + place % 3] += value * value
