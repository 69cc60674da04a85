"""An image in memory becomes patches: mirrored, cut, ordered, normalised and blanked while each byte is moved once.

To the bit what `reference.render` gives. A whole image is the one cell of a grid of one cell.

    image [S, S, 3] -> for each slot n: cell cells[n] -> patches[n] [p, p, 3]
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.batch_plan import Dtype, OutputSpec
from pipelines.kernels.copying_kernel import PATTERN, move_pixels
from selfie_data.kernels.compiled import kernel

KERNEL_DTYPE: dict[Dtype, type[np.generic]] = {
    "uint8": np.uint8,
    "float32": np.float32,
    "float16": np.int16,
    "bfloat16": np.uint16,
}
"""What an output of each dtype is for a kernel: the type says which values are to be written (`rounding_kernel`)."""

_SMALL_PATCH = 8  # of 32 px images


def factors_of(spec: OutputSpec) -> NDArray[np.float32]:
    """Returns scale and bias [2, PATTERN] as `move_pixels` wants them: of eight pixels."""
    return np.tile(np.stack((spec.scale, spec.bias)).astype(np.float32), PATTERN // len(spec.scale))


@kernel
def gather(
    image: Any, start: int, size: int, mirror: bool, patch: int, cells: Any, hole: Any, factors: Any, out: Any, at: int
) -> None:
    """Writes the patches of one image.

    Args:
        image: uint8, flat; the image of S x S pixels begins at byte `start`.
        start: see above.
        size: S.
        mirror: whether the image is to be mirrored first.
        patch: p.
        cells: [N] int64, cells of the grid in output order.
        hole: [N] bool, slots to blank; or empty.
        factors: of `factors_of`.
        out: flat, of a type of `KERNEL_DTYPE`; the patches go to `at` on.
        at: see above.
    """
    side = size // patch
    width = 3 * patch
    for n in range(cells.size):
        if hole.size and hole[n]:
            out[at : at + patch * width] = 0
            at += patch * width
            continue
        row, column = divmod(cells[n], side)
        if mirror:
            column = side - 1 - column
        place = start + (row * patch * size + column * patch) * 3
        if patch == _SMALL_PATCH:  # a constant number of pixels needs no loop and no call of memcpy
            for _ in range(patch):
                move_pixels(image, place, mirror, _SMALL_PATCH, factors, out, at)
                place += 3 * size
                at += width
        else:
            for _ in range(patch):
                move_pixels(image, place, mirror, patch, factors, out, at)
                place += 3 * size
                at += width


@kernel
def blank_cells(image: Any, at: int, size: int, patch: int, mask: Any) -> None:
    """Zeroes the cells of one whole image (flat, from `at` on) where `mask` [G]."""
    side = size // patch
    for cell in range(mask.size):
        if mask[cell]:
            row, column = divmod(cell, side)
            place = at + (row * patch * size + column * patch) * 3
            for _ in range(patch):
                image[place : place + 3 * patch] = 0
                place += 3 * size
