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
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import jpeg_factory

from selfie_data.errors import ImageError
from selfie_data.images.formats import prepare, rare_format
from selfie_data.images.jpeg_header import JpegHeader, read_jpeg_header
from selfie_data.images.orientation import UPRIGHT, orientation_of, turn_upright
from selfie_data.images.resize import Buffer

MAX_PIXELS = 1 << 24  # decoded whole, at up to 12 bytes a pixel on the way: 200 MB; `max_pixels` changes it
LARGEST_MAX_PIXELS = 1 << 27  # 1.6 GB a worker; Pillow itself refuses images a third larger
JPEG_TIMES = 4  # as many pixels may a JPEG have that is decoded at a reduced scale
MAX_JPEG_PIXELS = JPEG_TIMES * MAX_PIXELS  # 67 Mpx; the largest ImageNet photograph has 61
MAX_SCANS = 200  # a progressive file has about ten; each costs a pass over the image
_UNKNOWN = 0
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")

# What a notice says of images that are used in part, or by a guess.
OF_SEVERAL_FRAMES = "images of several frames, of which the first is used"
NOT_STRICT = "JPEGs that are damaged, or of a rare kind, as far as a tolerant decoder reads them"
NOT_TURNED = "images taken as upright, as what they say of their orientation cannot be read or means nothing"

Pixels = NDArray[np.uint8]


class Decoded(NamedTuple):
    """An image, and what its file is.

    Attributes:
        pixels: uint8 [H, W, 3], upright.
        plain: the header, if the file is a plain JPEG (`JpegHeader.is_plain`) that lies upright and is not damaged.
        end: bytes of the file that are the image's: of a JPEG, other data may follow.
        notices: reasons for which it is used in part, or by a guess.
    """

    pixels: Pixels
    plain: JpegHeader | None
    end: int
    notices: tuple[str, ...]


def decode_image(
    data: bytes, *, shorter_side: int | None = None, buffer: Buffer | None = None, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Decodes an image file.

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
    header = read_jpeg_header(data)
    if header is None:
        return _decode_by_pillow(data, max_pixels)
    if header.height * header.width > JPEG_TIMES * max_pixels:
        raise _too_large(header.width, header.height, JPEG_TIMES * max_pixels)
    if header.scans > MAX_SCANS:
        raise ImageError(f"a JPEG of {header.scans} scans, the limit is {MAX_SCANS}")
    if header.components not in (1, 3) or header.precision != 8:
        return _decode_by_pillow(data, max_pixels)._replace(end=header.end)
    pixels = _decode_strictly(data, header, shorter_side, buffer, max_pixels)
    if pixels is None:
        decoded = _decode_by_pillow(data, max_pixels)
        return decoded._replace(end=header.end, notices=(*decoded.notices, NOT_STRICT))
    orientation, notices = _metadata(data) if header.metadata else (UPRIGHT, ())
    plain = header if header.is_plain and orientation == UPRIGHT else None
    return Decoded(turn_upright(pixels, orientation), plain, header.end, notices)


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
        raise ImageError(f"cannot be decoded ({_describe(error)})") from error


def _decode_strictly(
    data: bytes, header: JpegHeader, shorter_side: int | None, buffer: Buffer | None, max_pixels: int
) -> Pixels | None:
    """Returns the pixels of a JPEG of one or three components and 8 bits, not turned; None if it is refused."""
    scale = 1
    while shorter_side and scale < 8 and min(header.height, header.width) >= 4 * scale * shorter_side:
        scale *= 2
    if header.height * header.width > max_pixels * scale * scale:
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
        return None
    return pixels


def _metadata(data: bytes) -> tuple[int, tuple[str, ...]]:
    """Returns the orientation of a JPEG that was decoded, and the notices: what Pillow makes of its metadata.

    `_UNKNOWN` if Pillow refuses the file: it then is not plain, so that no reader meets it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _told(jpeg_factory(io.BytesIO(data)))  # `Image.open` refuses what is large, but may be shrunk
        except Exception:  # as in `_decode_by_pillow`
            return _UNKNOWN, (NOT_TURNED,)


def _told(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    """The same of an image that was opened, and decoded unless it is a JPEG."""
    orientation = orientation_of(image)
    notices = (OF_SEVERAL_FRAMES,) * _has_frames(image) + (NOT_TURNED,) * (orientation is None)
    return orientation or UPRIGHT, notices


def _has_frames(image: Image.Image) -> bool:
    """Whether there is a second frame; how many there are, some formats tell only by all of the file."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # there is one, and it is damaged
        return True


def _too_large(width: int, height: int, limit: int, how: str = "") -> ImageError:
    return ImageError(f"too large: {width} x {height} pixels{how}, the limit is {limit} (--max-pixels)")


def _decode_by_pillow(data: bytes, max_pixels: int) -> Decoded:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; sizes are checked below
            if rare := rare_format(data):
                prepare(rare)
            with Image.open(io.BytesIO(data), formats=(rare,) if rare else _FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise _too_large(image.width, image.height, max_pixels)
                image.load()
                pixels = _to_rgb(image)
                orientation, notices = _told(image)
                return Decoded(turn_upright(pixels, orientation), None, len(data), notices)
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image of a known format") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from None
    except Exception as error:  # Pillow's plugins raise nearly every exception there is on damaged files
        raise ImageError(f"cannot be decoded: {_describe(error)}") from error


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode == "F":
        raise ImageError("pixels are floating-point numbers, whose range is not known")
    if image.mode == "I" and image.format == "TIFF":  # 32 bits, or 16 with a sign; others have this mode of 16 bits
        raise ImageError("pixels are 32-bit or signed integers, whose range is not known")
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it to white
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:  # what transparent pixels hide is anything; people see the page behind them
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _describe(error: Exception) -> str:
    """One line without memory addresses, which would differ from run to run."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "the file", " ".join(str(error).split()))
    return text[:200] or type(error).__name__
