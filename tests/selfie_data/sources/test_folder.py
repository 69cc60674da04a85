"""Folders of images: class folders, flat folders, links, odd files; tables are in `test_folder_tables`."""

import os
import pickle
from pathlib import Path

import pytest
from PIL import Image

from selfie_data.errors import ImageError, SourceError
from selfie_data.images.decode import decode_image
from selfie_data.notices import notices_of
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from tests.selfie_data.sources.folder_material import FILES, read_all, write


def test_class_folders_give_labels_and_mixed_is_allowed(root: Path) -> None:
    source = open_source("folder", root, subtree="train")
    assert read_all(source) == {
        name[6:]: FILES[name] for name in FILES if name[-1] in "gG" and "train" in name and "._" not in name
    }
    assert list(read_all(source)) == ["cat/c.JPEG", "dog/a.jpg", "dog/b.png", "stray.jpg"]
    assert source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [0, 1, 1, -1]
    assert source.spool_bytes == 0
    assert source.spool(root) is source
    copy: ImageSource = pickle.loads(pickle.dumps(source))  # noqa: S301 - made above
    assert read_all(copy) == read_all(source)


def test_the_description_names_no_host_path(root: Path) -> None:
    source = open_source("folder", root, subtree="train")
    assert source.description == {"kind": "folder", "subtree": "train", "images": 4, "bytes": 20}


def test_a_flat_folder_is_unlabelled(root: Path) -> None:
    source = open_source("folder", root, subtree="train/dog")
    assert source.labels.tolist() == [-1, -1]
    assert source.class_names == ()


def test_a_class_list_is_applied(root: Path) -> None:
    assert open_source("folder", root, subtree="train", classes=["ant", "cat", "dog"]).labels.tolist() == [1, 2, 2, -1]
    assert open_source("folder", root, subtree="val", classes=["ant", "cat", "dog"]).labels.tolist() == [1]
    with pytest.raises(SourceError, match="the class 'dog' is not in the list"):
        open_source("folder", root, subtree="train", classes=["cat"])


def test_label_files_beside_the_images(tmp_path: Path) -> None:
    write(tmp_path, {"1.jpg": b"a", "1.cls": b"7\n", "2.png": b"b", "2.cls": b"0", "3.jpg": b"c"})
    source = open_source("folder", tmp_path)
    assert source.class_names == ("0", "7")
    assert source.labels.tolist() == [1, 0, -1]
    write(tmp_path, {"3.cls": b"x" * 5000})
    with pytest.raises(SourceError, match=r"3\.cls has 5000 bytes: a label is one integer or name"):
        open_source("folder", tmp_path)


def test_a_class_folder_that_no_manifest_could_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"dog/1.jpg": b"a", os.fsdecode(b"caf\xe9/2.jpg"): b"b"})
    with pytest.raises(SourceError, match="is not in UTF-8: rename its folder"):
        open_source("folder", tmp_path)


def test_the_fingerprint_sees_every_change(root: Path) -> None:
    def fingerprint() -> str:
        return open_source("folder", root, subtree=".").fingerprint

    first = fingerprint()
    assert fingerprint() == first
    os.utime(root / "val/cat/d.jpg", ns=(0, 12345))
    second = fingerprint()
    (root / "val/cat/e.jpg").write_bytes(b"e")
    assert len({first, second, fingerprint()}) == 3


def test_odd_files_are_those_images_errors(root: Path) -> None:
    (root / "train/a_link.jpg").symlink_to(root / "nowhere")
    os.mkfifo(root / "train/b_pipe.jpg")
    (root / "train/c_empty.jpg").write_bytes(b"")
    with (root / "train/d_huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    (root / "train/e_good.jpg").symlink_to(root / "val/cat/d.jpg")
    source = open_source("folder", root, subtree="train")
    found = {source.names[index]: index for index in range(len(source))}  # type: ignore[attr-defined]
    for name, message in {
        "a_link.jpg": "cannot read a_link.jpg: No such file",
        "b_pipe.jpg": "b_pipe.jpg is no regular file",
        "c_empty.jpg": "c_empty.jpg is empty",
        "d_huge.jpg": "d_huge.jpg has 1099511627776 bytes",
    }.items():
        with pytest.raises(ImageError, match=message):
            source.read(found[name])
    assert source.read(found["e_good.jpg"]).data == b"cat d"


def test_a_file_that_disappears_is_that_images_error(root: Path) -> None:
    source = open_source("folder", root, subtree="train")
    (root / "train/dog/a.jpg").unlink()
    with pytest.raises(ImageError, match=r"cannot read dog/a\.jpg"):
        source.read(1)
    assert source.read(2).data == b"dog b"


def test_a_folder_that_links_to_itself_is_refused(root: Path) -> None:
    (root / "train/cat/again").symlink_to(root / "train")
    with pytest.raises(
        SourceError, match="links to a folder that holds it: take the link out, or pick a part by --subtree"
    ):
        open_source("folder", root, subtree=".")


def test_linked_folders_are_followed(root: Path) -> None:
    (root / "train/emu").symlink_to(root / "val/cat")
    assert open_source("folder", root, subtree="train").class_names == ("cat", "dog", "emu")


@pytest.mark.parametrize(
    ("subtree", "message"),
    [
        ("nowhere", "there is no folder nowhere below"),
        ("../x", "a subtree is a path below the root"),
        ("train/stray.jpg", "no folder"),
    ],
)
def test_subtrees_that_are_refused(root: Path, subtree: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source("folder", root, subtree=subtree)


def test_a_split_or_a_file_is_refused(root: Path) -> None:
    with pytest.raises(SourceError, match="a folder has no splits: --subtree picks a part"):
        open_source("folder", root, split="val")
    with pytest.raises(SourceError, match="is a file: --root must name a folder"):
        open_source("folder", root / "train/stray.jpg")


def test_undecodable_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "ü").mkdir()
    path = os.fsencode(tmp_path / "ü") + b"/\xff.jpg"
    with open(path, "wb") as file:
        file.write(b"x")
    source = open_source("folder", tmp_path)
    assert source.read(0) == ("ü/\\udcff.jpg", b"x")


def test_a_folder_that_is_linked_beside_itself_is_refused(root: Path) -> None:
    (root / "train/kitty").symlink_to(root / "train/cat")
    with pytest.raises(SourceError, match=r"are one folder, by a link: images would come twice"):
        open_source("folder", root, subtree="train")
    (root / "train/kitty").unlink()
    (root / "train/kitty").symlink_to(root / "val/cat")
    assert open_source("folder", root, subtree="train").class_names == ("cat", "dog", "kitty")


def test_a_single_class_folder_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"cat/1.jpg": b"a", "cat/2.jpg": b"b"})
    source = open_source("folder", tmp_path)
    assert source.class_names == ()
    (notice,) = notices_of(source).summary()
    assert notice.text == "images in a single folder, which is not taken for a class: 2 (cat/1.jpg, …)"
    assert notices_of(open_source("folder", tmp_path, subtree="cat")).summary() == ()


def link(root: Path, target: str, name: str, *, hard: bool) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    if hard:
        os.link(root / target, root / name)
    else:
        (root / name).symlink_to(root / target)


@pytest.mark.parametrize("hard", [True, False])
def test_an_image_that_is_linked_within_the_tree_is_told(root: Path, tmp_path: Path, hard: bool) -> None:
    link(root, "train/dog/a.jpg", "train/dog/z.jpg", hard=hard)
    source = open_source("folder", root, subtree="train")
    assert [notice.examples for notice in notices_of(source).summary() if "link" in notice.reason] == [("dog/z.jpg",)]
    link(root, "train/dog/b.png", "train/cat/b.png", hard=hard)
    refused = r"cat/b\.png and dog/b\.png are one file, by a link, and of two classes: take one out"
    with pytest.raises(SourceError, match=refused):
        open_source("folder", root, subtree="train")
    table = tmp_path / "t.csv"
    table.write_text("path,label\ntrain/cat/b.png,x\ntrain/dog/b.png,y\n")
    with pytest.raises(SourceError, match="are one file, by a link"):
        open_source("folder", root, table=table)
    table.write_text("path,label\ntrain/cat/b.png,x\ntrain/dog/a.jpg,y\n")
    assert open_source("folder", root, table=table).class_names == ("x", "y")


def test_links_to_a_store_outside_are_images_like_others(tmp_path: Path) -> None:
    write(tmp_path / "store", {"1.jpg": b"one", "2.jpg": b"two"})
    for number, name in ((1, "cat"), (2, "dog")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "x.jpg").symlink_to(tmp_path / "store" / f"{number}.jpg")
    source = open_source("folder", tmp_path / "tree")
    assert read_all(source) == {"cat/x.jpg": b"one", "dog/x.jpg": b"two"}
    assert not notices_of(source)


@pytest.mark.parametrize(("suffix", "kind"), [(".jif", "JPEG"), (".mpo", "MPO"), (".apng", "PNG"), (".JFIF", "JPEG")])
def test_rarer_suffixes_of_formats_that_are_read(tmp_path: Path, suffix: str, kind: str) -> None:
    """Cameras call pictures of two lenses .mpo, which are JPEGs with another one behind."""
    first, second = (Image.new("RGB", (24, 16), colour) for colour in ("red", "blue"))
    first.save(tmp_path / f"a{suffix}", kind, save_all=kind != "JPEG", append_images=[second])
    source = open_source("folder", tmp_path)
    pixels = decode_image(read_all(source)[f"a{suffix}"]).pixels
    assert pixels.shape == (16, 24, 3)
    assert pixels[8, 12].argmax() == 0
    assert not notices_of(source)
