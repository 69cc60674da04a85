"""Tars of images: read in place by offset, or spooled where they are gzipped."""

import gzip
import io
import pickle
import tarfile
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from selfie_data.errors import ImageError, OptionError, SourceError
from selfie_data.notices import notices_of
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from tests.selfie_data.sources.handmade import tar_of


def read_all(source: ImageSource) -> dict[str, object]:
    return {image.name: image.data for image in map(source.read, range(len(source)))}


FILES = {
    "set/train/dog/2.jpg": b"dog two",
    "set/train/cat/1.JPG": b"cat one",
    "set/train/cat/10.png": b"cat ten",
    "set/val/cat/1.jpg": b"cat of val",
    "set/readme.txt": b"no image",
    "set/train/cat/._1.jpg": b"resource fork",
    "__MACOSX/set/train/cat/1.jpg": b"junk",
    "set/train/.DS_Store": b"junk",
}


@pytest.fixture(params=["plain", "gzip"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    data = tar_of(FILES)
    path = tmp_path / ("set.tar" if request.param == "plain" else "set.tar.gz")
    path.write_bytes(data if request.param == "plain" else gzip.compress(data))
    return path


def test_a_subtree_is_read_sorted_with_its_classes(archive: Path, tmp_path: Path) -> None:
    opened = open_source("tar", archive, subtree="set/train/")
    source = opened.spool(tmp_path / "spool")
    expected = {"cat/1.JPG": b"cat one", "cat/10.png": b"cat ten", "dog/2.jpg": b"dog two"}
    assert read_all(source) == expected
    assert list(read_all(source)) == sorted(expected)
    assert source.class_names == opened.class_names == ("cat", "dog")
    assert source.labels.tolist() == opened.labels.tolist() == [0, 0, 1]
    assert len(opened) == 3
    assert source.description == {
        "kind": "tar",
        "subtree": "set/train",
        "files": [{"name": archive.name, "bytes": archive.stat().st_size}],
    }


def test_a_subtree_that_is_not_there_is_named(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"tar below set/tr holds no images"):
        open_source("tar", archive, subtree="set/tr").spool(tmp_path / "spool")


def test_all_of_it_is_read_on_request_and_all_that_is_not_used_is_told(archive: Path, tmp_path: Path) -> None:
    opened = open_source("tar", archive, subtree=".")
    source = opened.spool(tmp_path / "spool")
    assert len(source) == 4
    assert source.class_names == ("cat", "dog")
    told = {notice.reason: (notice.count, *notice.examples) for notice in notices_of(source).summary()}
    assert told == {
        "files that systems leave behind, such as .DS_Store": (2, "set/train/.DS_Store", "set/train/cat/._1.jpg"),
        "files in hidden or system folders": (1, "__MACOSX/set/train/cat/1.jpg"),
        "files with the suffix .txt": (1, "set/readme.txt"),
        "classes made of several folders (--subtree picks a part)": (1, "cat: 2 folders, set/train/cat, set/val/cat"),
    }
    assert notices_of(opened).summary() == notices_of(source).summary()


def test_training_and_test_data_are_not_mixed_unasked(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match=r"several splits \(train and val\): --subtree picks a part, --subtree \. takes"
    ):
        open_source("tar", archive).spool(tmp_path / "spool")


def test_one_folder_is_no_class_unless_a_class_list_has_it(tmp_path: Path) -> None:
    path = tmp_path / "flat.tar"
    path.write_bytes(tar_of({"photos/1.jpg": b"a", "photos/2.jpg": b"b"}))
    assert open_source("tar", path).labels.tolist() == [-1, -1]
    assert open_source("tar", path).class_names == ()
    listed_source = open_source("tar", path, classes=["other", "photos"])
    assert listed_source.labels.tolist() == [1, 1]
    with pytest.raises(SourceError, match="the class 'photos' is not in the list of 1 classes"):
        open_source("tar", path, classes=["other"])


def test_a_source_is_picklable_and_reads_in_threads(archive: Path, tmp_path: Path) -> None:
    source = open_source("tar", archive, subtree="set/train").spool(tmp_path / "spool")
    source.read(0)
    copy: ImageSource = pickle.loads(pickle.dumps(source))  # noqa: S301 - made above
    assert read_all(copy) == read_all(source)
    np.testing.assert_array_equal(copy.labels, source.labels)
    assert source.spool(tmp_path / "unused") is source


def test_an_empty_image_is_that_images_error(archive: Path, tmp_path: Path) -> None:
    data = tar_of({"1.jpg": b"", "2.jpg": b"x"})
    archive.write_bytes(gzip.compress(data) if archive.suffix == ".gz" else data)
    source = open_source("tar", archive).spool(tmp_path / "spool")
    with pytest.raises(ImageError, match=r"1\.jpg is empty"):
        source.read(0)
    assert source.read(1).data == b"x"


def test_a_file_that_changes_after_listing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(tar_of(FILES))
    source = open_source("tar", path, subtree=".")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SourceError, match=r"set\.tar has changed while it was read"):
        source.read(0)
    path.unlink()
    with pytest.raises(SourceError, match=r"cannot read set\.tar"):
        open_source_again(source).read(0)


def open_source_again(source: ImageSource) -> ImageSource:
    copy: ImageSource = pickle.loads(pickle.dumps(source))  # noqa: S301 - made by the test
    return copy


def test_a_file_cut_while_open_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(tar_of({"1.jpg": b"a" * 600, "2.jpg": b"b" * 600}))
    source = open_source("tar", path)
    source.read(0)
    with path.open("r+b") as file:
        file.truncate(2100)
    with pytest.raises(SourceError, match=r"set\.tar is truncated: it ends inside 2\.jpg"):
        source.read(1)


def test_reads_out_of_range_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(tar_of(FILES))
    source = open_source("tar", path, subtree=".")
    for index in (-1, len(source)):
        with pytest.raises(IndexError):
            source.read(index)


def test_the_fingerprint_tells_files_options_and_classes_apart(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(tar_of(FILES))
    first = open_source("tar", path, subtree=".").fingerprint
    assert open_source("tar", path, subtree=".").fingerprint == first
    assert open_source("tar", path, subtree="set/train").fingerprint != first
    assert open_source("tar", path, subtree=".", classes=["cat", "dog", "emu"]).fingerprint != first
    path.write_bytes(tar_of({**FILES, "new.jpg": b"x"}))
    assert open_source("tar", path, subtree=".").fingerprint != first


@pytest.mark.parametrize(
    ("name", "subtree", "count", "classes"),
    [
        ("cifar10-jpeg.tar.gz", "cifar10/test", 10_000, 10),
        ("imagenet32-100-jpeg.tar.gz", "imagenet32/val", 5_000, 100),
        ("imagenet-fullres-120.tar", None, 120, 0),
    ],
)
def test_real_archives_hold_what_tarfile_finds(
    real_data: Path, tmp_path: Path, name: str, subtree: str | None, count: int, classes: int
) -> None:
    source = open_source("tar", real_data / name, subtree=subtree).spool(tmp_path / "spool")
    prefix = "" if subtree is None else f"{subtree}/"
    with tarfile.open(real_data / name) as archive:
        files = {
            info.name[len(prefix) :]: cast(io.BufferedReader, archive.extractfile(info)).read()
            for info in archive
            if info.isreg() and info.name.startswith(prefix)
        }
    assert len(source) == len(files) == count
    assert len(source.class_names) == classes
    assert read_all(source) == files
    for index, file in enumerate(sorted(files)):
        label = source.labels[index]
        assert label == -1 if not classes else source.class_names[label] == file.split("/")[0]
