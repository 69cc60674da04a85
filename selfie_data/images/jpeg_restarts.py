"""Restart markers for a JPEG that has none, without loss: every interval of MCUs can then be decoded by itself.

    header -> Huffman codes walked, where DC differences stand is noted -> bits copied; where an interval begins, its DC
    differences are coded against zero; where it ends, ones up to a whole byte, and a marker

Sections of ITU-T T.81: B.2.4.4 and F.1.1.5.2 (restart intervals), C.2 (Huffman codes), K.2 (best tables). Coefficients
and metadata stay. A DC table changes to the best one for this image where it has no code for a difference that is now
needed, or where that pays for the markers.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.images.jpeg_scan import NotSuitable, Scan, read_scan

MAX_GROWTH = 0.04  # of a file's bytes: markers that cost more are not worth it

_NARROW, _WIDE, _NARROWEST = 32, 64, 16  # pixels of an interval; measured in decision 060
_WORTH = 1000  # another DC table must save this part of a file: coding anew takes time


class Restarted(NamedTuple):
    """A JPEG after `insert_restarts`.

    Attributes:
        data: the file.
        interval: MCUs between its restart markers; 0: it has none.
        reason: why it is the file that was given; empty if it got its markers.
    """

    data: bytes
    interval: int
    reason: str


def restart_intervals(columns: int, mcu_width: int) -> list[int]:
    """Returns intervals that suit an image, in MCUs, the best first.

    An interval must divide the columns, or a rectangle of intervals is no JPEG. 32 to 64 pixels are best, then what is
    narrower (more bytes), then what is wider (less to leave out), up to whole rows.

    Args:
        columns: MCUs a row.
        mcu_width: pixels.
    """
    divisors = _divisors(columns)
    best = [count for count in divisors if _NARROW <= count * mcu_width <= _WIDE][:1]
    narrower = [count for count in divisors[::-1] if _NARROWEST <= count * mcu_width < _NARROW]
    wider = [count for count in divisors if count * mcu_width > _WIDE]
    return [*best, *narrower, *wider] or [columns]


def insert_restarts(jpeg: bytes, interval: int | Literal["auto"] = "auto") -> Restarted:
    """Returns a JPEG with restart markers. What follows the end of the image is left out.

    Args:
        jpeg: any bytes; those of a sequential Huffman-coded JPEG of 8 bits and one scan get markers.
        interval: MCUs between markers at most: the largest divisor of the image's MCU columns up to it; 0: no markers.
            "auto": the first of `restart_intervals` by which the file grows by no more than MAX_GROWTH.
    """
    if interval == 0:
        return Restarted(jpeg, 0, "no markers are asked for")
    try:
        scan = read_scan(jpeg)
        walked = _walk(jpeg, scan)
        if interval != "auto":
            fitting = max(count for count in _divisors(scan.columns) if count <= interval)
            return Restarted(_rewrite(scan, walked, fitting), fitting, "")
        for fitting in restart_intervals(scan.columns, scan.mcu_width):
            data = _rewrite(scan, walked, fitting)
            if len(data) <= (1 + MAX_GROWTH) * len(jpeg):
                return Restarted(data, fitting, "")
    except NotSuitable as reason:
        return Restarted(jpeg, reason.interval, str(reason))
    return Restarted(jpeg, 0, f"markers would cost more than {MAX_GROWTH:.0%}")


def _divisors(number: int) -> list[int]:
    return [count for count in range(1, number + 1) if number % count == 0]


class _Walked(NamedTuple):
    bits: NDArray[np.uint8]  # entropy-coded data without stuffed bytes, and SLACK zeros
    end: int  # bits
    before: NDArray[np.int64]  # [blocks], the bit where a block begins
    after: NDArray[np.int64]  # [blocks], the bit after its DC difference
    dc: NDArray[np.int32]  # [blocks], DC coefficients
    tables: NDArray[np.uint8]  # [8, 272], DC tables 0 to 3, AC tables 0 to 3: 16 counts and the symbols


def _walk(jpeg: bytes, scan: Scan) -> _Walked:
    from selfie_data.images.jpeg_restarts_kernel import SLACK, unstuff, walk  # Numba takes 0.4 s to be imported

    data = np.frombuffer(jpeg, np.uint8)
    bits = np.empty(len(data) - scan.start + SLACK, np.uint8)
    size, marker = unstuff(data, scan.start, bits)
    count = scan.columns * scan.rows * len(scan.blocks)
    if marker != 0xD9:
        raise NotSuitable("it has more than one scan, or ends too early")
    if count * 2 > size * 8:  # a block is two codes at least
        raise NotSuitable("its entropy-coded data is damaged")
    before, after, dc = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int32)
    tables = np.zeros((8, 16 + 256), np.uint8)
    for key, table in scan.tables.items():
        tables[(key >> 4) * 4 + (key & 3), : len(table)] = np.frombuffer(table, np.uint8)
    end = walk(bits, size, scan.blocks, tables, scan.columns * scan.rows, before, after, dc)
    if end < 0 or size * 8 - end >= 8:
        raise NotSuitable("its entropy-coded data is damaged")
    return _Walked(bits, end, before, after, dc, tables)


def _rewrite(scan: Scan, walked: _Walked, interval: int) -> bytes:
    """Returns the file with a marker after each `interval` MCUs."""
    from selfie_data.images.jpeg_restarts_kernel import choose_tables, write

    *places, tables = walked
    tables, codes, replaced = tables.copy(), np.zeros((4, 12, 2), np.int64), np.zeros(4, np.bool_)
    if not choose_tables(walked.dc, scan.blocks, interval, walked.end // _WORTH, tables, codes, replaced):
        raise NotSuitable("its DC coefficients are too large")
    head = _header(scan, tables, interval)
    intervals = scan.columns * scan.rows // interval
    out = np.empty(len(head) + 2 * (walked.end // 8 + 4 * len(walked.dc)) + 4 * intervals + 16, np.uint8)
    out[: len(head)] = np.frombuffer(head, np.uint8)
    return out[: write(*places, scan.blocks, interval, codes, replaced, out, len(head))].tobytes()


def _header(scan: Scan, tables: NDArray[np.uint8], interval: int) -> bytes:
    """Returns all that stands before the entropy-coded data: what was kept, the tables (B.2.4.2), the interval."""
    body = b""
    for key in sorted(scan.tables):
        table = tables[(key >> 4) * 4 + (key & 3)]
        body += bytes((key,)) + table[: 16 + int(table[:16].sum())].tobytes()
    huffman = b"\xff\xc4" + (2 + len(body)).to_bytes(2, "big") + body
    restart = b"\xff\xdd\x00\x04" + interval.to_bytes(2, "big")
    return b"".join((b"\xff\xd8", *scan.kept, huffman, restart, scan.selection))
