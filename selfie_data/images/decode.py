"""Any image file becomes upright RGB pixels, sizes checked before anything is decoded.

libjpeg-turbo (simplejpeg) takes JPEGs in gray or three colours; Pillow takes the rest, and the JPEGs that the strict
decoder refuses (some real photographs carry stray bytes). The two give the same pixels (a test holds it). AVIF, JPEG
2000 and HEIC are read where Pillow or its plugin can.
"""

import io
import re
import warnings
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from selfie_data.errors import ImageError
from selfie_data.images.formats import prepare, rare_format
from selfie_data.images.resize import Buffer

MAX_PIXELS = 1 << 24  # decoded whole, at up to 12 bytes a pixel on the way: 200 MB; `max_pixels` changes it
LARGEST_MAX_PIXELS = 1 << 27  # 1.6 GB a worker; Pillow itself refuses images a third larger
JPEG_TIMES = 4  # as many pixels may a JPEG have that is decoded at a reduced scale
MAX_JPEG_PIXELS = JPEG_TIMES * MAX_PIXELS  # 67 Mpx; the largest ImageNet photograph has 61
MAX_SCANS = 200  # a progressive file has about ten; each costs a pass over the image
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_ORIENTATION_TAG = 0x0112
_SCAN = re.compile(rb"\xff\xda")  # looks for the first byte at once: a third of the time of `bytes.count`
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE = 0xC0
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length

Pixels = NDArray[np.uint8]


class JpegHeader(NamedTuple):
    """The frame header of a JPEG, and what stands before it: read here since Pillow takes 17 us more to tell it.

    Attributes:
        height: pixels.
        width: pixels.
        components: 1 gray, 3 colour, 4 CMYK.
        precision: bits a sample.
        frame: low byte of the start-of-frame marker: 0xC0 baseline, 0xC2 progressive, …
        orientation: EXIF orientation, 1 = upright; 1 if it is not said.
        transform: colour transform of an Adobe segment, 0 = none (RGB stored as such); -1 without a segment.
    """

    height: int
    width: int
    components: int
    precision: int
    frame: int
    orientation: int
    transform: int

    @property
    def is_plain(self) -> bool:
        """Baseline, 8 bits, gray or YCbCr, upright: what every decoder reads alike."""
        gray = self.components == 1
        colour = self.components == 3 and self.transform != 0
        return self.frame == _BASELINE and self.precision == 8 and self.orientation == 1 and (gray or colour)


def decode_image(
    data: bytes, *, shorter_side: int | None = None, buffer: Buffer | None = None, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Decodes an image file to uint8 [H, W, 3], upright.

    Args:
        data: the file's bytes; of an animation, the first frame is taken; transparency is laid on white.
        shorter_side: the caller will shrink to this shorter side: a JPEG may be decoded at a half, a quarter or an
            eighth of its size (a DCT of fewer coefficients, which is antialiased) as long as that leaves twice as many
            pixels as asked for, a side. None: full size.
        buffer: if given, the pixels may lie in it, and are good until it is used again.
        max_pixels: of what is decoded whole; a JPEG decoded at a reduced scale may have `JPEG_TIMES` as many.

    Raises:
        ImageError: not an image, of a format or mode that is not supported, damaged, or too large.
    """
    header = parse_jpeg_header(data)
    if header is not None and header.components in (1, 3) and header.precision == 8:
        return decode_jpeg(data, header, shorter_side=shorter_side, buffer=buffer, max_pixels=max_pixels)
    return _decode_other(data, max_pixels)


def decode_stored(payload: bytes | Pixels, *, encoding: str, height: int, width: int) -> Pixels:
    """Decodes what a shard holds of one image to uint8 [height, width, 3]; raw pixels are not copied.

    Args:
        payload: stored bytes, uint8 [n] if an array.
        encoding: "raw", "jpeg" or "png".
        height: what the sample table says, pixels.
        width: what the sample table says, pixels.

    Raises:
        ImageError: the bytes are no such image.
    """
    if encoding == "raw":
        if len(payload) != height * width * 3:
            raise ImageError(f"{len(payload)} bytes are no {height} x {width} x 3 pixels")
        return np.frombuffer(payload, np.uint8).reshape(height, width, 3)
    try:
        with Image.open(io.BytesIO(bytes(payload)), formats=("JPEG", "PNG")) as image:
            if image.size != (width, height):  # before decoding: a header may promise any size
                found = f"{image.height} x {image.width}"
                raise ImageError(f"the image is {found}, the sample table says {height} x {width}")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise ImageError(f"cannot be decoded ({error})") from error


def decode_jpeg(
    data: bytes,
    header: JpegHeader,
    *,
    shorter_side: int | None = None,
    buffer: Buffer | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """As `decode_image`, for a JPEG of one or three components and 8 bits whose header was read.

    With `buffer` the pixels may lie in it, and be good until it is used again.
    """
    pixels_of = header.height * header.width
    if pixels_of > JPEG_TIMES * max_pixels:
        raise _too_large(header.width, header.height, JPEG_TIMES * max_pixels)
    _check_scans(data)
    scale = 1
    while shorter_side and scale < 8 and min(header.height, header.width) >= 4 * scale * shorter_side:
        scale *= 2
    if pixels_of > max_pixels * scale * scale:
        raise _too_large(header.width, header.height, max_pixels * scale * scale, f" to decode at 1/{scale}")
    height, width = -(-header.height // scale), -(-header.width // scale)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            data,
            "RGB",
            fastdct=False,
            fastupsample=False,
            min_height=height if scale > 1 else 0,
            min_width=width if scale > 1 else 0,
            buffer=None if buffer is None else buffer.take(3 * height * width),
        )
    except ValueError:
        return _decode_other(data, max_pixels)
    return pixels if header.orientation == 1 else _turn(pixels, header.orientation)


def parse_jpeg_header(data: bytes) -> JpegHeader | None:
    """Returns the header of a JPEG file up to its first scan, None if the bytes are no JPEG or end too early."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    orientation, transform, place = 1, -1, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _ALONE:  # the first: a fill byte
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        if marker in _START_OF_FRAME and len(body) >= 6:
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return JpegHeader(height, width, body[5], body[0], marker, orientation, transform)
        if marker in (*_START_OF_FRAME, 0xD9, 0xDA) or length < 2:
            return None
        if marker == 0xE1 and body[:6] == b"Exif\x00\x00":
            orientation = _orientation(body[6:])
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
        place += 2 + length
    return None


def _orientation(tiff: bytes) -> int:
    """Returns the orientation tag of the first directory of EXIF data, 1 if there is none that makes sense."""
    if tiff[:2] not in (b"II", b"MM"):
        return 1

    def number(place: int, size: int) -> int:
        return int.from_bytes(tiff[place : place + size], "little" if tiff[:1] == b"I" else "big")

    start = number(4, 4)
    for entry in range(start + 2, min(start + 2 + 12 * number(start, 2), len(tiff) - 11), 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


def count_scans(data: bytes) -> int:
    """Returns the number of scans (entropy-coded data never holds the marker; a thumbnail may add a few)."""
    return len(_SCAN.findall(data))


def _check_scans(data: bytes) -> None:
    if (scans := count_scans(data)) > MAX_SCANS:
        raise ImageError(f"a JPEG of {scans} scans, the limit is {MAX_SCANS}")


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Undoes EXIF orientations 2 to 8: mirror, then turn."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _too_large(width: int, height: int, limit: int, how: str = "") -> ImageError:
    return ImageError(f"too large: {width} x {height} pixels{how}, the limit is {limit} (--max-pixels)")


def _decode_other(data: bytes, max_pixels: int) -> Pixels:
    if data.startswith(b"\xff\xd8"):  # CMYK, 12 bits, or a header that was not understood
        _check_scans(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; sizes are checked below
            if rare := rare_format(data):
                prepare(rare)
            with Image.open(io.BytesIO(data), formats=(rare,) if rare else _FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise _too_large(image.width, image.height, max_pixels)
                image.load()
                return _to_rgb(image)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image of a known format") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from None
    except Exception as error:  # Pillow's plugins raise nearly every exception there is on damaged files
        raise ImageError(f"cannot be decoded: {_describe(error)}") from error


def _to_rgb(image: Image.Image) -> Pixels:
    if image.getexif().get(_ORIENTATION_TAG, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it to white
        values = np.asarray(image)
        gray = ((values if values.dtype == np.uint16 else values.clip(0, 65_535)) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ImageError("pixels are floating-point numbers, whose range is not known")
    if image.has_transparency_data:  # what transparent pixels hide is anything; people see the page behind them
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _describe(error: Exception) -> str:
    """One line without memory addresses, which would differ from run to run."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "the file", " ".join(str(error).split()))
    return text[:200] or type(error).__name__
