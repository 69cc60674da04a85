"""Any image file becomes upright RGB pixels, sizes checked before anything is decoded.

libjpeg-turbo (simplejpeg) takes JPEGs in gray or three colours; Pillow takes the rest, and the JPEGs that the strict
decoder refuses (some real photographs carry stray bytes). The two give the same pixels (a test holds it).
"""

import io
import re
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from selfie_data.errors import ImageError
from selfie_data.images.jpeg_header import JpegHeader, count_scans, parse_jpeg_header
from selfie_data.images.resize import Buffer

MAX_JPEG_PIXELS = 1 << 26  # 67 Mpx; the largest ImageNet photograph has 61; decoded at a reduced scale
MAX_PIXELS = 1 << 24  # other formats are decoded whole, at up to 12 bytes a pixel on the way: 200 MB
MAX_SCANS = 200  # a progressive file has about ten; each costs a pass over the image
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_ORIENTATION_TAG = 0x0112

Pixels = NDArray[np.uint8]


def decode_image(data: bytes, *, shorter: int | None = None, buffer: Buffer | None = None) -> Pixels:
    """Decodes an image file to uint8 [H, W, 3], upright.

    Args:
        data: the file's bytes; of an animation, the first frame is taken; transparency is laid on white.
        shorter: the caller will shrink to this shorter side: a JPEG may be decoded at a half, a quarter or an eighth
            of its size (a DCT of fewer coefficients, which is antialiased) as long as that leaves twice as many pixels
            as asked for, a side. None: full size.
        buffer: if given, the pixels may lie in it, and are good until it is used again.

    Raises:
        ImageError: not an image, of a format or mode that is not supported, damaged, or too large.
    """
    header = parse_jpeg_header(data)
    if header is not None and header.components in (1, 3) and header.precision == 8:
        return decode_jpeg(data, header, shorter=shorter, buffer=buffer)
    return _decode_other(data)


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


def decode_jpeg(data: bytes, header: JpegHeader, *, shorter: int | None = None, buffer: Buffer | None = None) -> Pixels:
    """As `decode_image`, for a JPEG of one or three components and 8 bits whose header was read.

    With `buffer` the pixels may lie in it, and be good until it is used again.
    """
    pixels_of = header.height * header.width
    if pixels_of > MAX_JPEG_PIXELS:
        raise ImageError(f"too large: {header.width} x {header.height} pixels, the limit is {MAX_JPEG_PIXELS}")
    _check_scans(data)
    scale = 1
    while shorter and scale < 8 and min(header.height, header.width) >= 4 * scale * shorter:
        scale *= 2
    if pixels_of > MAX_PIXELS * scale * scale:
        raise ImageError(f"too large: {header.width} x {header.height} pixels to decode at 1/{scale}")
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
        return _decode_other(data)
    return pixels if header.orientation == 1 else _turn(pixels, header.orientation)


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


def _decode_other(data: bytes) -> Pixels:
    if data.startswith(b"\xff\xd8"):  # CMYK, 12 bits, or a header that was not understood
        _check_scans(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; sizes are checked below
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ImageError(f"too large: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS}")
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
