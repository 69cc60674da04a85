"""What a user types wrongly at the command line: one line that says so, no traceback, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from selfie_data.cli.__main__ import main
from selfie_data.dataset.verify import verify_dataset
from tests.material import jpeg, picture


def run(*arguments: object) -> tuple[int, list[str]]:
    """Returns the exit status and the lines that were written."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output.splitlines()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(jpeg(picture(40, 50, seed=number)))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build-shards"], "Missing argument 'SOURCE'"),
        (["build-shards", "nope", "out"], "'nope' is not one of 'cifar10'"),
        (["build-shards", "folder"], "Missing argument 'OUT'"),
        (["build-shards", "synthetic", "out", "--size", "7"], "7 is not in the range 8<=x<=4096"),
        (["build-shards", "synthetic", "out", "--shard-bytes", "inf"], "a size is a number with an optional unit"),
        (["build-shards", "synthetic", "out", "--shard-bytes", "10"], "shard_bytes must be in [4096, "),
        (
            ["build-shards", "synthetic", "out", "--resize-shorter", "16"],
            "resize_shorter must be in [32, 16384], got 16",
        ),
        (["build-shards", "synthetic", "out", "--samples-per-shard", "9" * 14], "samples_per_shard must be in [1, "),
        (["build-shards", "folder", "out"], "the source folder needs --root: the archive or folder to read"),
        (
            ["build-shards", "folder", "out", "--root", ""],
            "the source folder needs --root: the archive or folder to read",
        ),
        (["build-shards", "synthetic", ""], "Invalid value for 'OUT': an empty name is no path"),
        (["verify", ""], "an empty name is no path"),
        (["build-shards", "folder", "out", "--root", "x", "--table", ""], "'--table': an empty name is no path"),
        (["build-shards", "tar", "out", "--root", ""], "the source tar needs --root: the archive or folder to read"),
        (["build-shards", "folder", "out", "--root", "x", "--labels", "coarse"], "got it for folder: leave it out"),
        (["build-shards", "synthetic", "out", "--root", "x"], "the source synthetic reads no files, got --root x"),
        (["build-shards", "synthetic", "out", "--size", "2048"], "synthetic pictures are 8 to 1024 px wide, got 2048"),
        (
            ["build-shards", "cifar10", "out", "--root", "x", "--split", "val"],
            "has train and test only, got --split val",
        ),
        (["build-shards", "cifar10", "out", "--root", "x", "--labels", "coarse"], "--labels coarse is for cifar100"),
        (["build-shards", "imagenet32", "out", "--root", "x", "--split", "test"], "has train and val only"),
        (["build-shards", "folder", "out", "--root", "x", "--split", "test"], "a folder has no splits"),
        (["build-shards", "tar", "out", "--root", "x", "--split", "test"], "a tar has no splits"),
        (["build-shards", "tar", "out", "--root", "{a,b}", "--split", "test"], "shards have no splits"),
        (["build-shards", "tar", "out", "--root", "x", "--table", "y"], "--table is for folder, got it for tar"),
        (["build-shards", "cifar10", "out", "--root", "x", "--ground-truth", "y"], "--ground-truth is for imagenet"),
        (["build-shards", "parquet", "out", "--root", "x", "--subtree", "y"], "--subtree is for folder, tar, imagenet"),
        (["build-shards", "tar", "out", "--root", "x", "--config", "y"], "--config is for parquet, got it for tar"),
        (
            ["build-shards", "cifar10", "out", "--root", "x", "--split", "y"],
            "a split is one of train, val, test, got 'y'",
        ),
        (
            ["build-shards", "cifar10", "out", "--root", "x", "--label-column", "y"],
            "--label-column is for parquet",
        ),
        (["verify"], "Missing argument 'OUT'"),
        (["verify", "out", "more"], "Got unexpected extra argument (more)"),
        (["verify", "out", "--threads", "0"], "0 is not in the range x>=1"),
        (["preview", "out", "--batch", "--first", "3"], "got --first 3: leave one out"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["nope"], "No such command 'nope'"),
        (["--nope"], "No such option"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, lines = run(*arguments)
    assert status == 2
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert lines[0].startswith("Error: ")
    assert " --help lists what there is)" in lines[0]
    assert not list(tmp_path.iterdir())


def test_a_command_that_failed_at_once_does_not_bind_the_folder(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "out"
    Image.new("RGB", (30, 30)).save(images / "small.png")
    status, lines = run("build-shards", "folder", out, "--root", images, "--resize-shorter", "0", "--workers", "1")
    assert status == 1
    assert "leave out --resize-shorter 0" in lines[-1]
    assert run("build-shards", "folder", out, "--root", images, "--workers", "1")[0] == 0
    assert verify_dataset(out) == []


def test_a_failed_build_with_finished_shards_stays_bound(tmp_path: Path, images: Path) -> None:
    for number in range(30):
        shutil.copy(images / "0.jpg", images / f"more-{number}.jpg")
    (images / "bad.jpg").write_bytes(b"no image")
    build = ["build-shards", "folder", tmp_path / "out", "--root", images, "--samples-per-shard", "1", "--workers", "1"]
    assert run(*build, "--on-error", "fail")[0] == 1
    status, lines = run(*build, "--seed", "1")
    assert status == 1
    assert "holds an unfinished build with seed = 0, asked for is 1" in lines[-1]
    assert run(*build)[0] == 0


def test_a_file_instead_of_a_dataset_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("verify", "info", "stats", "split", "preview"):
        status, lines = run(command, tmp_path / "file")
        assert (status, len(lines)) == (1, 1)
        assert "file: a file, where the directory of a dataset is wanted" in lines[0]


def test_an_image_that_its_source_refuses_is_named_once(tmp_path: Path, images: Path) -> None:
    (images / "empty.jpg").write_bytes(b"")
    status, lines = run("build-shards", "folder", tmp_path / "out", "--root", images, "--workers", "1")
    assert status == 0
    assert "quarantined: empty.jpg is empty" in lines


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_shard_that_is_no_file_is_damage(tmp_path: Path, raw_dataset: Path, kind: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(raw_dataset, out)
    shard = out / "shard-000000.tar"
    shard.unlink()
    if kind == "pipe":
        os.mkfifo(shard)
    else:
        shard.symlink_to("/dev/zero")
    assert f"{shard}: not a regular file" in verify_dataset(out)


def test_a_store_goes_beside_the_dataset(tmp_path: Path, raw_dataset: Path) -> None:
    status, lines = run("export-store", raw_dataset, raw_dataset / "store.zarr")
    assert (status, len(lines)) == (1, 1)
    assert "is inside the dataset" in lines[0]
    status, lines = run("preview", raw_dataset, "-o", raw_dataset / "sheet.png")
    assert (status, len(lines)) == (1, 1)
    assert "sheet.png: is inside the dataset" in lines[0]
    (tmp_path / "taken").mkdir()
    status, lines = run("export-store", raw_dataset, tmp_path / "taken")
    assert (status, len(lines)) == (1, 1)
    assert "is there and is no pixel store; choose another name" in lines[0]


def test_a_finished_dataset_that_lost_a_file_is_not_called_built(tmp_path: Path) -> None:
    build = ["build-shards", "synthetic", tmp_path / "out", "--limit", "40", "--samples-per-shard", "20"]
    assert run(*build)[0] == 0
    assert run(*build)[0] == 0
    (tmp_path / "out" / "shard-000001.tar").unlink()
    status, lines = run(*build)
    assert (status, len(lines)) == (1, 1)
    assert "shard-000001.tar" in lines[0]
    assert "delete the folder and build again" in lines[0]


def test_changed_source_files_are_named_as_the_reason(tmp_path: Path, images: Path) -> None:
    (images / "bad.jpg").write_bytes(b"no image")
    build = ["build-shards", "folder", tmp_path / "out", "--root", images, "--samples-per-shard", "1", "--workers", "1"]
    for number in range(30):
        shutil.copy(images / "0.jpg", images / f"more-{number}.jpg")
    assert run(*build, "--on-error", "fail")[0] == 1
    os.utime(images / "0.jpg", (1, 1))
    status, lines = run(*build)
    assert status == 1
    assert "of a source whose files had other names, sizes or times of change" in lines[-1]


@pytest.mark.parametrize("delay_s", [0.1, 0.8])
def test_ctrl_c_while_workers_start_says_one_thing(tmp_path: Path, delay_s: float) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from selfie_data.cli.__main__ import main; "
    build = "main(['build-shards', 'synthetic', 'out', '--samples-per-shard', '200', '--workers', '2'])"
    # A process group of its own, as a terminal gives it: Ctrl-C reaches the workers too.
    child = subprocess.Popen(
        [sys.executable, "-c", code + build], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (tmp_path / "out" / ".build" / "plan.json").exists():
        assert child.poll() is None
        time.sleep(0.01)
    time.sleep(delay_s)
    os.killpg(child.pid, signal.SIGINT)
    told = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "Traceback" not in told
    assert told.splitlines()[-1] == "stopped; the same command goes on from here (out)"


def test_an_error_of_the_system_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_dataset: Path) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error", str(tmp_path))

    monkeypatch.setattr("selfie_data.commands.verify.Manifest.load", fails)
    status, lines = run("verify", raw_dataset)
    assert (status, len(lines)) == (1, 1)
    assert "Input/output error" in lines[0]


def test_a_reader_that_goes_away_is_no_error(raw_dataset: Path) -> None:
    shown = subprocess.run(
        f"{sys.executable} -m selfie_data.cli info {raw_dataset} --json | head -c 1",
        shell=True,  # a pipe whose reader ends early
        capture_output=True,
        text=True,
        check=True,
    )
    assert (shown.stdout, shown.stderr) == ("{", "")
