"""One shard: a plain USTAR tar of images and labels, and the index beside it.

Written by hand rather than with `tarfile`: every header is the same 512 bytes but for name, size and checksum, which is
an order of magnitude faster, and nothing of the machine (time, user) can slip in.

    KEY.raw | KEY.jpg | KEY.png, then KEY.cls (ASCII integer) where there is a label; KEY = plan position, 12 digits
    end: zeros up to a multiple of 10,240 bytes, at least two blocks, as tar writes it

The index is DALI's, version 1.2: `v1.2 SAMPLES`, then per sample `EXTENSION OFFSET BYTES NAME` of each member.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from selfie_data.atomic import publish, write_atomic

BLOCK = 512
_RECORD = 20 * BLOCK
_FLUSH_BYTES = 1 << 22
_MODE, _ID, _TIME = b"0000444\0", b"0000000\0", b"00000000000\0"
_TAIL = b"0" + bytes(100) + b"ustar\00000" + bytes(64 + 16 + 155 + 12)  # no user, group, device, prefix
_FIXED_SUM = sum(_MODE + _ID + _ID + _TIME + b" " * 8 + _TAIL)


def header(name: bytes, size: int) -> bytes:
    """Returns the 512-byte USTAR header (POSIX.1-1988) of a regular file of `size` bytes; `name` at most 100 bytes."""
    stated = b"%011o\0" % size
    checksum = _FIXED_SUM + sum(name) + sum(stated)
    return name.ljust(100, b"\0") + _MODE + _ID + _ID + stated + _TIME + b"%06o\0 " % checksum + _TAIL


def padding(size: int) -> int:
    """Returns how many zero bytes follow a payload of `size` bytes."""
    return -size % BLOCK


def extent(size: int, label: int) -> int:
    """Returns the bytes a sample takes in a shard: headers, payload, padding, and the label's member if it has one."""
    return BLOCK + size + padding(size) + (2 * BLOCK if label >= 0 else 0)


@dataclass(slots=True)
class ShardWriter:
    """Writes the members of one shard to a file and keeps the lines of its index.

    Attributes:
        file: open for writing, at its start.
        suffix: extension of the images, without a dot.
        position: bytes so far.
    """

    file: BinaryIO
    suffix: str
    position: int = 0
    _lines: list[bytes] = field(default_factory=list)
    _pending: list[bytes] = field(default_factory=list)
    _pending_bytes: int = 0
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, key: str, payload: bytes, label: int) -> int:
        """Appends a sample, label -1 for none; returns the offset of its payload."""
        name = f"{key}.{self.suffix}".encode()
        size, offset = len(payload), self.position + BLOCK
        parts = [header(name, size), payload, bytes(padding(size))]
        line = b"%s %d %d %s" % (self.suffix.encode(), offset, size, name)
        if label >= 0:
            text, label_name = str(label).encode(), f"{key}.cls".encode()
            parts += [header(label_name, len(text)), text, bytes(padding(len(text)))]
            line += b" cls %d %d %s" % (offset + size + padding(size) + BLOCK, len(text), label_name)
        self._lines.append(line)
        self._write(parts)
        return offset

    def finish(self) -> tuple[str, bytes]:
        """Writes the end of the archive and syncs it; returns its SHA-256 and the bytes of its index."""
        self._write([bytes(2 * BLOCK + -(self.position + 2 * BLOCK) % _RECORD)])
        self._flush()
        self.file.flush()
        os.fsync(self.file.fileno())
        return self._digest.hexdigest(), b"\n".join([b"v1.2 %d" % len(self._lines), *self._lines, b""])

    def _write(self, parts: list[bytes]) -> None:
        size = sum(map(len, parts))
        self.position += size
        self._pending += parts
        self._pending_bytes += size
        if self._pending_bytes >= _FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        block = b"".join(self._pending)
        self._digest.update(block)
        self.file.write(block)
        self._pending.clear()
        self._pending_bytes = 0


def shard_name(number: int) -> str:
    """Returns the file name of shard `number`."""
    return f"shard-{number:06d}.tar"


def index_name(shard: str) -> str:
    """Returns the file name of the index of a shard."""
    return f"{Path(shard).stem}.idx"


def publish_shard(scratch: Path, path: Path, index: bytes) -> None:
    """Gives a synced scratch file its final name, its index first: a shard that is there has its index."""
    write_atomic(path.with_suffix(".idx"), index)
    publish(scratch, path)
