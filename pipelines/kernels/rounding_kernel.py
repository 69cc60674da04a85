"""Vectors of float32 rounded to the nearest value of 16 bits, ties to even, as instructions of LLVM's.

To the bit what PyTorch's conversion gives for everything but NaN. Written out in integers: the processor's own
conversion to float16 is missing on some, where LLVM calls a function that need not be there.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

_SHORT, _WORD, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()

_SIGN, _LOWEST = 0x8000_0000, 1
_MOST_OF_HALF_A_UNIT = {16: 0x7FFF, 13: 0x0FFF}  # by the bits that fall away
_SMALLEST_NORMAL = 0x3880_0000  # 2**-14: below, float16 has fewer bits
_OVERFLOW = 0x477F_F000  # 65520, which rounds to infinity
_INFINITY = 0x7C00
_REBIASED = 0xC800_0000  # (15 - 127) << 23: exponents of float16 count from 15
_HALF = 0x3F00_0000  # 0.5 as float32: its last bit is worth 2**-24, as float16's is below 2**-14

Convert = Callable[[Any, Any], Any]


def unchanged(_: Any, values: Any) -> Any:
    """The conversion to float32."""
    return values


def to_bfloat16(builder: Any, values: Any) -> Any:
    """Returns <n x float> as the bits of bfloat16, <n x i16>."""
    return _short(builder, _rounded(builder, _bits(builder, values), 16))


def to_float16(builder: Any, values: Any) -> Any:
    """Returns <n x float> as the bits of float16, <n x i16>."""
    bits = _bits(builder, values)
    sign = builder.and_(bits, _all(bits.type, _SIGN))
    size = builder.xor(bits, sign)
    normal = _rounded(builder, builder.add(size, _all(bits.type, _REBIASED)), 13)
    half = builder.bitcast(_all(bits.type, _HALF), values.type)
    moved = builder.fadd(builder.bitcast(size, values.type), half)  # rounds to multiples of 2**-24
    small = builder.sub(_bits(builder, moved), _all(bits.type, _HALF))
    result = builder.select(
        builder.icmp_unsigned(">=", size, _all(bits.type, _OVERFLOW)), _all(bits.type, _INFINITY), normal
    )
    result = builder.select(builder.icmp_unsigned("<", size, _all(bits.type, _SMALLEST_NORMAL)), small, result)
    return _short(builder, builder.or_(result, builder.lshr(sign, _all(bits.type, 16))))


CONVERT: dict[Any, Convert] = {types.float32: unchanged, types.uint16: to_bfloat16, types.int16: to_float16}
"""By the type that stands for each in kernels: Numba knows no 16-bit floats on a CPU."""


def _rounded(builder: Any, bits: Any, away: int) -> Any:
    """Returns bits >> away, rounded to nearest, ties to even."""
    odd = builder.and_(builder.lshr(bits, _all(bits.type, away)), _all(bits.type, _LOWEST))
    nearest = builder.add(builder.add(bits, _all(bits.type, _MOST_OF_HALF_A_UNIT[away])), odd)
    return builder.lshr(nearest, _all(bits.type, away))


def _bits(builder: Any, values: Any) -> Any:
    return builder.bitcast(values, ir.VectorType(_WORD, values.type.count))


def _short(builder: Any, bits: Any) -> Any:
    return builder.trunc(bits, ir.VectorType(_SHORT, bits.type.count))


def _all(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)
