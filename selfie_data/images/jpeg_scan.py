"""The header of a sequential JPEG of one scan, as far as its entropy-coded data cannot be read without it.

Sections of ITU-T T.81: B.2.2 (frame), B.2.3 (scan), B.2.4.2 (Huffman tables), B.2.4.4 (restart interval), A.2 (MCUs).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.images.decode import MAX_JPEG_PIXELS

_SOF0, _SOF1, _DHT, _SOS, _DRI = 0xC0, 0xC1, 0xC4, 0xDA, 0xDD
_TABLES_AND_TEXT = frozenset((0xDB, 0xFE, *range(0xE0, 0xF0)))  # DQT, COM, APP0 to APP15: copied as they are
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_MOST_BLOCKS = 10  # of an MCU


class NotSuitable(Exception):
    """Not a JPEG of this kind.

    Attributes:
        interval: MCUs between the restart markers that it has already.
    """

    def __init__(self, reason: str, interval: int = 0) -> None:
        super().__init__(reason)
        self.interval = interval


class Scan(NamedTuple):
    """What the header says.

    Attributes:
        kept: all segments before the scan's header but those of Huffman tables and of the restart interval.
        tables: Huffman tables, by class << 4 | destination: 16 counts and the symbols.
        selection: the scan header's segment.
        start: where the entropy-coded data begins.
        blocks: int64 [k, 4], for each of an MCU: component, DC table, AC table, whether it is the component's first.
        columns: MCUs.
        rows: MCUs.
        mcu_width: pixels.
    """

    kept: list[bytes]
    tables: dict[int, bytes]
    selection: bytes
    start: int
    blocks: NDArray[np.int64]
    columns: int
    rows: int
    mcu_width: int


def read_scan(jpeg: bytes) -> Scan:
    """Reads the header of a baseline or extended sequential, Huffman-coded JPEG of 8 bits and one scan.

    Raises:
        NotSuitable: it is none, it is damaged, has restart markers, or more pixels than are decoded here.
    """
    kept, tables, frame, interval = list[bytes](), dict[int, bytes](), b"", 0
    for start, segment in _segments(jpeg):
        marker = segment[1]
        if marker == _SOS:
            if interval:
                raise NotSuitable("it has restart markers already", interval)
            columns, rows, mcu_width, blocks = _mcus(frame, segment)
            return Scan(kept, tables, segment, start, np.array(blocks, np.int64), columns, rows, mcu_width)
        if marker == _DHT:
            tables.update(_huffman_tables(segment[4:]))
        elif marker == _DRI and len(segment) == 6:
            interval = int.from_bytes(segment[4:6], "big")
        elif marker in (_SOF0, _SOF1) and not frame:
            frame = segment
            kept.append(segment)
        elif marker in _TABLES_AND_TEXT:
            kept.append(segment)
        else:
            raise NotSuitable("it is not a baseline JPEG")
    raise NotSuitable("its header is damaged")


def marked_interval(jpeg: bytes) -> int:
    """Returns the MCUs between the restart markers of such a JPEG; 0 if it has none, or not those that its header says.

    B.2.1: a marker after each interval but the last, RST0 to RST7 in turn; B.1.1.5: nothing else looks like one.
    """
    interval, mcus, frame, data = 0, 0, b"", 0
    for start, segment in _segments(jpeg):
        if segment[1] == _DRI and len(segment) == 6:
            interval = int.from_bytes(segment[4:6], "big")
        elif segment[1] in (_SOF0, _SOF1):
            frame = segment
        elif segment[1] == _SOS:
            try:
                columns, rows, _, _ = _mcus(frame, segment)
            except NotSuitable:
                return 0
            mcus, data = columns * rows, start
            break
        elif segment[1] != _DHT and segment[1] not in _TABLES_AND_TEXT:
            return 0
    if not interval or not mcus:
        return 0
    found = [marker[1] & 7 for marker in _RESTART.findall(jpeg, data)]
    return interval if found == [number & 7 for number in range(-(-mcus // interval) - 1)] else 0


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields each segment, marker and length included, and where it ends, for as long as they follow each other."""
    place = 2 if jpeg[:2] == b"\xff\xd8" else len(jpeg)
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        if jpeg[place + 1] == 0xFF:  # a fill byte
            place += 1
            continue
        stop = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if stop > len(jpeg) or stop < place + 4:
            return
        yield stop, jpeg[place:stop]
        place = stop


def _huffman_tables(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields class << 4 | destination, and counts and symbols, of each table of a segment."""
    while body:
        count = sum(body[1:17])
        table = body[1 : 17 + count]
        if len(table) != 16 + count or count > 256 or body[0] & 0xEF > 3:
            raise NotSuitable("its header is damaged")
        yield body[0], table
        body = body[17 + count :]


def _mcus(frame: bytes, selection: bytes) -> tuple[int, int, int, list[tuple[int, int, int, bool]]]:
    """Returns columns and rows of MCUs, an MCU's width in pixels, and its blocks as `Scan` has them."""
    count = frame[9] if len(frame) > 9 else 0
    if not 1 <= count <= 4 or len(frame) != 10 + 3 * count or frame[4] != 8:
        raise NotSuitable("it has not 8 bits a sample, or its frame header is damaged")
    height, width = int.from_bytes(frame[5:7], "big"), int.from_bytes(frame[7:9], "big")
    names, factors = frame[10::3], [(value >> 4, value & 15) for value in frame[11::3]]
    if selection[4:5] != frame[9:10] or selection[5:-3:2] != names or selection[-3:] != b"\x00\x3f\x00":
        raise NotSuitable("it has more than one scan")
    if len(selection) != 8 + 2 * count or not 0 < height * width <= MAX_JPEG_PIXELS:
        raise NotSuitable("its header is damaged, or it is too large")
    if count == 1:
        factors = [(1, 1)]  # one component is not interleaved: an MCU is a block (A.2.2)
    across, down = (max(sides) for sides in zip(*factors, strict=True))
    chosen = [(value >> 4 & 3, value & 3) for value in selection[6:-3:2]]
    blocks = [
        (component, *chosen[component], block == 0)
        for component, (h, v) in enumerate(factors)
        for block in range(h * v)
    ]
    if min(min(sides) for sides in factors) < 1 or max(across, down) > 4 or len(blocks) > _MOST_BLOCKS:
        raise NotSuitable("its sampling factors are damaged")
    return -(-width // (8 * across)), -(-height // (8 * down)), 8 * across, blocks
