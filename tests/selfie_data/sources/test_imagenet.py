"""ILSVRC 2012: the tar of tars, the flat validation tar with its labels, class folders, and the devkit's mapping."""

import gzip
import io
import pickle
import tarfile
from pathlib import Path
from typing import cast

import pytest

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import notices_of
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from tests.selfie_data.sources.handmade import member, tar, tar_of

CLASSES = {"n00000002": ["b", "a"], "n00000001": ["c"], "n00000003": ["d", "e"]}
VALIDATION = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (3, 1, 2)]
WNIDS = ["n00000003", "n00000001", "n00000003"]  # in the order of the names
MAPPING = {2: "n00000001", 3: "n00000002", 1: "n00000003"}  # not the order of the sorted WNIDs


def class_tar(wnid: str) -> bytes:
    return tar_of({f"{wnid}_{name}.JPEG": f"{wnid} {name}".encode() for name in CLASSES[wnid]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "imagenet"
    folder.mkdir()
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of({f"{wnid}.tar": class_tar(wnid) for wnid in CLASSES}))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of({name: name.encode() for name in VALIDATION}))
    return folder


def check_validation(source: ImageSource, wnids: list[str] = WNIDS) -> None:
    assert [source.read(index).name for index in range(3)] == sorted(VALIDATION)
    assert [source.read(index).data for index in range(3)] == [name.encode() for name in sorted(VALIDATION)]
    assert [source.class_names[label] for label in source.labels] == wnids
    assert list(source.class_names) == sorted(set(wnids))


def test_the_tar_of_tars_is_read_in_place(root: Path) -> None:
    source = open_source("imagenet", root)
    names = [f"{wnid}/{wnid}_{name}.JPEG" for wnid in sorted(CLASSES) for name in sorted(CLASSES[wnid])]
    assert [source.read(index).name for index in range(len(source))] == names
    assert [source.read(index).data for index in range(len(source))] == [
        f"{wnid} {name}".encode() for wnid in sorted(CLASSES) for name in sorted(CLASSES[wnid])
    ]
    assert source.class_names == tuple(sorted(CLASSES))
    assert source.labels.tolist() == [0, 1, 1, 2, 2]
    assert source.spool_bytes == 0
    copy: ImageSource = pickle.loads(pickle.dumps(source))  # noqa: S301 - made above
    assert copy.read(3).data == b"n00000003 d"
    assert str(root) not in repr(source.description)


def test_other_classes_beside_the_wnids_are_refused(root: Path, tmp_path: Path) -> None:
    tars = {f"{wnid}.tar": class_tar(wnid) for wnid in CLASSES}
    path = root / "ILSVRC2012_img_train.tar"
    path.write_bytes(tar_of({**tars, "cat.tar": class_tar(next(iter(CLASSES)))}))
    with pytest.raises(SourceError, match="holds cat beside the classes, whose names are WNIDs"):
        open_source("imagenet", root)
    for name in (*CLASSES, "cat"):
        (tmp_path / "folders" / "train" / name).mkdir(parents=True)
        (tmp_path / "folders" / "train" / name / "a.JPEG").write_bytes(b"a")
    with pytest.raises(SourceError, match="train holds cat beside the classes"):
        open_source("imagenet", tmp_path / "folders")
    (tmp_path / "folders" / "train" / "cat" / "a.JPEG").unlink()
    (tmp_path / "folders" / "train" / "cat").rmdir()
    (tmp_path / "folders" / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "folders" / "train" / "README").touch()
    assert open_source("imagenet", tmp_path / "folders").class_names == tuple(sorted(CLASSES))


def test_a_list_of_wnids_labels_the_validation_images(root: Path, tmp_path: Path) -> None:
    synsets = tmp_path / "elsewhere.txt"
    synsets.write_text("\n".join(WNIDS) + "\n")
    check_validation(open_source("imagenet", root, split="val", synsets=synsets))
    (root / "ILSVRC2012_val_synsets.txt").write_text("\r\n".join(WNIDS))
    check_validation(open_source("imagenet", root, split="val"))
    check_validation(open_source("imagenet", root / "ILSVRC2012_img_val.tar", split="val"))


def test_the_class_list_of_training_numbers_validation(root: Path) -> None:
    (root / "ILSVRC2012_val_synsets.txt").write_text("\n".join(WNIDS))
    train = open_source("imagenet", root)
    assert open_source("imagenet", root, split="val", classes=train.class_names).labels.tolist() == [2, 0, 2]


def truth(folder: Path) -> Path:
    path = folder / "ILSVRC2012_validation_ground_truth.txt"
    numbers = {wnid: number for number, wnid in MAPPING.items()}
    path.write_text("\n".join(str(numbers[wnid]) for wnid in WNIDS) + "\n")
    return path


OFFICIAL = ["n01440764", "n02119789", "n01440764"]  # tench, kit fox, tench


def official_truth(folder: Path) -> Path:
    path = folder / "ILSVRC2012_validation_ground_truth.txt"
    path.write_text("449\n1\n449\n")
    return path


@pytest.mark.parametrize("separator", [" ", ","])
def test_ids_of_another_numbering_are_mapped(root: Path, tmp_path: Path, separator: str) -> None:
    mapping = tmp_path / "map.txt"
    mapping.write_text("\n".join(f"{number}{separator}{wnid}" for number, wnid in MAPPING.items()))
    check_validation(open_source("imagenet", root, split="val", devkit=mapping, ground_truth=truth(tmp_path)))


@pytest.mark.parametrize("form", ["mat", "folder", "kit", "tar.gz", "beside"])
def test_the_official_ids_are_mapped(root: Path, tmp_path: Path, form: str) -> None:
    kit = (root if form == "beside" else tmp_path) / "ILSVRC2012_devkit_t12"
    if form == "mat":
        kit = tmp_path / "meta.mat"
        kit.write_bytes(b"MATLAB 5.0 MAT-file".ljust(128))
    elif form == "tar.gz":
        kit = tmp_path / "kit.tar.gz"
        name = f"kit/data/{official_truth(tmp_path).name}"
        kit.write_bytes(gzip.compress(tar_of({name: official_truth(tmp_path).read_bytes()})))
        check_validation(open_source("imagenet", root, split="val", devkit=kit), OFFICIAL)
    else:
        data = kit if form == "folder" else kit / "data"
        data.mkdir(parents=True)
        official_truth(data)
        if form == "beside":
            check_validation(open_source("imagenet", root, split="val"), OFFICIAL)
        check_validation(open_source("imagenet", root, split="val", devkit=kit), OFFICIAL)
    ids = official_truth(tmp_path)
    check_validation(open_source("imagenet", root, split="val", devkit=kit, ground_truth=ids), OFFICIAL)


def test_the_official_ids_need_no_kit(root: Path, tmp_path: Path) -> None:
    ids = official_truth(tmp_path)
    check_validation(open_source("imagenet", root, split="val", ground_truth=ids), OFFICIAL)
    official_truth(root)
    check_validation(open_source("imagenet", root, split="val"), OFFICIAL)


def test_validation_without_labels_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="validation labels are missing: --synsets FILE"):
        open_source("imagenet", root, split="val")
    ids = tmp_path / "ids.txt"
    ids.write_text("1\n1001\n2\n")
    with pytest.raises(SourceError, match="line 2: '1001' is no ILSVRC2012 id"):
        open_source("imagenet", root, split="val", ground_truth=ids)
    (tmp_path / "kit").mkdir()
    with pytest.raises(SourceError, match=r"kit holds no ILSVRC2012_validation_ground_truth\.txt"):
        open_source("imagenet", root, split="val", devkit=tmp_path / "kit")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n00000003\nn00000001\n", "2 labels for 3 validation images"),
        ("n00000003\ncat\nn00000001\n", "line 2: a WNID such as n01440764 was expected, got 'cat'"),
        ("1\n2\n3\n", "line 1: a WNID such as"),
    ],
)
def test_lists_of_wnids_that_are_refused(root: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "synsets.txt"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        open_source("imagenet", root, split="val", synsets=path)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("1 n00000001\n1 n00000002\n", "id 1 stands for 'n00000002', which is no WNID or a second one"),
        ("1 cat\n", "id 1 stands for 'cat'"),
        ("n00000001\n", "the form is 'id WNID'"),
        ("7 n00000001\n", "line 1: '1' is no ILSVRC2012 id of the mapping"),
    ],
)
def test_mappings_that_are_refused(root: Path, tmp_path: Path, mapping: str, message: str) -> None:
    path = tmp_path / "map.txt"
    path.write_text(mapping)
    with pytest.raises(SourceError, match=message):
        open_source("imagenet", root, split="val", devkit=path, ground_truth=truth(tmp_path))


@pytest.mark.parametrize("below", ["", "train", "ILSVRC/Data/CLS-LOC/train"])
def test_class_folders(tmp_path: Path, below: str) -> None:
    for wnid, names in CLASSES.items():
        for name in names:
            path = tmp_path / below / wnid / f"{wnid}_{name}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{wnid} {name}".encode())
    source = open_source("imagenet", tmp_path)
    assert source.class_names == tuple(sorted(CLASSES))
    assert source.labels.tolist() == [0, 1, 1, 2, 2]
    assert source.read(1).data == b"n00000002 a"
    assert source.description["split"] == "train"


def test_folders_inside_a_class_are_of_that_class(tmp_path: Path) -> None:
    for name in ("n00000001/a.JPEG", "n00000001/more/b.JPEG", "n00000002/images/c.JPEG"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(name.encode())
    source = open_source("imagenet", tmp_path)
    assert (source.class_names, source.labels.tolist()) == (("n00000001", "n00000002"), [0, 0, 1])
    assert not notices_of(source)
    assert len(open_source("imagenet", tmp_path, subtree="n00000001")) == 2


def test_what_lies_beside_the_archive_of_the_split_is_told(root: Path) -> None:
    (root / "train/n00000001").mkdir(parents=True)
    (root / "train/n00000001/a.JPEG").write_bytes(b"a")
    (root / "ILSVRC2012_img_train_t3.tar").write_bytes(b"")
    (notice,) = notices_of(open_source("imagenet", root)).summary()
    assert notice.reason == "archives and folders of the split beside the one that is read"
    assert notice.examples == ("ILSVRC2012_img_train_t3.tar", "train")


def test_a_flat_validation_folder_with_wnids(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for name in VALIDATION:
        (tmp_path / "val" / name).write_bytes(name.encode())
    with pytest.raises(SourceError, match="validation labels are missing"):
        open_source("imagenet", tmp_path, split="val")
    (tmp_path / "ILSVRC2012_val_synsets.txt").write_text("\n".join(WNIDS))
    check_validation(open_source("imagenet", tmp_path, split="val"))


def test_the_test_set_is_unlabelled(root: Path) -> None:
    (root / "ILSVRC2012_img_test_v10102019.tar").write_bytes(tar_of({f"test/{name}": b"x" for name in VALIDATION}))
    source = open_source("imagenet", root, split="test")
    assert source.labels.tolist() == [-1, -1, -1]


def test_wrong_files_for_a_split_are_refused(root: Path) -> None:
    with pytest.raises(SourceError, match="is flat: it is no training set"):
        open_source("imagenet", root / "ILSVRC2012_img_val.tar")
    with pytest.raises(SourceError, match="is the training set, got --split val"):
        open_source("imagenet", root / "ILSVRC2012_img_train.tar", split="val")
    (root / "test_1.tar").write_bytes(tar_of(dict.fromkeys(VALIDATION, b"x")))
    with pytest.raises(OptionError, match=r"is test_1\.tar of val, as --split says, or of test\?"):
        open_source("imagenet", root / "test_1.tar", split="val")
    for name in ("val", "train"):
        (root / name / "n00000001").mkdir(parents=True)
        (root / name / "n00000001" / "1.JPEG").write_bytes(b"x")
    with pytest.raises(OptionError, match=r"is val of train, as --split says, or of val\? --split val reads it"):
        open_source("imagenet", root / "val")
    assert len(open_source("imagenet", root / "val", split="val")) == len(open_source("imagenet", root / "train")) == 1
    with pytest.raises(SourceError, match=r"holds neither ILSVRC2012_img_test\.tar nor class folders"):
        open_source("imagenet", root, split="test")


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (class_tar("n00000001")[:600], r"n00000009\.tar is truncated"),
        (b"no tar" * 200, r"n00000009\.tar is no tar archive"),
        (b"", r"n00000009\.tar is empty"),
        (tar(member("../1.JPEG")), r"n00000009\.tar: member \.\./1\.JPEG points out"),
        (tar(member("readme.txt")), r"n00000009\.tar holds no images"),
        (tar(member("a.JPEG"), member("a.JPEG")), r"holds n00000009/a\.JPEG twice"),
    ],
)
def test_a_bad_class_tar_is_named(tmp_path: Path, inner: bytes, message: str) -> None:
    path = tmp_path / "ILSVRC2012_img_train.tar"
    path.write_bytes(tar_of({"n00000001.tar": class_tar("n00000001"), "n00000009.tar": inner}))
    with pytest.raises(SourceError, match=message):
        open_source("imagenet", path)


def test_a_truncated_tar_of_tars_is_refused(root: Path) -> None:
    path = root / "ILSVRC2012_img_train.tar"
    data = path.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        end = max(info.offset_data + info.size for info in archive)
    for length in range(512, end, 512):
        path.write_bytes(data[:length])
        with pytest.raises(SourceError, match="truncated"):
            open_source("imagenet", path)


def test_the_real_training_tar(real_data: Path) -> None:
    path = real_data / "ILSVRC2012_img_train-small.tar"
    source = open_source("imagenet", path)
    files = {}
    with tarfile.open(path) as outer:
        for info in outer:
            with tarfile.open(fileobj=outer.extractfile(info)) as inner:
                for image in inner:
                    data = cast(io.BufferedReader, inner.extractfile(image)).read()
                    files[f"{info.name.removesuffix('.tar')}/{image.name}"] = data
    assert len(source) == len(files) == 1000
    for index, name in enumerate(sorted(files)):
        image = source.read(index)
        assert (image.name, image.data) == (name, files[name])
        assert source.class_names[source.labels[index]] == name.split("/")[0]


def test_the_real_validation_tar(real_data: Path) -> None:
    source = open_source("imagenet", real_data, split="val")
    wnids = (real_data / "ILSVRC2012_val_synsets-small.txt").read_text().split()
    with tarfile.open(real_data / "ILSVRC2012_img_val-small.tar") as archive:
        files = {info.name: cast(io.BufferedReader, archive.extractfile(info)).read() for info in archive}
    assert len(source) == len(files) == 400
    for index, (name, wnid) in enumerate(zip(sorted(files), wnids, strict=True)):
        assert source.read(index) == (name, files[name])
        assert source.class_names[source.labels[index]] == wnid
