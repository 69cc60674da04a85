"""One shard: a plain USTAR tar, `KEY.jpg|png|raw` and then `KEY.cls` where there is a label.

Headers are written by hand: `tarfile` takes twenty times as long a member, and what it writes may change with the
Python version. The bytes depend on names and contents only: mode 0644, owner 0, time 0.

    block 0        header of 000000000007.raw
    blocks 1-6     3,072 bytes of pixels, padded with zeros to whole blocks
    block 7        header of 000000000007.cls
    block 8        "4", padded
    end            two zero blocks, padded to 10,240 bytes as tar has always done

Beside it lies `shard-NNNNNN.idx`, which says where each member begins, in the text format v1.2 of DALI's WebDataset
reader: a line a sample; four words a member: extension, offset of the content, its length, the member's name.

    v1.2 2
    raw 512 3072 000000000006.raw cls 4096 1 000000000006.cls
    raw 5120 3072 000000000007.raw cls 8704 1 000000000007.cls
"""

import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from selfie_data.files import write_all

INDEX_VERSION = "v1.2"
BLOCK = 512
RECORD = 20 * BLOCK
_FLUSH_BYTES = 4 << 20
_BEFORE_SIZE = b"0000644\x00" + 2 * b"0000000\x00"  # mode, owner, group
_TIME = b"00000000000\x00"
_AFTER_CHECKSUM = b"0" + bytes(100) + b"ustar\x0000" + bytes(32 + 32 + 8 + 8 + 155 + 12)
_FIXED_SUM = sum(_BEFORE_SIZE) + sum(_TIME) + sum(_AFTER_CHECKSUM) + 8 * ord(" ")
_MAX_SIZE = 8**11 - 1  # what eleven octal digits hold: 8 GiB


class Member(NamedTuple):
    """One member of a shard: its name, and the byte range of its content."""

    name: str
    offset: int
    length: int

    @property
    def extension(self) -> str:
        return self.name.partition(".")[2]


def member_header(name: str, size: int) -> bytes:
    """Returns the 512-byte USTAR header of a regular file.

    Args:
        name: ASCII, at most 100 characters.
        size: bytes, below 8 GiB.
    """
    encoded = name.encode("ascii")
    if len(encoded) > 100 or not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"a member has at most 100 characters and 8 GiB, got {name!r} of {size} bytes")
    middle, fixed = _about_size(size)
    return b"%s%s%06o\x00 %s" % (encoded.ljust(100, b"\x00"), middle, fixed + sum(encoded), _AFTER_CHECKSUM)


@functools.lru_cache(maxsize=1024)  # raw images and labels have one size, or two
def _about_size(size: int) -> tuple[bytes, int]:
    """Returns the part of a header from mode to time, and the sum of all bytes but the name's."""
    stated = b"%011o\x00" % size
    return _BEFORE_SIZE + stated + _TIME, _FIXED_SUM + sum(stated)


def padding(size: int) -> int:
    """Returns the zero bytes that follow `size` bytes of content."""
    return -size % BLOCK


def stored_bytes(payload: int, *, labelled: bool) -> int:
    """Returns what a sample takes in a shard, in bytes, for a payload of that many bytes."""
    total = BLOCK + payload + padding(payload)
    return total + 2 * BLOCK if labelled else total


class ShardWriter:
    """Writes a tar from front to back, in pieces of 4 MiB, hashing as it goes.

        with ShardWriter(path) as shard:
            offset = shard.add("000000000007.raw", payload)

    Afterwards `shard.sha256` and `shard.bytes` are those of the whole file.
    """

    def __init__(self, path: Path) -> None:
        self.bytes = 0
        self.sha256 = ""
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._pending = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def add(self, name: str, payload: bytes) -> int:
        """Appends a member; returns the offset of its content in the shard."""
        size = len(payload)
        self._pieces += (member_header(name, size), payload, bytes(-size % BLOCK))
        offset = self.bytes + BLOCK
        self._advance(BLOCK + size + (-size % BLOCK))
        return offset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            os.close(self._descriptor)

    def _advance(self, length: int) -> None:
        self.bytes += length
        self._pending += length
        if self._pending >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._pieces)
        self._hash.update(data)
        write_all(self._descriptor, data)
        self._pieces.clear()
        self._pending = 0

    def _finish(self) -> None:
        end = 2 * BLOCK + (-(self.bytes + 2 * BLOCK) % RECORD)
        self._pieces.append(bytes(end))
        self._advance(end)
        self._flush()
        os.fsync(self._descriptor)
        self.sha256 = self._hash.hexdigest()


def format_index(samples: Iterable[tuple[Member, ...]]) -> bytes:
    """Returns the bytes of an index; a tuple of members a sample."""
    lines = [
        " ".join(f"{member.extension} {member.offset} {member.length} {member.name}" for member in members)
        for members in samples
    ]
    return "\n".join([f"{INDEX_VERSION} {len(lines)}", *lines, ""]).encode("ascii")
