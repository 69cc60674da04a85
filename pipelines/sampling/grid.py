"""The grid of patches: which pixels of an image are which cell, and how many cells are context and targets.

Cells are numbered row by row. A 32 px image of 8 px patches has 16 cells, a 224 px image of 32 px patches has 49:

     0  1  2  3        cell = row * side + column
     4  5  6  7        cell 6 = pixels [8:16, 16:24]
     8  9 10 11
    12 13 14 15

Source: Trinh, Luong, Le, "Selfie: Self-supervised Pretraining for Image Embedding", arXiv 1906.02940, section 3.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Pixels = TypeVar("Pixels", "NDArray[Any]", "Tensor")
SMALL_IMAGE = (
    64  # the paper has two settings, 32 px with patches of 8 and 224 px with patches of 32: up to here the first
)
_SMALL_PATCH = 8
_LARGE_PATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A square image cut into square patches.

    Attributes:
        image_size: height and width of the image, pixels.
        patch_size: height and width of a patch, pixels; divides `image_size`.
    """

    image_size: int
    patch_size: int

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.patch_size < 1 or self.image_size % self.patch_size:
            raise ValueError(
                f"the patch size must divide the image size, got patches of {self.patch_size} px "
                f"in images of {self.image_size} px"
            )

    @property
    def side(self) -> int:
        """Cells in a row, and in a column."""
        return self.image_size // self.patch_size

    @property
    def cells(self) -> int:
        """Cells of the whole grid, G."""
        return self.side * self.side


def default_patch_size(image_size: int) -> int:
    """Returns the paper's patch size: 8 px for images up to 64 px, 32 px for larger ones."""
    return _SMALL_PATCH if image_size <= SMALL_IMAGE else _LARGE_PATCH


def default_split(cells: int) -> tuple[int, int]:
    """Returns (context, target), the numbers of patches: a quarter are targets, rounded down; 12/4 and 37/12."""
    target = cells // 4
    return cells - target, target


def split_cells(cells: int, *, context: int | None, target: int | None) -> tuple[int, int]:
    """Returns (context, target) with defaults: a quarter of the cells are targets, the rest is context.

    Raises:
        ValueError: one of them is less than 1, or together they are more than the grid has.
    """
    if target is None:
        target = default_split(cells)[1] if context is None else cells - context
    if context is None:
        context = cells - target
    if context < 1 or target < 1 or context + target > cells:
        raise ValueError(
            f"context and target must be at least 1 and together at most the {cells} cells of the grid, "
            f"got {context} + {target}"
        )
    return context, target


def patchify(images: Pixels, patch_size: int) -> Pixels:
    """Cuts images into patches: an array into an array, a tensor into a tensor on its device.

    Args:
        images: [B, S, S, C], any dtype, channels last.
        patch_size: p, divides S.

    Returns:
        [B, G, p, p, C], cells in row order; a copy, but of a grid of one cell.
    """
    batch, height, width, channels = images.shape
    if height != width:
        raise ValueError(f"images must be square to be cut into a grid, got {height} x {width}")
    side = Grid(image_size=height, patch_size=patch_size).side
    tiles = images.reshape(batch, side, patch_size, side, patch_size, channels)
    patches: Pixels = tiles.swapaxes(2, 3).reshape(batch, side * side, patch_size, patch_size, channels)
    return patches


def unpatchify(patches: NDArray[Any]) -> NDArray[Any]:
    """Puts all G patches of a grid back together: [B, G, p, p, C] -> [B, S, S, C]; the inverse of `patchify`."""
    batch, cells, patch_size, _, channels = patches.shape
    side = round(cells**0.5)
    if side * side != cells:
        raise ValueError(f"a whole grid has a square number of patches, got {cells}")
    tiles = patches.reshape(batch, side, side, patch_size, patch_size, channels).transpose(0, 1, 3, 2, 4, 5)
    size = side * patch_size
    return np.ascontiguousarray(tiles).reshape(batch, size, size, channels)
