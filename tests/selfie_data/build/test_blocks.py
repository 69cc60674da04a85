"""Builds by blocks: the bytes of a local build by blocks, by few requests, whatever works on them."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import BuildError, OptionError
from selfie_data.sources import open_source
from selfie_data.storage import gather
from selfie_data.storage.place import place_of, storage_of
from tests.material import jpeg, picture
from tests.selfie_data.build.test_build_shards import contents
from tests.selfie_data.build.test_workspace import Interrupt
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


BUILD_IT = """
import sys
from selfie_data.build.build_shards import build_shards
from selfie_data.sources import open_source
from tests.selfie_data.build.test_blocks import BLOCKS
if __name__ == "__main__":
    build_shards(open_source("tar", sys.argv[1]), sys.argv[2], BLOCKS, workers=2)
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
    subprocess.run([sys.executable, "-c", BUILD_IT, remote_archive, str(out)], check=True, timeout=120)
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
    with pytest.raises(OptionError, match="this source synthetic has each in a file of its own, or is spooled"):
        build_shards(source, tmp_path / "out", BLOCKS, workers=1)
