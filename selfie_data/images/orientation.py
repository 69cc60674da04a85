"""How an image is turned upright: one rule, Pillow's, whoever decodes the pixels.

Pillow joins the Exif segments of a JPEG, takes every type of number, and looks into XMP where Exif says nothing. Where
it raises over damaged metadata, or the orientation is none of 1 to 8, the image is taken as upright, and that is told.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

UPRIGHT = 1
_TAG = 0x0112


def orientation_of(image: Image.Image) -> int | None:
    """Returns 1 (upright; also if nothing is said) to 8; None if what is said cannot be read or means nothing.

    The caller silences warnings: twice would be a tenth of the time.
    """
    try:
        orientation = image.getexif().get(_TAG)
        if orientation is None:
            _check(image.info.get("exif") or b"")
            return UPRIGHT
        return int(orientation) if orientation in range(1, 9) else None
    except Exception:  # Pillow's readers of metadata raise nearly everything there is
        return None


def _check(exif: bytes) -> None:
    """Raises what Pillow has against Exif data, which it may have passed over when it was first read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.Exif().load(exif)


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes EXIF orientations: mirror, then turn; uint8 [H, W, 3] or [W, H, 3]."""
    if orientation == UPRIGHT:
        return pixels
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
