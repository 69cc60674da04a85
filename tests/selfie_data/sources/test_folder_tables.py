"""Tables of path,label: which images of a folder there are, and their labels."""

from pathlib import Path

import pytest

from selfie_data.errors import ImageError, OptionError, SourceError
from selfie_data.notices import notices_of
from selfie_data.sources import open_source
from tests.selfie_data.sources.folder_material import read_all


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
        ("https://host/x.jpg,1\n", r"line 1: 'https://host/x.jpg' is a URL; .* fetch the images first"),
        ("path,label\ns3://bucket/x.jpg,1\n", r"line 2: 's3://bucket/x.jpg' is a URL"),
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


def test_a_table_that_lies_in_the_root_is_used_and_so_not_told(root: Path) -> None:
    written = table(root, "train/dog/a.jpg,dog\n")
    (root / "other.csv").write_text("")
    told = {
        notice.reason: notice.examples for notice in notices_of(open_source("folder", root, table=written)).summary()
    }
    assert told["files with the suffix .csv"] == ("other.csv",)


@pytest.mark.parametrize(
    ("label", "reason"), [("", "images without a label in the table"), ("-1", "images whose label")]
)
def test_a_label_column_that_says_nothing_is_told(root: Path, tmp_path: Path, label: str, reason: str) -> None:
    path = table(tmp_path, f"path,label\ntrain/dog/a.jpg,{label}\ntrain/cat/c.JPEG,{label}\n")
    source = open_source("folder", root, table=path)
    assert source.class_names == ()
    (found,) = [notice for notice in notices_of(source).summary() if notice.reason.startswith(reason)]
    assert found.count == 2
    assert "others" not in found.reason


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
