"""Tars are listed as Python's `tarfile` lists them; what it lets pass and must not is in `test_hostile`."""

import gzip
import io
import tarfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.sources.readers.archives import OpenedTar
from selfie_data.sources.readers.tarball import ForwardWindow, Member, list_members
from tests.selfie_data.sources.handmade import tar_of

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def listed(data: bytes) -> list[Member]:
    return list(list_members(ForwardWindow(cast(BinaryIO, io.BytesIO(data)), label="a.tar")))


def by_tarfile(data: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [Member(info.name, info.offset_data, info.size) for info in archive if info.isreg()]


_component = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda text: text not in (".", "..")
)
_names = st.lists(_component, min_size=1, max_size=4).map("/".join)


@settings(max_examples=150)
@given(
    files=st.dictionaries(_names, st.binary(max_size=1500), min_size=1, max_size=5),
    name=st.sampled_from(["gnu", "pax"]),
)
def test_any_tar_is_listed_as_tarfile_lists_it(files: dict[str, bytes], name: str) -> None:
    data = tar_of(files, tar_format=FORMATS[name])
    assert listed(data) == by_tarfile(data)


@pytest.mark.parametrize("name", FORMATS)
def test_long_names_in_every_format(name: str) -> None:
    long = "/".join(["folder" * 8] * 3) + "/" + "image" * 15 + ".jpg"
    data = tar_of({long: b"abc", "short.jpg": b"de"}, tar_format=FORMATS[name])
    assert [(member.name, member.size) for member in listed(data)] == [(long, 3), ("short.jpg", 2)]
    assert listed(data) == by_tarfile(data)


def test_members_of_8_gib_and_more_are_listed() -> None:
    info = tarfile.TarInfo("big.jpg")
    info.size = (1 << 33) + 5
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = _Sparse(info.tobuf(tar_format), info.size)
        (member,) = list_members(ForwardWindow(cast(BinaryIO, stream), label="a.tar"))
        assert member.size == info.size


class _Sparse:
    """A tar of one member of zeros, never held."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.end, self.position = head, len(head) + size + -size % 512 + 1024, 0

    def read(self, count: int) -> bytes:
        start, self.position = self.position, min(self.position + count, self.end)
        return self.head[start : self.position].ljust(self.position - start, b"\0")


def test_folders_and_leading_dots_are_not_images() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("./cat")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        archive.addfile(tarfile.TarInfo("./cat//./1.jpg"))
    assert [member.name for member in listed(buffer.getvalue())] == ["cat/1.jpg"]


def test_a_gzipped_window_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tar_of({"1.jpg": b"x"})))
    with OpenedTar(path) as opened:
        assert [member.name for member in list_members(opened.window)] == ["1.jpg"]
