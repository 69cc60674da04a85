"""A rectangle of a JPEG with restart markers becomes a smaller JPEG: bytes are copied, no pixel is touched.

    header read -> rectangle rounded out to whole intervals -> header with another size, those intervals, end of image

Sections of ITU-T T.81: B.2.4.4 and F.1.1.5.2 (an interval begins with DC predictions of zero and a whole byte, so it
can be decoded by itself), B.2.1 (markers RST0 to RST7 in turn between the intervals of a scan), B.1.1.5 (a byte 0xFF in
entropy-coded data is followed by 0x00, so whatever else follows it is a marker), A.2 (MCUs), B.2.2 (frame header).

Any decoder reads the result and gives the pixels of the whole image: chroma that is stored at half the size and
enlarged smoothly depends on one sample beyond the rectangle, two pixels, which are cut too. What is not exactly as
expected is not cut.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from selfie_data.kernels.compile import kernel

ALL_NEEDED = 0  # instead of a size: the rectangle needs every interval
NO_INTERVALS = -1  # no restart interval, or none that divides a row of MCUs
UNEXPECTED = -2  # not a sequential JPEG of one scan, no rectangle of the image, or damaged

_MARGIN = 2  # pixels
_NARROWEST = 8  # pixels; libjpeg enlarges rows of one or two chroma samples without smoothing
_BLOCK = 64  # bytes looked at together
_SOF0, _SOF1, _DHT, _SOI, _EOI, _SOS, _DQT, _DRI, _COM = 0xC0, 0xC1, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xFE
_RST0, _APP0, _APP14, _APP15 = 0xD0, 0xE0, 0xEE, 0xEF


class Window(NamedTuple):
    """A JPEG that holds a rectangle of another.

    Attributes:
        data: the file; the one that was given, if nothing could be left out.
        top: pixels of it above the rectangle.
        left: pixels of it left of the rectangle.
        status: its size in bytes, or why it is the one that was given: ALL_NEEDED, NO_INTERVALS or UNEXPECTED.
    """

    data: bytes
    top: int
    left: int
    status: int


def window(jpeg: bytes, top: int, left: int, height: int, width: int) -> Window:
    """Returns the smallest JPEG that holds a rectangle, in pixels, of one with restart markers, or that one."""
    out = np.empty(len(jpeg), np.uint8)
    data = np.frombuffer(jpeg, np.uint8)
    size, above, before = cut_window(data, 0, len(jpeg), top, left, height, width, out)
    return Window(out[:size].tobytes() if size > 0 else jpeg, top - above, left - before, size)


@intrinsic  # type: ignore[untyped-decorator]
def _markers(_: Any, array: Any, index: Any) -> Any:
    """Bit i of the uint64 says whether array[index + i] is 0xFF and the next byte is not 0; reads 65 bytes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        vector = ir.VectorType(ir.IntType(8), _BLOCK)
        first = builder.gep(data, [arguments[1]])
        second = builder.gep(first, [ir.Constant(ir.IntType(64), 1)])
        bytes_, following = (builder.load(builder.bitcast(p, vector.as_pointer()), align=1) for p in (first, second))
        full = builder.icmp_unsigned("==", bytes_, ir.Constant(vector, [0xFF] * _BLOCK))
        marked = builder.icmp_unsigned("!=", following, ir.Constant(vector, [0] * _BLOCK))
        return builder.bitcast(builder.and_(full, marked), ir.IntType(64))

    return types.uint64(array, index), emit


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(_: Any, value: Any) -> Any:
    """Zero bits below the lowest one of a uint64 that is not 0."""
    return types.int64(value), lambda _c, builder, _s, arguments: builder.cttz(arguments[0], ir.IntType(1)(1))


@intrinsic  # type: ignore[untyped-decorator]
def _copy(_: Any, target: Any, place: Any, source: Any, start: Any, count: Any) -> Any:
    """Copies source[start : start + count] to target[place:]; uint8, flat, two arrays."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = [
            builder.gep(context.make_array(signature.args[i])(context, builder, arguments[i]).data, [arguments[i + 1]])
            for i in (0, 2)
        ]
        cgutils.raw_memcpy(builder, *pointers, arguments[4], 1)
        return context.get_dummy_value()

    return types.void(target, place, source, start, count), emit


@kernel
def _number(data: Any, place: int) -> Any:
    """Returns the 16 bits at data[place]."""
    return np.int64(data[place]) << 8 | np.int64(data[place + 1])


@kernel
def _segment(data: Any, place: int, stop: int) -> Any:
    """Returns where the segment at data[place] begins, fill bytes left out, and ends; -1 twice if there is none."""
    while place + 4 <= stop and data[place] == 0xFF:
        if data[place + 1] == 0xFF:
            place += 1
            continue
        end = place + 2 + _number(data, place + 2)
        if end < place + 4 or end > stop:
            break
        return place, end
    return -1, -1


@kernel
def _mcu_size(data: Any, place: int, end: int) -> Any:
    """Returns the height and width of an MCU, pixels, and the components that the frame header tells; 0 if damaged."""
    count = np.int64(data[place + 9]) if end - place > 9 else 0
    if not 1 <= count <= 4 or end - place != 10 + 3 * count or data[place + 4] != 8:
        return 0, 0, 0
    down, across = np.int64(1), np.int64(1)
    for component in range(count):
        factors = np.int64(data[place + 11 + 3 * component])
        if not (1 <= factors >> 4 <= 4 and 1 <= factors & 15 <= 4):
            return 0, 0, 0
        if count > 1:  # one component is not interleaved: an MCU is a block (A.2.2)
            down, across = max(down, factors & 15), max(across, factors >> 4)
    return 8 * down, 8 * across, count


@kernel
def _read_header(data: Any, start: int, stop: int) -> Any:
    """Returns where the scan's data begins, where the frame header stands, and the restart interval, or UNEXPECTED."""
    place, frame, count, interval = start + 2, 0, 0, 0
    while True:
        place, end = _segment(data, place, stop)
        if end < 0:
            return UNEXPECTED, UNEXPECTED, UNEXPECTED
        marker = np.int64(data[place + 1])
        if marker in (_SOF0, _SOF1) and frame == 0:
            frame, count = place, _mcu_size(data, place, end)[2]
        elif marker == _DRI and end - place == 6:
            interval = _number(data, place + 4)
        elif marker == _SOS and count and end - place == 8 + 2 * count and data[place + 4] == count:
            return end, frame, interval
        elif not (marker in (_DQT, _DHT, _COM) or _APP0 <= marker <= _APP15):
            return UNEXPECTED, UNEXPECTED, UNEXPECTED
        place = end


@kernel
def _copy_header(data: Any, start: int, scan: int, height: int, width: int, out: Any) -> Any:
    """Writes what decoders need of the header, with another size of the image, to `out`; returns the bytes written."""
    out[0], out[1], size, place = 0xFF, _SOI, 2, start + 2
    while place < scan:
        place, end = _segment(data, place, scan)
        marker = np.int64(data[place + 1])
        # Of application segments only JFIF's and Adobe's say what the components are.
        if marker != _COM and not (_APP0 < marker <= _APP15 and marker != _APP14):
            _copy(out, size, data, place, end - place)
            if marker in (_SOF0, _SOF1):
                out[size + 5], out[size + 6] = height >> 8, height & 255
                out[size + 7], out[size + 8] = width >> 8, width & 255
            size += end - place
        place = end
    return size


@kernel
def _copy_intervals(data: Any, scan: int, stop: int, rows: int, columns: int, wanted: Any, out: Any, size: int) -> Any:
    """Appends intervals to out[:size]; returns the bytes then there, or UNEXPECTED.

    Args:
        data: uint8, flat, 65 bytes or more before data[stop].
        scan: where the entropy-coded data begins.
        stop: where the file ends.
        rows: of MCUs.
        columns: intervals a row.
        wanted: the first row, the first column, and those after the last.
        out: uint8, flat, large enough.
        size: see above.
    """
    top, left, bottom, right = wanted
    begin, row, column, written = scan, 0, 0, 0
    for block in range(scan, stop - 1, _BLOCK):
        base = min(block, stop - _BLOCK - 1)
        found = _markers(data, base) >> np.uint64(block - base)
        while found:
            place = block + _trailing_zeros(found)
            found &= found - np.uint64(1)
            last = row == rows - 1 and column == columns - 1
            if data[place + 1] != (_EOI if last else _RST0 + (row * columns + column & 7)):
                return UNEXPECTED
            if top <= row < bottom and left <= column < right:
                _copy(out, size, data, begin, place - begin)
                size += place - begin
                out[size], out[size + 1] = 0xFF, _RST0 + (written & 7)
                size, written = size + 2, written + 1
            if last:
                out[size - 1] = _EOI  # instead of a marker after the last interval
                return size
            begin, column = place + 2, column + 1
            if column == columns:
                row, column = row + 1, 0
    return UNEXPECTED


@kernel
def _cut(data: Any, start: int, length: int, top: int, left: int, height: int, width: int, out: Any) -> Any:
    """As `cut_window`; returns the status, the window's place (top, left, height, width) and the image's size."""
    stop = start + length
    if length <= _BLOCK or start < 0 or stop > data.size or out.size < length or _number(data, start) != 0xFFD8:
        return UNEXPECTED, 0, 0, 0, 0, 0, 0
    scan, frame, interval = _read_header(data, start, stop)
    if scan < 0:
        return UNEXPECTED, 0, 0, 0, 0, 0, 0
    full_height, full_width = _number(data, frame + 5), _number(data, frame + 7)
    if not (0 <= top < full_height and 0 <= left < full_width):
        return UNEXPECTED, 0, 0, 0, 0, full_height, full_width
    if not (1 <= height <= full_height - top and 1 <= width <= full_width - left):
        return UNEXPECTED, 0, 0, 0, 0, full_height, full_width
    mcu_height, mcu_width, _ = _mcu_size(data, frame, frame + 2 + _number(data, frame + 2))
    rows, columns = -(-full_height // mcu_height), -(-full_width // mcu_width)
    if interval == 0 or columns % interval:
        return NO_INTERVALS, 0, 0, 0, 0, full_height, full_width
    columns, across = columns // interval, mcu_width * interval
    first_row, first = max(0, top - _MARGIN) // mcu_height, max(0, left - _MARGIN) // across
    last_row = min(rows, -(-(top + height + _MARGIN) // mcu_height))
    last = min(columns, -(-(left + width + _MARGIN) // across))
    if min(full_width, last * across) - first * across < _NARROWEST and first > 0:
        first -= 1
    if first_row == 0 and first == 0 and last_row == rows and last == columns:
        return ALL_NEEDED, 0, 0, 0, 0, full_height, full_width
    top, left = first_row * mcu_height, first * across
    height, width = min(full_height, last_row * mcu_height) - top, min(full_width, last * across) - left
    size = _copy_header(data, start, scan, height, width, out)
    size = _copy_intervals(data, scan, stop, rows, columns, (first_row, first, last_row, last), out, size)
    return size, top, left, height, width, full_height, full_width


@kernel
def cut_window(
    data: Any, start: int, length: int, top: int, left: int, height: int, width: int, out: Any
) -> Any:  # fmt: skip
    """Cuts a rectangle out of the JPEG data[start : start + length].

    Args:
        data: uint8, flat; nothing outside of the JPEG is read.
        start: byte of `data`.
        length: bytes.
        top: of the rectangle, pixels.
        left: likewise.
        height: likewise.
        width: likewise.
        out: uint8, flat, at least `length` bytes, not those of `data`.

    Returns:
        The bytes written to `out`, or ALL_NEEDED, NO_INTERVALS or UNEXPECTED where nothing was cut; and the place of
        the window's first pixel in the image, from the top and from the left.
    """
    size, top, left = _cut(data, start, length, top, left, height, width, out)[:3]
    return (size, top, left) if size > 0 else (size, 0, 0)


@kernel
def cut_windows(
    data: Any, starts: Any, lengths: Any, stored: Any, wanted: Any, out: Any, status: Any, placed: Any
) -> Any:
    """Cuts k JPEGs; returns how many of them were UNEXPECTED.

    Args:
        data: uint8, flat.
        starts: [k] int64, where each JPEG begins.
        lengths: [k] int64, bytes.
        stored: [k, 2] int64, heights and widths; a JPEG of another size is UNEXPECTED.
        wanted: [k, 4] int64, rectangles: top, left, height, width.
        out: uint8, flat; row i's window begins at starts[i], as the JPEG does in `data`.
        status: [k] int64, is written: bytes of the window, or why there is none, see `cut_window`.
        placed: [k, 4] int64, is written: top, left, height, width of what is to be decoded: the window or the image.
    """
    unexpected = 0
    for i in range(len(starts)):
        top, left, height, width = wanted[i]
        begin, length = starts[i], lengths[i]
        size, top, left, height, width, full_height, full_width = _cut(
            data, begin, length, top, left, height, width, out[begin : begin + length]
        )
        if size != UNEXPECTED and (full_height != stored[i, 0] or full_width != stored[i, 1]):
            size = UNEXPECTED
        if size <= 0:
            top, left, height, width = 0, 0, stored[i, 0], stored[i, 1]
            unexpected += size == UNEXPECTED
        status[i] = size
        placed[i, 0], placed[i, 1], placed[i, 2], placed[i, 3] = top, left, height, width
    return unexpected
