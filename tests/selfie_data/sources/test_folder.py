"""Folders of images: class folders, flat folders, tables, odd files."""

import os
import pickle
from pathlib import Path

import pytest

from selfie_data.errors import ImageError, OptionError, SourceError
from selfie_data.notices import notices_of
from selfie_data.source import ImageSource
from selfie_data.sources import open_source

FILES = {
    "train/dog/b.png": b"dog b",
    "train/dog/a.jpg": b"dog a",
    "train/cat/c.JPEG": b"cat c",
    "train/stray.jpg": b"stray",
    "train/notes.txt": b"no image",
    "train/cat/._c.JPEG": b"junk",
    "val/cat/d.jpg": b"cat d",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos of alice"
    write(folder, FILES)
    return folder


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read_all(source: ImageSource) -> dict[str, object]:
    return {image.name: image.data for image in map(source.read, range(len(source)))}


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
    with pytest.raises(SourceError, match="links to a folder that holds it"):
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


def table(tmp_path: Path, text: str, name: str = "labels.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "train/dog/a.jpg,wolf\ntrain/stray.jpg,\nval/cat/d.jpg,lynx\n"),
        ("t.csv", "path,label\ntrain/dog/a.jpg,wolf\ntrain/stray.jpg,\nval/cat/d.jpg,lynx\n"),
        ("t.csv", "\ufefffilename,class\r\ntrain/dog/a.jpg,wolf\r\ntrain/stray.jpg,\r\nval/cat/d.jpg,lynx\r\n"),
        ("t.tsv", "label\tage\timage\nlynx\t3\tval/cat/d.jpg\n\t4\ttrain/stray.jpg\nwolf\t1\t./train/dog/a.jpg\n"),
        ("t.csv", "path;label\ntrain/dog/a.jpg;wolf\n\ntrain/stray.jpg;\nval/cat/d.jpg;lynx\n"),
        ("t.csv", 'path,Class\n"train/dog/a.jpg",wolf\ntrain/stray.jpg,\nval/cat/d.jpg,lynx\n'),
    ],
    ids=["plain", "header", "bom and crlf", "tsv", "semicolon", "two columns"],
)
def test_a_table_says_which_images_and_labels(root: Path, tmp_path: Path, name: str, text: str) -> None:
    path = table(tmp_path, text, name)
    with pytest.raises(OptionError, match=r"\(train and val\): a column split tells them apart, --subtree \."):
        open_source("folder", root, table=path)
    source = open_source("folder", root, table=path, subtree=".")
    assert list(read_all(source)) == ["train/dog/a.jpg", "train/stray.jpg", "val/cat/d.jpg"]
    assert source.class_names == ("lynx", "wolf")
    assert source.labels.tolist() == [1, -1, 0]
    assert source.description["table"] == name


def test_a_table_of_paths_only_is_unlabelled(root: Path, tmp_path: Path) -> None:
    source = open_source("folder", root, subtree="train", table=table(tmp_path, "dog/a.jpg\nstray.jpg\n"))
    assert source.labels.tolist() == [-1, -1]


def test_a_table_of_integers(root: Path, tmp_path: Path) -> None:
    text = "train/dog/a.jpg,10\nval/cat/d.jpg,9\n"
    assert open_source("folder", root, table=table(tmp_path, text), subtree=".").class_names == ("09", "10")


def test_a_missing_file_of_a_table_is_that_images_error(root: Path, tmp_path: Path) -> None:
    """It is quarantined or ends the build, as `--on-error` says; it was an error at opening before."""
    source = open_source("folder", root, table=table(tmp_path, "nowhere.jpg,2\ntrain/dog/a.jpg,1\n"))
    with pytest.raises(ImageError, match=r"cannot read nowhere\.jpg: No such file"):
        source.read(0)
    assert source.read(1).data == b"dog a"
    assert source.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv is empty"),
        ("path,label\n", "holds column names and no images"),
        ("../x.jpg,1\n", "is no path below the root"),
        ("/etc/x.jpg,1\n", "is no path below the root"),
        ("train/dog/a.jpg,0,1,0\n", "has 4 columns and no names for them"),
        ("path,label,class\ntrain/dog/a.jpg,0,1\n", "has several label columns"),
        ("path,age,size\ntrain/dog/a.jpg,0,1\n", "has no column called label"),
        ("path,width\ntrain/dog/a.jpg,0\n", r"called label, .*: which one is the label\? --label-column says it"),
        ("image,path,label\ntrain/dog/a.jpg,x,1\n", r"several path columns \(image, path\): --image-column NAME"),
        ("path,label,Subset\ntrain/dog/a.jpg,1,test\n", r"does the column Subset tell .*--split-column Subset reads"),
        ("path,label,is_test\ntrain/dog/a.jpg,1,0\n", r"--split-column is_test reads it, --split all takes all rows"),
        ("train/dog/a.jpg,0\ntrain/stray.jpg\n", "line 2: 1 fields where the first line has 2"),
        ("train/dog/a.jpg,0.5\n", "the fraction '0.5'"),
        ("train/dog/a.jpg,cat|dog\n", "several labels"),
        ("train/dog/a.jpg,1\ntrain/dog/a.jpg,2\n", r"holds train/dog/a\.jpg twice"),
        ("train/notes.txt,1\n", "has no image's suffix"),
        (
            "id,species\ntrain/dog/a.jpg,wolf\n",
            r"line 1: 'id' has no image's suffix; .* calls the path path, file, .*, img",
        ),
        ("train/dog/a.jpg,1\ntrain/nowhere,2\n", r"line 2: 'train/nowhere' has no image's suffix$"),
        ('"train/dog/a.jpg,1\n', "is no CSV or TSV"),
    ],
)
def test_tables_that_are_refused(root: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_source("folder", root, table=table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_column_of_a_table_says_which_lines_are_of_the_split(root: Path, tmp_path: Path) -> None:
    text = "path,label,Split\ntrain/dog/a.jpg,wolf,training\nval/cat/d.jpg,lynx,dev\nnowhere.jpg,x,\n"
    path = table(tmp_path, text)
    source = open_source("folder", root, table=path)
    assert list(read_all(source)) == ["train/dog/a.jpg"]
    assert source.class_names == ("wolf",)
    assert {notice.reason: notice.examples for notice in source.notices.summary()} == {  # type: ignore[attr-defined]
        "images that the table does not name": ("train/cat/c.JPEG", "train/dog/b.png", "train/stray.jpg"),
        "files that systems leave behind, such as .DS_Store": ("train/cat/._c.JPEG",),
        "files with the suffix .txt": ("train/notes.txt",),
        "rows of no split": ("labels.csv, line 4: nowhere.jpg",),
        "rows of the split dev": ("labels.csv, line 3: val/cat/d.jpg",),
    }
    other = open_source("folder", root, table=path, split="val")
    assert list(read_all(other)) == ["val/cat/d.jpg"]
    assert other.description["split"] == "val"
    assert other.fingerprint != source.fingerprint
    with pytest.raises(OptionError, match=r"of the split test; .* says .*dev \(1\).*: --split NAME picks one"):
        open_source("folder", root, table=path, split="test")
    everything = open_source("folder", root, table=path, split="all")
    with pytest.raises(ImageError, match=r"cannot read nowhere\.jpg"):
        everything.read(0)
    assert [everything.read(index).name for index in (1, 2)] == ["train/dog/a.jpg", "val/cat/d.jpg"]
    with pytest.raises(OptionError, match="has no column split, so it has no split val"):
        open_source("folder", root, table=table(tmp_path, "train/dog/a.jpg,wolf\n"), split="val")


def test_what_a_table_does_not_name_is_told_by_content_too(root: Path, tmp_path: Path) -> None:
    (root / "train/cat/no_suffix").write_bytes(b"\xff\xd8\xff")
    path = table(tmp_path, "cat/c.JPEG,cat\ndog/a.jpg,dog\nstray.jpg,emu\n")
    named = table(tmp_path, "train/cat/no_suffix,cat\n", "named.csv")
    assert open_source("folder", root, table=named).read(0).data == b"\xff\xd8\xff"
    told = notices_of(open_source("folder", root, table=path, subtree="train")).summary()
    assert told[0].examples == ("cat/no_suffix", "dog/b.png")
    (root / "train/loop").symlink_to(root / "train")
    (notice,) = notices_of(open_source("folder", root, table=path, subtree="train")).summary()
    assert notice.text == "folders that cannot be listed for files which the table does not name: 1 (train)"


def test_columns_of_a_table_are_chosen_from(root: Path, tmp_path: Path) -> None:
    path = table(tmp_path, "where,label,class,age\ntrain/dog/a.jpg,wolf,canine,3\n")
    with pytest.raises(OptionError, match=r"has several label columns \(label, class\): --label-column NAME picks one"):
        open_source("folder", root, table=path, image_column="where")
    source = open_source("folder", root, table=path, image_column="WHERE", label_column="class")
    assert source.class_names == ("canine",)
    assert source.description["label"] == "class"
    with pytest.raises(SourceError, match=r"has no path column \(path, file, .*: --image-column may name one"):
        open_source("folder", root, table=path, label_column="class")
    with pytest.raises(OptionError, match="no column breed for --label-column; its columns: where, label, class, age"):
        open_source("folder", root, table=path, image_column="where", label_column="breed")
    with pytest.raises(OptionError, match="--label-column names a column of --table, got class without a table"):
        open_source("folder", root, label_column="class")


def test_a_table_of_path_and_split_has_no_labels(root: Path, tmp_path: Path) -> None:
    source = open_source("folder", root, table=table(tmp_path, "path,split\ntrain/dog/a.jpg,train\n"))
    assert source.class_names == ()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("partition", ("training", "test")),
        ("is_test", ("0", "1")),
        ("Is_Train", ("True", "False")),
        ("is_training_image", ("1", "0")),
        ("where", ("Train", "eval")),
    ],
)
def test_a_split_column_is_read_where_it_is_named(
    root: Path, tmp_path: Path, column: str, values: tuple[str, str]
) -> None:
    text = f"path,label,{column}\ntrain/dog/a.jpg,1,{values[0]}\nval/cat/d.jpg,2,{values[1]}\n"
    path = table(tmp_path, text)
    for split, name in (("train", "train/dog/a.jpg"), ("test", "val/cat/d.jpg")):
        source = open_source("folder", root, table=path, split=split, split_column=column, label_column="label")
        assert list(read_all(source)) == [name]
        assert source.description["split_column"] == column
    everything = open_source("folder", root, table=path, split="all", label_column="label", subtree=".")
    assert len(everything) == 2
    with pytest.raises(OptionError, match="--split-column names a column of --table"):
        open_source("folder", root, split_column=column)


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


def test_labels_of_a_table_that_differ_in_spaces_or_case_are_told(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\ntrain/dog/a.jpg,x \ntrain/dog/b.png, x\ntrain/cat/c.JPEG,X\n")
    source = open_source("folder", root, table=table, subtree=".")
    assert source.class_names == ("X", "x")
    told = {notice.reason: notice.examples for notice in notices_of(source).summary()}
    assert told["labels that differ in spaces around them only, taken for one"] == ("' x', 'x '",)
    assert told["classes whose names differ in upper and lower case only"] == ("'X', 'x'",)
    table.write_text("path, label\ntrain/dog/a.jpg, x\ntrain/dog/b.png, y\n")  # the usual space, in every line
    reasons = [notice.reason for notice in notices_of(open_source("folder", root, table=table)).summary()]
    assert not [reason for reason in reasons if "spaces" in reason]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("1.0", r"t\.csv, line 3: the label is the fraction '1\.0'.*astype\('Int64'\)"),
        ("NaN", r"t\.csv, line 3: is the label 'NaN' a class or none"),
        ("a\0b", r"t\.csv, line 3: the label 'a\\x00b' holds a zero byte"),
        ("[1 2]", r"t\.csv, line 3: an image has several labels"),
    ],
)
def test_an_error_of_a_label_names_the_line(root: Path, tmp_path: Path, label: str, message: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"path,label\ntrain/dog/a.jpg,x\ntrain/dog/b.png,{label}\n")
    with pytest.raises(SourceError, match=message):
        open_source("folder", root, table=table)


def test_a_class_level_beside_a_table_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("train/dog/a.jpg,x\n")
    with pytest.raises(OptionError, match="--class-level is for classes by folders"):
        open_source("folder", root, table=tmp_path / "t.csv", class_level=1)
