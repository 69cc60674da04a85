"""What `selfie_data.images.jpeg_window` does, slowly and plainly."""

import re

ALL_NEEDED, NO_INTERVALS, UNEXPECTED = 0, -1, -2


def window(jpeg: bytes, top: int, left: int, height: int, width: int) -> tuple[bytes, int, int, int]:
    """As `selfie_data.images.jpeg_window.window`."""
    smaller, above, before = _cut(jpeg, top, left, height, width)
    if isinstance(smaller, int):
        return jpeg, top, left, smaller
    return smaller, top - above, left - before, len(smaller)


def _cut(jpeg: bytes, top: int, left: int, height: int, width: int) -> tuple[bytes | int, int, int]:
    segments = _segments(jpeg)
    if segments is None or len(jpeg) <= 64:
        return UNEXPECTED, 0, 0
    frames = [segment for segment in segments if segment[1] in (0xC0, 0xC1)]
    intervals = [segment for segment in segments if segment[1] == 0xDD]
    if len(frames) != 1 or any(len(segment) != 6 for segment in intervals):
        return UNEXPECTED, 0, 0
    frame, scan = frames[0], segments[-1]
    count = frame[9] if len(frame) > 9 else 0
    if not 1 <= count <= 4 or len(frame) != 10 + 3 * count or frame[4] != 8:
        return UNEXPECTED, 0, 0
    if len(scan) != 8 + 2 * count or scan[4] != count:
        return UNEXPECTED, 0, 0
    factors = [divmod(value, 16) for value in frame[11::3]]
    if not all(1 <= factor <= 4 for pair in factors for factor in pair):
        return UNEXPECTED, 0, 0
    across, down = (8 * max(sides) if count > 1 else 8 for sides in zip(*factors, strict=True))
    full_height, full_width = _number(frame[5:7]), _number(frame[7:9])
    inside = 0 <= top < top + height <= full_height and 0 <= left < left + width <= full_width
    if not inside or height < 1 or width < 1:
        return UNEXPECTED, 0, 0
    interval = _number(intervals[-1][4:6]) if intervals else 0
    rows, columns = -(-full_height // down), -(-full_width // across)
    if interval == 0 or columns % interval:
        return NO_INTERVALS, 0, 0
    columns, across = columns // interval, across * interval

    wanted_rows = [row for row in range(rows) if row * down - height - 2 < top < (row + 1) * down + 2]
    wanted = [column for column in range(columns) if column * across - width - 2 < left < (column + 1) * across + 2]
    if min(full_width, (wanted[-1] + 1) * across) - wanted[0] * across < 8 and wanted[0] > 0:
        wanted.insert(0, wanted[0] - 1)
    if len(wanted_rows) == rows and len(wanted) == columns:
        return ALL_NEEDED, 0, 0

    pieces = _intervals(jpeg[2 + sum(map(len, _with_fill(jpeg))) :], rows * columns)
    if pieces is None:
        return UNEXPECTED, 0, 0
    above, before = wanted_rows[0] * down, wanted[0] * across
    size = [min(full_height, (wanted_rows[-1] + 1) * down) - above, min(full_width, (wanted[-1] + 1) * across) - before]
    resized = frame[:5] + b"".join(side.to_bytes(2, "big") for side in size) + frame[9:]
    left_out = {0xFE, *range(0xE1, 0xF0)} - {0xEE}
    out = b"\xff\xd8"
    out += b"".join(resized if one is frame else one for one in segments if one[1] not in left_out)
    chosen = [pieces[row * columns + column] for row in wanted_rows for column in wanted]
    for number, piece in enumerate(chosen):
        out += piece + bytes((0xFF, 0xD0 + number % 8 if number < len(chosen) - 1 else 0xD9))
    return out, above, before


def _segments(jpeg: bytes) -> list[bytes] | None:
    """The segments up to that of the scan, without fill bytes; None if anything else stands there."""
    found = _with_fill(jpeg)
    bare = [segment.lstrip(b"\xff") for segment in found]
    known = {0xC0, 0xC1, 0xC4, 0xDA, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
    if not bare or bare[-1][:1] != b"\xda" or any(segment[0] not in known for segment in bare):
        return None
    return [b"\xff" + segment for segment in bare]


def _with_fill(jpeg: bytes) -> list[bytes]:
    found, place = [], 2
    while jpeg[:2] == b"\xff\xd8" and (match := re.compile(rb"\xff+([^\xff])(..)", re.DOTALL).match(jpeg, place)):
        end = match.start(2) + _number(match[2])
        if end < match.end(2) or end > len(jpeg):
            break
        found.append(jpeg[place:end])
        if match[1] == b"\xda":
            return found
        place = end
    return []


def _intervals(data: bytes, count: int) -> list[bytes] | None:
    """The entropy-coded data of each interval; None if markers are not exactly those of `count` intervals."""
    pieces, place = [], 0
    for match in re.finditer(rb"\xff[^\x00]", data, re.DOTALL):
        last = len(pieces) == count - 1
        if match[0][1] != (0xD9 if last else 0xD0 + len(pieces) % 8):
            return None
        pieces.append(data[place : match.start()])
        place = match.end()
        if last:
            return pieces
    return None


def _number(two: bytes) -> int:
    return int.from_bytes(two, "big")
