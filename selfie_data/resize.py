"""Antialiased resizing in Pillow's 8-bit fixed-point arithmetic: the same bytes on every machine.

The definition is two calls of Pillow's BILINEAR, along the width and then along the height (`resize_by_pillow`; in one
call the order of the passes differs between versions of Pillow). Larger images, if there are many, go through a
compiled kernel that gives the same bits five times as fast.
"""

import itertools
import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SLACK = 16  # bytes past the end of a buffer that the kernel may touch; `resize_kernel` says the same
_SMALL_PIXELS = 1 << 14  # up to 128 x 128 Pillow takes 0.1 ms, and Numba, which takes a second to load, is not needed
_PATIENCE = 64  # images of a process that Pillow resizes before Numba is loaded: small builds end without it
_calls = itertools.count()


def resize_shorter(pixels: Pixels, shorter: int) -> Pixels:
    """Resizes uint8 [H, W, 3] to a shorter side of `shorter`; the longer is rounded down, as torchvision does."""
    height, width = pixels.shape[:2]
    return resize(pixels, shorter * height // min(height, width), shorter * width // min(height, width))


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resizes uint8 [H, W, 3] to [height, width, 3]; shrinking is antialiased.

    If `pixels` is a view of a `Buffer`, it is read there in place.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[0] * pixels.shape[1] <= _SMALL_PIXELS or next(_calls) < _PATIENCE:
        return resize_by_pillow(pixels, height, width)
    return _compiled(pixels, height, width)


def resize_by_pillow(pixels: Pixels, height: int, width: int) -> Pixels:
    """The definition: as `resize`."""
    image = Image.fromarray(pixels)
    across = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((width, height), Image.Resampling.BILINEAR))


def center_crop(pixels: Pixels, size: int) -> Pixels:
    """Cuts size x size out of the middle of uint8 [H, W, 3]; an odd remainder goes to the bottom and the right."""
    top = (pixels.shape[0] - size) // 2
    left = (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


class Buffer(threading.local):
    """Memory of one thread that is used again and again: fresh pages cost a fifth of decoding a photograph."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def take(self, size: int) -> Pixels:
        """Returns at least `size` bytes and SLACK; what was in them before is lost."""
        if len(self._bytes) < size + SLACK:
            self._bytes = np.zeros(size + size // 4 + SLACK, np.uint8)
        return self._bytes

    def holds(self, pixels: Pixels) -> bool:
        """Says whether an image lies at the start of the buffer."""
        return pixels.ctypes.data == self._bytes.ctypes.data and pixels.flags.c_contiguous


DECODED = Buffer()  # where JPEGs that will be shrunk are decoded to
_COPIED = Buffer()
_MIDDLE = Buffer()


def _compiled(pixels: Pixels, height: int, width: int) -> Pixels:
    from selfie_data.resize_kernel import middle_bytes, resize_image

    if DECODED.holds(pixels):
        source = DECODED.take(pixels.size)
    else:
        source = _COPIED.take(pixels.size)
        source[: pixels.size] = pixels.reshape(-1)
    middle = _MIDDLE.take(middle_bytes(pixels.shape[0], width))
    result = np.empty(height * width * 3 + SLACK, np.uint8)
    resize_image(source, pixels.shape[0], pixels.shape[1], height, width, middle, result)
    return result[: height * width * 3].reshape(height, width, 3)
