"""What `pipelines.sampling.draws` compiles, in NumPy: the definitions that its results are held to, to the bit."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS, HIGHEST, LOWEST
from selfie_data.randomness.philox import Purpose, draw_words

Numbers = NDArray[np.int64]

_ATTEMPTS = 10
_WORDS_PER_BLOCK = 4
_RATIOS = np.array(ASPECT_RATIOS)


def flips(seed: int, epoch: int, ids: ArrayLike) -> NDArray[np.bool_]:
    """Returns which samples are mirrored left to right: bool [B], the lowest bit of word 0."""
    words = draw_words(seed, epoch, ids, Purpose.FLIP)
    return (words[:, 0] & np.uint32(1)).astype(np.bool_)


def random_resized_crops(
    seed: int, epoch: int, ids: ArrayLike, heights: ArrayLike, widths: ArrayLike, *, area: tuple[float, float]
) -> Numbers:
    """Returns a crop window of every sample, int64 [B, 4]: top, left, height, width, in the stored image's pixels.

    Attempt k uses block k: word 0 the area, 1 the aspect ratio, 2 top, 3 left. The first of ten attempts that fits is
    taken; if none fits, the largest central window with an aspect ratio in [3/4, 4/3], as torchvision does.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        ids: sample ids [B], non-negative.
        heights: of the stored images, [B], pixels.
        widths: of the stored images, [B], pixels.
        area: lowest and highest area of the window as a fraction of the image's, 0 < lowest <= highest <= 1.
    """
    sample_ids = np.asarray(ids)
    height, width = (np.broadcast_to(np.asarray(x, np.int64), sample_ids.shape) for x in (heights, widths))
    windows, fits = _attempt(draw_words(seed, epoch, sample_ids, Purpose.CROP), height, width, area)
    pending = np.flatnonzero(~fits)
    if not pending.size:
        return windows
    words = draw_words(seed, epoch, sample_ids[pending], Purpose.CROP, _ATTEMPTS)
    windows[pending] = _central(height[pending], width[pending])
    for attempt in reversed(range(1, _ATTEMPTS)):  # the earliest that fits is written last
        block = words[:, _WORDS_PER_BLOCK * attempt : _WORDS_PER_BLOCK * (attempt + 1)]
        tried, fits = _attempt(block, height[pending], width[pending], area)
        windows[pending[fits]] = tried[fits]
    return windows


def _attempt(
    words: NDArray[np.uint32], height: Numbers, width: Numbers, area: tuple[float, float]
) -> tuple[Numbers, NDArray[np.bool_]]:
    """One attempt from four words a sample: windows [B, 4] and whether each fits its image [B]."""
    lowest, highest = area
    fraction = lowest + (highest - lowest) * (words[:, 0].astype(np.float64) / 4294967296.0)
    ratio = _RATIOS[words[:, 1] >> np.uint32(26)]
    pixels = (height * width).astype(np.float64) * fraction
    crop_width = np.rint(np.sqrt(pixels * ratio)).astype(np.int64)
    crop_height = np.rint(np.sqrt(pixels / ratio)).astype(np.int64)
    fits = (crop_width >= 1) & (crop_width <= width) & (crop_height >= 1) & (crop_height <= height)
    top = _below(words[:, 2], np.maximum(height - crop_height + 1, 1))
    left = _below(words[:, 3], np.maximum(width - crop_width + 1, 1))
    return np.stack((top, left, crop_height, crop_width), axis=1), fits


def _central(height: Numbers, width: Numbers) -> Numbers:
    """The largest central window with an aspect ratio in [3/4, 4/3], [B, 4]."""
    ratio = width / height
    crop_height = np.where(ratio < LOWEST, np.rint(width / LOWEST).astype(np.int64), height)
    crop_width = np.where(ratio > HIGHEST, np.rint(height * HIGHEST).astype(np.int64), width)
    return np.stack(((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width), axis=1)


def _below(words: NDArray[np.uint32], bound: np.int64 | Numbers) -> Numbers:
    """Scales 32-bit words to [0, bound): multiply and shift, off uniform by less than bound / 2**32."""
    return ((words.astype(np.uint64) * np.asarray(bound).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
