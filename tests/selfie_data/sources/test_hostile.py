"""What archives must not do: climb out, link, lie about sizes, end early, stand twice. One line each, nothing lost."""

import gzip
import io
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selfie_data.errors import SelfieDataError, SourceError
from selfie_data.sources import open_source
from tests.selfie_data.sources.handmade import member, python2_batch, python2_names, tar, tar_of


def _use(path: Path, kind: str, **options: object) -> None:
    opened = open_source(kind, path, **options)  # type: ignore[arg-type]
    len(opened)
    opened.spool(path.parent / "spool").read(0)


def refused(path: Path, kind: str = "tar", **options: object) -> str:
    """Opens, spools and reads a source that must fail; returns its one line."""
    with pytest.raises(SelfieDataError) as caught:
        _use(path, kind, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


@pytest.fixture(params=["plain", "gzip"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes a tar as it is or gzipped."""

    def to_file(data: bytes) -> Path:
        path = tmp_path / "a.tar"
        path.write_bytes(data if request.param == "plain" else gzip.compress(data))
        return path

    return to_file


GOOD = member("cat/1.jpg", b"image")

_MEMBERS = {
    "climbs": (member("../../etc/1.jpg"), "points out of the archive"),
    "climbs inside": (member("a/../../b.jpg"), "points out of the archive"),
    "absolute": (member("/etc/1.jpg"), "points out of the archive"),
    "symbolic link": (member("l.jpg", b"", kind=tarfile.SYMTYPE, link="/etc/passwd"), "is a symbolic link"),
    "hard link": (member("l.jpg", b"", kind=tarfile.LNKTYPE, link="cat/1.jpg"), "is a hard link"),
    "character device": (member("d.jpg", b"", kind=tarfile.CHRTYPE), "is a character device"),
    "block device": (member("d.jpg", b"", kind=tarfile.BLKTYPE), "is a block device"),
    "named pipe": (member("p.jpg", b"", kind=tarfile.FIFOTYPE), "is a named pipe"),
    "gnu sparse": (member("s.jpg", b"", kind=tarfile.GNUTYPE_SPARSE), "is a sparse file"),
    "unknown type": (member("u.jpg", kind=b"Z"), "has the unknown type"),
    "pax sparse": (member("p", b"22 GNU.sparse.major=1\n", kind=b"x") + GOOD, "holds a sparse file"),
    "pax climbs": (member("p", b"21 path=../climb.jpg\n", kind=b"x") + GOOD, "points out of the archive"),
    "pax nul": (member("p", b"14 path=a\0.jpg\n", kind=b"x") + GOOD, "malformed|points out"),
    "pax length": (member("p", b"99 path=a.jpg\n", kind=b"x") + GOOD, "malformed extended header"),
    "pax no length": (member("p", b"path=a.jpg\n", kind=b"x") + GOOD, "malformed extended header"),
    "pax size": (member("p", b"11 size=-5\n", kind=b"x") + GOOD, "malformed extended header"),
    "pax global": (member("p", b"14 path=a.jpg\n", kind=b"g") + GOOD, "names all its members alike"),
    "pax huge": (member("p", b"", kind=b"x", size=1 << 30), "extended header of 1073741824 bytes"),
    "gnu name huge": (member("p", b"", kind=b"L", size=1 << 30), "extended header of 1073741824 bytes"),
    "gnu name climbs": (member("p", b"../1.jpg\0", kind=b"L") + GOOD, "points out of the archive"),
    "twice": (GOOD, r"holds cat/1\.jpg twice"),
    "longer than the archive": (member("big.jpg", b"", size=1 << 40), "is truncated|may have"),
}


@pytest.mark.parametrize(("extra", "message"), _MEMBERS.values(), ids=_MEMBERS)
def test_members_that_are_refused(write: Callable[[bytes], Path], extra: bytes, message: str) -> None:
    path = write(tar(GOOD, extra))
    text = refused(path)
    assert re.search(message, text), text


def test_a_header_with_a_wrong_checksum(write: Callable[[bytes], Path]) -> None:
    damaged = bytearray(tar(GOOD, member("cat/2.jpg")))
    damaged[1024 + 3] ^= 1
    assert "the header at byte 1024 has a wrong checksum" in refused(write(bytes(damaged)))


@pytest.mark.parametrize(
    "field", [b"99999999999\0", b"hello worl\0\0", b"\xff" * 12], ids=["octal", "text", "negative"]
)
def test_a_size_that_is_no_number(write: Callable[[bytes], Path], field: bytes) -> None:
    header = bytearray(member("cat/1.jpg"))
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    assert "has no valid size" in refused(write(tar(bytes(header))))


def test_no_tar_at_all(write: Callable[[bytes], Path]) -> None:
    assert "is no tar archive" in refused(write(b"no tar" * 1000))
    assert "is empty" in refused(write(b""))
    assert "shorter than one block" in refused(write(b"x" * 100))
    assert "holds no images" in refused(write(tar()))
    assert "holds no images" in refused(write(tar(member("readme.txt"))))


def test_every_truncation_of_a_tar_is_noticed(write: Callable[[bytes], Path]) -> None:
    data = tar(GOOD, member("cat/2.jpg", b"y" * 700), member("dog/3.jpg"))[:-1024]
    for length in range(0, len(data), 128):
        assert "truncated" in refused(write(data[:length])) or length < 512
    assert "without the mark of its end" in refused(write(data))


def test_truncated_gzip_is_noticed_wherever_it_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = gzip.compress(tar(member("cat/1.jpg", rng.bytes(3000)), member("dog/2.jpg", rng.bytes(3000))))
    path = tmp_path / "a.tar.gz"
    for length in (10, 20, 600, 3000, len(whole) - 1000, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert "truncated" in refused(path)


def test_a_flipped_bit_in_gzip_is_noticed(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(tar(member("cat/1.jpg", np.random.default_rng(0).bytes(3000)))))
    whole[1500] ^= 4
    path = tmp_path / "a.tar.gz"
    path.write_bytes(whole)
    refused(path)


def test_names_that_no_terminal_shows_are_read_and_shown_safely(write: Callable[[bytes], Path], tmp_path: Path) -> None:
    path = write(tar_of({"ünï/猫.jpg": b"1", "b/new\nline.jpg": b"2"}, tar_format=tarfile.PAX_FORMAT))
    source = open_source("tar", path).spool(tmp_path / "spool")
    assert source.class_names == ("b", "ünï")
    assert [source.read(index).name for index in range(2)] == ["b/new\\nline.jpg", "ünï/猫.jpg"]


def test_names_that_are_no_utf_8_are_read(write: Callable[[bytes], Path], tmp_path: Path) -> None:
    header = bytearray(member("cat/A.jpg"))
    header[4] = 0xFF
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    source = open_source("tar", write(tar(bytes(header)))).spool(tmp_path / "spool")
    assert source.read(0) == ("cat/\\udcff.jpg", b"x")


@pytest.mark.parametrize("kind", ["cifar10", "cifar100", "imagenet32", "imagenet", "folder", "parquet", "tar"])
def test_a_path_that_is_not_there_names_it(kind: str, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert str(missing) in refused(missing, kind)
    with pytest.raises(SourceError, match="needs --root"):
        open_source(kind)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100", "imagenet32", "imagenet", "folder", "parquet"])
def test_an_empty_folder_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds n" in refused(tmp_path / "empty", kind)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100", "imagenet32", "imagenet", "folder", "parquet", "tar"])
def test_a_file_of_another_kind_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("hello\n" * 1000)
    refused(path, kind)


@pytest.mark.skipif(os.geteuid() != 0, reason="drops the user id, which only root can")
@pytest.mark.parametrize("kind", ["cifar10", "imagenet32", "imagenet", "folder", "parquet", "tar"])
def test_no_permission_is_one_line(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "secret"
    root.mkdir()
    (root / "a.tar").write_bytes(tar(GOOD))
    root.chmod(0o700)
    target = root / "a.tar" if kind == "tar" else root
    for parent in tmp_path.parents:  # pytest's own folders are closed to others
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            open_source(kind, target)
        except SourceError as error:
            os._exit(0 if "Permission denied" in str(error) and "\n" not in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_hostile_pickle_in_an_archive_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    command = f"touch {witness}".encode()
    hostile = b"\x80\x02cposix\nsystem\nU" + bytes([len(command)]) + command + b"\x85R."
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(tar_of({"c/data_batch_1": hostile, "c/batches.meta": python2_names(["a", "b"])})))
    assert "refused: it asks for 'posix' 'system'" in refused(path, "cifar10")
    path.write_bytes(gzip.compress(tar_of({"c/batches.meta": hostile})))
    assert "refused: it asks for 'posix' 'system'" in refused(path, "cifar10")
    assert not witness.exists()


def test_a_batch_that_stands_twice_is_refused(tmp_path: Path) -> None:
    batch = python2_batch(np.zeros((1, 3072), np.uint8), [0])
    path = tmp_path / "cifar.tar"
    path.write_bytes(tar_of({"a/data_batch_1": batch, "b/data_batch_1": batch, "batches.meta": python2_names(["a"])}))
    assert "holds data_batch_1 twice" in refused(path, "cifar10")


def test_a_zip_that_lies_or_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "Imagenet32_train.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_data_batch_1", python2_batch(np.zeros((4, 3072), np.uint8), [1, 2, 3, 4]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert "damaged or truncated zip" in refused(path, "imagenet32")
    flipped = bytearray(whole)
    flipped[60] ^= 0xFF
    path.write_bytes(flipped)
    refused(path, "imagenet32")
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    directory = encrypted.rindex(b"PK\x01\x02")
    encrypted[directory + 8] |= 1
    path.write_bytes(encrypted)
    assert "is encrypted" in refused(path, "imagenet32")


def test_an_npz_of_objects_is_refused(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "witness"),)

    buffer = io.BytesIO()
    np.savez(buffer, data=np.zeros((1, 3072), np.uint8), labels=np.array([Runs()], dtype=object))
    path = tmp_path / "train_data_batch_1.npz"
    path.write_bytes(buffer.getvalue())
    assert "damaged npz" in refused(tmp_path, "imagenet32")
    assert not (tmp_path / "witness").exists()


def test_an_npz_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 3072), }"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.ljust(117) + b"\n"
    labels = io.BytesIO()
    np.save(labels, np.ones(4, np.int64))
    with zipfile.ZipFile(tmp_path / "train_data_batch_1.npz", "w") as archive:
        archive.writestr("data.npy", head)
        archive.writestr("labels.npy", labels.getvalue())
    assert "4 labels for 1000000000 images" in refused(tmp_path, "imagenet32")
