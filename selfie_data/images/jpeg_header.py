"""What a JPEG file says about itself before any pixel is decoded.

Only the markers up to the first scan are read; of EXIF data only the orientation.
"""

import re
from typing import NamedTuple

_SCAN = re.compile(rb"\xff\xda")  # looks for the first byte at once: a third of the time of `bytes.count`
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE = 0xC0
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
_ORIENTATION_TAG = 0x0112


class JpegHeader(NamedTuple):
    """The frame header, and what stands before it.

    Attributes:
        height, width: pixels.
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


def parse_jpeg_header(data: bytes) -> JpegHeader | None:
    """Returns the header of a JPEG file, None if the bytes are no JPEG or end too early."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    orientation, transform, place = 1, -1, 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in _ALONE:
            place += 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        if marker in _START_OF_FRAME:
            return _frame(body, marker, orientation, transform)
        if marker in (0xD9, 0xDA) or length < 2:
            return None
        if marker == 0xE1 and body[:6] == b"Exif\x00\x00":
            orientation = _orientation(body[6:])
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
        place += 2 + length
    return None


def count_scans(data: bytes) -> int:
    """Returns the number of scans (entropy-coded data never holds the marker; a thumbnail may add a few)."""
    return len(_SCAN.findall(data))


def _frame(body: bytes, marker: int, orientation: int, transform: int) -> JpegHeader | None:
    if len(body) < 6:
        return None
    return JpegHeader(
        height=int.from_bytes(body[1:3], "big"),
        width=int.from_bytes(body[3:5], "big"),
        components=body[5],
        precision=body[0],
        frame=marker,
        orientation=orientation,
        transform=transform,
    )


def _orientation(tiff: bytes) -> int:
    """Returns the orientation tag of the first directory of EXIF data, 1 if there is none that makes sense."""
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    order = "little" if tiff[:2] == b"II" else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(tiff[place : place + size], "little" if order == "little" else "big")

    start = number(4, 4)
    for entry in range(start + 2, min(start + 2 + 12 * number(start, 2), len(tiff) - 11), 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
