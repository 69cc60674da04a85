"""Antialiased resizing, in Pillow's 8-bit fixed-point arithmetic: the same bytes on every machine."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def resize_shorter(pixels: Pixels, shorter: int) -> Pixels:
    """Resizes uint8 [H, W, 3] to a shorter side of `shorter`; the longer is rounded down, as torchvision does."""
    height, width = pixels.shape[:2]
    if min(height, width) == shorter:
        return pixels
    size = (shorter * width // min(height, width), shorter * height // min(height, width))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def shrink_shorter(pixels: Pixels, shorter: int) -> Pixels:
    """As `resize_shorter`, but never enlarges."""
    return pixels if min(pixels.shape[:2]) <= shorter else resize_shorter(pixels, shorter)


def center_crop(pixels: Pixels, size: int) -> Pixels:
    """Cuts size x size out of the middle of uint8 [H, W, 3]; an odd remainder goes to the bottom and the right."""
    top = (pixels.shape[0] - size) // 2
    left = (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]
