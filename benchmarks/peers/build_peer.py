"""Full-resolution JPEGs -> shorter side 256 -> JPEG quality 90 -> WebDataset tars, as users write it today.

    python -m benchmarks.peers.build_peer WAY SOURCE OUT LIMIT PROCESSES      prints {"images": n, "seconds": s}

Each process writes shards of its own with `webdataset.ShardWriter`. Ways: `pillow` (bicubic, with the reducing gap and
draft mode that its documentation recommends for thumbnails), `opencv-area` (simplejpeg, OpenCV's area filter),
`opencv-area-scaled` (the same after libjpeg-turbo's scaled decoding), `copy` (the bytes as they are).
"""

import functools
import io
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.work.material import load

SHORTER = 256
QUALITY = 90


def pillow(payload: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(payload)) as image:
        width, height = image.size
        scale = SHORTER / min(width, height)
        size = (round(width * scale), round(height * scale))
        image.draft("RGB", (2 * size[0], 2 * size[1]))
        small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0) if scale < 1 else image
        out = io.BytesIO()
        small.convert("RGB").save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def opencv_area(payload: bytes) -> bytes:
    import simplejpeg

    return _shrink_and_encode(simplejpeg.decode_jpeg(payload))


def opencv_area_scaled(payload: bytes) -> bytes:
    import simplejpeg

    return _shrink_and_encode(simplejpeg.decode_jpeg(payload, min_height=SHORTER, min_width=SHORTER))


def _shrink_and_encode(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    import simplejpeg

    height, width, _ = pixels.shape
    scale = SHORTER / min(height, width)
    if scale < 1:
        cv2 = _opencv()
        pixels = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorsubsampling="420")
    return encoded


@functools.cache
def _opencv() -> Any:
    import cv2

    cv2.setNumThreads(1)  # a process a core: its own threads win nothing, and wait for long where cores are busy
    return cv2


def copy(payload: bytes) -> bytes:
    return payload


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "pillow": pillow,
    "opencv-area": opencv_area,
    "opencv-area-scaled": opencv_area_scaled,
    "copy": copy,
}


def work(way: str, source: str, out: str, first: int, last: int) -> None:
    """One process's part: images first..last-1."""
    import webdataset as wds

    packed = load(Path(source))
    change = WAYS[way]
    with wds.ShardWriter(f"{out}/{first:06d}-%06d.tar", maxcount=10_000, mtime=0, encoder=False, verbose=0) as writer:
        for index in range(first, last):
            label = str(int(packed.label[index])).encode()
            writer.write({"__key__": f"{index:012d}", "jpg": change(packed.payload(index).tobytes()), "cls": label})


def main() -> None:
    warnings.simplefilter("ignore")
    way, source, out = sys.argv[1:4]
    limit, processes = int(sys.argv[4]), int(sys.argv[5])
    WAYS[way](load(Path(source)).payload(0).tobytes())  # imports are not part of the time
    import webdataset  # noqa: F401

    edges = np.linspace(0, limit, processes + 1).astype(int).tolist()
    parts = [(way, source, out, first, last) for first, last in pairwise(edges)]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        start = time.perf_counter()
        pool.starmap(work, parts)
        seconds = time.perf_counter() - start
    print(json.dumps({"images": limit, "seconds": seconds}))


if __name__ == "__main__":
    main()
