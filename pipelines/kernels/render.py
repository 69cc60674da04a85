"""Stored images become patches and whole images: what `reference.image_of` and `reference.render` do, compiled.

    pixels in memory -> resampled, or the window cut out, or left where they are -> gathered into the output

Nothing of a batch but its input and its output ever exists as a whole: between the two lie a few rows and one image.
"""

from typing import Any

import numpy as np

from pipelines.kernels.copying_kernel import move_pixels
from pipelines.kernels.gather import blank_cells, gather
from pipelines.kernels.prefetch_kernel import prefetch
from pipelines.kernels.resample import resample
from selfie_data.kernels.compiled import kernel


@kernel
def cut_window(source: Any, start: int, row_bytes: int, crop: Any, window: Any, size: int, result: Any) -> None:
    """Writes S x S pixels of the crop, from `window` (top, left) on, zeros outside; arguments as in `resample`."""
    top, left, height, width = crop
    result[: 3 * size * size] = 0
    before, after = max(-window[1], 0), min(width - window[1], size)
    as_it_is = np.empty((0, 256), np.uint8)
    for y in range(max(-window[0], 0), min(height - window[0], size) if after > before else 0):
        place = start + (top + window[0] + y) * row_bytes + 3 * (left + window[1] + before)
        move_pixels(source, place, False, after - before, as_it_is, result, 3 * (y * size + before))


@kernel
def render_images(
    pixels: Any, starts: Any, widths: Any, crop: Any, resize: Any, window: Any, flip: Any, size: int, antialias: bool,
    patch: int, cells: Any, hole: Any, mask: Any, factors: Any, patches: Any, images: Any,
    first: int, last: int, middle: Any, square: Any,
) -> None:  # fmt: skip
    """Writes the patches and the whole image of rows first..last - 1 of a batch of b.

    Args:
        pixels: uint8, flat; row i's image [H, widths[i], 3] begins at starts[i - first]; SLACK bytes follow the last.
        starts: [last - first] int64.
        widths: [b] int64, pixels.
        crop: [b, 4] int64, as all that follow in `plan.BatchPlan`.
        resize: [b, 2] int64; or no rows.
        window: [b, 2] int64.
        flip: [b] bool; or empty.
        size: S.
        antialias: see `resample`.
        patch: p.
        cells: [b, N] int64; N = 0 without patches.
        hole: [b, N] bool; or no rows.
        mask: [b, G] bool; or no rows.
        factors: of `gather_kernel.factors_of`.
        patches: flat, of a type of `gather_kernel.KERNEL_DTYPE`, for all images of the batch.
        images: ditto; empty where whole images are not wanted.
        first: see above, as `last`.
        last: ditto.
        middle: scratch for `resample`, enough for the highest crop.
        square: scratch, uint8, flat, 3 * S * S bytes and SLACK.
    """
    no_holes, whole = np.empty(0, np.bool_), np.zeros(1, np.int64)
    square_bytes, patch_values = 3 * size * size, cells.shape[1] * patch * patch * 3
    for i in range(first, last):
        if i + 1 < last:
            prefetch(pixels, starts[i + 1 - first], square_bytes)
        mirror = flip.size > 0 and flip[i]
        row_bytes = 3 * widths[i]
        source, start = pixels, starts[i - first]
        if resize.shape[0] and (resize[i, 0] != crop[i, 2] or resize[i, 1] != crop[i, 3]):
            resample(
                pixels, start, row_bytes, crop[i], resize[i], window[i], mirror, antialias, size, middle, square
            )  # fmt: skip
            source, start, mirror = square, 0, False
        elif widths[i] != size or crop[i, 2] != size or window[i].any():
            cut_window(pixels, start, row_bytes, crop[i], window[i], size, square)
            source, start = square, 0
        if patch_values:
            holes = hole[i] if hole.shape[0] else no_holes
            gather(source, start, size, mirror, patch, cells[i], holes, factors, patches, i * patch_values)
        if images.size:
            at = i * square_bytes
            gather(source, start, size, mirror, size, whole, no_holes, factors, images, at)
            if mask.shape[0]:
                blank_cells(images, at, size, patch, mask[i])
