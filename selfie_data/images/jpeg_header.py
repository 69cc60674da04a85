"""What a JPEG's markers say: its size and kind, whether it may be turned, how many scans it has and where it ends.

ITU-T T.81: B.1.1 (markers; in entropy-coded data 0xFF is followed by 0, by RST0 to RST7, or by more 0xFF), B.2.2 (frame
header). Segments are stepped over by their lengths, so neither a thumbnail in one nor a picture behind the end counts.
Read here, and not by Pillow, which takes as long for the header and does not tell scans and end.
"""

import re
from typing import NamedTuple

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # as fast as looking for one marker by `bytes.count`
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE, _EOI, _SOS, _APP1, _APP2, _APP14 = 0xC0, 0xD9, 0xDA, 0xE1, 0xE2, 0xEE
_ALONE = frozenset((0x01, 0xD8, _EOI))  # markers without a length, RST apart


class JpegHeader(NamedTuple):
    """What a JPEG's markers say.

    Attributes:
        height: pixels.
        width: pixels.
        components: 1 gray, 3 colour, 4 CMYK.
        precision: bits a sample.
        frame: low byte of the start-of-frame marker: 0xC0 baseline, 0xC2 progressive, …
        transform: colour transform of an Adobe segment, 0 = none (RGB stored as such); -1 without a segment.
        metadata: Pillow must be asked: before the first scan stands a segment APP1 (it may be turned), one of a
            multi-picture file, or a marker without a segment, for which Pillow may refuse the file.
        scans: up to its end.
        end: bytes up to its end-of-image marker, that included; without one, those of the file.
    """

    height: int
    width: int
    components: int
    precision: int
    frame: int
    transform: int
    metadata: bool
    scans: int
    end: int

    @property
    def is_plain(self) -> bool:
        """Baseline, 8 bits, gray or YCbCr: what every decoder reads alike, if it is upright."""
        gray = self.components == 1
        colour = self.components == 3 and self.transform != 0
        return self.frame == _BASELINE and self.precision == 8 and (gray or colour)


def read_jpeg_header(data: bytes) -> JpegHeader | None:
    """Returns what the markers of a JPEG file say, None if the bytes are no JPEG or have no frame header."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    frame, transform, metadata, scans, place = b"", -1, False, 0, 2
    while found := _MARKER.search(data, place):
        marker, place = data[found.end() - 1], found.end()
        if marker == _EOI:
            break
        if marker in _ALONE:
            metadata = metadata or not scans
            continue
        start, place = place + 2, place + max(2, int.from_bytes(data[place : place + 2], "big"))
        if marker == _SOS:
            scans += 1
        elif scans:
            continue
        elif marker in _START_OF_FRAME:
            frame = frame or bytes((marker,)) + data[start:place]
        elif marker == _APP1 or (marker == _APP2 and data.startswith(b"MPF\0", start)):
            metadata = True
        elif marker == _APP14 and data.startswith(b"Adobe", start) and place >= start + 12:
            transform = data[start + 11] if start + 11 < len(data) else -1
    else:
        place = len(data)
    if len(frame) < 7:
        return None
    height, width = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    return JpegHeader(height, width, frame[6], frame[1], frame[0], transform, metadata, scans, place)
