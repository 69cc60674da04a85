"""Which kind of image some bytes are, told by how they begin, and what is needed to decode the rarer kinds.

Pillow's builds read AVIF and JPEG 2000 or not; HEIC comes with the package pillow-heif. What is asked of one of these
decoders depends on its version, which the manifest therefore names where one was used.
"""

import functools
import importlib
import importlib.metadata
from typing import Any, NamedTuple

from PIL import features

from selfie_data.errors import ImageError

HEAD_BYTES = 64  # of a file, enough to tell what it is
MISSING = "missing"  # the version of a decoder that is not there
_NETPBM = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the header that follows; "BM" alone begins words too


class Decoder(NamedTuple):
    """What decodes a rarer format: its name in the manifest, Pillow's feature or the package, and how to get it."""

    name: str
    feature: str
    package: str
    remedy: str


_RARE = {
    "AVIF": Decoder("pillow-libavif", "avif", "", "install a Pillow from 11.3 on that has it"),
    "JPEG2000": Decoder("pillow-openjpeg", "jpg_2000", "", "install a Pillow that has it"),
    "HEIF": Decoder("pillow-heif", "", "pillow_heif", "pip install pillow-heif"),
}


def format_of(head: bytes) -> str | None:
    """Returns Pillow's name of the format of a file that begins so ("HEIF" for HEIC), None if it is no image."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return "BMP"
    if head[:2] in _NETPBM and head[2:3].isspace():
        return "PPM"
    return rare_format(head)


def rare_format(data: bytes) -> str | None:
    """As `format_of`, of the formats that not every Pillow reads."""
    if data[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or data[:4] == b"\xff\x4f\xff\x51":
        return "JPEG2000"
    if data[4:8] != b"ftyp":
        return None
    brands = data[8 : min(int.from_bytes(data[:4], "big"), HEAD_BYTES)]
    named = {brands[place : place + 4] for place in range(0, len(brands), 4)}
    if named & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if named & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"} else None


def prepare(name: str) -> None:
    """Makes Pillow ready for a rarer format.

    Raises:
        ImageError: its decoder is not there.
    """
    decoder = _RARE[name]
    if _version(decoder) == MISSING:
        raise ImageError(f"an image in the format {name}, for which there is no decoder: {decoder.remedy}")
    if decoder.package:
        _register(decoder.package)


def decoder_versions(name: str) -> dict[str, str]:
    """Returns name -> version of what decodes a rarer format, `MISSING` if nothing does."""
    return {_RARE[name].name: _version(_RARE[name])}


def current_versions(used: dict[str, str]) -> dict[str, str]:
    """Returns the versions that decoders which were used have today."""
    return {decoder.name: _version(decoder) for decoder in _RARE.values() if decoder.name in used}


def every_version() -> dict[str, str]:
    """Returns name -> version of all decoders of rarer formats."""
    return {decoder.name: _version(decoder) for decoder in _RARE.values()}


@functools.cache
def _version(decoder: Decoder) -> str:
    if not decoder.package:
        known = decoder.feature in features.modules or decoder.feature in features.codecs  # not to an older Pillow
        return str(features.version(decoder.feature)) if known and features.check(decoder.feature) else MISSING
    try:
        return importlib.metadata.version(decoder.name)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


@functools.cache
def _register(package: str) -> None:
    module: Any = importlib.import_module(package)
    module.register_heif_opener()
