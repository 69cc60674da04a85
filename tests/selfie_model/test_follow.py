"""A run whose dataset changes goes on with what it began with; asked to follow, with what that is, from an epoch on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.changes.drop import drop_samples
from selfie_data.changes.extend import extend_dataset
from selfie_data.dataset.opened import open_dataset
from selfie_data.sources import open_source
from selfie_model.cli import main
from selfie_model.training.checkpoint import Checkpoints, read_checkpoint
from selfie_model.training.journal import read_journal

STEPS = 10  # of 16 images: 4 an epoch at first, 6 afterwards
SETTINGS = ("validate_every=0", "checkpoint_every=1", "keep_last=20", "log_every=5", "journal_batches=true")
ARGUMENTS = ["--preset", "tiny", "--steps", str(STEPS), "--batch-size", "16", "--device", "cpu", "--quiet"]
ARGUMENTS += ["--set", "model.width=8", *(part for each in SETTINGS for part in ("--set", f"runtime.{each}"))]


def pretrain(dataset: Path, run: Path, *more: str) -> str:
    """Returns what is said on stderr."""
    result = CliRunner().invoke(main, ["pretrain", str(dataset), "--out", str(run), *ARGUMENTS, *more])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.stderr


def killed_after(run: Path, step: int, copy: Path) -> Path:
    """Copies a run as it was when it was killed."""
    shutil.copytree(run, copy)
    for path in (copy / "checkpoints").iterdir():
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()
    return copy


def batches(run: Path) -> list[tuple[int, str]]:
    """Returns epoch and ids of each step."""
    return [(each["epoch"], each["ids"]) for each in read_journal(run) if each["event"] == "batch"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset that has grown and shrunk, and a run of what it was."""
    base = tmp_path_factory.mktemp("follow")
    source = open_source("synthetic", limit=64, size=32, seed=1)
    build_shards(source, base / "set", BuildOptions(size=32, samples_per_shard=20), workers=1)
    pretrain(base / "set", base / "run")
    extend_dataset(open_source("synthetic", limit=34, size=32, seed=2), base / "set", workers=1)
    drop_samples(base / "set", np.array([5, 70]))
    return base / "set", base / "run"


def test_unasked_it_goes_on_with_what_it_began_with(whole: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, run = whole
    said = pretrain(dataset, killed_after(run, 2, tmp_path / "run"), "--resume", "auto")
    assert "has changed since the run began (64 samples then, 96 now)" in said
    assert batches(tmp_path / "run") == batches(run)


def test_it_follows_at_the_end_of_its_epoch_and_stays(whole: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, run = whole
    followed = killed_after(run, 2, tmp_path / "followed")
    assert "has changed" not in pretrain(dataset, followed, "--resume", "auto", "--follow")
    assert batches(followed)[:4] == batches(run)[:4]
    assert [epoch for epoch, _ in batches(followed)] == [0] * 4 + [1] * 6
    (moved,) = (each for each in read_journal(followed) if each["event"] == "moved")
    ancestors = [each.fingerprint for each in open_dataset(dataset).manifest.lineage]
    assert (moved["step"], moved["from"], moved["to"]) == (4, ancestors[0], open_dataset(dataset).fingerprint)
    newest = Checkpoints(followed).newest()
    assert newest is not None
    assert read_checkpoint(newest)["data"]["samples"] == 96
    again = killed_after(followed, 7, tmp_path / "again")  # and killed once more: nobody has to ask again
    assert "has changed" not in pretrain(dataset, again, "--resume", "auto")
    assert batches(again) == batches(followed)


def test_at_the_start_of_an_epoch_it_follows_at_once(whole: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, run = whole
    followed = killed_after(run, 4, tmp_path / "followed")
    pretrain(dataset, followed, "--resume", "auto", "--follow")
    assert [epoch for epoch, _ in batches(followed)] == [0] * 4 + [1] * 6


def test_what_was_purged_can_only_be_followed(whole: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, run = Path(shutil.copytree(whole[0], tmp_path / "set")), killed_after(whole[1], 2, tmp_path / "run")
    drop_samples(dataset, np.array([5]), with_bytes=True)
    result = CliRunner().invoke(main, ["pretrain", str(dataset), "--out", str(run), *ARGUMENTS, "--resume", "auto"])
    assert (result.exit_code, "images were purged since" in result.stderr) == (1, True)
    pretrain(dataset, run, "--resume", "auto", "--follow")
    assert [epoch for epoch, _ in batches(run)] == [0] * 2 + [1] * 6 + [2] * 2
