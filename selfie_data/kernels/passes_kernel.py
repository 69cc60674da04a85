"""The two passes of a resize: what `resize_kernel` and `pipelines.kernels.resample` are made of.

A pixel is three bytes, too few for vector instructions, so 16 rows go along the width at once, turned to columns:

    16 rows of source -> their bytes as columns -> weighed, 16 rows with each instruction -> 16 rows of middle
    rows of middle    -> weighed, 16 bytes with each instruction                          -> a row of the result

Pixel by pixel the first pass took nearly twice as long. A constant number of taps lets the compiler unroll, so the
usual ones are written out: 2 where nothing is antialiased, 3 where nothing is shrunk, 4 and 5 where it shrinks to more
than half.
"""

from typing import Any

from selfie_data.kernels.compiled import kernel
from selfie_data.kernels.transposing_kernel import SIDE, transpose
from selfie_data.kernels.weighting_kernel import ROW_LANES, weigh_row

SLACK = 16  # bytes that must be there, though their value never matters, after the last of each array
ROWS = SIDE  # that go along the width together


@kernel
def middle_stride(width: int) -> Any:
    """Returns the bytes from row to row of the image between the passes, for `width` RGB pixels."""
    return _padded(width) + SLACK


@kernel
def middle_start(source_width: int, width: int) -> Any:
    """Returns where the rows of the image between the passes begin in its memory, after the columns of 16 rows."""
    return ROWS * (_padded(source_width) + _padded(width))


@kernel
def middle_bytes(source_height: int, source_width: int, width: int) -> Any:
    """Returns the bytes of memory for the image between the passes: columns, rows up to a whole block, and SLACK."""
    return middle_start(source_width, width) + (source_height + ROWS - 1) * middle_stride(width) + SLACK


@kernel
def _padded(width: int) -> int:
    """Returns the bytes of a row in whole vectors."""
    return -(-3 * width // ROW_LANES) * ROW_LANES


@kernel
def across(
    source: Any, start: int, row_bytes: int, rows: int, source_width: int,
    first: Any, weights: Any, taps: int, middle: Any, row: int,
) -> None:  # fmt: skip
    """Writes 16 rows of `middle`, from `row` on: along the width.

    Args:
        source: uint8, flat; the first row's first byte is at `start`, and SLACK bytes follow the last row.
        start: see above.
        row_bytes: from row to row of `source`.
        rows: how many of them are there, at least 1; rows of `middle` past them are filled with the last one.
        source_width: pixels of a row of `source`.
        first: int64 [width], each result pixel's first tap, as a byte of its row.
        weights: int32, flat, `taps` a result pixel.
        taps: see above.
        middle: uint8, flat; see `middle_bytes`.
        row: see above.
    """
    width = first.size
    columns, stride = ROWS * _padded(source_width), middle_stride(width)
    for byte in range(0, 3 * source_width, SIDE):
        transpose(source, start + byte, row_bytes, rows - 1, middle, byte * ROWS, ROWS)
    if taps == 2:
        _weigh_columns(first, weights, 2, middle, columns)
    elif taps == 3:
        _weigh_columns(first, weights, 3, middle, columns)
    elif taps == 4:
        _weigh_columns(first, weights, 4, middle, columns)
    elif taps == 5:
        _weigh_columns(first, weights, 5, middle, columns)
    else:
        _weigh_columns(first, weights, taps, middle, columns)
    place = middle_start(source_width, width) + row * stride
    for byte in range(0, 3 * width, SIDE):
        transpose(middle, columns + byte * ROWS, ROWS, ROWS - 1, middle, place + byte, stride)


@kernel
def _weigh_columns(first: Any, weights: Any, taps: int, middle: Any, to: int) -> None:
    for x in range(first.size):
        for channel in range(3):
            place = (first[x] + channel) * ROWS
            weigh_row(middle, place, 3 * ROWS, weights, x * taps, taps, middle, to + (3 * x + channel) * ROWS)


@kernel
def down(middle: Any, start: int, stride: int, weights: Any, first: int, taps: int, result: Any, at: int) -> None:
    """Writes one row of `result` from byte `at` on, and up to 15 bytes past it: rows of `middle`, along the height.

    `start` is the byte of the first row looked at, `first` the place of its weight.
    """
    length = stride - SLACK
    if taps == 2:
        for x in range(0, length, ROW_LANES):
            weigh_row(middle, start + x, stride, weights, first, 2, result, at + x)
    elif taps == 3:
        for x in range(0, length, ROW_LANES):
            weigh_row(middle, start + x, stride, weights, first, 3, result, at + x)
    elif taps == 4:
        for x in range(0, length, ROW_LANES):
            weigh_row(middle, start + x, stride, weights, first, 4, result, at + x)
    else:
        for x in range(0, length, ROW_LANES):
            weigh_row(middle, start + x, stride, weights, first, taps, result, at + x)
