"""Moving a row of RGB pixels with plain loads and stores: as it is or mirrored, as bytes or normalised.

    eight pixels at a time    24 values in three vectors of 8; a patch of 8 px has nothing else
    what is left of a row     one pixel at a time

Numba tests every signed index for being negative and knows nothing of types at a branch, which makes loops over bytes
five times slower than the machine. This writes the few instructions that are needed in LLVM's terms.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from pipelines.kernels.rounding_kernel import CONVERT, Convert

_BYTE, _PAIR, _FOUR, _INDEX = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_CHANNELS = 3
_GROUP = 8  # pixels, so that the channels of three vectors begin again with the next group
LANES = 8  # values in a vector
PATTERN = _GROUP * _CHANNELS  # values of a group

_BYTES, _FLOATS = ir.VectorType(_BYTE, 4), ir.VectorType(ir.FloatType(), 4)
_EIGHT, _SIXTEEN = ir.VectorType(_BYTE, LANES), ir.VectorType(_BYTE, 2 * LANES)
_EIGHT_FLOATS = ir.VectorType(ir.FloatType(), LANES)


@intrinsic  # type: ignore[untyped-decorator]
def move_pixels(
    _: Any,
    source: Any,
    start: Any,  # noqa: ARG001
    mirror: Any,  # noqa: ARG001
    pixels: Any,  # noqa: ARG001
    factors: Any,
    out: Any,
    at: Any,  # noqa: ARG001
) -> Any:
    """Writes `pixels` >= 1 RGB pixels that begin at source[start], in reverse order if `mirror`, to out[at] on.

    source is uint8, `out` says what to do, both are flat. May read, but never writes, one byte past the last pixel.

        uint8                   copied
        float32, uint16, int16  x * factors[0, v] + factors[1, v] in two roundings, then rounded to float32, bfloat16,
                                float16; factors [2, PATTERN] float32, the channels again and again
    """
    index = types.int64
    signature = types.void(source, index, types.boolean, index, factors, out, index)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, mirror, pixels, factors, out, at = arguments
        source, factors, out = (
            context.make_array(signature.args[number])(context, builder, array).data
            for number, array in ((0, source), (4, factors), (5, out))
        )
        row = _Row(builder, builder.gep(source, [start]), builder.gep(out, [at]), pixels)
        with builder.if_else(mirror) as (mirrored, straight):
            with mirrored:
                row.write(signature.args[5].dtype, factors, mirror=True)
            with straight:
                row.write(signature.args[5].dtype, factors, mirror=False)
        return context.get_dummy_value()

    return signature, emit


class _Row:
    """Writes the instructions that move `pixels` pixels from `source` to `out`."""

    def __init__(self, builder: Any, source: Any, out: Any, pixels: Any) -> None:
        self.builder, self.source, self.out, self.pixels = builder, source, out, pixels
        self.groups = builder.udiv(pixels, _number(_GROUP))
        self.grouped = builder.mul(self.groups, _number(_GROUP))
        self.last = builder.sub(pixels, _number(1))

    def write(self, kind: Any, factors: Any, *, mirror: bool) -> None:
        if kind != types.uint8:
            self.normalise_groups(factors, CONVERT[kind], mirror=mirror)
            with self.builder.if_then(self._some_left()):
                self.normalise(factors, CONVERT[kind], mirror=mirror)
        elif mirror:
            self.mirror_groups()
            with self.builder.if_then(self._some_left()):
                self.copy_mirrored()
        else:
            self.copy()

    def copy(self) -> None:
        cgutils.raw_memcpy(self.builder, self.out, self.source, self.pixels, _CHANNELS)

    def mirror_groups(self) -> None:
        with cgutils.for_range(self.builder, self.groups) as loop:
            here, there = self._group(loop.index, mirror=True)
            for part in range(_CHANNELS):
                self._store(self._part(here, part, mirror=True), self._after(there, LANES * part))

    def normalise_groups(self, factors: Any, convert: Convert, *, mirror: bool) -> None:
        with cgutils.for_range(self.builder, self.groups) as loop:
            here, there = self._group(loop.index, mirror=mirror)
            for part in range(_CHANNELS):
                scale, bias = (
                    self._load(self._after(factors, start + LANES * part), _EIGHT_FLOATS) for start in (0, PATTERN)
                )
                value = self._normalised(self._part(here, part, mirror=mirror), scale, bias)
                self._store(convert(self.builder, value), self._after(there, LANES * part))

    def copy_mirrored(self) -> None:
        """Moves four bytes a pixel: the next pixel writes over the one too many. The last moves as two and one."""
        with cgutils.for_range(self.builder, self.last, start=self.grouped) as loop:
            here, there = self._places(loop.index, mirror=True)
            self._move(here, there, _FOUR)
        here, there = self._places(self.last, mirror=True)
        self._move(here, there, _PAIR)
        self._move(self._after(here, 2), self._after(there, 2), _BYTE)

    def normalise(self, factors: Any, convert: Convert, *, mirror: bool) -> None:
        """A pixel at a time, as four values of which the next pixel overwrites one; the last pixel as three."""
        scale, bias = (self._load(self._after(factors, start), _FLOATS) for start in (0, PATTERN))
        with cgutils.for_range(self.builder, self.last, start=self.grouped) as loop:
            here, there = self._places(loop.index, mirror=mirror)
            self._store(convert(self.builder, self._normalised(self._load(here, _BYTES), scale, bias)), there)
        here, there = self._places(self.last, mirror=mirror)
        values = convert(self.builder, self._normalised(self._load(here, _BYTES), scale, bias))
        for channel in range(_CHANNELS):
            value = self.builder.extract_element(values, ir.Constant(_FOUR, channel))
            self.builder.store(value, self._after(there, channel))

    def _some_left(self) -> Any:
        return self.builder.icmp_unsigned("<", self.grouped, self.pixels)

    def _group(self, group: Any, *, mirror: bool) -> tuple[Any, Any]:
        """Returns where a group's 24 values are read and written; mirrored, the first is the last of the source."""
        first = self.builder.mul(group, _number(_GROUP))
        origin = self.builder.sub(self.pixels, self.builder.add(first, _number(_GROUP))) if mirror else first
        here, there = (self.builder.mul(number, _number(_CHANNELS)) for number in (origin, first))
        return self.builder.gep(self.source, [here]), self.builder.gep(self.out, [there])

    def _part(self, group: Any, part: int, *, mirror: bool) -> Any:
        """Returns the bytes that become values 8 * part..8 * part + 7 of a group."""
        if not mirror:
            return self._load(self._after(group, LANES * part), _EIGHT)
        values = [divmod(LANES * part + lane, _CHANNELS) for lane in range(LANES)]
        places = [(_GROUP - 1 - pixel) * _CHANNELS + channel for pixel, channel in values]
        start = min(*places, PATTERN - 2 * LANES)  # 16 bytes hold all eight, and lie within the group
        chosen = ir.Constant(ir.VectorType(_FOUR, LANES), [place - start for place in places])
        loaded = self._load(self._after(group, start), _SIXTEEN)
        return self.builder.shuffle_vector(loaded, ir.Constant(_SIXTEEN, ir.Undefined), chosen)

    def _normalised(self, pixels: Any, scale: Any, bias: Any) -> Any:
        return self.builder.fadd(self.builder.fmul(self.builder.uitofp(pixels, scale.type), scale), bias)

    def _places(self, pixel: Any, *, mirror: bool) -> tuple[Any, Any]:
        origin = self.builder.sub(self.last, pixel) if mirror else pixel
        here, there = (self.builder.mul(number, _number(_CHANNELS)) for number in (origin, pixel))
        return self.builder.gep(self.source, [here]), self.builder.gep(self.out, [there])

    def _after(self, pointer: Any, elements: int) -> Any:
        return self.builder.gep(pointer, [_number(elements)])

    def _move(self, here: Any, there: Any, kind: Any) -> None:
        self._store(self._load(here, kind), there)

    def _load(self, here: Any, kind: Any) -> Any:
        return self.builder.load(self.builder.bitcast(here, kind.as_pointer()), align=1)

    def _store(self, value: Any, there: Any) -> None:
        self.builder.store(value, self.builder.bitcast(there, value.type.as_pointer()), align=1)


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)
