"""The examples run as they are."""

import shutil
import subprocess
import sys
from pathlib import Path

from selfie_data.dataset.opened import open_dataset

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


def test_ones_own_selection_hides_a_block_and_the_inside(raw_shards: Path) -> None:
    blocks, inside = run("own_selection.py", raw_shards).split("inside the border")
    assert "a block: 8 images, 38% of their pixels hidden" in blocks
    assert inside == ": 8 images, 25% of their pixels hidden\n  . . . .\n  . # # .\n  . # # .\n  . . . .\n"


def test_the_slow_disk_goes_on_without_a_damaged_sample(photo_shards: Path, tmp_path: Path) -> None:
    shards, record = tmp_path / "shards", tmp_path / "damaged.txt"
    shutil.copytree(photo_shards, shards)
    table = open_dataset(shards).table
    with (shards / f"shard-{table.shard[7]:06d}.tar").open("r+b") as shard:
        shard.seek(int(table.offset[7]))
        shard.write(bytes(200))
    output = run("slow_disk.py", shards, "--record", record, "--batch", 1, "--window", 2)
    assert output.count("left out from now on") == 1
    assert output.splitlines()[-1] == "29 samples seen, the last batch as torch.bfloat16 [1, 7, 32, 32, 3]"
    assert record.read_text().startswith("7  # ")
    again = run("slow_disk.py", shards, "--record", record, "--batch", 1)
    assert "left out" not in again
