"""Images in memory become patches: mirrored, cut, ordered, normalised and hidden.

To the bit what `reference.render` gives. A whole image is the one cell of a grid of one cell.

    image [S, S, 3] -> for each slot n: cell position[n] [p, p, 3], bytes that stay in the first cache -> patches[n]

Floats are written in stretches of a few hundred bytes, with reading between them: what is written in one go waits for
memory, which cost a photograph 25 us.
"""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import float32, types, uint32, uintp
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipelines.batch_plan import OutputSpec
from selfie_data.kernels.compile import inlined, kernel

_PERIOD = 768  # values after which scales and biases are repeated: whole pixels, and 3 KB of each
_WORD = 8  # bytes
_SMALL_PATCH = 8  # of 32 px images
_LINE, _PAGE = 64, 4096  # bytes that memory hands over together; beyond a page the processor has seen the pattern


def factors_of(spec: OutputSpec) -> NDArray[np.float32] | None:
    """Returns scale and bias of float32 output, [2, 768] with the channels again and again; None for other types."""
    if spec.dtype != "float32":
        return None
    return np.tile(np.stack((spec.scale, spec.bias)).astype(np.float32), _PERIOD // len(spec.scale))


def levels_of(spec: OutputSpec) -> NDArray[np.uint16] | None:
    """Returns what each byte of each channel becomes in 16-bit output, [3 * 256] bits; None for other types.

    Numba knows no 16-bit floats on a CPU, and 768 values are all there are.
    """
    if spec.dtype not in ("float16", "bfloat16"):
        return None
    scale, bias = (factor.astype(np.float32)[:, None] for factor in (spec.scale, spec.bias))
    values = np.arange(256, dtype=np.float32) * scale + bias
    bits: NDArray[np.uint16] = torch.from_numpy(values).to(spec.torch_dtype).view(torch.int16).numpy().view(np.uint16)
    return bits.reshape(-1)


@kernel
def gather(
    pixels: Any, starts: Any, flip: Any, size: int, patch: int, position: Any, hidden: Any, factors: Any, levels: Any,
    first: int, last: int, square: Any, cell: Any, out: Any,
) -> None:  # fmt: skip
    """Writes the patches of rows first..last - 1 of a batch of b.

    Args:
        pixels: uint8, flat; row i's image [S, S, 3] begins at starts[i - first]. If the patch size is a multiple of 8,
            so are all starts.
        starts: [last - first] int64.
        flip: [b] bool, images to be mirrored first; or empty.
        size: S.
        patch: p.
        position: [b, N] int64, cells of the grid in output order.
        hidden: [b, N] bool, slots to fill with zeros; or no rows.
        factors: of `factors_of`.
        levels: of `levels_of`; neither: bytes stay bytes.
        first: row of the batch.
        last: row of the batch.
        square: scratch, uint8, flat, 3 * S * S bytes.
        cell: scratch, uint8, flat, 3 * p * p bytes; where bytes stay bytes, `out`.
        out: flat; uint8, float32, or uint16 for the bits of 16-bit floats. Holds all patches of the batch.
    """
    side, width, values = size // patch, 3 * patch, 3 * patch * patch
    words, square_words, cell_words = _words(pixels), _words(square), _words(cell)
    for i in range(first, last):
        image, image_words, start = pixels, words, starts[i - first]
        if i + 1 < last:
            _prefetch(pixels, starts[i + 1 - first], 3 * size * size)
        if flip.size and flip[i]:
            _mirror(pixels, start, size, square)
            image, image_words, start = square, square_words, 0
        for n in range(position.shape[1]):
            at = (i * position.shape[1] + n) * values
            if hidden.shape[0] and hidden[i, n]:
                out[at : at + values] = 0
                continue
            row = uint32(position[i, n]) // uint32(side)  # a third of the time of divmod, which minds signs
            place = start + (row * (patch - 1) * side + position[i, n]) * width
            if factors is not None:
                if patch == _SMALL_PATCH:  # rows of 24 values are too short for vectors, four of them are not
                    for half in range(2):
                        _copy_rows(image_words, place // _WORD + 12 * half * side, 3 * side, 4, 3, cell_words, 0)
                        _normalise(cell, 0, factors, 96, out, at + 96 * half)
                else:
                    for y in range(patch):
                        _normalise(image, place + y * side * width, factors, width, out, at + y * width)
                continue
            to = at if levels is None else 0
            if patch == _SMALL_PATCH:  # a constant number of words needs no loop
                _copy_rows(image_words, place // _WORD, side * 3, _SMALL_PATCH, 3, cell_words, to // _WORD)
            elif patch % _WORD == 0:
                _copy_rows(
                    image_words, place // _WORD, side * width // _WORD, patch, width // _WORD, cell_words, to // _WORD
                )
            else:
                _copy_rows(image, place, side * width, patch, width, cell, to)
            if levels is not None:
                _look_up(cell, levels, values, out, at)


@kernel
def hide_cells(images: Any, size: int, patch: int, hidden: Any, first: int, last: int) -> None:
    """Fills cells of whole images first..last - 1 (flat, S x S each) with zeros where `hidden` [b, G]."""
    side, width = size // patch, 3 * patch
    for i in range(first, last):
        for cell in range(hidden.shape[1]):
            if hidden[i, cell]:
                row, column = divmod(cell, side)
                place = i * 3 * size * size + (row * patch * side + column) * width
                for _ in range(patch):
                    images[place : place + width] = 0
                    place += side * width


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch_line(_: Any, source: Any, at: Any) -> Any:  # noqa: ARG001
    """Begins to fetch the line of memory of source[at]; uint8, flat. Never fails, wherever `at` points to."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        read, keep, data_cache = (ir.Constant(flag, value) for value in (0, 3, 1))
        builder.call(function, [builder.gep(data, [arguments[1]]), read, keep, data_cache])
        return context.get_dummy_value()

    return types.void(source, types.int64), emit


@kernel
def _prefetch(source: Any, start: int, size: int) -> None:
    """Begins to fetch `size` bytes, a page at most: images of a shuffled batch lie where no processor guesses them."""
    for at in range(start, start + min(size, _PAGE), _LINE):
        _prefetch_line(source, at)


@kernel
def _mirror(source: Any, start: int, size: int, result: Any) -> None:
    """Writes the image, S x S, mirrored left to right."""
    for y in range(size):
        here, there = uintp(start + 3 * (y * size + size - 1)), uintp(3 * y * size)
        for x in range(uintp(size)):
            for channel in range(uintp(3)):
                result[there + uintp(3) * x + channel] = source[here - uintp(3) * x + channel]


@kernel
def _words(array: Any) -> Any:
    """Returns bytes as words of eight, as many as are whole."""
    return array[: array.size // _WORD * _WORD].view(np.uint64)


@inlined
def _copy_rows(source: Any, start: int, stride: int, rows: int, length: int, result: Any, at: int) -> None:
    here, there = uintp(start), uintp(at)
    for _ in range(rows):
        for k in range(uintp(length)):
            result[there + k] = source[here + k]
        here += uintp(stride)
        there += uintp(length)


@inlined
def _normalise(source: Any, start: int, factors: Any, count: int, out: Any, at: int) -> None:
    """Writes x * scale + bias, in two roundings."""
    for first in range(0, count, _PERIOD):
        here, there = uintp(start + first), uintp(at + first)
        for k in range(uintp(min(_PERIOD, count - first))):
            out[there + k] = float32(source[here + k]) * factors[0, k] + factors[1, k]


@kernel
def _look_up(cell: Any, levels: Any, values: int, out: Any, at: int) -> None:
    there = uintp(at)
    for pixel in range(uintp(values // 3)):
        for channel in range(uintp(3)):
            place = uintp(3) * pixel + channel
            out[there + place] = levels[uintp(256) * channel + uintp(cell[place])]
