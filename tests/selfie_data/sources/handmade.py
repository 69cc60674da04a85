"""Bytes made by hand, opcode by opcode and header by header, for tests of what reads foreign files."""

import io
import struct
import tarfile
from collections.abc import Iterable

import numpy as np


def python2_batch(pixels: np.ndarray, labels: list[int], *, labels_key: str = "labels") -> bytes:
    """A CIFAR batch as Python 2's cPickle wrote it at protocol 2: all strings are byte strings (opcodes U and T)."""

    def short(text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode("latin-1")

    def integer(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    rows, columns = pixels.shape
    data = pixels.tobytes()
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            short("batch_label") + b"q\x02" + short("training batch 1 of 5") + b"q\x03",
            short(labels_key) + b"q\x04]q\x05(" + b"".join(integer(label) for label in labels) + b"e",
            short("data") + b"q\x06",
            b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + short("b") + b"\x87Rq\x09",
            b"(K\x01" + integer(rows) + integer(columns) + b"\x86q\x0a",
            b"cnumpy\ndtype\nq\x0b" + short("u1") + b"K\x00K\x01\x87Rq\x0c",
            b"(K\x03" + short("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + struct.pack("<I", len(data)) + data + b"tb",
            short("filenames") + b"q\x0d]q\x0e(" + b"".join(short(f"{row}.png") for row in range(rows)) + b"e",
            b"u.",
        ]
    )


def python2_names(names: Iterable[str], *, key: str = "label_names") -> bytes:
    """`batches.meta` as Python 2 wrote it."""
    items = b"".join(b"U" + bytes([len(name)]) + name.encode() for name in names)
    return b"\x80\x02}q\x01(U" + bytes([len(key)]) + key.encode() + b"q\x02]q\x03(" + items + b"eu."


def member(
    name: str, data: bytes = b"x", *, kind: bytes = tarfile.REGTYPE, link: str = "", size: int | None = None
) -> bytes:
    """One tar member, header and padded payload, as USTAR."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data) if size is None else size
    return (
        info.tobuf(tarfile.GNU_FORMAT if info.size >> 33 else tarfile.USTAR_FORMAT) + data + b"\0" * (-len(data) % 512)
    )


def tar(*members: bytes) -> bytes:
    return b"".join(members) + b"\0" * 1024


def tar_of(files: dict[str, bytes], *, tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar by Python's own writer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
