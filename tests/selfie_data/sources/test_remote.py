"""Sources in a bucket: the images, labels and names of the same source in a folder."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.errors import ImageError, SourceError
from selfie_data.source import ImageSource, read_images
from selfie_data.sources import open_source
from selfie_data.sources.readers.checksums import OFFICIAL, Official
from selfie_data.storage import remote
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of
from selfie_data.storage.protocol import StorageError
from tests.material import jpeg, picture
from tests.selfie_data.sources.test_cifar import cifar10, store
from tests.servers.fault_proxy import Fault, FaultProxy


def upload(folder: Path, url: str) -> None:
    storage = storage_of(place_of(url))
    for found in LocalStorage(folder).list():
        storage.write(found.name, (folder / found.name).read_bytes())


def photographs(folder: Path, count: int = 40) -> dict[str, bytes]:
    files = {f"class{n % 3}/{n:02d}.jpg": jpeg(picture(60 + n, 70, seed=n)) for n in range(count)}
    files |= {"class0/empty.jpg": b"", "class1/none.txt": b"text", "class2/without-suffix": files["class1/01.jpg"]}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return files


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def told(source: ImageSource, scratch: Path) -> tuple[object, ...]:
    """Everything that a build makes of a source."""
    opened = source.spool(scratch)
    images = list(read_images(opened, list(range(len(opened)))))
    data = [
        str(each) if isinstance(each, ImageError) else (each.name, np.asarray(each.data).tobytes()) for each in images
    ]
    notices = getattr(opened, "notices").summary()  # noqa: B009
    return dict(opened.description), opened.class_names, opened.labels.tolist(), data, notices


@pytest.mark.parametrize("kind", ["folder", "tar", "gzipped", "shards", "parquet", "imagenet", "cifar10", "table"])
def test_a_source_in_a_bucket_is_the_one_in_the_folder(kind: str, bucket: str, tmp_path: Path) -> None:
    here = tmp_path / "source"
    here.mkdir()
    options: dict[str, object] = {}
    name, roots = kind, (str(here), bucket)
    if kind in ("folder", "table"):
        photographs(here)
        name = "folder"
        if kind == "table":
            table = tmp_path / "table.csv"
            table.write_text("path,label\nclass0/00.jpg,cat\nclass1/01.jpg,dog\nclass2/gone.jpg,dog\n")
            options["table"] = table
    elif kind in ("tar", "gzipped"):
        tar_of(here / "one.tar", photographs(tmp_path / "made"), "w" if kind == "tar" else "w:gz")
        name, roots = "tar", (f"{here}/one.tar", f"{bucket}/one.tar")
    elif kind == "shards":
        for shard in range(3):
            files = {
                f"{n:03d}.{end}": data
                for n in range(shard, 30, 3)
                for end, data in (("jpg", jpeg(picture(40, 50, seed=n))), ("cls", b"%d" % (n % 4)))
            }
            tar_of(here / f"s-{shard}.tar", files)
        name, roots = "tar", (f"{here}/s-{{0..2}}.tar", f"{bucket}/s-{{0..2}}.tar")
    elif kind == "parquet":
        pa = pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
        pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra `parquet`")
        rows = [{"bytes": jpeg(picture(50, 50, seed=n)), "path": f"{n}.jpg"} for n in range(20)]
        (here / "data").mkdir()
        for number in range(2):
            part = pa.table({"image": rows[number::2], "label": pa.array([n % 3 for n in range(10)], pa.int64())})
            pq.write_table(part, here / f"data/train-{number:05d}-of-00002.parquet", row_group_size=4)
    elif kind == "imagenet":
        inner = {}
        for wnid in ("n01440764", "n01443537"):
            tar_of(tmp_path / "inner.tar", {f"{wnid}_{n}.JPEG": jpeg(picture(45, 60, seed=n)) for n in range(8)})
            inner[f"{wnid}.tar"] = (tmp_path / "inner.tar").read_bytes()
        tar_of(here / "ILSVRC2012_img_train.tar", inner)
    else:
        store(cifar10("python") | {"c/mine.png": b"x"}, "gzipped tar", here)
    upload(here, bucket)
    local, far = (open_source(name, root, **options) for root in roots)  # type: ignore[arg-type]
    found = told(far, tmp_path / "a")
    assert found == told(local, tmp_path / "b")
    if kind == "cifar10":
        assert "c/mine.png" in str(found[-1])


def test_an_official_archive_is_not_fetched_again_to_look_for_other_files(
    bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = store(cifar10("python"), "gzipped tar", tmp_path / "here")
    upload(archive.parent, bucket)
    fetched = []
    for size in (1, archive.stat().st_size):
        monkeypatch.setitem(OFFICIAL, archive.name, Official(size, ""))
        proxy.reset_counts()
        open_source("cifar10", f"{bucket}/{archive.name}")
        fetched.append(proxy.requests["GET"])
    assert fetched[1] < fetched[0]


def test_many_images_are_fetched_at_once_and_few_are_held(bucket: str, tmp_path: Path, proxy: FaultProxy) -> None:
    photographs(tmp_path / "made")
    upload(tmp_path / "made", bucket)
    source = open_source("folder", bucket)
    proxy.reset_counts()
    images = read_images(source, list(range(len(source))))
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert proxy.requests["GET"] <= 33


def test_listing_a_tar_reads_it_by_parts_and_skips_what_is_large(
    bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("selfie_data.sources.readers.tarball.PART_BYTES", 4096)
    small = {f"a{n:03d}.jpg": bytes(100) for n in range(100)}  # 1,024 bytes a member
    tar_of(tmp_path / "one.tar", {**small, "b.jpg": bytes(1 << 20), "c.jpg": bytes(1 << 20)})
    storage_of(place_of(bucket)).write("one.tar", (tmp_path / "one.tar").read_bytes())
    proxy.reset_counts()
    assert len(open_source("tar", f"{bucket}/one.tar")) == 102
    assert proxy.requests["GET"] <= 25 + 6
    assert proxy.down < 200_000


def test_what_the_network_does_is_no_images_fault(
    bucket: str, tmp_path: Path, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(tmp_path / "made")
    upload(tmp_path / "made", bucket)
    source = open_source("folder", bucket)
    monkeypatch.setattr(remote, "_RETRIES", 1)
    remote._new_store.cache_clear()
    proxy.faults = [Fault("status", status=503)] * 100
    with pytest.raises(StorageError, match="cannot be read"):
        list(read_images(source, list(range(len(source)))))


def test_an_object_that_has_gone_is_left_out_and_a_tar_that_has_changed_ends_the_build(
    bucket: str, tmp_path: Path
) -> None:
    files = photographs(tmp_path / "made")
    upload(tmp_path / "made", bucket)
    tar_of(tmp_path / "one.tar", files)
    storage = storage_of(place_of(bucket))
    storage.write("tars/one.tar", (tmp_path / "one.tar").read_bytes())
    folder, tar = open_source("folder", f"{bucket}/class1"), open_source("tar", f"{bucket}/tars/one.tar")
    storage.delete(["class1/01.jpg"])
    storage.write("tars/one.tar", (tmp_path / "one.tar").read_bytes()[:-1024])
    assert [str(each) for each in read_images(folder, list(range(len(folder)))) if isinstance(each, ImageError)] == [
        "cannot read 01.jpg: No such file or directory"
    ]
    with pytest.raises(SourceError, match="has changed while it was read"):
        tar.read(0)


def test_from_bucket_to_bucket_is_from_folder_to_folder(bucket: str, tmp_path: Path) -> None:
    photographs(tmp_path / "made")
    upload(tmp_path / "made", f"{bucket}/made")
    options = BuildOptions(size=32, samples_per_shard=16)
    build_shards(open_source("folder", tmp_path / "made"), tmp_path / "out", options, workers=1)
    build_shards(open_source("folder", f"{bucket}/made"), f"{bucket}/out", options, workers=1)
    storage = storage_of(place_of(f"{bucket}/out"))
    local = LocalStorage(tmp_path / "out")
    assert {found.name: storage.read(found.name) for found in storage.list()} == {
        found.name: local.read(found.name) for found in local.list()
    }


def test_a_source_at_a_web_server(web: tuple[str, Path], tmp_path: Path) -> None:
    url, root = web
    archive = store(cifar10("python"), "gzipped tar", root)
    sources = [open_source("cifar10", place) for place in (f"{url}/{archive.name}", archive)]
    assert told(sources[0], tmp_path / "a") == told(sources[1], tmp_path / "b")


def ilsvrc(path: Path, scratch: Path, count: int = 60) -> None:
    inner = {}
    for wnid in ("n01440764", "n01443537", "n01484850"):
        tar_of(scratch / "inner.tar", {f"{wnid}_{n}.JPEG": jpeg(picture(45, 60, seed=n)) for n in range(count)})
        inner[f"{wnid}.tar"] = (scratch / "inner.tar").read_bytes()
    tar_of(path, inner)


@pytest.mark.parametrize("kind", ["tar", "imagenet"])
def test_a_tar_is_listed_once_and_again_only_if_it_or_the_listing_changes(
    kind: str, bucket: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    archive, url = tmp_path / "ILSVRC2012_img_train.tar", f"{bucket}/ILSVRC2012_img_train.tar"
    if kind == "tar":
        tar_of(archive, {**photographs(tmp_path / "made", 200), "class0/long\u00e9" + "n" * 120 + ".jpg": b"\xff\xd8"})
    else:
        ilsvrc(archive, tmp_path)
    storage_of(place_of(bucket)).write(archive.name, archive.read_bytes())
    listings = place_of(f"{bucket}/out/.build/listings")

    def cost() -> int:
        proxy.reset_counts()
        open_source(kind, url, listings=listings)
        return proxy.down

    size = archive.stat().st_size
    assert cost() > size / 2
    for _ in range(2):  # as it was listed, and as it is found
        source = open_source(kind, url, listings=listings)
        assert told(source, tmp_path) == told(open_source(kind, archive), tmp_path)
    kept = list(storage_of(listings).list())
    assert len(kept) == (1 if kind == "tar" else 2)
    assert cost() < min(60_000, sum(file.size for file in kept) + 5_000)
    for file in kept:
        storage_of(listings).write(file.name, storage_of(listings).read(file.name)[:-1] + b"?")
    assert cost() > size / 2
    storage_of(place_of(bucket)).write(archive.name, archive.read_bytes() + bytes(512))
    assert cost() > size / 2
    assert len(list(storage_of(listings).list())) == 2 * len(kept)


def test_a_tar_of_large_members_is_listed_without_what_lies_between_their_headers(
    bucket: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    large = {f"{n}.jpg": bytes(3 << 20) for n in range(6)}
    tar_of(tmp_path / "one.tar", large)
    storage_of(place_of(bucket)).write("one.tar", (tmp_path / "one.tar").read_bytes())
    proxy.reset_counts()
    assert len(open_source("tar", f"{bucket}/one.tar")) == 6
    assert proxy.down < 8 * (64 << 10)
