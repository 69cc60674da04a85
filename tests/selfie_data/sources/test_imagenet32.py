"""Downsampled ImageNet: pickles and npz, in folders and archives."""

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from selfie_data.errors import SourceError
from selfie_data.notices import notices_of
from selfie_data.sources import open_source
from tests.selfie_data.sources.handmade import tar_of

COUNTS = {1: 5, 2: 3, 10: 4}


def rows(number: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (COUNTS.get(number, 2), 3 * side * side), dtype=np.uint8)


def labels(number: int) -> list[int]:
    return [(number + index) % 7 + 1 for index in range(len(rows(number)))]


def batch(number: int, form: str, side: int = 32) -> bytes:
    data = {"data": rows(number, side), "labels": labels(number), "mean": rows(number, side)[0].astype(np.float64)}
    if form.startswith("pickle"):
        return pickle.dumps(data, protocol=int(form[-1]))
    buffer = io.BytesIO()
    (np.savez_compressed if form == "npz-compressed" else np.savez)(buffer, **data)
    return buffer.getvalue()


def files(form: str, side: int = 32) -> dict[str, bytes]:
    end = ".npz" if form.startswith("npz") else ""
    train = {f"Imagenet_train/train_data_batch_{number}{end}": batch(number, form, side) for number in (10, 2, 1)}
    return train | {f"Imagenet_val/val_data{end}": batch(77, form, side)}


def store(content: dict[str, bytes], where: str, folder: Path) -> Path:
    if where == "folder":
        for name, data in content.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        return folder
    path = folder / f"Imagenet32.{where}"
    if where == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    else:
        path.write_bytes(tar_of(content) if where == "tar" else gzip.compress(tar_of(content)))
    return path


def expected(side: int = 32) -> np.ndarray:
    every = np.concatenate([rows(number, side) for number in (1, 2, 10)])
    return np.stack(
        [every[:, c * side * side : (c + 1) * side * side].reshape(-1, side, side) for c in range(3)], axis=-1
    )


@pytest.mark.parametrize("where", ["folder", "tar", "tar.gz", "zip"])
@pytest.mark.parametrize("form", ["pickle2", "pickle4", "npz", "npz-compressed"])
def test_every_form_everywhere(tmp_path: Path, form: str, where: str) -> None:
    (tmp_path / "data").mkdir()
    root = store(files(form), where, tmp_path / "data")
    opened = open_source("imagenet32", root)
    source = opened.spool(tmp_path / "spool")
    assert len(opened) == len(source) == 12
    np.testing.assert_array_equal(np.stack([source.read(index).data for index in range(12)]), expected())
    codes = [*labels(1), *labels(2), *labels(10)]
    assert [int(source.class_names[label]) for label in source.labels] == codes
    assert source.class_names == tuple(f"{code:04d}" for code in sorted(set(codes)))
    np.testing.assert_array_equal(source.labels, opened.labels)
    assert source.read(5).name == "train_data_batch_02/000000"
    validation = open_source("imagenet32", root, split="val")
    assert len(validation) == 2
    assert str(tmp_path) not in repr(source.description)


def test_other_sizes_have_the_same_layout(tmp_path: Path) -> None:
    source = open_source("imagenet32", store(files("npz", side=16), "folder", tmp_path)).spool(tmp_path / "spool")
    np.testing.assert_array_equal(np.stack([source.read(index).data for index in range(12)]), expected(16))


def test_batches_of_different_sizes_are_refused(tmp_path: Path) -> None:
    content = files("pickle4") | {"Imagenet_train/train_data_batch_2": batch(2, "pickle4", side=16)}
    with pytest.raises(SourceError, match="the images have different sizes"):
        len(open_source("imagenet32", store(content, "folder", tmp_path)))


def test_the_numbering_of_the_whole_set_is_kept(tmp_path: Path) -> None:
    root = store(files("pickle4"), "folder", tmp_path)
    names = [f"{code:04d}" for code in range(1, 1001)]
    source = open_source("imagenet32", root, split="val", classes=names)
    assert source.labels.tolist() == [code - 1 for code in labels(77)]
    assert len(source.class_names) == 1000


def test_an_archive_of_the_split_is_found_beside_another(tmp_path: Path) -> None:
    train = {name: data for name, data in files("pickle4").items() if "train" in name}
    val = {name: data for name, data in files("pickle4").items() if "val" in name}
    store(train, "zip", tmp_path).rename(tmp_path / "Imagenet32_train.zip")
    store(val, "zip", tmp_path).rename(tmp_path / "Imagenet32_val.zip")
    assert len(open_source("imagenet32", tmp_path)) == 12
    assert len(open_source("imagenet32", tmp_path, split="val")) == 2


def _bad(**changes: object) -> bytes:
    return pickle.dumps({"data": rows(1), "labels": labels(1)} | changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_bad(labels=[0, 1, 2, 3, 4]), "labels count from 1, got 0"),
        (_bad(labels=[1.0, 2, 3, 4, 5]), "labels must be integers"),
        (_bad(labels=[1]), "1 labels for 5 images"),
        (_bad(data=rows(1)[:, :-1]), "no square RGB images"),
        (b"", "train_data_batch_01 is a corrupt pickle"),
        (_bad()[:8000], "train_data_batch_01 is a corrupt pickle: it is truncated"),
    ],
)
def test_a_bad_batch_is_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    root = store(files("pickle4") | {"Imagenet_train/train_data_batch_1": data}, "folder", tmp_path)
    with pytest.raises(SourceError, match=message):
        len(open_source("imagenet32", root))


@pytest.mark.parametrize("form", ["npz", "npz-compressed"])
def test_a_truncated_or_damaged_npz_is_one_line(tmp_path: Path, form: str) -> None:
    whole = files(form)
    name = "Imagenet_train/train_data_batch_1.npz"
    flipped = bytearray(whole[name])
    flipped[2000] ^= 0xFF
    for data in (whole[name][:-40], whole[name][:500], b"", bytes(flipped)):
        root = store(whole | {name: data}, "folder", tmp_path)
        with pytest.raises(SourceError, match=r"train_data_batch_0?1.* is a damaged"):
            open_source("imagenet32", root).spool(tmp_path / "spool")


def test_an_npz_without_labels_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "train_data_batch_1.npz", data=rows(1))
    with pytest.raises(SourceError, match="damaged npz"):
        len(open_source("imagenet32", tmp_path))


def test_batches_that_are_not_there_are_told(tmp_path: Path) -> None:
    for number in range(1, 11):
        (tmp_path / f"train_data_batch_{number}").write_bytes(batch(number, "pickle2"))
    assert not open_source("imagenet32", tmp_path).notices  # type: ignore[attr-defined]
    for number in (3, 10):
        (tmp_path / f"train_data_batch_{number}").unlink()
    (notice,) = open_source("imagenet32", tmp_path).notices.summary()  # type: ignore[attr-defined]
    assert notice.reason == "batches of the official data that are not there"
    assert notice.examples == ("train_data_batch_03", "train_data_batch_10")


def test_pickle_and_npz_of_one_batch_are_refused(tmp_path: Path) -> None:
    root = store(files("npz") | files("pickle4"), "folder", tmp_path)
    with pytest.raises(SourceError, match="as pickle and as npz"):
        len(open_source("imagenet32", root))
    with pytest.raises(SourceError, match="has train and val only"):
        open_source("imagenet32", root, split="test")


@pytest.mark.parametrize(("split", "count"), [("train", 1000), ("val", 200)])
def test_the_real_pickles(real_data: Path, tmp_path: Path, split: str, count: int) -> None:
    path = real_data / "imagenet32-pickles-small.tar.gz"
    source = open_source("imagenet32", path, split=split).spool(tmp_path / "spool")
    data, codes = [], []
    with tarfile.open(path) as archive:
        for name in sorted(archive.getnames()):
            if f"_{split}/" in name:
                content = pickle.load(archive.extractfile(name))  # type: ignore[arg-type]  # noqa: S301
                data.append(content["data"])
                codes += content["labels"]
    images = np.concatenate(data).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert len(source) == count
    np.testing.assert_array_equal(np.stack([source.read(index).data for index in range(count)]), images)
    assert source.labels.tolist() == [code - 1 for code in codes]


@pytest.mark.parametrize("where", ["folder", "tar", "tar.gz", "zip"])
def test_files_beside_the_batches_are_told(tmp_path: Path, where: str) -> None:
    more = {"Imagenet_train/labels.txt": b"x", "Imagenet_train/train_data_batch_1.bak": b"x"}
    root = store(files("pickle2") | more, where, tmp_path)
    told = {notice.reason: notice.examples for notice in notices_of(open_source("imagenet32", root)).summary()}
    prefix = "" if where == "folder" else "Imagenet_train/"
    assert told["files that are no part of the official data"] == (
        f"{prefix}labels.txt",
        f"{prefix}train_data_batch_1.bak",
    )
