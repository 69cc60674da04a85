"""Restart markers for a dataset that was built without: nothing else changes, whatever happens on the way."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from selfie_data.build import restart as restart_module
from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.build.restart import restart_dataset
from selfie_data.cli.__main__ import main
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import decode_payload, read_payloads
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, CorruptSampleError, DatasetError, ImageError
from selfie_data.images.encode import BEHIND_CUT_OFF
from selfie_data.sources.synthetic import SyntheticSource
from tests.material import encoded, jpeg, memory_source, photographs, picture
from tests.selfie_data.build.test_build_shards import contents

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 JPEGs without markers, one marked before, three quarantined images (a whole shard of them), with splits."""
    bad = ImageError("empty")
    images = [*photographs(29), jpeg(picture(96, 96, seed=1), restart_marker_blocks=2), bad, bad, bad]
    out = tmp_path_factory.mktemp("old") / "out"
    options = BuildOptions(size=224, samples_per_shard=3, restart_blocks=0)
    build_shards(memory_source(images), out, options, workers=1)
    write_splits(open_dataset(out), SplitOptions(labelled=("20",)))
    return out


def test_everything_but_the_bytes_stays(old: Path, tmp_path: Path) -> None:
    manifest = restart_dataset(old, tmp_path / "new", workers=1)
    before, after = open_dataset(old), open_dataset(tmp_path / "new")
    assert manifest.parent == before.fingerprint != manifest.fingerprint
    assert verify_dataset(tmp_path / "new", decode=True) == []
    for name in ("label", "shard", "height", "width"):
        assert np.array_equal(getattr(before.table, name), getattr(after.table, name)), name
    ids = range(len(before))
    assert [before.key(sample) for sample in ids] == [after.key(sample) for sample in ids]
    assert [shard.name for shard in before.manifest.shards] == [shard.name for shard in manifest.shards]
    for name in ("mean", "std", "pixels", "class_names", "notices", "source", "seed"):
        assert getattr(before.manifest, name) == getattr(manifest, name), name
    assert list(before.quarantined()) == list(after.quarantined())
    assert {**before.manifest.options, "restart_blocks": "auto"} == manifest.options
    assert manifest.restarts is not None
    assert manifest.restarts.reasons == {"it has restart markers already": 1}
    pairs = zip(read_payloads(before, ids), read_payloads(after, ids), strict=True)
    for sample, (one, other) in enumerate(pairs):
        assert np.array_equal(decode_payload(before, sample, one), decode_payload(after, sample, other))
    assert before.subset_names() == after.subset_names()
    for name in before.subset_names():
        assert np.array_equal(before.subset(name), after.subset(name))


def test_bytes_are_those_of_a_build_with_markers_and_do_not_depend_on_workers(old: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        restart_dataset(old, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    source = memory_source(photographs(20))
    for name, blocks in (("without", 0), ("with", "auto")):
        options = BuildOptions(size=224, samples_per_shard=7, restart_blocks=blocks)  # type: ignore[arg-type]
        build_shards(source, tmp_path / name, options, workers=1)
    restart_dataset(tmp_path / "without", tmp_path / "later", workers=1)
    built, later = contents(tmp_path / "with"), contents(tmp_path / "later")
    assert {name: data for name, data in built.items() if name != "manifest.json"} == {
        name: data for name, data in later.items() if name != "manifest.json"
    }
    same = {"parent": "", "digest": ""}
    one, other = (Manifest.load(tmp_path / name) for name in ("with", "later"))
    assert msgspec.structs.replace(one, **same) == msgspec.structs.replace(other, **same)


def test_what_was_noticed_stays(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(96, 96, seed=seed)) for seed in (1, 2)]
    source = memory_source([*photographs(6), encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])])
    options = BuildOptions(size=224, restart_blocks=0, encoding="keep", resize_shorter=0)
    manifest = build_shards(source, tmp_path / "old", options, workers=1)
    assert manifest.notices
    restarted = restart_dataset(tmp_path / "old", tmp_path / "new", workers=1)
    assert restarted.notices == manifest.notices
    assert (tmp_path / "new" / "notices.json").read_bytes() == (tmp_path / "old" / "notices.json").read_bytes()


def test_found_finished_and_splits_that_are_missing_are_made(old: Path, tmp_path: Path) -> None:
    restart_dataset(old, tmp_path / "new", workers=1)
    whole = contents(tmp_path / "new")
    shutil.rmtree(tmp_path / "new" / "splits")
    restart_dataset(old, tmp_path / "new", workers=1)
    assert contents(tmp_path / "new") == whole
    with pytest.raises(BuildError, match="restart_blocks"):
        restart_dataset(old, tmp_path / "new", restart_blocks=2, workers=1)


@pytest.mark.parametrize(("moment", "workers"), [(2, 1), (9, 2), (16, 1)])
def test_killed_and_started_again_it_ends_in_the_same_bytes(
    old: Path, tmp_path: Path, moment: int, workers: int
) -> None:
    restart_dataset(old, tmp_path / "expected", workers=1)
    command = [sys.executable, "-m", "selfie_data.cli", "restart", str(old), str(tmp_path / "new")]
    process = subprocess.Popen([*command, "--workers", str(workers)], cwd=REPOSITORY, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while process.poll() is None and sum(1 for _ in (tmp_path / "new").rglob("*")) < moment:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    restart_dataset(old, tmp_path / "new", workers=1)
    assert contents(tmp_path / "new") == contents(tmp_path / "expected")


def test_what_cannot_be_done_is_one_line(old: Path, tmp_path: Path) -> None:
    restart_dataset(old, tmp_path / "marked", workers=1)
    build_shards(SyntheticSource(split="train", count=8, size=32, seed=3), tmp_path / "raw", BuildOptions(size=32))
    with pytest.raises(BuildError, match="has its restart markers already"):
        restart_dataset(tmp_path / "marked", tmp_path / "new")
    with pytest.raises(BuildError, match="stored as raw"):
        restart_dataset(tmp_path / "raw", tmp_path / "new")
    with pytest.raises(BuildError, match="a folder that is not its own"):
        restart_dataset(old, old)
    with pytest.raises(BuildError, match="nothing to do"):
        restart_dataset(old, tmp_path / "new", restart_blocks=0)
    with pytest.raises(DatasetError, match="no such dataset directory"):
        restart_dataset(tmp_path / "none", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(BuildError, match=r"not empty \(it holds letter.txt\)"):
        restart_dataset(old, tmp_path / "full")


def test_a_damaged_sample_is_named(old: Path, tmp_path: Path) -> None:
    shutil.copytree(old, tmp_path / "damaged")
    shard = tmp_path / "damaged" / open_dataset(old).manifest.shards[0].name
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptSampleError, match="the checksum does not match"):
        restart_dataset(tmp_path / "damaged", tmp_path / "new", workers=1)


def test_pixels_that_would_change_end_it(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inserted = restart_module.insert_restarts

    def wrong(data: bytes, interval: int) -> object:
        del data
        return inserted(jpeg(picture(224, 224, seed=9)), interval)

    monkeypatch.setattr(restart_module, "insert_restarts", wrong)
    with pytest.raises((BuildError, CorruptSampleError), match=r"pixels would change|the sample table says"):
        restart_dataset(old, tmp_path / "new", workers=1)


def test_the_command(old: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["restart", str(old), str(tmp_path / "new"), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "30 samples in 11 shards" in result.output
    again = CliRunner().invoke(main, ["restart", str(tmp_path / "new"), str(tmp_path / "other")])
    assert again.exit_code == 1
    assert again.output.count("\n") == 1
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "new")])
    assert open_dataset(old).fingerprint in shown.output


def test_what_stands_behind_the_end_goes_as_in_a_build_with_markers(tmp_path: Path) -> None:
    images = [photograph + b"video" * 9 for photograph in photographs(3)]
    images.append(jpeg(picture(96, 96, seed=1), restart_marker_blocks=2) + b"video")
    images.append(encoded(Image.fromarray(picture(96, 96, seed=1)).convert("CMYK"), "JPEG") + b"video")
    build_shards(memory_source(images), tmp_path / "old", BuildOptions(size=224, restart_blocks=0), workers=1)
    build_shards(memory_source(images), tmp_path / "built", BuildOptions(size=224), workers=1)
    restart_dataset(tmp_path / "old", tmp_path / "new", workers=1)
    shard, built, new = "shard-000000.tar", open_dataset(tmp_path / "built"), open_dataset(tmp_path / "new")
    assert (tmp_path / "new" / shard).read_bytes() == (tmp_path / "built" / shard).read_bytes()
    assert b"video" not in (tmp_path / "new" / shard).read_bytes()
    assert [notice.reason for notice in new.manifest.notices] == [BEHIND_CUT_OFF]
    assert (new.manifest.notices, new.manifest.restarts) == (built.manifest.notices, built.manifest.restarts)
