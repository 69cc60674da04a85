"""Antialiased resizing in Pillow's 8-bit fixed-point arithmetic: the same bytes on every machine.

The definition is two calls of Pillow's BILINEAR, along the width and then along the height (`resize_by_pillow`; in one
call the order of the passes differs between versions of Pillow). A compiled kernel gives the same bits five times as
fast; it is used unless it would have to be loaded for a few images only.
"""

import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfie_data.kernels.load import kernels_pay

Pixels = NDArray[np.uint8]


def shorter_side(size: int) -> int:
    """Returns the shorter side at which a model of input size S sees photographs: S * 8 / 7 rounded down, 256 for 224.

    Builds store at this size and evaluations look at it, so that nothing is resized between the two.
    """
    return size * 8 // 7


def evaluation_geometry(stored: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns how evaluation sees images: resized to `shorter_side`, then the central S x S of that.

    Args:
        stored: int64 [..., 2], heights and widths of the stored images, pixels.
        size: S, pixels.

    Returns:
        Height and width after resizing, and the top left corner of the central square, int64 [..., 2] each. Rounded as
        torchvision does: the longer side down, the corner half to even.
    """
    resized = shorter_side(size) * stored // stored.min(axis=-1, keepdims=True)
    spare = resized - size
    half = spare // 2
    return resized, half + (spare & half & 1)


def evaluation_view(pixels: Pixels, size: int) -> Pixels:
    """Returns what evaluation sees of uint8 [H, W, 3]: uint8 [S, S, 3], see `evaluation_geometry`."""
    resized, (top, left) = evaluation_geometry(np.array(pixels.shape[:2]), size)
    return resize(pixels, *resized.tolist())[top : top + size, left : left + size]


def resize_shorter(pixels: Pixels, shorter_side: int) -> Pixels:
    """Resizes uint8 [H, W, 3] to a shorter side of `shorter_side`; the longer is rounded down, as torchvision does."""
    height, width = pixels.shape[:2]
    return resize(pixels, shorter_side * height // min(height, width), shorter_side * width // min(height, width))


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resizes uint8 [H, W, 3] to [height, width, 3]; shrinking is antialiased."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return (resize_by_kernel if kernels_pay() else resize_by_pillow)(pixels, height, width)


def resize_by_pillow(pixels: Pixels, height: int, width: int) -> Pixels:
    """The definition: as `resize`."""
    image = Image.fromarray(pixels)
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((width, height), Image.Resampling.BILINEAR))


def resize_by_kernel(pixels: Pixels, height: int, width: int) -> Pixels:
    """The same bits, compiled."""
    from selfie_data.kernels.resample import resample, scratch_bytes

    source = np.require(pixels, requirements=("C", "W"))  # a kernel would be compiled once more for read-only memory
    source_height, source_width = source.shape[:2]
    result = np.empty((height, width, 3), np.uint8)
    whole, resized, corner = (
        np.array([0, 0, source_height, source_width]),
        np.array([height, width]),
        np.zeros(2, np.int64),
    )
    scratch = _SCRATCH.take(scratch_bytes(source_height, source_width, width))
    resample(
        source.reshape(-1), 0, 3 * source_width, whole, resized, corner, False, True, height, width, scratch,
        result.reshape(-1), 0,
    )  # fmt: skip
    return result


def centre_crop(pixels: Pixels, size: int) -> Pixels:
    """Cuts size x size out of the middle of uint8 [H, W, 3]; an odd remainder goes to the bottom and the right."""
    top = (pixels.shape[0] - size) // 2
    left = (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


class Buffer(threading.local):
    """Memory of one thread that is used again and again: fresh pages cost a fifth of decoding a photograph."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def take(self, size: int) -> Pixels:
        """Returns at least `size` bytes; what was in them before is lost."""
        if len(self._bytes) < size:
            self._bytes = np.zeros(size + size // 4, np.uint8)
        return self._bytes


DECODED = Buffer()  # where JPEGs that will be shrunk are decoded to
_SCRATCH = Buffer()
