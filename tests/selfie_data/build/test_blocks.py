"""Builds by blocks: the bytes of a local build by blocks, by few requests, whatever works on them."""

import gzip
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.build.parts import Part, build_part, finish_build
from selfie_data.build.shard_task import BUILD, scratch_folder
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import BuildError, ImageError, OptionError
from selfie_data.source import BlockSource
from selfie_data.sources import open_source
from selfie_data.storage import gather
from selfie_data.storage.place import place_of, storage_of
from tests.material import jpeg, picture
from tests.selfie_data.build.test_build_shards import contents
from tests.selfie_data.build.test_remote import objects
from tests.selfie_data.build.test_workspace import Interrupt
from tests.selfie_data.sources.test_cifar import cifar10, store
from tests.servers.fault_proxy import FaultProxy

SMALL = BuildOptions(size=32, samples_per_shard=50)
BLOCKS = BuildOptions(size=32, samples_per_shard=50, block_bytes=1 << 16)
IMAGES = 240


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of 240 photographs of 4 classes, about 5 KB each, in no order of names, an empty file among them."""
    path = tmp_path_factory.mktemp("archive") / "pictures.tar"
    images = [jpeg(picture(60 + n % 7, 70, seed=n)) for n in range(IMAGES)]
    with tarfile.open(path, "w") as tar:
        for n in np.random.default_rng(0).permutation(IMAGES).tolist():
            member = tarfile.TarInfo(f"class{n % 4}/{n:03d}.jpg")
            data = b"" if n == 17 else images[n]
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def remote_archive(archive: Path, bucket: str) -> str:
    storage_of(place_of(bucket)).write("pictures.tar", archive.read_bytes())
    return f"{bucket}/pictures.tar"


@pytest.fixture(scope="module")
def expected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a local build by blocks."""
    out = tmp_path_factory.mktemp("expected") / "out"
    build_shards(open_source("tar", archive), out, BLOCKS, workers=1)
    return contents(out)


def test_parts_by_blocks_give_the_bytes_of_one_process(
    remote_archive: str, bucket: str, expected: dict[str, bytes]
) -> None:
    out = f"{bucket}/parts"
    for part in ("0/3", "3/3", "1/3", "2/3"):
        build_part(open_source("tar", remote_archive), out, BLOCKS, Part.parse(part), workers=1)
    finish_build(out)
    storage = storage_of(place_of(out))
    assert {found.name: storage.read(found.name) for found in storage.list()} == expected


BUILD_IT = """
import sys
from selfie_data.build.build_shards import build_shards
from selfie_data.sources import open_source
from tests.selfie_data.build.test_blocks import BLOCKS
if __name__ == "__main__":
    build_shards(open_source(sys.argv[1], sys.argv[2]), sys.argv[3], BLOCKS, workers=2)
"""


def test_few_requests_bring_the_bytes_of_a_local_build_by_blocks(
    remote_archive: str,
    expected: dict[str, bytes],
    proxy: FaultProxy,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gather, "_GAP", 4096)
    source = open_source("tar", remote_archive)
    proxy.reset_counts()
    manifest = build_shards(source, tmp_path / "out", BLOCKS, workers=1)
    assert contents(tmp_path / "out") == expected
    assert manifest.options["block_bytes"] == 1 << 16
    assert manifest.samples == IMAGES - 1
    size = archive.stat().st_size
    blocks, shards = -(-size // BLOCKS.block_bytes), -(-IMAGES // 50)  # type: ignore[operator]
    assert blocks > 10
    looked_at = 32  # images of which the estimate is made
    assert proxy.requests["GET"] <= blocks + 2 * shards + looked_at
    assert proxy.down < 1.2 * size + looked_at * 10_000


def test_workers_do_not_change_the_bytes(remote_archive: str, expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"  # a process of its own, whose workers have this test's environment
    subprocess.run([sys.executable, "-c", BUILD_IT, "tar", remote_archive, str(out)], check=True, timeout=120)
    assert contents(out) == expected


def test_what_lies_in_a_bucket_goes_by_blocks_unless_asked_otherwise(
    remote_archive: str, archive: Path, tmp_path: Path
) -> None:
    far, here = open_source("tar", remote_archive), open_source("tar", archive)
    assert build_shards(far, tmp_path / "far", SMALL, workers=1).options["block_bytes"] == 16 << 20
    everywhere = BuildOptions(size=32, samples_per_shard=50, block_bytes=0)
    build_shards(far, tmp_path / "everywhere", everywhere, workers=1)
    assert "block_bytes" not in build_shards(here, tmp_path / "here", SMALL, workers=1).options
    assert contents(tmp_path / "everywhere") == contents(tmp_path / "here")


@pytest.mark.parametrize("kind", ["cifar10", "tar"])
def test_what_is_spooled_goes_into_the_bucket_and_no_disk_has_all_of_it(
    kind: str, archive: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun by one process, gone on with by parts: the bytes of a local build by the same blocks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if kind == "tar":
        path = tmp_path / "pictures.tar.gz"
        path.write_bytes(gzip.compress(archive.read_bytes()))
    else:
        path = store(cifar10("python"), "gzipped tar", tmp_path / "cifar")
    options = replace(BLOCKS, samples_per_shard=50 if kind == "tar" else 4)
    build_shards(open_source(kind, path), tmp_path / "expected", options, workers=1)
    storage_of(place_of(bucket)).write(path.name, path.read_bytes())
    source, out = open_source(kind, f"{bucket}/{path.name}"), f"{bucket}/out"
    with pytest.raises(KeyboardInterrupt):
        build_shards(source, out, options, workers=1, progress=Interrupt(after=5))
    build = {each.name for each in storage_of(place_of(out)).list(BUILD)}
    assert {f"{BUILD}/spool/spool.json"} < build
    assert not (scratch_folder(place_of(out)) / "spool").exists()
    for part in ("2/2", "1/2"):
        build_part(source, out, options, Part.parse(part), workers=1)
    finish_build(out)
    assert objects(out) == contents(tmp_path / "expected")


def test_a_spool_in_a_bucket_is_kept_when_the_build_fails(archive: Path, bucket: str) -> None:
    storage_of(place_of(bucket)).write("pictures.tar.gz", gzip.compress(archive.read_bytes()))
    source, out = open_source("tar", f"{bucket}/pictures.tar.gz"), f"{bucket}/out"
    with pytest.raises(BuildError, match=r"class1/017.jpg.* \(--on-error quarantine goes on without it\)"):
        build_shards(source, out, replace(BLOCKS, samples_per_shard=300, on_error="fail"), workers=1)
    kept = [each.name for each in storage_of(place_of(out)).list(BUILD) if each.name.endswith(".rows")]
    assert kept


def test_a_part_has_images_of_every_block(archive: Path, tmp_path: Path) -> None:
    part = BuildOptions(size=32, samples_per_shard=50, block_bytes=1 << 16, limit=80)
    build_shards(open_source("tar", archive), tmp_path / "out", part, workers=1)
    labels = open_dataset(tmp_path / "out").table.label
    assert 79 <= len(labels) <= 80
    assert np.bincount(labels, minlength=4).min() > 5


def test_a_build_that_was_interrupted_goes_on_and_one_of_another_plan_is_told_how(
    remote_archive: str, expected: dict[str, bytes], tmp_path: Path
) -> None:
    source, out = open_source("tar", remote_archive), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        build_shards(source, out, BLOCKS, workers=1, progress=Interrupt(after=120))
    with pytest.raises(BuildError, match=r"options\.block_bytes = 65536, .*16777216; give --block-bytes 65536"):
        build_shards(source, out, SMALL, workers=1)
    build_shards(source, out, BLOCKS, workers=1)
    assert contents(out) == expected
    before = BuildOptions(size=32, samples_per_shard=50, block_bytes=0)
    with pytest.raises(KeyboardInterrupt):
        build_shards(source, tmp_path / "old", before, workers=1, progress=Interrupt(after=120))
    with pytest.raises(BuildError, match=r"options\.block_bytes = 0, asked for is 16777216; give --block-bytes 0"):
        build_shards(source, tmp_path / "old", SMALL, workers=1)


def test_blocks_of_what_lies_apart_are_refused(tmp_path: Path) -> None:
    source = open_source("synthetic", limit=10)
    with pytest.raises(OptionError, match="this source synthetic has each in a file of its own, or is Parquet of"):
        build_shards(source, tmp_path / "out", BLOCKS, workers=1)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Parquet files of 100 photographs each in row groups of 10, two without an image, a third of another split."""
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow, the extra `parquet`")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra `parquet`")
    folder = tmp_path_factory.mktemp("parquet")
    rows = [{"bytes": jpeg(picture(60 + n % 7, 70, seed=n)), "path": None} for n in range(200)]
    rows[5] = rows[106] = {"bytes": None, "path": "gone.jpg"}
    for number in range(2):
        numbers = range(number * 100, number * 100 + 100)
        table = {
            "image": rows[number * 100 : number * 100 + 100],
            "label": ["cat" if n % 3 else "dog" for n in numbers],
            "split": ["test" if n % 3 == 1 else "train" for n in numbers],
        }
        pq.write_table(pa.table(table), folder / f"part-{number:05d}-of-00002.parquet", row_group_size=10)
    return folder


def test_parquet_in_a_bucket_is_built_by_its_row_groups_without_a_spool(
    parquet: Path, bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in parquet.iterdir():
        storage_of(place_of(bucket)).write(file.name, file.read_bytes())
    source = open_source("parquet", bucket)
    monkeypatch.setattr("selfie_data.sources.readers.spool.spool", None)
    proxy.reset_counts()
    manifest = build_shards(source, tmp_path / "out", BLOCKS, workers=1)
    assert manifest.samples == 133 - 1  # one of the two rows without an image is of the other split
    assert [entry.reason for entry in open_dataset(tmp_path / "out").quarantined()] == [
        "part-00000-of-00002.parquet/00000005 holds no image's bytes: null, or only a path"
    ]
    size = sum(file.stat().st_size for file in parquet.iterdir())
    assert proxy.down < 4 * size
    command = [sys.executable, "-c", BUILD_IT, "parquet", bucket, str(tmp_path / "again")]
    subprocess.run(command, check=True, timeout=120)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_parquet_in_a_bucket_has_the_images_and_labels_of_the_folder(
    parquet: Path, bucket: str, tmp_path: Path
) -> None:
    for file in parquet.iterdir():
        storage_of(place_of(bucket)).write(file.name, file.read_bytes())
    here, far = open_source("parquet", parquet).spool(tmp_path / "spool"), open_source("parquet", bucket)
    assert isinstance(far, BlockSource)
    together, blocks = far.in_blocks(1 << 16)
    assert (here.class_names, here.labels.tolist()) == (together.class_names, together.labels.tolist())
    order = np.random.default_rng(0).permutation(len(here)).tolist()
    for index, image in zip(order, together.read_together(order, tmp_path), strict=True):
        if isinstance(image, ImageError):
            with pytest.raises(ImageError, match=re.escape(str(image))):
                here.read(index)
        else:
            assert here.read(index) == image
    part = together.take(np.array(order[:40]))  # type: ignore[attr-defined]
    assert part.labels.tolist() == together.labels[order[:40]].tolist()
    alone = [str(each) for each in part.read_together(list(range(40)), tmp_path)]
    assert alone == [str(each) for each in together.read_together(order[:40], tmp_path)]
    assert 3 <= len(blocks) < 20
    assert blocks.starts[-1] == len(here)
