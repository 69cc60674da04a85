"""An image in memory becomes patches: mirrored, cut, ordered, normalised and blanked while each byte is moved once.

To the bit what `reference.render` gives. A whole image is the one cell of a grid of one cell.

    image [S, S, 3] -> for each slot n: cell cells[n] -> patches[n] [p, p, 3]

Values of 16 bits come from a table, table[c, x] = what x becomes in channel c, in the bits of the output's type: 768
entries that stay in the first cache and are exact by construction. For float32, vector arithmetic is twice as fast.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.compiled import kernel
from pipelines.copying_kernel import PATTERN, move_pixels
from pipelines.normalise import Normalisation, normalise
from pipelines.plan import OutputSpec

_SMALL_PATCH = 8  # of 32 px images


def value_table(spec: OutputSpec) -> NDArray[np.generic]:
    """Returns what `move_pixels` needs for the dtype of a spec; the type says which values the output has.

    Nothing, as uint8, for bytes; scale and bias [2, PATTERN] for float32, the channels again and again; else
    table[c, x] as uint16, the bits of the type.
    """
    if spec.dtype == "uint8":
        return np.empty((0, 256), np.uint8)
    if spec.dtype == "float32":
        return np.tile(np.stack((spec.scale, spec.bias)).astype(np.float32), PATTERN // 3)  # of 8 pixels
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    values = normalise(every, Normalisation(spec.scale, spec.bias)).T.copy()
    bits: NDArray[np.generic] = torch.from_numpy(values).to(spec.torch_dtype).view(torch.int16).numpy().view(np.uint16)
    return bits


@kernel
def gather(
    image: Any, start: int, size: int, mirror: bool, patch: int, cells: Any, hole: Any, table: Any, out: Any, at: int
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
        table: of `value_table`.
        out: flat, of the table's type; the patches go to `at` on.
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
                move_pixels(image, place, mirror, _SMALL_PATCH, table, out, at)
                place += 3 * size
                at += width
        else:
            for _ in range(patch):
                move_pixels(image, place, mirror, patch, table, out, at)
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
