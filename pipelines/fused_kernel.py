"""The compiled passes of the fused backend: what happens to a sample between its stored bytes and its patches."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.gather_kernel import blank_cells, gather_patches
from pipelines.read_kernel import OK, read_payload
from pipelines.resample_kernel import resize_crop


class Factors(NamedTuple):
    """How bytes become the output's dtype.

    Attributes:
        scale: float32 [p * 3], the channels' factors repeated along a row of a patch.
        bias: float32 [p * 3].
        table: uint16 [3, 256], the 16-bit float of each byte of each channel, as bits.
    """

    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    table: NDArray[np.uint16]


class Geometry(NamedTuple):
    """Where the pixels of b samples are.

    Attributes:
        crop: int64 [b, 4] (top, left, height, width) in the stored image.
        resize: int64 [b, 2] (height, width) of the crop after resampling.
        window: int64 [b, 2] (top, left) of the S x S pixels that count, in the resampled crop.
        flip: bool [b].
    """

    crop: NDArray[np.int64]
    resize: NDArray[np.int64]
    window: NDArray[np.int64]
    flip: NDArray[np.bool_]


class Target(NamedTuple):
    """Where the results of b samples go, and what is chosen.

    Attributes:
        size: S.
        cells: int64 [b, N].
        hole: bool [b, N], patches that stay blank.
        mask: bool [b, side, side], cells that are blank in the whole image; [b, 1, 1] if none are.
        patches: [b, N, p * p * 3]; N may be 0.
        images: [b, 1, S * S * 3], or [0, 1, 0] if whole images are not wanted.
    """

    size: int
    cells: NDArray[np.int64]
    hole: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    patches: NDArray[np.generic]
    images: NDArray[np.generic]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _emit(image: Any, window: Any, flip: bool, row: int, target: Any, factors: Any) -> None:
    """Writes the patches, and the whole image if it is wanted, of sample `row`."""
    patch = np.empty(target.patches.shape[2], np.uint8)
    scale, bias, table = factors.scale, factors.bias, factors.table
    cells, hole = target.cells[row], target.hole[row]
    gather_patches(image, window, flip, target.size, cells, hole, scale, bias, table, patch, target.patches[row])
    if len(target.images):
        every, none = np.zeros(1, np.int64), np.zeros(1, np.bool_)
        whole = np.empty(target.images.shape[2], np.uint8)
        gather_patches(image, window, flip, target.size, every, none, scale, bias, table, whole, target.images[row])
        blank_cells(target.images[row, 0].reshape(target.size, target.size, 3), target.mask[row])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def raw_patches(
    descriptors: Any,
    offsets: Any,
    expected: Any,
    check: Any,
    height: int,
    width: int,
    geometry: Any,
    target: Any,
    factors: Any,
    status: Any,
) -> None:
    """Reads b raw images and writes their patches.

    Args:
        descriptors: int32 [b], open files.
        offsets: int64 [b], of the payloads.
        expected: uint32 [b], their CRC32C.
        check: bool [b], whether it is compared.
        height, width: of all stored images.
        geometry: a `Geometry`; crop and resize are not looked at.
        target: a `Target`.
        factors: a `Factors`.
        status: int64 [b], filled with what became of each sample (`read_kernel`).
    """
    buffer = np.empty(height * width * 3, np.uint8)
    image = buffer.reshape(height, width, 3)
    for row in range(len(status)):
        status[row] = read_payload(descriptors[row], offsets[row], buffer, check[row], expected[row])
        if status[row] == OK:
            _emit(image, geometry.window[row], geometry.flip[row], row, target, factors)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def decoded_patches(image: Any, row: int, antialias: bool, geometry: Any, target: Any, factors: Any) -> None:
    """Crops, resizes and cuts one decoded image, uint8 [H, W, 3], contiguous: sample `row` of the batch."""
    top, left, height, width = geometry.crop[row]
    new_height, new_width = geometry.resize[row]
    view = image
    if (height, width, new_height, new_width) != (image.shape[0], image.shape[1], height, width):
        view = resize_crop(image, top, left, height, width, new_height, new_width, antialias)
    _emit(view, geometry.window[row], geometry.flip[row], row, target, factors)
