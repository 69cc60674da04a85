"""What the files of a tree mean: images by suffix and by content, labels beside them, everything else told."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import notices_of
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from tests.material import encoded, jpeg, picture
from tests.selfie_data.sources.handmade import tar_of

PIXELS = picture(16, 16, seed=0)
PICTURE = jpeg(PIXELS)
SYSTEM = "files in hidden or system folders"
Opener = Callable[..., ImageSource]


@pytest.fixture(params=["folder", "tar", "tar.gz", "shards"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same files as a folder, a tar, a gzipped tar, and as one of two shards."""

    def open_files(files: dict[str, bytes], **options: str) -> ImageSource:
        if request.param == "folder":
            for name, data in files.items():
                (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "set" / name).write_bytes(data)
            return open_source("folder", tmp_path / "set", **options)  # type: ignore[arg-type]
        path = tmp_path / f"set.{request.param}"
        path.write_bytes(gzip.compress(tar_of(files)) if request.param == "tar.gz" else tar_of(files))
        if request.param == "shards":
            (tmp_path / "empty.shards").write_bytes(tar_of({"zzz.jpg": PICTURE}))
            return open_source("tar", f"{path}::{tmp_path / 'empty.shards'}", **options)  # type: ignore[arg-type]
        return open_source("tar", path, **options).spool(tmp_path / "spool")  # type: ignore[arg-type]

    open_files.kind = request.param  # type: ignore[attr-defined]
    return open_files


def names_of(source: ImageSource) -> list[str]:
    """The images' names, those of the second shard apart, without a shard's name before them."""
    names = [source.read(index).name.removeprefix("set.shards/") for index in range(len(source))]
    return [name for name in names if not name.startswith("empty.shards/")]


FOLDERS_OF_SHARDS = "images in folders of shards, which are not taken for classes"
SINGLE_FOLDER = "images in a single folder, which is not taken for a class"


def told(source: ImageSource) -> dict[str, tuple[str, ...]]:
    """What is told but of folders that are no classes, see `test_folders_of_shards_are_told`."""
    found = [
        notice for notice in notices_of(source).summary() if notice.reason not in (FOLDERS_OF_SHARDS, SINGLE_FOLDER)
    ]
    assert all(len(notice.examples) == min(notice.count, 20) for notice in found)
    return {notice.reason: tuple(name.removeprefix("set.shards/") for name in notice.examples) for notice in found}


def in_folders(opened: Opener) -> bool:
    """Whether folders are classes."""
    return opened.kind != "shards"  # type: ignore[attr-defined,no-any-return]


def test_every_file_is_an_image_a_label_or_told(opened: Opener) -> None:
    source = opened(
        {
            "a/1.jpg": PICTURE,
            "a/2.AVIF": b"to be decoded",
            "a/3": PICTURE,
            "a/4.jpg_large": PICTURE,
            "a/5.json": b"{}",
            "a/6": b"a text",
            "a/7.0001": b"x",
            "b/8.jp2": b"to be decoded",
            "b/9.heic": b"to be decoded",
            "b/10": b"",
            "b/.DS_Store": b"x",
            "b/._9.heic": b"x",
            "README": b"read me, this is no image",
        }
    )
    assert names_of(source) == ["a/1.jpg", "a/2.AVIF", "a/3", "b/8.jp2", "b/9.heic"]
    assert told(source) == {
        "files without a suffix that are no images": ("README", "a/6", "b/10"),
        "files that systems leave behind, such as .DS_Store": ("b/.DS_Store", "b/._9.heic"),
        "files with the suffix .jpg_large": ("a/4.jpg_large",),
        "files with the suffix .json": ("a/5.json",),
        "files with unusual suffixes": ("a/7.0001",),
    }


KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000")


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_a_suffix_are_told_by_their_content(opened: Opener, kind: str) -> None:
    data = encoded(Image.fromarray(PIXELS), kind)
    source = opened({"1": data, "x/2": data, "x/3": data[1:]})
    assert names_of(source) == ["1", "x/2"]
    assert source.read(len(source) - 1 if in_folders(opened) else 1).data == data


@pytest.mark.parametrize(
    "folder",
    [
        ".ipynb_checkpoints", "@eaDir", ".thumbnails", "__MACOSX", "lost+found", "$RECYCLE.BIN", "#recycle",
        "System Volume Information", ".git/objects", "dog/.cache", "__macosx/cat",
    ],
)  # fmt: skip
def test_hidden_and_system_folders_are_no_classes(opened: Opener, folder: str) -> None:
    files = {"cat/1.jpg": PICTURE, "dog/2.jpg": PICTURE, f"{folder}/3.jpg": PICTURE, f"{folder}/1.cls": b"x" * 5000}
    source = opened(files)
    assert names_of(source) == ["cat/1.jpg", "dog/2.jpg"]
    assert told(source) == {SYSTEM: (f"{folder}/1.cls", f"{folder}/3.jpg")}
    assert source.class_names == (("cat", "dog") if in_folders(opened) else ())


def test_a_hidden_folder_can_be_asked_for(opened: Opener) -> None:
    if not in_folders(opened):
        pytest.skip("a subtree of one of two shards leaves the other empty")
    source = opened({"a/1.jpg": PICTURE, ".b/2.jpg": PICTURE, ".b/c/3.jpg": PICTURE, ".b/.d/4.jpg": b""}, subtree=".b")
    assert names_of(source) == ["2.jpg", "c/3.jpg"]
    assert told(source) == {SYSTEM: (".d/4.jpg",)}


def test_a_system_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat/1.jpg", "lost+found/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(PICTURE)
    scan = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert told(open_source("folder", tmp_path)) == {SYSTEM: ("lost+found/",)}


def test_odd_files_without_a_suffix_hold_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(PICTURE)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert told(open_source("folder", tmp_path)) == {"files without a suffix that are no images": ("dangling", "pipe")}


def test_a_stray_label_does_not_drop_those_of_folders(opened: Opener) -> None:
    files = {"cat/1.jpg": PICTURE, "dog/2.jpg": PICTURE, "dog/3.cls": b"7", "4.cls": b"8"}
    source = opened(files)
    assert told(source) == {"labels in .cls files beside no image": ("4.cls", "dog/3.cls")}
    if in_folders(opened):
        assert (source.class_names, source.labels.tolist()) == (("cat", "dog"), [0, 1])
    else:
        assert source.class_names == ()


def test_labels_beside_some_of_the_images_are_used_and_told(opened: Opener) -> None:
    source = opened({"1.jpg": PICTURE, "1.cls": b"a", "2.jpg": PICTURE, "3.jpg": PICTURE, "9.cls": b"b"})
    assert source.class_names == ("a",)
    labelled = [
        source.read(index).name.removeprefix("set.shards/") for index in range(len(source)) if source.labels[index] == 0
    ]
    assert labelled == ["1.jpg"]
    reason = "images without a label in a .cls file, where others have one"
    assert told(source)[reason][-2:] == ("2.jpg", "3.jpg")
    assert told(source)["labels in .cls files beside no image"] == ("9.cls",)


def test_negative_labels_are_told(opened: Opener) -> None:
    source = opened({"1.jpg": PICTURE, "1.cls": b"-5", "2.jpg": PICTURE, "2.cls": b"3"})
    assert source.class_names == ("3",)
    assert told(source)["images whose label is below zero, taken for none"] == ("1.jpg",)


def test_a_byte_order_mark_is_no_part_of_a_label(opened: Opener) -> None:
    source = opened({"1.jpg": PICTURE, "1.cls": b"\xef\xbb\xbf10\r\n", "2.jpg": PICTURE, "2.cls": b"2"})
    assert source.class_names == ("02", "10")


@pytest.mark.parametrize("data", ["cat".encode("utf-16"), "cat".encode("utf-16-be"), b"a\0b"])
def test_a_label_in_another_encoding_is_refused(opened: Opener, data: bytes) -> None:
    with pytest.raises(SourceError, match=r"1\.cls is no text in UTF-8: iconv"):
        opened({"1.jpg": PICTURE, "1.cls": data})


def test_folders_of_shards_are_told(opened: Opener) -> None:
    source = opened({"cat/1.jpg": PICTURE, "dog/2.jpg": PICTURE})
    if not in_folders(opened):
        (notice,) = notices_of(source).summary()
        assert notice.reason == FOLDERS_OF_SHARDS
        assert notice.examples == ("set.shards/cat/1.jpg", "set.shards/dog/2.jpg")


def test_images_outside_of_class_folders_are_told(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "dog/2.jpg", "3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PICTURE)
    assert told(open_source("folder", tmp_path)) == {"images outside of class folders, without a label": ("3.jpg",)}
    path = tmp_path / "t.csv"
    path.write_text("cat/1.jpg,-1\ndog/2.jpg,\n3.jpg,7\n")
    assert told(open_source("folder", tmp_path, table=path)) == {
        "images whose label is below zero, taken for none": ("cat/1.jpg",),
        "images without a label in the table, where others have one": ("dog/2.jpg",),
    }


@pytest.mark.parametrize(
    "names",
    [("k.jpg", "k.png"), ("x/k.jpg", "x/k.seg.png"), ("k.jpg", "k.jpeg"), ("k", "k.png"), ("k.a.jpg", "k.a.png")],
)
def test_several_images_under_one_key_are_refused_in_all_layouts(opened: Opener, names: tuple[str, str]) -> None:
    with pytest.raises(SourceError, match=r"k twice; keys must be unique \(.*up to the first dot") as caught:
        opened(dict.fromkeys(names, PICTURE) | {"other.jpg": PICTURE})
    assert "\n" not in str(caught.value)


def test_dots_in_names_are_part_of_them_in_trees_and_end_the_key_in_shards(opened: Opener) -> None:
    files = {"Screenshot 10.32.11.png": PICTURE, "Screenshot 10.32.59.png": PICTURE}
    if in_folders(opened):
        assert names_of(opened(files)) == list(files)
        files |= {"Screenshot 10.cls": b"1"}
    with pytest.raises(SourceError, match=r"Screenshot 10 twice; .* a key is a path up to the first dot"):
        opened(files)


def test_two_labels_under_one_key_are_refused(opened: Opener) -> None:
    with pytest.raises(SourceError, match=r"1 twice; keys must be unique \(.*1\.cls and .*1\.x\.cls"):
        opened({"1.jpg": PICTURE, "1.cls": b"a", "1.x.cls": b"b"})


@pytest.mark.parametrize(
    "folders",
    [("train", "test"), ("Training", "validation"), ("train2017", "val2017"), ("test_set", "training_set"),
     ("set/train/cat", "set/dev/cat"), ("cat/train", "cat/test"), ("train-images", "valid"),
     ("images_train", "images_test"), ("train", "unlabeled"), ("train_images", "unlabelled_images"),
     ("train_aug", "test"), ("Train", "holdout"), ("training", "hold-out"),
     ("trainA", "testB"), ("trainaug", "testaug"), ("mytrain", "mytest"), ("cars_train/bmw", "cars_test/bmw"),
     ("2017_val", "2014train"), ("x/train_winter", "x/test"), ("cat/train_", "dog/test_"),
     ("a/shop-train-", "b/shop-test-")],
)  # fmt: skip
def test_training_and_test_folders_are_asked_about(opened: Opener, folders: tuple[str, str]) -> None:
    files = {_file(folder, number): PICTURE for number, folder in enumerate(folders)}
    if not in_folders(opened):  # a list of shards says itself what is read
        assert len(opened(files)) == 3
        return
    with pytest.raises(OptionError, match=r"--subtree picks a part, --subtree \. takes all as one"):
        opened(files)
    assert len(opened(files, subtree=".")) == 2
    if "/" not in folders[0]:
        assert len(opened(files, subtree=folders[0])) == 1
    if folders[0].partition("/")[0] == folders[1].partition("/")[0]:
        with pytest.raises(OptionError, match="several splits"):
            opened(files, subtree=folders[0].partition("/")[0])
        assert len(opened(files, subtree=folders[0].partition("/")[0] + "/.")) == 2


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "trainer"),
        ("test", "cat"),
        ("trainstation", "testimony"),
        ("dev", "val"),
        ("test_tube", "training_shoes"),
        ("latest", "contest"),
        ("train", "latest"),
        ("valid", "invalid"),
        ("test_tube", "train_station", "cat"),
        ("n01440764", "n01443537"),
        ("train", "test_tube", "bus", "cat", "dog"),
        ("device", "value", "medieval"),
        ("protest", "trains", "interval"),
    ],
)
def test_other_folders_are_not(opened: Opener, folders: tuple[str, ...]) -> None:
    files = {_file(folder, number): PICTURE for number, folder in enumerate(folders)}
    assert len(opened(files)) == len(folders) + (not in_folders(opened))


def _file(folder: str, number: int) -> str:
    """A file in a folder, or one whose name begins so."""
    return f"{folder}{number}.jpg" if folder[-1] in "_-( " else f"{folder}/{number}.jpg"


def test_merged_classes_are_counted(tmp_path: Path) -> None:
    for name in (
        "a/cat/1.jpg",
        "b/cat/2.jpg",
        "c/cat/3.jpg",
        "d/cat/4.jpg",
        "a/dog/5.jpg",
        "b/dog/6.jpg",
        "a/emu/7.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PICTURE)
    assert told(open_source("folder", tmp_path)) == {
        "classes made of several folders (--subtree picks a part)": (
            "cat: 4 folders, a/cat, b/cat, c/cat, …",
            "dog: 2 folders, a/dog, b/dog",
        )
    }


def test_a_tree_without_images_tells_what_there_is(opened: Opener) -> None:
    if in_folders(opened):
        with pytest.raises(
            SourceError, match=r"holds no images; files with the suffix \.txt: 2 \(a/1\.txt, …\); files in"
        ):
            opened({"a/1.txt": b"", "a/2.txt": b"", ".b/3.jpg": b""})


_parts = st.lists(
    st.sampled_from(["a", "b", ".h", "@eaDir", "1.jpg", "2.png", "3.cls", "4.json", "5", "6.jpg_large", "._7.jpg"]),
    min_size=1,
    max_size=3,
).map("/".join)


@given(st.sets(_parts, min_size=1, max_size=12))
def test_nothing_of_a_tar_is_passed_over_in_silence(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "set.tar"
    names |= {"sure.jpg"}
    path.write_bytes(tar_of({name: b"1" if name.endswith(".cls") else PICTURE for name in sorted(names)}))
    source = open_source("tar", path)
    used = {source.read(index).name for index in range(len(source))}
    left = {name for notice in notices_of(source).summary() for name in notice.examples}
    left -= {name for name in left if ": " in name}  # merged classes: their images are used
    labels = {name for name in names if name.endswith(".cls")} - left
    assert used | left | labels == names
    assert all(any(image.startswith(name[:-3]) for image in used) for name in labels)


def test_the_folder_that_is_the_class_can_be_said(opened: Opener) -> None:
    if not in_folders(opened):
        pytest.skip("folders of shards are no classes")
    files = {"cat/images/1.jpg": PICTURE, "dog/images/2.jpg": PICTURE, "dog/more/3.jpg": PICTURE, "4.jpg": PICTURE}
    with pytest.raises(OptionError, match="--class-level says which folder of a path it is, 1 for cat"):
        assert opened(files).class_names
    first = opened(files, class_level=1)
    assert (first.class_names, first.labels.tolist()) == (("cat", "dog"), [-1, 0, 1, 1])
    assert told(first) == {"images outside of class folders, without a label": ("4.jpg",)}
    second = opened(files, class_level=2)
    assert (second.class_names, second.labels.tolist()) == (("images", "more"), [-1, 0, 0, 1])
    with pytest.raises(OptionError, match=r"has labels in \.cls files: --class-level is for classes by folders"):
        assert opened({**files, "4.cls": b"0"}, class_level=1).class_names


def test_classes_that_differ_in_case_alone_are_two_and_told(opened: Opener) -> None:
    labels = {"1.cls": b"cat", "2.cls": b"Cat", "3.cls": b"dog"}
    source = opened({f"{name}.jpg": PICTURE for name in "123"} | labels)
    assert source.class_names == ("Cat", "cat", "dog")
    assert told(source)["classes whose names differ in upper and lower case only"] == ("'Cat', 'cat'",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1.0", r"2\.cls: the label is the fraction '1\.0'; .*astype\('Int64'\) keeps them"),
        (
            b"0.5",
            r"2\.cls: the label is the fraction '0\.5'; labels are class names, integers of at most 18 digits, or n",
        ),
        (b"nan", r"2\.cls: is the label 'nan' a class or none"),
        (b"cat|dog", r"2\.cls: an image has several labels"),
    ],
)
def test_an_error_of_a_label_says_where_it_stands(opened: Opener, text: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        assert opened({"1.jpg": PICTURE, "1.cls": b"cat", "2.jpg": PICTURE, "2.cls": text}).class_names
