"""One image of the source becomes the bytes that a shard holds. Every image is decoded once on the way.

    raw    shorter side resized to S, centre crop, S·S·3 bytes                          (auto up to 64 px)
    keep   a plain, sound JPEG that is small enough stays, the rest become JPEG         (auto above)
    jpeg   everything becomes RGB, upright, shrunk, JPEG without metadata
    png    the same, lossless

Shrinking is antialiased and never enlarges; only `raw` must enlarge what is smaller than S. JPEGs may get restart
markers, without loss, by which a loader decodes the part of an image that a crop needs: those that stay get them too,
and lose what stands behind the end of the image. Without markers they stay byte for byte.
"""

import io
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from selfie_data.errors import BuildError, ImageError
from selfie_data.images.decode import MAX_PIXELS, Pixels, decode_image
from selfie_data.images.jpeg_header import JpegHeader
from selfie_data.images.jpeg_restarts import insert_restarts
from selfie_data.images.jpeg_scan import marked_interval
from selfie_data.images.resize import DECODED, centre_crop, resize_shorter
from selfie_data.source import SourceImage

BEHIND_CUT_OFF = "JPEGs with data behind the image, which is left out"
BEHIND_KEPT = "JPEGs with data behind the image, which is stored with it"
STORED_AS = {"raw": "raw", "keep": "jpeg", "jpeg": "jpeg", "png": "png"}


class Stored(NamedTuple):
    """What goes into a shard.

    Attributes:
        payload: the member's bytes.
        pixels: uint8 [H, W, 3] of the stored size: what statistics are taken of. For an image that was encoded anew,
            the pixels handed to the encoder. Unless raw, good until this thread encodes the next image.
        interval: MCUs between the restart markers of a JPEG; 0: it has none.
        reason: why a JPEG that was to get markers is stored without, or with those that it had; empty if it got them.
        notices: reasons for which the file is used in part, or by a guess.
    """

    payload: bytes
    pixels: Pixels
    interval: int = 0
    reason: str = ""
    notices: tuple[str, ...] = ()


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
        if not isinstance(image.data, bytes):
            return self._make(image.data, image.name)
        data, buffer = image.data, None if self.encoding == "raw" else DECODED
        decoded = decode_image(data, shorter_side=self.shorter_side or None, buffer=buffer, max_pixels=self.max_pixels)
        if self.encoding == "keep" and decoded.plain and self._is_small(decoded.pixels):
            stored = self._keep(data[: decoded.end] if self.restart_blocks else data, decoded.plain, decoded.pixels)
        else:
            stored = self._make(decoded.pixels, image.name)
        notices = decoded.notices
        if decoded.end < len(data):
            notices += (BEHIND_KEPT if stored.payload is data else BEHIND_CUT_OFF,)
        return stored._replace(notices=notices) if notices else stored

    def _is_small(self, pixels: Pixels) -> bool:
        return self.shorter_side == 0 or min(pixels.shape[:2]) <= self.shorter_side

    def _keep(self, data: bytes, header: JpegHeader, pixels: Pixels) -> Stored:
        if pixels.shape[:2] != (header.height, header.width):
            raise ImageError(f"decodes to {pixels.shape[1]} x {pixels.shape[0]}, not to what its header says")
        return self._marked(data, pixels)

    def _make(self, pixels: Pixels, name: str) -> Stored:
        if self.encoding == "raw":
            return self._raw(pixels, name)
        if not self._is_small(pixels):
            pixels = resize_shorter(pixels, self.shorter_side)
        return self._encode(np.ascontiguousarray(pixels))

    def _raw(self, pixels: Pixels, name: str) -> Stored:
        if pixels.shape[:2] != (self.size, self.size):
            if self.shorter_side == 0:
                found = f"{pixels.shape[1]} x {pixels.shape[0]}"
                raise BuildError(
                    f"{name} has {found} pixels: raw without resizing takes {self.size} x {self.size} only; "
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
