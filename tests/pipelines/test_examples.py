import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_training_loop_runs_and_resumes(raw_shards: Path, tmp_path: Path) -> None:
    whole = run("train_loop.py", raw_shards, "--batch", 16, "--epochs", 2, "--checkpoint", tmp_path / "whole.pt")
    assert [line.split(",")[0] for line in whole.splitlines()] == ["epoch 0: 3 steps", "epoch 1: 3 steps"]
    parts = [
        run("train_loop.py", raw_shards, "--batch", 16, "--epochs", epochs, "--checkpoint", tmp_path / "parts.pt")
        for epochs in (1, 2)
    ]
    assert "".join(parts) == whole


def test_plain_webdataset_reads_raw_shards(raw_shards: Path) -> None:
    output = run("plain_webdataset.py", raw_shards)
    assert "first sample: 000000000000, 32 x 32, label 0" in output
    assert "50 samples in 3 shards" in output


def test_plain_webdataset_reads_photographs(photo_shards: Path) -> None:
    assert "30 samples in 3 shards" in run("plain_webdataset.py", photo_shards)
