"""Stored images in a GPU's memory become patches: cropped, resized, mirrored, cut, normalised and hidden.

To the bit what `reference` gives, for everything that a `BatchPlan` asks for, in two kernels:

    taps      an image, a direction   which of its pixels make each row (column) of the view, and with which weights
    patches   a patch                 its pixels, weighed along the width, then the height -> bytes or floats, or zeros

A byte is (2**21 + sum of byte * weight) >> 22, with the weights of Pillow's BILINEAR; the mirror, the window and its
zeros are a matter of the taps, so that the second kernel knows nothing of them. An image that is not resized has one
tap a direction. A whole image is one patch of its size. Pixels of no weight are never read: they may not be there.

Large crops take a third kernel between the two, `rows`: weighed along the width once, into bytes, not once for every
row of the view that looks at them.

Floats are float32(x) * scale + bias in two roundings, and weights are calculated in float64 as on the host: nothing may
be contracted into a fused multiply-add (`enable_fp_fusion`). Without a GPU all of this runs in Triton's interpreter,
where the variable TRITON_INTERPRET is 1.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from pipelines.batch_plan import BatchPlan

INTERPRETED: bool = triton.knobs.runtime.interpret
_LINE = 128  # rows of a view whose taps one program calculates
# Taps a direction from which on the width is done once for all rows: 64 reads a value against 40, and what is written
# in between. Where that begins to pay, only a card can tell.
_PLENTY = 8
BLOCK = 256  # values of a program: 32 to 40 registers, no spills; 1,024 were 168 and more
_INTERPRETED_BLOCK = 4096  # there a program costs milliseconds, whatever it does
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


class Views(NamedTuple):
    """What is looked at of b stored images; arrays of the host or tensors of a device.

    Attributes:
        start: [b] int64, the byte where the crop begins: of its top left pixel, which itself need not be there.
        row_bytes: [b] int64, from one row of the image to the next.
        size: [b, 2] int32, height and width of the crop.
        resized: [b, 2] int32, of the crop when resized.
        window: [b, 2] int32, top and left of the view in that; what lies outside is 0.
        mirror: [b] bool, whether the view is mirrored left to right.
        taps: [b, 2] int32, pixels that make one of the view's, down and across.
        needed: [b, 2] int32, the first row of the crop that is looked at, and the row behind the last.
    """

    start: Any
    row_bytes: Any
    size: Any
    resized: Any
    window: Any
    mirror: Any
    taps: Any
    needed: Any


class Cut(NamedTuple):
    """How views are cut, and what becomes of their bytes.

    Attributes:
        size: side of the view, S.
        patch: side of a patch, p, which divides S; S for whole images.
        cell: side of what is hidden at a time, which divides p; p for patches.
        dtype: of the result.
        scale: [3] float32 on the device; a float is float32(x) * scale + bias.
        bias: [3] float32 on the device.
    """

    size: int
    patch: int
    cell: int
    dtype: torch.dtype
    scale: Tensor
    bias: Tensor


class Taps(NamedTuple):
    """Of b views, on the device: first [b, 2, S] int32, weight [b, 2, T, S] int32."""

    first: Tensor
    weight: Tensor


def views_of(
    plan: BatchPlan, *, stored: NDArray[np.int64], placed: NDArray[np.int64], starts: NDArray[np.int64],
    needed: NDArray[np.int64], antialias: bool,
) -> Views:  # fmt: skip
    """Returns what a plan looks at, as arrays of the host.

    Args:
        plan: of b images.
        stored: [b, 2], heights and widths of the images.
        placed: [b, 4], top, left, height and width of the part of each image that is there.
        starts: [b], the byte where that part begins.
        needed: [b, 4], top, left, height and width of what is looked at.
        antialias: False = two taps a direction.
    """
    corner = np.zeros((len(plan), 2), np.int64)
    crop = np.hstack((corner, stored)) if plan.crop is None else plan.crop
    size, row_bytes = crop[:, 2:], 3 * placed[:, 3]
    resized = size if plan.resize is None else plan.resize
    down, right = (crop[:, :2] - placed[:, :2]).T
    taps = -(-2 * np.maximum(size, resized) // resized) if antialias else np.full_like(size, 2)
    rows = np.stack((needed[:, 0] - crop[:, 0], needed[:, 0] + needed[:, 2] - crop[:, 0]), axis=1)
    window = corner if plan.window is None else plan.window
    return Views(
        start=starts + down * row_bytes + 3 * right,
        row_bytes=row_bytes,
        size=size.astype(np.int32),
        resized=resized.astype(np.int32),
        window=window.astype(np.int32),
        mirror=np.zeros(len(plan), np.bool_) if plan.flip is None else plan.flip,
        taps=np.where(size == resized, 1, taps).astype(np.int32),
        needed=rows.astype(np.int32),
    )


def calculate_taps(views: Views, size: int, most: int, *, antialias: bool) -> Taps:
    """Returns the taps of views [size, size], at most `most` a direction; on their device."""
    count, device = len(views.start), views.start.device
    first = torch.empty((count, 2, size), dtype=torch.int32, device=device)
    weight = torch.empty((count, 2, most, size), dtype=torch.int32, device=device)
    _launch(
        _taps, (count * 2, triton.cdiv(size, _LINE)), device,
        views.size, views.resized, views.window, views.mirror, views.taps, first, weight, size, most,
        ANTIALIAS=antialias, BLOCK=_LINE,
    )  # fmt: skip
    return Taps(first, weight)


def weigh_rows(pixels: Tensor, views: Views, taps: Taps, heights: NDArray[np.int64]) -> tuple[Tensor, Views]:
    """Returns the rows of every crop, resized along the width, one crop behind the other, and the views of them.

    Args:
        pixels: uint8, flat.
        views: on the device.
        taps: of them.
        heights: [b], of the host, how many rows are looked at of each crop.
    """
    size, most, most_rows = taps.first.shape[2], taps.weight.shape[2], int(heights.max())
    block, stride = _block(3 * size), 3 * size
    rows = torch.empty((int(heights.sum()), size, 3), dtype=torch.uint8, device=pixels.device)
    looked_at = views.needed[:, 1] - views.needed[:, 0]
    begin = (looked_at.cumsum(0) - looked_at - views.needed[:, 0]) * stride  # of each crop's first row: int64
    _launch(
        _rows, (len(heights) * most_rows, triton.cdiv(stride, block)), pixels.device,
        pixels, views.start, views.row_bytes, views.taps, views.needed, taps.first, taps.weight, begin, rows, size,
        most, most_rows, BLOCK=block,
    )  # fmt: skip
    return rows, views._replace(start=begin, row_bytes=torch.full_like(views.row_bytes, stride))


def cut_patches(
    pixels: Tensor, views: Views, taps: Taps, cut: Cut, position: Tensor, hidden: Tensor | None, *, weighed: bool
) -> Tensor:
    """Returns patches [b, N, p, p, 3].

    Args:
        pixels: uint8, flat.
        views: of b images in `pixels`, on the device.
        taps: of them.
        cut: how.
        position: [b, N] int32, cells of the grid of patches.
        hidden: [b, N * (p / cell)**2] bool, cells of the patches, one patch after the other, to be zero; None: none.
        weighed: whether `pixels` are rows that were weighed along the width already.
    """
    count, slots = position.shape
    block = _block(3 * cut.patch**2)
    out = torch.empty((count, slots, cut.patch, cut.patch, 3), dtype=cut.dtype, device=pixels.device)
    _launch(
        _patches, (count * slots, triton.cdiv(3 * cut.patch**2, block)), pixels.device,
        pixels, views.start, views.row_bytes, views.taps, taps.first, taps.weight, position,
        position if hidden is None else hidden, cut.scale, cut.bias,
        out.view(torch.int16) if cut.dtype == torch.bfloat16 else out, cut.size, taps.weight.shape[2], cut.patch,
        cut.cell, slots, WEIGHED=weighed, HIDE=hidden is not None, FLOAT=cut.dtype != torch.uint8, BLOCK=block,
    )  # fmt: skip
    return out


def worth_weighing(views: Views) -> bool:
    """Whether the width should be done first, for arrays of the host."""
    return int(views.taps.max()) >= _PLENTY


def _block(values: int) -> int:
    """Returns how many of so many values of a row or a patch one program makes."""
    return min(triton.next_power_of_2(values), _INTERPRETED_BLOCK) if INTERPRETED else BLOCK


def _launch(kernel: Any, grid: tuple[int, int], device: torch.device, *arguments: Any, **constants: Any) -> None:
    if device.type == "cpu":
        kernel[grid](*arguments, **constants)
        return
    with torch.cuda.device(device):
        kernel[grid](*arguments, **constants, **OPTIONS)


@triton.jit(do_not_specialize=["most"])  # type: ignore[untyped-decorator]
def _taps(  # type: ignore[no-untyped-def]
    sizes, outputs, windows, mirror, taps, first, weight, view, most, ANTIALIAS: tl.constexpr, BLOCK: tl.constexpr
):
    """`plain_resize.coefficients` of one direction of one image; none for what lies outside of the resized crop."""
    line = tl.program_id(0)  # of an image: 0 down, 1 across
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = place < view
    size, output, count = tl.load(sizes + line), tl.load(outputs + line), tl.load(taps + line)
    mirrored = (line % 2 == 1) & (tl.load(mirror + line // 2) != 0)
    x = tl.load(windows + line) + tl.where(mirrored, view - 1 - place, place)
    inside = (x >= 0) & (x < output)
    scale = size.to(tl.float64) / output.to(tl.float64)
    support = tl.maximum(scale, 1.0) if ANTIALIAS else scale * 0.0 + 1.0
    inverse = 1.0 / support
    centre = (x.to(tl.float64) + 0.5) * scale
    low = tl.maximum((centre - support + 0.5).to(tl.int32), 0)
    high = tl.minimum((centre + support + 0.5).to(tl.int32), size)
    tl.store(first + line * view + place, tl.where(inside, low, 0), mask=live)
    # Added in this order, as Pillow does. Rounding may find one pixel more than fits into the triangle, of no weight.
    total = centre * 0.0
    for tap in range(count + 1):
        share = tl.maximum(1.0 - tl.abs(((low + tap).to(tl.float64) - centre + 0.5) * inverse), 0.0)
        total += tl.where(low + tap < high, share, 0.0)
    total = tl.where(total == 0.0, 1.0, total)
    for tap in range(count):
        share = tl.maximum(1.0 - tl.abs(((low + tap).to(tl.float64) - centre + 0.5) * inverse), 0.0)
        share = tl.where(inside & (low + tap < high), share, 0.0)  # outside `total` may be next to nothing
        fixed = (0.5 + share / total * 4194304.0).to(tl.int32)
        tl.store(weight + (line * most + tap) * view + place, fixed, mask=live)


@triton.jit(do_not_specialize=["most", "most_rows"])  # type: ignore[untyped-decorator]
def _rows(  # type: ignore[no-untyped-def]
    pixels, start, row_bytes, taps, needed, first, weight, begin, rows, view, most, most_rows, BLOCK: tl.constexpr
):
    """One row of one crop, resized along the width."""
    image, row = tl.program_id(0) // most_rows, tl.program_id(0) % most_rows
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row_in_crop = tl.load(needed + image * 2) + row
    live = (place < 3 * view) & (row_in_crop < tl.load(needed + image * 2 + 1))
    channel, x, line = place % 3, place // 3, image * 2 + 1
    column = tl.load(first + line * view + x, mask=live, other=0)
    source = pixels + tl.load(start + image) + row_in_crop * tl.load(row_bytes + image) + 3 * column + channel
    total = tl.full((BLOCK,), 1 << 21, tl.int32)
    for tap in range(tl.load(taps + line)):
        across = tl.load(weight + (line * most + tap) * view + x, mask=live, other=0)
        total += tl.load(source + 3 * tap, mask=across != 0, other=0).to(tl.int32) * across
    target = rows + tl.load(begin + image) + row_in_crop.to(tl.int64) * (3 * view) + place
    tl.store(target, (total >> 22).to(tl.uint8), mask=live)


@triton.jit(do_not_specialize=["most"])  # type: ignore[untyped-decorator]
def _patches(  # type: ignore[no-untyped-def]
    pixels, start, row_bytes, taps, first, weight, position, hidden, scale, bias, out, view, most, patch, cell, slots,
    WEIGHED: tl.constexpr, HIDE: tl.constexpr, FLOAT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One patch, or a part of it."""
    slot = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = place < 3 * patch * patch
    channel, column, row = place % 3, place // 3 % patch, place // (3 * patch)
    image, number, side = slot // slots, tl.load(position + slot), view // patch
    seen = live
    if HIDE:
        cells = patch // cell
        seen &= tl.load(hidden + slot * cells * cells + row // cell * cells + column // cell, mask=live, other=1) == 0
    y, x = number // side * patch + row, number % side * patch + column
    down, across = image * 2, image * 2 + 1
    stride = tl.load(row_bytes + image)
    source = pixels + tl.load(start + image) + tl.load(first + down * view + y, mask=seen, other=0) * stride + channel
    if WEIGHED:
        source += 3 * x
    else:
        source += 3 * tl.load(first + across * view + x, mask=seen, other=0)
    total = tl.full((BLOCK,), 1 << 21, tl.int32)
    for a in range(tl.load(taps + down)):
        below = tl.load(weight + (down * most + a) * view + y, mask=seen, other=0)
        if WEIGHED:
            middle = tl.load(source, mask=below != 0, other=0).to(tl.int32)
        else:
            middle = tl.full((BLOCK,), 1 << 21, tl.int32)
            for b in range(tl.load(taps + across)):
                beside = tl.load(weight + (across * most + b) * view + x, mask=below != 0, other=0)
                middle += tl.load(source + 3 * b, mask=beside != 0, other=0).to(tl.int32) * beside
            middle = middle >> 22
        total += middle * below
        source += stride
    total = total >> 22
    target = out + slot.to(tl.int64) * (3 * patch * patch) + place
    if FLOAT:
        value = total.to(tl.float32) * tl.load(scale + channel) + tl.load(bias + channel)
        value = tl.where(seen, value, 0.0)
        if out.dtype.element_ty == tl.int16:  # bits of a bfloat16, to nearest even by hand: the interpreter truncates
            bits = value.to(tl.int32, bitcast=True)
            tl.store(target, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(tl.int16), mask=live)
        else:
            tl.store(target, value.to(out.dtype.element_ty), mask=live)
    else:
        tl.store(target, total.to(tl.uint8), mask=live)
