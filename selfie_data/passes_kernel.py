"""The two passes of a resize, one row each: what `resize_kernel` and `pipelines.resample_kernel` are made of.

A constant number of taps lets the compiler unroll, so the usual ones are written out: 2 where nothing is antialiased, 3
where nothing is shrunk, 4 and 5 where the scale is below 2.
"""

from typing import Any

from selfie_data.compiled import kernel
from selfie_data.weighting_kernel import ROW_LANES, weigh_pixel, weigh_row

SLACK = 16  # bytes that must be there, though their value never matters, after the last of each array


@kernel
def middle_stride(width: int) -> int:
    """Returns the bytes from row to row of the image between the passes, for `width` RGB pixels."""
    return -(-3 * width // ROW_LANES) * ROW_LANES + SLACK


@kernel
def across(source: Any, start: int, first: Any, weights: Any, taps: int, middle: Any, at: int) -> None:
    """Writes one row of `middle` from byte `at` on: the row of `source` at byte `start`, along the width.

    `first` is the byte, from `start` on, of each pixel's first tap; `weights` has `taps` of them a pixel.
    """
    count = first.size
    if taps == 2:
        for x in range(count):
            weigh_pixel(source, start + first[x], 3, weights, 2 * x, 2, middle, at + 3 * x)
    elif taps == 3:
        for x in range(count):
            weigh_pixel(source, start + first[x], 3, weights, 3 * x, 3, middle, at + 3 * x)
    elif taps == 4:
        for x in range(count):
            weigh_pixel(source, start + first[x], 3, weights, 4 * x, 4, middle, at + 3 * x)
    elif taps == 5:
        for x in range(count):
            weigh_pixel(source, start + first[x], 3, weights, 5 * x, 5, middle, at + 3 * x)
    else:
        for x in range(count):
            weigh_pixel(source, start + first[x], 3, weights, taps * x, taps, middle, at + 3 * x)


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
