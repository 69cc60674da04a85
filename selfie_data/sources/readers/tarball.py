"""The members of a tar archive as byte ranges: nothing is ever extracted.

    header block (512)  payload (size)  padding to 512   header block …   zero block, zero block   zeros, or another tar
                        ^ Member.offset

Only headers are read, so a plain tar of a million images is listed without touching the images. Python's `tarfile`
keeps an object a member (over 1 GiB for ILSVRC) and follows links; it is the twin this is tested against.

Formats: v7, USTAR, GNU (long names, base-256 sizes), PAX (path, size). Refused: names that climb or are absolute,
links, devices, sparse and multi-volume members, a wrong header checksum, an archive without its end mark. Tars joined
by `cat` are read on behind an end mark, as `tar -i` does.
Source: POSIX.1-2017, pax, "ustar Interchange Format"; the GNU tar manual, "Basic Tar Format".
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from selfie_data.errors import SourceError
from selfie_data.sources.naming.file_names import printable
from selfie_data.storage.place import RemotePath
from selfie_data.storage.protocol import PART_BYTES

_BLOCK = 512  # bytes: headers and payloads begin at multiples of it
_EXTENSIONS = {b"L": 1 << 16, b"K": 1 << 16, b"x": 1 << 20, b"g": 1 << 20}  # largest size in bytes of each type
_SKIP = 1 << 20  # bytes read at a time when a stream is skipped over; what is skipped of an object is larger
_HEADERS = 64 << 10  # bytes fetched of an object behind what is skipped
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"M": "a part of a multi-volume archive",
    b"V": "a volume label",
    b"D": "an incremental dump",
}
_UNPACK = "unpack it and use the source folder"
_COMPRESSED = (  # how a file begins, what it is, what to do
    (b"PK", "a zip archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"BZh", "compressed by bzip2", "bunzip2 -k makes it a plain one"),
    (b"\xfd7zXZ\0", "compressed by xz", "unxz -k makes it a plain one"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unzstd makes it a plain one"),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "unlz4 makes it a plain one"),
    (b"\x1f\x8b", "gzipped", "gunzip makes it a plain one"),
)


class Member(NamedTuple):
    """A regular file in a tar: its name (relative, without `.` and `..`), where its bytes begin, how many."""

    name: str
    offset: int
    size: int


class Window(Protocol):
    """Bytes that can be read by offset. `size` is None where it is only known at the end."""

    @property
    def label(self) -> str:
        """What errors call it: a file's name without its folder."""

    @property
    def size(self) -> int | None: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes, fewer only where the bytes end."""


class FileWindow:
    """A range of an open file, [start, start + size); a tar inside a tar is one."""

    def __init__(self, descriptor: int, *, label: str, start: int = 0, size: int | None = None) -> None:
        self.descriptor = descriptor
        self.label = label
        self.start = start
        self.size = os.fstat(descriptor).st_size - start if size is None else size

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        data = os.pread(self.descriptor, length, self.start + offset)
        while len(data) < length and (
            more := os.pread(self.descriptor, length - len(data), self.start + offset + len(data))
        ):
            data += more
        return data

    def inside(self, member: Member, *, label: str) -> "FileWindow":
        """Returns a member as a window: a tar inside the tar."""
        return FileWindow(self.descriptor, label=label, start=self.start + member.offset, size=member.size)


class ObjectWindow:
    """A remote file, or a range of it, [start, start + size); the further it is read on, the more is fetched ahead.

    A listing then takes a request for 8 MiB of small members, and one for 64 KiB for the header behind a large one.
    """

    def __init__(self, path: RemotePath, *, label: str | None = None, start: int = 0, size: int | None = None) -> None:
        self.path = path
        self.label = label or path.name
        self.start = start
        self.size = path.stat().st_size if size is None else size
        self._held, self._at, self._ahead = b"", 0, 0

    def read_at(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        if not self._at <= offset <= offset + length <= self._at + len(self._held):
            near = 0 <= offset - self._at - len(self._held) <= _SKIP
            self._ahead = min(PART_BYTES, max(_HEADERS, 4 * self._ahead * near))
            ahead = max(length, min(self._ahead, self.size - offset))
            self._held, self._at = self.path.read_range(self.start + offset, ahead), offset
        return self._held[offset - self._at : offset - self._at + length]

    def inside(self, member: Member, *, label: str) -> "ObjectWindow":
        """Returns a member as a window: a tar inside the tar."""
        return ObjectWindow(self.path, label=label, start=self.start + member.offset, size=member.size)


class ForwardWindow:
    """A stream as a window: offsets may only grow; what lies between two reads is read and dropped."""

    size = None

    def __init__(self, stream: BinaryIO, *, label: str) -> None:
        self.stream = stream
        self.label = label
        self.position = 0

    def read_at(self, offset: int, length: int) -> bytes:
        if offset < self.position:
            raise ValueError(f"a stream is read forwards only: at {self.position}, asked for {offset}")
        while self.position < offset:
            skipped = len(self.stream.read(min(_SKIP, offset - self.position)))
            if not skipped:
                return b""
            self.position += skipped
        data = self.stream.read(length)
        self.position += len(data)
        return data


def open_tar(path: Path) -> int:
    """Returns a descriptor of a file to be read with pread. The caller closes it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def list_members(window: Window) -> Iterator[Member]:
    """Yields the regular files of the archive in its order, and of those joined to its end.

    Raises:
        SourceError: not a tar, truncated, or a member that is refused (see the module).
    """
    offset = 0
    ended = False
    extended: dict[str, str] = {}
    while True:
        block = window.read_at(offset, _BLOCK)
        if block.count(0) == len(block) and (ended or len(block) == _BLOCK):
            if len(block) < _BLOCK:
                return
            ended, extended, offset = True, {}, offset + _BLOCK
            continue
        if ended and not _is_header(block):
            raise SourceError(
                f"{window.label} goes on behind the mark of its end, at byte {offset}, with what is no tar: cut it off"
            )
        if len(block) < _BLOCK:
            raise SourceError(_no_tar(window, block) if offset == 0 else _truncated(window, offset, len(block)))
        size, kind = _check_header(block, window, offset)
        ended = False
        payload = offset + _BLOCK
        if kind in _EXTENSIONS:
            extended |= _read_extension(window, payload, size, kind)
        else:
            raw = extended.get("path") or _header_name(block)
            size = _pax_size(extended, size, window)
            extended = {}
            name = _check_member(raw, kind, window)
            if kind == b"5":
                size = 0  # some writers give a folder a size without a payload
            if window.size is not None and payload + size > window.size:
                raise SourceError(f"{window.label} is truncated: it ends inside {printable(raw)}")
            if name is not None:
                yield Member(name, payload, size)
        offset = payload + -(-size // _BLOCK) * _BLOCK


def _no_tar(window: Window, head: bytes) -> str:
    if not head:
        return f"{window.label} is empty"
    for magic, what, remedy in _COMPRESSED:
        if head.startswith(magic):
            return f"{window.label} is {what}, which is not read as a tar: {remedy}"
    return f"{window.label} is no tar archive" + ": it is shorter than one block" * (len(head) < _BLOCK)


def _truncated(window: Window, offset: int, got: int) -> str:
    return f"{window.label} is truncated: it ends at byte {offset + got} without the mark of its end"


def _check_header(block: bytes, window: Window, offset: int) -> tuple[int, bytes]:
    """Returns (size, type) of a header whose checksum holds."""
    if not _is_header(block):
        damaged = f"{window.label} is damaged: the header at byte {offset} has a wrong checksum"
        raise SourceError(_no_tar(window, block) if offset == 0 else damaged)
    size = _number(block[124:136])
    if size is None or size < 0:
        raise SourceError(f"{window.label} is damaged: the header at byte {offset} has no valid size")
    return size, block[156:157]


def _is_header(block: bytes) -> bool:
    """Says whether the checksum holds: of unsigned bytes, or of signed ones as some old writers summed them."""
    if len(block) < _BLOCK:
        return False
    stored = _number(block[148:156])
    total = sum(block) - sum(block[148:156]) + 8 * 32
    return stored == total or stored == total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _number(field: bytes) -> int | None:
    """Reads an octal or base-256 number; None if it is neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    return int(text, 8) if text.isdigit() and b"8" not in text and b"9" not in text else None


def _header_name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _read_extension(window: Window, offset: int, size: int, kind: bytes) -> dict[str, str]:
    """Reads a header that describes the next member (or, type g, all that follow): {"path": …, "size": …, …}."""
    limit = _EXTENSIONS[kind]
    if size > limit:
        raise SourceError(f"{window.label} has an extended header of {size} bytes; the limit is {limit}")
    text = window.read_at(offset, size)
    if len(text) < size:
        raise SourceError(_truncated(window, offset, len(text)))
    if kind == b"L":
        return {"path": text.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")}
    if kind == b"K":  # the name of a link's target: the link itself follows and is refused
        return {}
    records = _parse_pax(text, window)
    if kind == b"g":
        if records.keys() & {"path", "size"}:
            raise SourceError(f"{window.label} has a global header that names all its members alike, which is refused")
        return {}
    return records


def _parse_pax(text: bytes, window: Window) -> dict[str, str]:
    """Reads records "LENGTH KEY=VALUE\\n"."""
    records: dict[str, str] = {}
    position = 0
    while position < len(text) and text[position]:
        head, _, _ = text[position : position + 20].partition(b" ")
        length = int(head) if head.isdigit() else 0
        record = text[position : position + length]
        key, equals, value = record[len(head) + 1 :].partition(b"=")
        if length < len(head) + 3 or len(record) < length or not equals or not value.endswith(b"\n"):
            raise SourceError(f"{window.label} has a malformed extended header")
        records[key.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
        position += length
    if any(key.startswith("GNU.sparse.") for key in records):
        raise SourceError(f"{window.label} holds a sparse file, which is refused: pack it with tar without --sparse")
    return records


def _pax_size(pax: dict[str, str], size: int, window: Window) -> int:
    text = pax.get("size")
    if text is None:
        return size
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise SourceError(f"{window.label} has a malformed extended header: size {printable(text)[:40]}")
    return int(text)


def _check_member(raw: str, kind: bytes, window: Window) -> str | None:
    """Returns the clean name of a regular file, None for a folder."""
    what = _REFUSED.get(kind)
    if what is not None:
        raise SourceError(
            f"{window.label}: member {printable(raw)} is {what}, which is refused: pack plain files only, by tar "
            "--dereference --hard-dereference, without --sparse"
        )
    if kind not in (b"0", b"\0", b"7", b"5"):
        raise SourceError(f"{window.label}: member {printable(raw)} has the unknown type {kind!r}, which is refused")
    parts = raw.split("/")
    if raw.startswith("/") or ".." in parts or "\0" in raw:
        raise SourceError(
            f"{window.label}: member {printable(raw)} points out of the archive, which is refused: "
            "pack names below one folder, as tar -C does"
        )
    name = "/".join(part for part in parts if part not in ("", "."))
    if kind == b"5" or raw.endswith("/"):
        return None
    if not name:
        raise SourceError(f"{window.label} holds a member without a name, which is refused")
    return name
