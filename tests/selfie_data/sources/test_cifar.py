"""CIFAR-10 and CIFAR-100, python and binary versions, packed and unpacked, hand-made and real."""

import gzip
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from selfie_data.errors import SourceError
from selfie_data.notices import notices_of
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from selfie_data.sources.readers import checksums
from selfie_data.sources.readers.checksums import OFFICIAL, Official
from tests.selfie_data.sources.handmade import python2_batch, python2_names, tar_of

NAMES = ["truck", "airplane", "cat"]  # not sorted: the numbering must be mapped by name
SORTED = ("airplane", "cat", "truck")
FINE = ["whale", "apple", "bear"]
COARSE = ["sea", "land"]


def planar(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def as_images(rows: np.ndarray) -> np.ndarray:
    """The slow and obvious way: pixel by channel."""
    images = np.empty((len(rows), 32, 32, 3), dtype=np.uint8)
    for channel in range(3):
        images[..., channel] = rows[:, channel * 1024 : (channel + 1) * 1024].reshape(-1, 32, 32)
    return images


TRAIN, TEST = [planar(4, seed) for seed in range(5)], planar(3, 9)
TRAIN_LABELS = [[0, 1, 2, number % 3] for number in range(5)]
TEST_LABELS = [2, 2, 0]


def cifar10(version: str) -> dict[str, bytes]:
    if version == "python":
        files = {
            f"c/data_batch_{number + 1}": python2_batch(TRAIN[number], TRAIN_LABELS[number])
            for number in (3, 0, 1, 2, 4)
        }
        return files | {"c/batches.meta": python2_names(NAMES), "c/test_batch": python2_batch(TEST, TEST_LABELS)}
    files = {
        f"c/data_batch_{number + 1}.bin": records(TRAIN[number], [TRAIN_LABELS[number]]) for number in (3, 0, 1, 2, 4)
    }
    meta = ("\n".join(NAMES) + "\n\n").encode()
    return files | {"c/test_batch.bin": records(TEST, [TEST_LABELS]), "c/batches.meta.txt": meta, "c/readme.html": b"x"}


def records(rows: np.ndarray, labels: list[list[int]]) -> bytes:
    columns = [np.array(column, dtype=np.uint8)[:, None] for column in labels]
    return np.hstack([*columns, rows]).tobytes()


def cifar100(version: str) -> dict[str, bytes]:
    fine, coarse = [2, 0, 1, 1], [0, 1, 1, 0]
    if version == "python":
        batch = {"data": TRAIN[0], "fine_labels": fine, "coarse_labels": coarse, "filenames": ["a"] * 4}
        meta = {"fine_label_names": FINE, "coarse_label_names": COARSE}
        return {"c/meta": pickle.dumps(meta), "c/train": pickle.dumps(batch), "c/test": pickle.dumps(batch)}
    names = {
        f"c/{key}_label_names.txt": "\n".join(value).encode() for key, value in (("fine", FINE), ("coarse", COARSE))
    }
    return {"c/train.bin": records(TRAIN[0], [coarse, fine]), "c/test.bin": records(TRAIN[0], [coarse, fine]), **names}


def store(files: dict[str, bytes], form: str, folder: Path, name: str = "cifar-10-x.tar.gz") -> Path:
    """Puts a layout where a user may have it; returns what --root would be."""
    folder.mkdir(exist_ok=True)
    if form == "folder":
        for path, data in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data)
        return folder / "c"
    if form == "tar":
        path = folder / name.removesuffix(".gz")
        path.write_bytes(tar_of(files))
        return path
    path = folder / name
    path.write_bytes(gzip.compress(tar_of(files)))
    return path


def pixels(source: ImageSource) -> np.ndarray:
    images = [source.read(index).data for index in range(len(source))]
    assert all(isinstance(image, np.ndarray) and not image.flags.writeable for image in images)
    return np.stack(images)


@pytest.mark.parametrize("form", ["folder", "tar", "gzip"])
@pytest.mark.parametrize("version", ["python", "binary"])
def test_cifar10_in_every_form(tmp_path: Path, version: str, form: str) -> None:
    root = store(cifar10(version), form, tmp_path / "data")
    train, test = (open_source("cifar10", root, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (20, 3)
    assert train.spool_bytes >= 20 * 3072
    spooled = train.spool(tmp_path / "train"), test.spool(tmp_path / "test")
    np.testing.assert_array_equal(pixels(spooled[0]), as_images(np.concatenate(TRAIN)))
    np.testing.assert_array_equal(pixels(spooled[1]), as_images(TEST))
    for source, codes in zip(spooled, (np.concatenate(TRAIN_LABELS), TEST_LABELS), strict=True):
        assert source.class_names == SORTED
        assert [source.class_names[label] for label in source.labels] == [NAMES[code] for code in codes]
    assert spooled[0].read(5).name == ("data_batch_2/00001" if version == "python" else "data_batch_2.bin/00001")
    assert str(tmp_path) not in repr(spooled[0].description)


@pytest.mark.parametrize("labels", ["fine", "coarse"])
@pytest.mark.parametrize("version", ["python", "binary"])
def test_cifar100_has_two_kinds_of_labels(tmp_path: Path, version: str, labels: str) -> None:
    root = store(cifar100(version), "gzip", tmp_path, "cifar-100-x.tar.gz")
    source = open_source("cifar100", root, labels=labels).spool(tmp_path / "spool")
    names = [source.class_names[label] for label in source.labels]
    assert names == (["bear", "whale", "apple", "apple"] if labels == "fine" else ["sea", "land", "land", "sea"])
    assert source.class_names == (("apple", "bear", "whale") if labels == "fine" else ("land", "sea"))
    assert source.description["labels"] == labels
    np.testing.assert_array_equal(pixels(source), as_images(TRAIN[0]))


def test_the_folder_around_is_enough(tmp_path: Path) -> None:
    store(cifar10("python"), "folder", tmp_path / "unpacked")
    store(cifar10("python"), "gzip", tmp_path / "packed")
    fingerprints = {open_source("cifar10", tmp_path / name).fingerprint for name in ("unpacked", "packed")}
    assert len(fingerprints) == 2
    assert len(open_source("cifar10", tmp_path / "unpacked")) == 20
    assert len(open_source("cifar10", tmp_path / "packed")) == 20
    store(cifar10("binary"), "gzip", tmp_path / "packed", "cifar-10-y.tar.gz")
    with pytest.raises(
        SourceError, match=r"several candidates for cifar10 \(cifar-10-x\.tar\.gz, cifar-10-y\.tar\.gz\)"
    ):
        open_source("cifar10", tmp_path / "packed")


def test_both_versions_give_the_same_images_and_labels(tmp_path: Path) -> None:
    sources = [
        open_source("cifar10", store(cifar10(version), "tar", tmp_path / version)).spool(tmp_path / version / "spool")
        for version in ("python", "binary")
    ]
    np.testing.assert_array_equal(pixels(sources[0]), pixels(sources[1]))
    np.testing.assert_array_equal(sources[0].labels, sources[1].labels)


def test_a_class_list_is_applied(tmp_path: Path) -> None:
    root = store(cifar10("python"), "tar", tmp_path)
    source = open_source("cifar10", root, classes=["zebra", *NAMES, "bee"])
    assert source.class_names == ("zebra", *NAMES, "bee")
    assert [source.class_names[label] for label in source.labels[:4]] == ["truck", "airplane", "cat", "truck"]
    with pytest.raises(SourceError, match="the class 'truck' is not in the list of 2 classes"):
        len(open_source("cifar10", root, classes=["airplane", "cat"]))


def test_splits_and_labels_that_are_not_there(tmp_path: Path) -> None:
    root = store(cifar10("python"), "tar", tmp_path)
    with pytest.raises(SourceError, match="`selfie-data split` takes a validation part out of train"):
        open_source("cifar10", root, split="val")
    with pytest.raises(SourceError, match="--labels coarse is for cifar100, parquet, got it for cifar10"):
        open_source("cifar10", root, labels="coarse")


def _without(name: str) -> dict[str, bytes]:
    return {path: data for path, data in cifar10("python").items() if not path.endswith(name)}


def test_missing_and_other_batches_are_noticed_and_missing_names_refused(tmp_path: Path) -> None:
    files = _without("data_batch_3")
    files |= {name.replace("data_batch_5", "data_batch_7"): data for name, data in files.items() if "batch_5" in name}
    source = open_source("cifar10", store(files, "tar", tmp_path / "a")).spool(tmp_path / "spool")
    assert len(source) == 20
    assert {(notice.reason, notice.examples) for notice in notices_of(source).summary()} == {
        ("batches of the official data that are not there", ("data_batch_3",)),
        ("batches that the official data has not, used like the others", ("data_batch_7",)),
    }
    with pytest.raises(SourceError, match=r"holds no batches\.meta or batches\.meta\.txt: the class names are missing"):
        open_source("cifar10", store(_without("batches.meta"), "tar", tmp_path / "b"))
    with pytest.raises(SourceError, match="holds no test batch of cifar10"):
        len(open_source("cifar10", store(_without("test_batch"), "tar", tmp_path / "c"), split="test"))


def batch_with(**changes: object) -> bytes:
    return pickle.dumps({"data": TRAIN[0], "labels": [0, 1, 2, 0]} | changes, protocol=2)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (batch_with(labels=[0, 1]), "data_batch_1: 2 labels for 4 images"),
        (batch_with(labels=[0, 1, 2, 3]), "a label is 3, but there are only 3 class names"),
        (batch_with(labels=[0, 1, 2, -1]), "labels must be in"),
        (batch_with(labels=[0.5, 1, 2, 0]), "labels must be integers, got float64"),
        (batch_with(labels=[[0, 1], [1], [2], [0]]), "several labels"),
        (batch_with(labels=np.zeros((4, 2), np.int64)), "several labels"),
        (batch_with(labels=["a", "b", "c", "d"]), "labels must be a list of integers"),
        (batch_with(labels=None), "labels must be a list of integers"),
        (batch_with(labels=[10**30, 1, 2, 0]), "labels must be"),
        (batch_with(data=None), "data must be uint8"),
        (batch_with(data=TRAIN[0].astype(np.float32)), "data must be uint8 .* got float32"),
        (batch_with(data=TRAIN[0][:, :3000]), "rows of 3000 bytes are no square RGB images"),
        (batch_with(data=TRAIN[0][:, :768]), "images must be 32x32"),
        (pickle.dumps([1]), "holds a list, not the dict"),
        (batch_with()[:-2000], "data_batch_1 is a corrupt pickle: it is truncated"),
    ],
)
def test_a_batch_that_is_not_as_it_should_be(tmp_path: Path, batch: bytes, message: str) -> None:
    root = store(cifar10("python") | {"c/data_batch_1": batch}, "folder", tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        len(open_source("cifar10", root))
    assert "\n" not in str(caught.value)


def test_a_truncated_binary_batch(tmp_path: Path) -> None:
    files = cifar10("binary")
    root = store(files | {"c/data_batch_1.bin": files["c/data_batch_1.bin"][:-1]}, "folder", tmp_path)
    with pytest.raises(SourceError, match=r"data_batch_1\.bin is truncated: 12291 bytes are no whole number"):
        len(open_source("cifar10", root))


def test_python_and_binary_batches_in_one_folder_are_refused(tmp_path: Path) -> None:
    store(cifar10("python"), "folder", tmp_path)
    root = store(cifar10("binary"), "folder", tmp_path)
    with pytest.raises(SourceError, match="holds python and binary batches"):
        len(open_source("cifar10", root))


def test_an_unspooled_source_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="call spool"):
        open_source("cifar10", store(cifar10("python"), "tar", tmp_path)).read(0)


def test_a_spool_goes_on_with_the_batches_that_are_missing(tmp_path: Path) -> None:
    source = open_source("cifar10", store(cifar10("python"), "gzip", tmp_path))
    source.spool(tmp_path / "spool")
    (tmp_path / "spool" / "data_batch_4.rows").unlink()
    (tmp_path / "spool" / "spool.json").write_text(
        (tmp_path / "spool" / "spool.json").read_text().replace('["data', 'null, "x": ["data')
    )
    np.testing.assert_array_equal(pixels(source.spool(tmp_path / "spool")), as_images(np.concatenate(TRAIN)))


def test_an_official_archive_is_checked_and_another_only_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cifar-10-python.tar.gz"
    path = store(cifar10("python"), "gzip", tmp_path, name)
    caplog.set_level("INFO")
    assert len(open_source("cifar10", path)) == 20
    assert f"the official archive {OFFICIAL[name].bytes}: used as it is" in caplog.text
    data = path.read_bytes()
    digest = hashlib.md5(data).hexdigest()
    monkeypatch.setitem(OFFICIAL, name, Official(len(data), digest))
    caplog.clear()
    open_source("cifar10", path)
    assert f"is the official archive (MD5 {digest})" in caplog.text
    monkeypatch.setitem(OFFICIAL, name, Official(len(data), "0" * 32))
    caplog.clear()
    open_source("cifar10", path)
    assert f"but MD5 {digest} where the official archive has {'0' * 32}: used as it is" in caplog.text
    monkeypatch.setattr(checksums, "_FREE_BYTES", 10)
    caplog.clear()
    open_source("cifar10", path)
    open_source("cifar10", path, checksum=False)
    assert caplog.text.count("its checksum was not computed") == 2
    open_source("cifar10", path, checksum=True)
    assert "but MD5" in caplog.text


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_real_pickles(real_data: Path, tmp_path: Path, split: str) -> None:
    path = real_data / "cifar-10-python-small.tar.gz"
    source = open_source("cifar10", path, split=split).spool(tmp_path / "spool")
    rows, codes = [], []
    with tarfile.open(path) as archive:
        for name in sorted(archive.getnames()):
            if ("data_batch" in name) if split == "train" else ("test_batch" in name):
                batch = pickle.load(archive.extractfile(name), encoding="bytes")  # type: ignore[arg-type]  # noqa: S301
                rows.append(batch[b"data"])
                codes += batch[b"labels"]
    assert len(source) == (5000 if split == "train" else 1000)
    np.testing.assert_array_equal(pixels(source), as_images(np.concatenate(rows)))
    assert source.labels.tolist() == codes
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert list(source.class_names) == names
