"""Tars are listed as Python's `tarfile` lists them; what it lets pass and must not is in `test_hostile`."""

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.errors import SourceError
from selfie_data.sources import open_source
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


JOINED = st.lists(
    st.tuples(
        st.dictionaries(_names, st.binary(max_size=600), max_size=3),
        st.sampled_from([0, 512, 1024, 1536, 10_240]),
        st.sampled_from(list(FORMATS.values())[1:]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100)
@given(JOINED)
def test_tars_joined_by_cat_are_read_on_as_tar_i_does(parts: list[tuple[dict[str, bytes], int, int]]) -> None:
    data, expected = b"", []
    for files, padding, tar_format in parts:
        one = tar_of(files, tar_format=tar_format)
        expected += [Member(member.name, member.offset + len(data), member.size) for member in by_tarfile(one)]
        data += one + b"\0" * padding
    assert listed(data) == expected
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=True) as ignoring:
        assert [member.name for member in expected] == [info.name for info in ignoring if info.isreg()]


@pytest.mark.parametrize("behind", [b"x", b"x" * 512, b"\0" * 700 + b"signature", b"x" * 5000])
def test_what_is_behind_the_end_and_no_tar_is_refused(behind: bytes) -> None:
    data = tar_of({"1.jpg": b"x"})
    assert [member.name for member in listed(data + b"\0" * 77)] == ["1.jpg"]
    with pytest.raises(SourceError, match=rf"a\.tar goes on behind .* byte {len(data) + behind.count(0) // 512 * 512}"):
        listed(data + behind)


def test_a_tar_cut_in_its_second_part_is_truncated() -> None:
    one = tar_of({"1.jpg": b"x" * 3000})
    with pytest.raises(SourceError, match=r"goes on behind|is truncated"):
        listed(one + one[:2000])
    with pytest.raises(SourceError, match="without the mark of its end"):
        listed(one + one[: 512 + 3072])


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.zip", b"PK\x03\x04" + b"x" * 1000, "is a zip archive, .* use the source folder"),
        ("a.tar.bz2", bz2.compress(tar_of({"1.jpg": b"x"})), "compressed by bzip2, .*: bunzip2 -k"),
        ("a.tar.xz", lzma.compress(tar_of({"1.jpg": b"x"})), "compressed by xz, .*: unxz -k"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfd" + b"x" * 1000, "compressed by zstd, .*: unzstd"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + b"x" * 20, "is a 7z archive"),
    ],
)
def test_other_archives_are_told_how_to_convert(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(data)
    for root in (tmp_path / name, f"{tmp_path}/{{{name},{name}.2}}"):
        (tmp_path / f"{name}.2").write_bytes(data)
        with pytest.raises(SourceError, match=told) as caught:
            len(open_source("tar", root))
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="unpack the zip first" if name == "a.zip" else "use the source tar"):
        open_source("folder", tmp_path / name)
