"""`selfie-data` as a user meets it: build, dry run, progress, resume, another set's classes."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from selfie_data.cli.__main__ import main
from selfie_data.dataset.opened import open_dataset
from tests.material import picture


def run(*command: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in command])


def test_build_verify_info_stats(tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = run("build-shards", "synthetic", out, "--limit", 60, "--size", 32, "--samples-per-shard", 25)
    assert built.exit_code == 0, built.output
    assert re.search(r"60 samples in 3 shards, [\d,]+ bytes, 10 classes, 0 quarantined", built.output)
    assert run("verify", out, "--decode").exit_code == 0
    info = json.loads(run("info", out, "--json").output)
    assert (info["samples"], info["classes"], info["shards"], info["encoding"]) == (60, 10, 3, "raw")
    assert re.search(r"samples\s+60", run("info", out).output)
    stats = json.loads(run("stats", out, "--json").output)
    assert stats["height"] == [32] * 5
    assert stats["mean"] == list(open_dataset(out).manifest.mean)
    assert "green" in run("stats", out).output


def test_json_lines_for_machines(tmp_path: Path) -> None:
    built = run("build-shards", "synthetic", tmp_path / "out", "--limit", 60, "--json", "--workers", 2)
    events = [json.loads(line) for line in built.stdout.splitlines()]
    assert [event["event"] for event in events][0 :: len(events) - 1] == ["start", "done"]
    assert events[-2]["images"] == events[-2]["total"] == 60
    assert events[-1]["samples"] == 60
    assert len(events[-1]["fingerprint"]) == 64


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_writes_nothing(tmp_path: Path, as_json: bool) -> None:
    out = tmp_path / "out"
    flags = ["--json"] if as_json else []
    told = run("build-shards", "synthetic", out, "--limit", 1000, "--samples-per-shard", 300, "--dry-run", *flags)
    assert told.exit_code == 0
    assert not out.exists()
    built = run("build-shards", "synthetic", out, "--limit", 1000, "--samples-per-shard", 300)
    assert built.exit_code == 0
    written = sum(path.stat().st_size for path in out.glob("*.tar"))
    if as_json:
        facts = json.loads(told.output)
        assert (facts["images"], facts["classes"], facts["shards"], facts["spool_bytes"]) == (1000, 10, 4, 0)
        assert abs(facts["bytes"] / written - 1) < 0.02
        assert facts["seconds"] >= 0
    else:
        assert "1,000, 10 classes" in told.output
        assert "4 of 300 images" in told.output
        assert re.search(r"time +about \d+ s", told.output)


def test_a_dry_run_of_a_spooled_source_states_the_spool(tmp_path: Path, real_data: Path) -> None:
    archive = real_data / "cifar-10-python-small.tar.gz"
    told = run("build-shards", "cifar10", tmp_path / "out", "--root", archive, "--dry-run", "--json")
    facts = json.loads(told.stdout)
    assert facts["images"] == 5000
    assert facts["spool_bytes"] > 5000 * 3072
    assert facts["seconds"] > 0


def folder(root: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(picture(40, 50, seed=number)).save(root / name / f"{number}.png")
    return root


def test_classes_from_another_set_do_not_shift(tmp_path: Path) -> None:
    train = folder(tmp_path / "train", {"ant": 2, "bee": 2, "cat": 2})
    val = folder(tmp_path / "val", {"cat": 3})
    assert run("build-shards", "folder", tmp_path / "a", "--root", train).exit_code == 0
    assert run("build-shards", "folder", tmp_path / "b", "--root", val, "--classes-from", tmp_path / "a").exit_code == 0
    dataset = open_dataset(tmp_path / "b")
    assert dataset.class_names == ("ant", "bee", "cat")
    assert dataset.table.label.tolist() == [2, 2, 2]
    refused = run("build-shards", "folder", tmp_path / "c", "--root", val, "--classes-from", tmp_path / "nowhere")
    assert refused.exit_code == 1
    assert "no such dataset" in refused.stderr


def test_bad_images_are_told_and_the_build_succeeds(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", {"ant": 3, "bee": 1})
    (root / "ant" / "broken.jpg").write_bytes(b"no image")
    built = run("build-shards", "folder", tmp_path / "out", "--root", root)
    assert built.exit_code == 0
    assert "ant/broken.jpg: not an image of a known format" in built.stderr
    assert "1 quarantined" in built.output
    failed = run("build-shards", "folder", tmp_path / "other", "--root", root, "--on-error", "fail")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") <= 2


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "selfie_data.cli.__main__",
        "build-shards",
        "synthetic",
        str(out),
        "--limit",
        "6000",
    ]
    command += ["--samples-per-shard", "500"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("shard-*.tar")):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped; the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert subprocess.run(command, capture_output=True, check=True)
    assert len(open_dataset(out)) == 6000
