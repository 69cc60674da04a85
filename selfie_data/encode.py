"""One source image -> the bytes a shard stores, decoded once and checked on the way.

S <= 64 (`auto`)   shorter side resized to S, centre crop, raw RGB of S x S
S >  64 (`auto`)   a baseline RGB or gray JPEG, upright and no larger than wanted, is kept byte for byte;
                   everything else becomes RGB, upright, shrunk to the wanted shorter side, never enlarged, JPEG
"""

import io
import struct
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from selfie_data.errors import ImageError
from selfie_data.sample import SourceImage

Encoding = Literal["auto", "keep", "jpeg", "png", "raw"]
Stored = Literal["raw", "jpeg", "png"]

RAW_UP_TO = 64  # pixels: below, JPEG and PNG gain nothing and have no decoder on a GPU that pays
MAX_PIXELS = 1 << 26  # 64 Mpx, 192 MiB decoded: what a worker of 400 MiB can take
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_BASELINE = 0xC0  # marker SOF0, ITU-T T.81 table B.1
_ORIENTATION = 0x0112  # EXIF tag
_SQUARES = np.arange(256, dtype=np.uint32) ** 2


class Encoded(NamedTuple):
    """What is stored of an image.

    Attributes:
        payload: the member's bytes.
        height, width: of the stored image, pixels.
        sums: [2, 3] exact sums of the stored pixels and of their squares, a channel; None for raw images, whose pixels
            are summed many at a time (`pixel_sums`).
    """

    payload: bytes
    height: int
    width: int
    sums: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """How images are stored.

    Attributes:
        size: S, the model's input size, pixels.
        stored: what members hold.
        keep: whether JPEGs that need no change are stored as they are.
        quality: of JPEG, 1..100.
        resize_shorter: larger images are shrunk to this shorter side, pixels; 0: never.
    """

    size: int
    stored: Stored
    keep: bool
    quality: int
    resize_shorter: int

    def encode(self, image: SourceImage) -> Encoded:
        """Returns what is stored of `image`.

        Raises:
            ImageError: it cannot be decoded, is too large, or is not of the one size that `raw` needs.
        """
        try:
            if isinstance(image.data, np.ndarray):
                if self.stored == "raw" and image.data.shape == (self.size, self.size, 3):
                    return Encoded(image.data.tobytes(), self.size, self.size, None)
                return self._store(Image.fromarray(image.data))
            if self.keep and (kept := self._keep(image.data)):
                return kept
            return self._store(_open(image.data))
        except (OSError, ValueError, SyntaxError, EOFError, struct.error, UnidentifiedImageError) as error:
            raise ImageError(f"{image.name}: cannot be decoded ({error})") from error

    def _keep(self, data: bytes) -> Encoded | None:
        """Returns a JPEG as it is, after decoding it; None if it must be re-encoded."""
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_pixels(image)
            if not _is_plain_jpeg(image, data) or (self.resize_shorter and min(image.size) > self.resize_shorter):
                return None
            return _encoded(data, image.convert("RGB"))

    def _store(self, image: Image.Image) -> Encoded:
        image = _to_rgb(image)
        if self.stored == "raw":
            image = self._fixed_size(image)
            return Encoded(image.tobytes(), image.height, image.width, None)
        if self.resize_shorter and min(image.size) > self.resize_shorter:
            image = _resize_shorter(image, self.resize_shorter)
        if self.stored == "png":
            return _encoded(_png(image), image)
        payload = simplejpeg.encode_jpeg(np.asarray(image), self.quality, colorspace="RGB", colorsubsampling="420")
        return _encoded(payload, Image.fromarray(simplejpeg.decode_jpeg(payload, "RGB")))

    def _fixed_size(self, image: Image.Image) -> Image.Image:
        size = self.size
        if image.size == (size, size):
            return image
        if not self.resize_shorter:
            width, height = image.size
            raise ImageError(f"raw without resizing needs every image {size} x {size}, got {height} x {width}")
        image = _resize_shorter(image, size)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        return image.crop((left, top, left + size, top + size))


def _open(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_pixels(image)
    image.load()
    return image


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{height} x {width} is more than {MAX_PIXELS} pixels")


def _is_plain_jpeg(image: Image.Image, data: bytes) -> bool:
    return (
        image.format == "JPEG"
        and image.mode in ("RGB", "L")
        and image.info.get("adobe_transform", 1) == 1  # 0: RGB stored as such, which decoders treat differently
        and image.getexif().get(_ORIENTATION, 1) == 1
        and _frame_marker(data) == _BASELINE
    )


def _frame_marker(data: bytes) -> int | None:
    """Returns the marker of the first frame header (SOFn); None if there is none."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Returns the first frame upright as 8-bit RGB; transparency is laid on white, 16 bits keep their high byte."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _resize_shorter(image: Image.Image, shorter: int) -> Image.Image:
    width, height = image.size
    scale = min(width, height)
    target = (max(shorter, round(width * shorter / scale)), max(shorter, round(height * shorter / scale)))
    return image.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _encoded(payload: bytes, image: Image.Image) -> Encoded:
    histogram = np.asarray(image.histogram(), dtype=np.int64).reshape(3, 256)
    values = np.arange(256)
    return Encoded(payload, image.height, image.width, np.stack((histogram @ values, histogram @ (values * values))))


def pixel_sums(pixels: bytes) -> NDArray[np.int64]:
    """Returns the exact channel sums [2, 3] of RGB pixels and of their squares."""
    channels = np.frombuffer(pixels, np.uint8).reshape(-1, 3)
    return np.stack((channels.sum(axis=0, dtype=np.int64), _SQUARES[channels].sum(axis=0, dtype=np.int64)))
