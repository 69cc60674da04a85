"""JPEGs with restart markers for tests."""

from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from selfie_data.images.jpeg_restarts import insert_restarts

SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")


def marked(sampling: str, interval: int) -> Callable[[NDArray[np.uint8]], bytes]:
    """Returns an encoder: chroma subsampled so, markers after `interval` MCUs at most."""

    def encode(image: NDArray[np.uint8]) -> bytes:
        if sampling == "Gray":
            gray = np.ascontiguousarray(image[:, :, :1])
            jpeg = simplejpeg.encode_jpeg(gray, quality=90, colorspace="Gray", colorsubsampling="Gray")
        else:
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=90, colorsubsampling=sampling)
        return insert_restarts(bytes(jpeg), interval).data

    return encode
