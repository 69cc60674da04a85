"""One image of the source becomes the bytes that a shard holds. Every image is decoded once on the way.

    raw    shorter side resized to S, centre crop, S·S·3 bytes                          (auto up to 64 px)
    keep   a plain JPEG that is small enough stays byte for byte, the rest become JPEG  (auto above)
    jpeg   everything becomes RGB, upright, shrunk, JPEG without metadata
    png    the same, lossless

Shrinking is antialiased and never enlarges; only `raw` must enlarge what is smaller than S. JPEGs may get restart
markers, without loss, by which a loader decodes the part of an image that a crop needs: those that stay get them too.
"""

import io
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from selfie_data.errors import BuildError, ImageError
from selfie_data.images.decode import MAX_PIXELS, JpegHeader, Pixels, decode_image, decode_jpeg, parse_jpeg_header
from selfie_data.images.jpeg_restarts import insert_restarts
from selfie_data.images.jpeg_scan import marked_interval
from selfie_data.images.resize import DECODED, Buffer, centre_crop, resize_shorter
from selfie_data.source import SourceImage

STORED_AS = {"raw": "raw", "keep": "jpeg", "jpeg": "jpeg", "png": "png"}


class Stored(NamedTuple):
    """What goes into a shard.

    Attributes:
        payload: the member's bytes.
        pixels: uint8 [H, W, 3] of the stored size: what statistics are taken of. For an image that was encoded anew,
            the pixels handed to the encoder. Unless raw, good until this thread encodes the next image.
        interval: MCUs between the restart markers of a JPEG; 0: it has none.
        reason: why a JPEG that was to get markers is stored without, or with those that it had; empty if it got them.
    """

    payload: bytes
    pixels: Pixels
    interval: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Stores images in one way.

    Attributes:
        encoding: "raw", "keep", "jpeg" or "png".
        size: the model's input size S in pixels; what `raw` stores.
        shorter: shorter side, in pixels, that larger images are shrunk to; 0: never shrink.
        quality: JPEG quality, 1 to 100.
        restart_blocks: MCUs between restart markers, at most; "auto": what suits each JPEG; 0: bytes as they come.
        max_pixels: of an image, as `decode_image` takes it.
    """

    encoding: str
    size: int
    shorter_side: int
    quality: int
    max_pixels: int = MAX_PIXELS
    restart_blocks: int | Literal["auto"] = 0

    def __call__(self, image: SourceImage) -> Stored:
        """Encodes one image.

        Raises:
            ImageError: it cannot be decoded.
            BuildError: `raw` without resizing, and an image is not S x S.
        """
        if self.encoding == "raw":
            return self._raw(image)
        if isinstance(image.data, bytes):
            header = parse_jpeg_header(image.data)
            if self.encoding == "keep" and header is not None and self._may_stay(header):
                return self._keep(image.data, header)
            pixels = self._decode(image.data, buffer=DECODED)
        else:
            pixels = image.data
        if self.shorter_side and min(pixels.shape[:2]) > self.shorter_side:
            pixels = resize_shorter(pixels, self.shorter_side)
        return self._encode(np.ascontiguousarray(pixels))

    def _decode(self, data: bytes, buffer: Buffer | None = None) -> Pixels:
        return decode_image(data, shorter_side=self.shorter_side or None, buffer=buffer, max_pixels=self.max_pixels)

    def _may_stay(self, header: JpegHeader) -> bool:
        return header.is_plain and (self.shorter_side == 0 or min(header.height, header.width) <= self.shorter_side)

    def _keep(self, data: bytes, header: JpegHeader) -> Stored:
        pixels = decode_jpeg(data, header, buffer=DECODED, max_pixels=self.max_pixels)
        if pixels.shape[:2] != (header.height, header.width):
            raise ImageError(f"decodes to {pixels.shape[1]} x {pixels.shape[0]}, not to what its header says")
        return self._marked(data, pixels)

    def _raw(self, image: SourceImage) -> Stored:
        pixels = image.data if isinstance(image.data, np.ndarray) else self._decode(image.data)
        if pixels.shape[:2] != (self.size, self.size):
            if self.shorter_side == 0:
                found = f"{pixels.shape[1]} x {pixels.shape[0]}"
                raise BuildError(
                    f"{image.name} has {found} pixels: raw without resizing takes {self.size} x {self.size} only; "
                    "leave out --resize-shorter 0"
                )
            pixels = np.ascontiguousarray(centre_crop(resize_shorter(pixels, self.shorter_side), self.size))
        return Stored(pixels.tobytes(), pixels)

    def _encode(self, pixels: Pixels) -> Stored:
        if self.encoding == "png":
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
            return Stored(buffer.getvalue(), pixels)
        payload = simplejpeg.encode_jpeg(pixels, quality=self.quality, colorsubsampling="420", fastdct=False)
        return self._marked(payload, pixels)

    def _marked(self, jpeg: bytes, pixels: Pixels) -> Stored:
        if self.restart_blocks == 0:
            return Stored(jpeg, pixels)
        data, interval, reason = insert_restarts(jpeg, self.restart_blocks)
        return Stored(data, pixels, marked_interval(data) if reason else interval, reason)
