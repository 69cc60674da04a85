"""Pillow's BILINEAR `Image.resize` on uint8, written out in NumPy: what compiled kernels are held to.

Two passes, first along the width, then along the height, each in fixed point: an output pixel is

    (2**21 + sum over taps of pixel * round(weight * 2**22)) >> 22        clipped to 0..255

with a triangle of half-width max(1, scale) around its centre (that makes shrinking antialiased) and weights that sum to
1. A pass that changes nothing is skipped. `antialias=False` keeps the half-width at 1, so an output pixel looks at two
pixels a direction however much is shrunk: faster, and full of aliases.

Pillow 13 takes the height first where it reckons that cheaper, older versions never do, and the bytes in between are
rounded, so results differ by 1 here and there. Width first is the definition here, whatever the version; a single pass
is the same in all of them.

Source: Pillow, src/libImaging/Resample.c (read; the formula, not the code).
"""

import math

import numpy as np
from numpy.typing import NDArray

PRECISION_BITS = 32 - 8 - 2  # a sum of products of bytes and weights fits in 32 bits


def coefficients(size: int, output: int, *, antialias: bool = True) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the taps of every output pixel in one direction.

    Args:
        size: pixels in.
        output: pixels out.
        antialias: whether the triangle widens with the scale.

    Returns:
        first [output]: the first input pixel of each; weights [output, taps]: fixed-point, 0 where past the last.
    """
    scale = size / output
    support = max(scale, 1.0) if antialias else 1.0
    taps = math.ceil(support) * 2 + 1
    first = np.zeros(output, np.int64)
    weights = np.zeros((output, taps), np.int64)
    for index in range(output):
        centre = (index + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), size)
        distance = np.abs((np.arange(low, high) - centre + 0.5) * (1.0 / support))
        triangle = np.maximum(1.0 - distance, 0.0)
        total = 0.0
        for weight in triangle:  # in order, as Pillow adds them: a pairwise sum may round differently
            total += weight
        triangle /= total or 1.0
        first[index] = low
        weights[index, : high - low] = (0.5 + triangle * (1 << PRECISION_BITS)).astype(np.int64)
    return first, weights


def resize_bilinear(image: NDArray[np.uint8], height: int, width: int, *, antialias: bool = True) -> NDArray[np.uint8]:
    """Returns a uint8 image [H, W, C] as [height, width, C]."""
    if image.shape[1] != width:
        image = _pass(image, width, axis=1, antialias=antialias)
    if image.shape[0] != height:
        image = _pass(image, height, axis=0, antialias=antialias)
    return image


def _pass(image: NDArray[np.uint8], output: int, *, axis: int, antialias: bool) -> NDArray[np.uint8]:
    size = image.shape[axis]
    first, weights = coefficients(size, output, antialias=antialias)
    taps = np.minimum(first[:, None] + np.arange(weights.shape[1]), size - 1)
    pixels = np.moveaxis(image, axis, 0)[taps].astype(np.int64)  # [output, taps, other, C]
    total = np.einsum("ot,otxc->oxc", weights, pixels) + (1 << (PRECISION_BITS - 1))
    result = np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(result, 0, axis))
