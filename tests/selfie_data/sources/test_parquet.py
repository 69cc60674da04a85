"""Parquet files as the Hugging Face hub lays them out, and others."""

import json
import pickle
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfie_data.errors import ImageError, OptionError, SourceError
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from selfie_data.sources import parquet as parquet_source

pa = pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra `parquet`")

NAMES = ["truck", "airplane", "cat"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(count: int, start: int = 0) -> list[dict[str, Any] | None]:
    return [
        {"bytes": f"image {number}".encode() * (number % 4 + 1), "path": None} for number in range(start, start + count)
    ]


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, *, group: int = 3) -> Path:
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}


def columns(labels: list[int | None], start: int = 0) -> dict[str, Any]:
    return {"image": pa.array(images(len(labels), start), IMAGE), "label": pa.array(labels, pa.int64())}


def datas(source: ImageSource) -> list[object]:
    return [source.read(index).data for index in range(len(source))]


def test_several_files_and_row_groups_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_source, "_ROWS_AT_ONCE", 2)
    root = tmp_path / "set"
    write(root / "data/train-00001-of-00002.parquet", columns([2, None, 1], 7), FEATURES)
    write(root / "data/train-00000-of-00002.parquet", columns([0, 1, 2, 0, 1, 2, -1]), FEATURES)
    write(root / "data/validation-00000-of-00001.parquet", columns([1, 1]), FEATURES)
    opened = open_source("parquet", root)
    source = opened.spool(tmp_path / "spool")
    assert datas(source) == [image["bytes"] for image in images(10) if image]
    assert source.class_names == opened.class_names == ("airplane", "cat", "truck")
    assert source.labels.tolist() == opened.labels.tolist() == [2, 0, 1, 2, 0, 1, -1, 1, -1, 0]
    assert source.read(8).name == "train-00001-of-00002.parquet/00000001"
    assert opened.spool_bytes >= sum(len(image["bytes"]) for image in images(10) if image)
    assert len(open_source("parquet", root, split="val")) == 2
    with pytest.raises(SourceError, match="holds no Parquet files of test; the splits there: train, val"):
        open_source("parquet", root, split="test")
    assert str(tmp_path) not in repr(source.description)
    pickle.loads(pickle.dumps(opened))  # noqa: S301 - made above


def test_a_spool_reads_only_the_row_groups_that_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", columns([0, 1, 2, 0, 1, 2, 1]), FEATURES)
    source = open_source("parquet", path)
    source.spool(tmp_path / "spool")
    (tmp_path / "spool" / "00000-000001-000000.rows").unlink()
    done = {found.stem for found in (tmp_path / "spool").glob("*.rows")}
    assert [part.key for part in source.layout.parts(done)] == ["00000-000001-000000"]  # type: ignore[attr-defined]
    assert datas(source.spool(tmp_path / "spool")) == [image["bytes"] for image in images(7) if image]


def test_names_of_folders_tell_splits(tmp_path: Path) -> None:
    write(tmp_path / "default/train/0000.parquet", columns([0]), FEATURES)
    write(tmp_path / "default/test/0000.parquet", columns([1, 1]), FEATURES)
    assert [len(open_source("parquet", tmp_path, split=split)) for split in ("train", "test")] == [1, 2]


def test_without_split_names_all_is_train(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", columns([0]), FEATURES)
    write(tmp_path / "b.parquet", columns([1, 1]), FEATURES)
    assert len(open_source("parquet", tmp_path)) == 3
    with pytest.raises(SourceError, match="the splits there: none"):
        open_source("parquet", tmp_path, split="val")


def test_null_images_are_those_images_errors(tmp_path: Path) -> None:
    content = columns([0, 1, 2])
    content["image"] = pa.array([None, {"bytes": None, "path": "x.jpg"}, {"bytes": b"x", "path": "x.jpg"}], IMAGE)
    source = open_source("parquet", write(tmp_path / "a.parquet", content, FEATURES)).spool(tmp_path / "spool")
    for index in (0, 1):
        with pytest.raises(ImageError, match=f"a.parquet/0000000{index} holds no image's bytes: null, or only a path"):
            source.read(index)
    assert source.read(2).data == b"x"


def test_plain_columns_without_metadata(tmp_path: Path) -> None:
    content = {"img": pa.array([b"a", b"b"]), "label": pa.array([10, 2], pa.int32())}
    source = open_source("parquet", write(tmp_path / "a.parquet", content)).spool(tmp_path / "spool")
    assert source.class_names == ("02", "10")
    assert datas(source) == [b"a", b"b"]


@pytest.mark.parametrize("encode", [False, True])
def test_labels_that_are_names(tmp_path: Path, encode: bool) -> None:
    labels = pa.array(["dog", None, "cat"])
    content = {"image": pa.array(images(3), IMAGE), "label": labels.dictionary_encode() if encode else labels}
    source = open_source("parquet", write(tmp_path / "a.parquet", content, group=2)).spool(tmp_path / "spool")
    assert source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [1, -1, 0]


def test_no_label_column_is_unlabelled(tmp_path: Path) -> None:
    source = open_source("parquet", write(tmp_path / "a.parquet", {"image": pa.array(images(2), IMAGE)}))
    assert source.labels.tolist() == [-1, -1]
    assert source.class_names == ()


@pytest.mark.parametrize(("labels", "names"), [("fine", ["bear", "apple"]), ("coarse", ["land", "land"])])
def test_two_label_columns_as_cifar100_has_them(tmp_path: Path, labels: str, names: list[str]) -> None:
    content = {"img": pa.array(images(2), IMAGE), "fine_label": pa.array([1, 0]), "coarse_label": pa.array([0, 0])}
    features = {
        "img": {"_type": "Image"},
        "fine_label": {"_type": "ClassLabel", "names": ["apple", "bear"]},
        "coarse_label": {"_type": "ClassLabel", "names": ["land", "sea"]},
    }
    source = open_source("parquet", write(tmp_path / "a.parquet", content, features), labels=labels)
    assert [source.class_names[label] for label in source.labels] == names


def test_a_class_list_is_applied(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", columns([0, 2]), FEATURES)
    assert open_source("parquet", path, classes=[*NAMES, "bee"]).labels.tolist() == [0, 2]
    with pytest.raises(SourceError, match="the class 'truck' is not in the list"):
        len(open_source("parquet", path, classes=["cat"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image": pa.array(images(1), IMAGE), "label": pa.array([[0, 1]])}, "holds several labels an image"),
        (
            {"image": pa.array(images(1), IMAGE), "label": pa.array([0.5])},
            r"holds double; labels are integers or class names: astype\('Int64'\)",
        ),
        (
            {"image": pa.array(images(1), IMAGE), "label": pa.array([True])},
            "holds bool; labels are integers or class names: --label-column may name another",
        ),
        ({"data": pa.array([{"image": images(1)[0], "label": 0}])}, "has no image column, of bytes; its columns: data"),
        ({"image": pa.array(images(1), IMAGE), "label": pa.array(["cat|dog"])}, "several labels"),
        ({"image": pa.array(["x.jpg"]), "label": pa.array([0])}, "has no image column"),
        ({"a": pa.array([b"x"]), "b": pa.array([b"y"])}, "has no image column, or several"),
        ({"image": pa.array([], IMAGE), "label": pa.array([], pa.int64())}, "holds no images"),
        (
            {
                "image": pa.array(images(1), IMAGE),
                "fine_label": pa.array([0]),
                "coarse_label": pa.array([0]),
                "label": pa.array([0]),
            },
            None,
        ),
    ],
)
def test_columns_that_are_refused(tmp_path: Path, content: dict[str, Any], message: str | None) -> None:
    path = write(tmp_path / "a.parquet", content)
    if message is None:
        assert len(open_source("parquet", path)) == 1
        return
    with pytest.raises(SourceError, match=message):
        len(open_source("parquet", path))


def test_a_label_beyond_the_names(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.parquet/00000001: a label is 3, but .* only 3 class names"):
        len(open_source("parquet", write(tmp_path / "a.parquet", columns([0, 3, 1]), FEATURES)))


def test_files_that_disagree(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", columns([0]), FEATURES)
    other = FEATURES | {"label": {"_type": "ClassLabel", "names": ["x"]}}
    write(tmp_path / "train-1.parquet", columns([0]), other)
    with pytest.raises(SourceError, match=r"train-1\.parquet has other class names than train-0\.parquet: .*--config"):
        open_source("parquet", tmp_path)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"image": 1, "labels": 1}, "the label column of train-1.parquet is labels, that of train-0.parquet label: .*"),
        ({"image": 1}, "the label column of train-1.parquet is missing, that of train-0.parquet label: .*--label-col"),
        ({"photo": 1, "label": 1}, "the image column of train-1.parquet is photo, that of train-0.parquet image: .*"),
        ({"image": 1, "label": 1, "split": 1}, "the split column of train-1.parquet is split, .* missing: .*--split-c"),
    ],
)
def test_files_whose_columns_differ_say_which(tmp_path: Path, second: dict[str, int], message: str) -> None:
    write(tmp_path / "train-0.parquet", columns([0]))
    kinds = {"image": pa.array(images(1), IMAGE), "photo": pa.array(images(1), IMAGE), "split": pa.array(["train"])}
    write(tmp_path / "train-1.parquet", {name: kinds.get(name, pa.array([0])) for name in second})
    with pytest.raises(SourceError, match=message):
        open_source("parquet", tmp_path)


def test_other_columns_of_structs_are_no_images(tmp_path: Path) -> None:
    """Only a field `bytes` of the column's own makes it one of images, not one further in."""
    content = columns([0]) | {"box": pa.array([{"x": 1}]), "face": pa.array([{"crop": images(1)[0]}])}
    content["photo"] = content.pop("image")
    source = open_source("parquet", write(tmp_path / "a.parquet", content))
    assert len(source) == 1
    assert counts(source) == {}


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", columns([0, 1, 2, 1]), FEATURES)
    whole = path.read_bytes()
    for length in (0, 3, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match="is no Parquet file, truncated or damaged"):
            open_source("parquet", path)
    for position in range(4, len(whole) - 8, 11):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            len(open_source("parquet", path))
        except SourceError as error:
            assert "\n" not in str(error)  # noqa: PT017 - many flips change nothing that is read


def test_metadata_of_another_kind_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", columns([0, 2]), None)
    table = pq.read_table(path)
    for text in ("no json", "[]", '{"info": 3}', '{"info": {"features": []}}', '{"info": {"features": {"label": 1}}}'):
        pq.write_table(table.replace_schema_metadata({"huggingface": text}), path)
        assert open_source("parquet", path).class_names == ("0", "2")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", columns([0]), FEATURES)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SourceError, match=r"needs pyarrow: pip install 'selfie\[parquet\]'"):
        open_source("parquet", path)


def counts(source: ImageSource) -> dict[str, int]:
    return {notice.reason: notice.count for notice in source.notices.summary()}  # type: ignore[attr-defined]


def test_what_is_not_of_the_split_is_told(tmp_path: Path) -> None:
    for name in ("digits/train-00000-of-00001", "digits/extra-00000-of-00001", "digits/test-00000-of-00001"):
        write(tmp_path / f"{name}.parquet", columns([0, 1]), FEATURES)
    write(tmp_path / ".cache/x/train.parquet", columns([0]), FEATURES)
    (tmp_path / "infos.json").write_text("{}")
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / "README.md").write_text("# Digits")
    source = open_source("parquet", tmp_path)
    assert len(source) == 2
    assert counts(source) == {
        "files that are not of the split train": 2,
        "files in hidden or system folders": 1,
        "files with the suffix .json": 1,
        "files without a suffix that are no images": 1,
    }
    assert len(open_source("parquet", tmp_path, split="extra")) == 2
    assert len(open_source("parquet", tmp_path, split="all")) == 6


def test_parts_of_a_split_that_are_missing_are_told(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00003.parquet", columns([0, 1]), FEATURES)
    write(tmp_path / "data/train-00002-of-00003.parquet", columns([0, 1]), FEATURES)
    source = open_source("parquet", tmp_path)
    (notice,) = source.notices.summary()  # type: ignore[attr-defined]
    assert notice.text == "files that are missing by the numbers of the others: 1 (data/train-00001-of-00003.parquet)"


def test_a_label_beyond_64_bits(tmp_path: Path) -> None:
    content = {"image": pa.array(images(1), IMAGE), "label": pa.array([1 << 63], pa.uint64())}
    with pytest.raises(SourceError, match="a label is 9223372036854775808; labels are integers up to"):
        len(open_source("parquet", write(tmp_path / "a.parquet", content)))


def test_nothing_odd_is_told_nothing(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", columns([0, 1]), FEATURES)
    assert counts(open_source("parquet", tmp_path)) == {}


def test_a_file_that_is_named_must_not_be_of_another_split(tmp_path: Path) -> None:
    path = write(tmp_path / "a_train.parquet", columns([0]), FEATURES)
    with pytest.raises(OptionError, match=r"of test, as --split says, or of train\? --split train reads it"):
        open_source("parquet", path, split="test")
    assert len(open_source("parquet", path)) == len(open_source("parquet", path, split="all")) == 1
    other = write(tmp_path / "test/0.parquet", columns([0]), FEATURES)
    for root in (write(tmp_path / "test.parquet", columns([0]), FEATURES), other.parent):
        with pytest.raises(OptionError, match="of train, as --split says, or of test"):
            open_source("parquet", root)
        assert len(open_source("parquet", root, split="test")) == len(open_source("parquet", root, split="all")) == 1
    assert len(open_source("parquet", other)) == 1  # what lies above a file may be called anything
    rows = columns([0, 1]) | {"split": pa.array(["train", "test"])}
    assert len(open_source("parquet", write(tmp_path / "val.parquet", rows, FEATURES))) == 1
    with pytest.raises(OptionError, match="--config is for a folder"):
        open_source("parquet", path, config="a")


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/0.parquet", columns([0, 1]), FEATURES)
    root = tmp_path / "root"
    root.mkdir()
    (root / "train").symlink_to(tmp_path / "elsewhere")
    assert len(open_source("parquet", root)) == 2
    (root / "train2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="links to a folder that is read already"):
        open_source("parquet", root)
    (root / "train2").unlink()
    (root / "train_gone.parquet").symlink_to(tmp_path / "nowhere.parquet")
    with pytest.raises(SourceError, match=r"train_gone\.parquet is no Parquet file"):
        open_source("parquet", root, config=".")


SPLITS = ["train", "dev", None, "training", "test", "Train", "extra"]


@pytest.mark.parametrize("kind", ["texts", "codes", "dictionary"])
def test_a_column_says_which_rows_are_of_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(parquet_source, "_ROWS_AT_ONCE", 2)
    names = sorted({name for name in SPLITS if name})
    texts = pa.array(SPLITS)
    rows = {"texts": texts, "dictionary": texts.dictionary_encode()}
    rows["codes"] = pa.array([None if name is None else names.index(name) for name in SPLITS])
    features = FEATURES | ({"Split": {"_type": "ClassLabel", "names": names}} if kind == "codes" else {})
    write(tmp_path / "a/x.parquet", columns([0, 1, 2, 0, 1, 2, 1]) | {"Split": rows[kind]}, features)
    source = open_source("parquet", tmp_path)
    spooled = source.spool(tmp_path / "spool")
    assert spooled.labels.tolist() == source.labels.tolist() == [2, 2, 1]
    assert [spooled.read(index).name[-2:] for index in range(3)] == ["00", "03", "05"]
    assert (
        counts(source)
        == counts(spooled)
        == {
            "rows of no split": 1,
            "rows of the split dev": 1,
            "rows of the split extra": 1,
            "rows of the split test": 1,
        }
    )
    assert open_source("parquet", tmp_path, split="validation").labels.tolist() == [0]
    assert open_source("parquet", tmp_path, split="extra").labels.tolist() == [0]
    everything = open_source("parquet", tmp_path, split="all")
    assert everything.labels.tolist() == [2, 0, 1, 2, 0, 1, 0]
    assert len({source.fingerprint, everything.fingerprint}) == 2
    with pytest.raises(OptionError, match=r"is of the split x; .* says train \(1\), .*none \(1\).*--split NAME picks"):
        open_source("parquet", tmp_path, split="x")


def one_column(name: str, values: Any) -> dict[str, Any]:
    return {"image": pa.array(images(2), IMAGE), name: pa.array(values)}


@pytest.mark.parametrize("name", ["cls", "target", "class", "Label", "LABELS", "category", "class_name", "y", "Class"])
def test_labels_under_the_names_that_tables_accept(tmp_path: Path, name: str) -> None:
    source = open_source("parquet", write(tmp_path / "a.parquet", one_column(name, [1, 0])))
    assert source.class_names == ("0", "1")
    assert source.description["label"] == name


def test_described_labels_come_first_and_others_are_told(tmp_path: Path) -> None:
    content = one_column("label", ["x", "y"]) | {"breed": pa.array([0, 2]), "mask": pa.array(images(2), IMAGE)}
    features = {"image": {"_type": "Image"}, "breed": {"_type": "ClassLabel", "names": NAMES}}
    source = open_source("parquet", write(tmp_path / "a.parquet", content, features))
    assert source.class_names == tuple(sorted(NAMES))
    assert counts(source) == {"columns of images or labels that are not read": 2}
    other = open_source("parquet", tmp_path / "a.parquet", label_column="LABEL", image_column="mask")
    assert other.class_names == ("x", "y")


def test_several_labels_are_chosen_from(tmp_path: Path) -> None:
    content = one_column("label", [0, 1]) | {"target": pa.array([1, 1]), "id": pa.array([8, 9])}
    path = write(tmp_path / "a.parquet", content)
    with pytest.raises(OptionError, match=r"several label columns \(label, target\): --label-column NAME picks one"):
        open_source("parquet", path)
    assert open_source("parquet", path, label_column="target").class_names == ("1",)
    assert open_source("parquet", path, label_column="id").class_names == ("8", "9")
    with pytest.raises(OptionError, match=r"no column x for --label-column; its columns: image, label, target, id"):
        open_source("parquet", path, label_column="x")


def test_no_label_column_is_told(tmp_path: Path) -> None:
    source = open_source("parquet", write(tmp_path / "a.parquet", one_column("caption", ["x", "y"])))
    assert counts(source) == {"files without a label column (--label-column may name one)": 1}


def test_images_that_are_paths_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": pa.array(["x.jpg"]), "label": pa.array([0])})
    with pytest.raises(SourceError, match="image holds paths: the source folder reads the files, by --table"):
        open_source("parquet", path)
    paths = pa.array([{"bytes": None, "path": "x.jpg"}, {"bytes": None, "path": "y.jpg"}], IMAGE)
    source = open_source(
        "parquet", write(tmp_path / "b.parquet", {"image": paths, "label": pa.array([0, 1])}, FEATURES)
    )
    for read in (lambda: len(source), lambda: source.spool(tmp_path / "spool")):
        with pytest.raises(SourceError, match="holds an image's bytes: where paths are stored only"):
            read()


def test_texts_and_numbers_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", one_column("label", [0, 1]))
    write(tmp_path / "train-1.parquet", one_column("label", ["1", "0"]))
    with pytest.raises(
        SourceError, match=r"the labels of train-1\.parquet are texts, those of train-0\.parquet numbers"
    ):
        open_source("parquet", tmp_path)


@given(
    labels=st.one_of(
        st.lists(st.one_of(st.none(), st.integers(-1, 12)), min_size=1, max_size=12),
        st.lists(st.one_of(st.none(), st.sampled_from(["cat", "dog", "1", "01", "7", " "])), min_size=1, max_size=12),
    ),
    data=st.data(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_labels_survive_any_split_into_files_groups_and_pieces(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int | str | None], data: st.DataObject
) -> None:
    """Texts of one file or of ten, all of them null in some: each image keeps the label it has in one file."""
    folder = tmp_path_factory.mktemp("parts")
    kind = pa.string() if any(isinstance(label, str) for label in labels) else pa.int64()
    table = pa.table({"image": pa.array(images(len(labels)), IMAGE), "label": pa.array(labels, kind)})
    pq.write_table(table, folder / "whole.parquet")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(labels)), max_size=4)) | {0, len(labels)})
    (folder / "parts").mkdir()
    for number, (start, end) in enumerate(pairwise(cuts)):
        group = data.draw(st.integers(1, 5))
        pq.write_table(table[start:end], folder / f"parts/train-{number}.parquet", row_group_size=group)
    whole = open_source("parquet", folder / "whole.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_source, "_ROWS_AT_ONCE", data.draw(st.integers(1, 5)))
        parts = open_source("parquet", folder / "parts")
        spooled = parts.spool(folder / "spool")
        for path in data.draw(st.sets(st.sampled_from(sorted((folder / "spool").glob("*.rows"))))):
            path.unlink()
        again = parts.spool(folder / "spool")
    for source in (parts, spooled, again):
        assert source.class_names == whole.class_names
        assert source.labels.tolist() == whole.labels.tolist()
    assert datas(again) == [image["bytes"] for image in images(len(labels)) if image]


@pytest.mark.parametrize(
    ("labels", "unlabelled"), [([0, None, -1, 2], 2), (["a", None, "", "-1"], 3), (["a", "b", " ", "c"], 1)]
)
def test_rows_without_a_label_are_told(tmp_path: Path, labels: list[Any], unlabelled: int) -> None:
    pictures = images(3)
    content = {"image": pa.array([*pictures, {"bytes": None, "path": "x.jpg"}], IMAGE), "label": pa.array(labels)}
    source = open_source("parquet", write(tmp_path / "a.parquet", content))
    found = counts(source)  # without the row that has no image: the build quarantines it, and counts it so
    assert sum(found.values()) == unlabelled
    assert all("label" in reason for reason in found)


def test_columns_of_views_are_read_as_others_are(tmp_path: Path) -> None:
    """Some libraries write bytes and texts so."""
    content = {
        "image": pa.array([b"one", b"another"], pa.binary_view()),
        "label": pa.array(["b", "a"], pa.string_view()),
    }
    source = open_source("parquet", write(tmp_path / "a.parquet", content)).spool(tmp_path / "spool")
    assert datas(source) == [b"one", b"another"]
    assert (source.class_names, source.labels.tolist()) == (("a", "b"), [1, 0])


@pytest.mark.parametrize("labels", [pa.array([-1, -1]), pa.array([None, None], pa.string()), pa.nulls(2)])
def test_a_label_column_that_says_nothing_is_told(tmp_path: Path, labels: Any) -> None:
    """As test splits have it: the images are there, none has a class, and that is no silent loss."""
    content = {"image": pa.array(images(2), IMAGE), "label": labels}
    source = open_source("parquet", write(tmp_path / "a.parquet", content))
    assert len(source) == 2
    assert source.class_names == ()
    assert counts(source) == {"rows without a label in the column label: null, empty or below zero": 2}


def test_columns_that_may_tell_splits_are_asked_about(tmp_path: Path) -> None:
    for name, values in {"subset": ["train", "test"], "is_test": [False, True], "is_train": [1, 0]}.items():
        path = write(tmp_path / f"{name}.parquet", columns([0, 1]) | {name: pa.array(values)}, FEATURES)
        with pytest.raises(OptionError, match=f"column {name} tell training from test data.*--split-column {name}"):
            open_source("parquet", path)
        assert len(open_source("parquet", path, split="all")) == 2
        assert open_source("parquet", path, split_column=name).labels.tolist() == [2]
        assert open_source("parquet", path, split_column=name, split="test").labels.tolist() == [0]
