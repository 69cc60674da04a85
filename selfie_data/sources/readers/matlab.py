"""Reads a struct array out of a MATLAB 5 file: all that the `meta.mat` of ImageNet's development kit needs.

    file     header (128 bytes), elements
    element  type u32, length u32, data padded to 8 bytes; or length u16 << 16 | type u16, up to 4 bytes of data
    matrix   elements: flags (class), dimensions, name, then numbers, text, or field names and a matrix a field

Source: MathWorks, "MAT-File Format", level 5.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from selfie_data.errors import SourceError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _CHAR = 2, 4
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
}
_MAX_UNPACKED = 64 << 20


class _Element(NamedTuple):
    kind: int
    data: memoryview


def read_struct_array(data: bytes, variable: str, fields: tuple[str, ...], *, label: str) -> list[dict[str, str | int]]:
    """Returns the records of a struct array, each with the wanted fields: text, or one integer.

    Args:
        data: the file.
        variable: the array's name.
        fields: which fields; the others are passed over.
        label: what errors call the file.

    Raises:
        SourceError: no MATLAB 5 file, damaged, or without the variable and fields.
    """
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
        raise SourceError(f"{label} is no MATLAB 5 file")
    order = "<" if data[126:128] == b"IM" else ">"
    try:
        for element in _elements(memoryview(data)[_HEADER:], order):
            matrix = _unpack(element, order)
            if matrix.kind == _MATRIX and (records := _read_struct(matrix.data, order, variable, fields)) is not None:
                return records
    except (struct.error, ValueError, IndexError, StopIteration, KeyError, zlib.error, RuntimeError) as error:
        raise SourceError(f"{label} is a damaged MATLAB 5 file: {error}") from error
    raise SourceError(f"{label} holds no struct {variable} with the fields {', '.join(fields)}")


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    position = 0
    while position + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, position)
        if kind >> 16:
            kind, length = kind & 0xFFFF, kind >> 16
            start, step = position + 4, 8
            if length > 4:
                raise ValueError("a small element is too long")
        else:
            start, step = position + 8, 8 + length + (-length % 8 if kind != _COMPRESSED else 0)
        if start + length > len(data):
            raise ValueError("it is truncated")
        yield _Element(kind, data[start : start + length])
        position += step


def _unpack(element: _Element, order: str) -> _Element:
    if element.kind != _COMPRESSED:
        return element
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(element.data, _MAX_UNPACKED)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError(f"a variable unpacks to more than {_MAX_UNPACKED} bytes or is cut short")
    return next(_elements(memoryview(unpacked), order))


def _read_struct(
    data: memoryview, order: str, variable: str, fields: tuple[str, ...]
) -> list[dict[str, str | int]] | None:
    parts = list(_elements(data, order))
    flags, dimensions, name = parts[:3]
    if _class(flags, order) != _STRUCT or bytes(name.data) != variable.encode():
        return None
    width = struct.unpack(f"{order}i", parts[3].data[:4])[0]
    names = [
        bytes(parts[4].data[at : at + width]).split(b"\0")[0].decode("ascii")
        for at in range(0, len(parts[4].data), width)
    ]
    if not set(fields) <= set(names):
        return None
    count = int(np.prod(np.frombuffer(dimensions.data, dtype=f"{order}i4"), dtype=np.int64))
    values = parts[5:]
    if count * len(names) != len(values):
        raise ValueError(f"a struct array of {count} records has {len(values)} values")
    wanted = [(field, names.index(field)) for field in fields]
    starts = range(0, len(values), len(names))
    return [{field: _read_value(values[start + at], order) for field, at in wanted} for start in starts]


def _class(flags: _Element, order: str) -> int:
    return int(struct.unpack_from(f"{order}I", flags.data)[0]) & 0xFF


def _read_value(element: _Element, order: str) -> str | int:
    flags, _, _, data, *_ = _elements(element.data, order)
    numbers = np.frombuffer(data.data, dtype=np.dtype(order + _NUMBERS[data.kind]))
    if _class(flags, order) == _CHAR:
        return "".join(map(chr, numbers.tolist()))
    if len(numbers) != 1 or numbers[0] != int(numbers[0]):
        raise ValueError("a field that should be one integer is not")
    return int(numbers[0])
