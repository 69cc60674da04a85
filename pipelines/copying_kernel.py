"""Moving a row of RGB pixels with plain loads and stores: as it is or mirrored, as bytes or normalised.

Numba tests every signed index for being negative and knows nothing of types at a branch, which makes loops over bytes
five times slower than the machine. This writes the few instructions that are needed in LLVM's terms.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_BYTE, _PAIR, _FOUR, _INDEX = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_BYTES, _FLOATS = ir.VectorType(_BYTE, 4), ir.VectorType(ir.FloatType(), 4)
_CHANNELS = 3
_VALUES = 256  # of a byte


@intrinsic  # type: ignore[untyped-decorator]
def move_pixels(
    _: Any,
    source: Any,
    start: Any,  # noqa: ARG001
    mirror: Any,  # noqa: ARG001
    pixels: Any,  # noqa: ARG001
    table: Any,
    out: Any,
    at: Any,  # noqa: ARG001
) -> Any:
    """Writes `pixels` >= 1 RGB pixels that begin at source[start], in reverse order if `mirror`, to out[at] on.

    source is uint8, `out` says what to do, both are flat. May read, but never writes, one byte past the last pixel.

        uint8     copied
        float32   x * table[0, c] + table[1, c] in two roundings; table [2, 4], the last column unused
        others    table[c, x]; table [3, 256] of the type of `out`
    """
    index = types.int64
    signature = types.void(source, index, types.boolean, index, table, out, index)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, mirror, pixels, table, out, at = arguments
        source, table, out = (
            context.make_array(signature.args[number])(context, builder, array).data
            for number, array in ((0, source), (4, table), (5, out))
        )
        row = _Row(builder, builder.gep(source, [start]), builder.gep(out, [at]), pixels)
        with builder.if_else(mirror) as (mirrored, straight):
            with mirrored:
                row.write(signature.args[5].dtype, table, mirror=True)
            with straight:
                row.write(signature.args[5].dtype, table, mirror=False)
        return context.get_dummy_value()

    return signature, emit


class _Row:
    """Writes the instructions that move `pixels` pixels from `source` to `out`."""

    def __init__(self, builder: Any, source: Any, out: Any, pixels: Any) -> None:
        self.builder, self.source, self.out, self.pixels = builder, source, out, pixels
        self.last = builder.sub(pixels, _number(1))

    def write(self, kind: Any, table: Any, *, mirror: bool) -> None:
        if kind == types.float32:
            self.normalise(table, mirror=mirror)
        elif kind != types.uint8:
            self.look_up(table, mirror=mirror)
        elif mirror:
            self.copy_mirrored()
        else:
            self.copy()

    def copy(self) -> None:
        cgutils.raw_memcpy(self.builder, self.out, self.source, self.pixels, _CHANNELS)

    def copy_mirrored(self) -> None:
        """Moves four bytes a pixel: the next pixel writes over the one too many. The last moves as two and one."""
        with cgutils.for_range(self.builder, self.last) as loop:
            here, there = self._places(loop.index, mirror=True)
            self._move(here, there, _FOUR)
        here, there = self._places(self.last, mirror=True)
        self._move(here, there, _PAIR)
        self._move(self._after(here, 2), self._after(there, 2), _BYTE)

    def normalise(self, factors: Any, *, mirror: bool) -> None:
        """A pixel at a time, as four floats of which the next pixel overwrites one; the last pixel as three."""
        builder, pointer = self.builder, _FLOATS.as_pointer()
        scale, bias = (builder.load(builder.bitcast(self._after(factors, start), pointer), align=4) for start in (0, 4))
        with cgutils.for_range(builder, self.last) as loop:
            here, there = self._places(loop.index, mirror=mirror)
            builder.store(self._normalised(here, scale, bias), builder.bitcast(there, pointer), align=4)
        here, there = self._places(self.last, mirror=mirror)
        values = self._normalised(here, scale, bias)
        for channel in range(_CHANNELS):
            value = builder.extract_element(values, ir.Constant(_FOUR, channel))
            builder.store(value, self._after(there, channel))

    def _normalised(self, here: Any, scale: Any, bias: Any) -> Any:
        pixel = self.builder.load(self.builder.bitcast(here, _BYTES.as_pointer()), align=1)
        return self.builder.fadd(self.builder.fmul(self.builder.uitofp(pixel, _FLOATS), scale), bias)

    def look_up(self, table: Any, *, mirror: bool) -> None:
        with cgutils.for_range(self.builder, self.pixels) as loop:
            here, there = self._places(loop.index, mirror=mirror)
            for channel in range(_CHANNELS):
                value = self.builder.zext(self.builder.load(self._after(here, channel)), _INDEX)
                entry = self.builder.gep(self._after(table, _VALUES * channel), [value])
                self.builder.store(self.builder.load(entry), self._after(there, channel))

    def _places(self, pixel: Any, *, mirror: bool) -> tuple[Any, Any]:
        origin = self.builder.sub(self.last, pixel) if mirror else pixel
        here, there = (self.builder.mul(number, _number(_CHANNELS)) for number in (origin, pixel))
        return self.builder.gep(self.source, [here]), self.builder.gep(self.out, [there])

    def _after(self, pointer: Any, elements: int) -> Any:
        return self.builder.gep(pointer, [_number(elements)])

    def _move(self, here: Any, there: Any, kind: Any) -> None:
        value = self.builder.load(self.builder.bitcast(here, kind.as_pointer()), align=1)
        self.builder.store(value, self.builder.bitcast(there, kind.as_pointer()), align=1)


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)
