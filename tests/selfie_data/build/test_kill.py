"""Killed at any moment and started again, a build ends in the same bytes.

`make test` kills five times, `make fuzz` thirty times and more, and leaves a line in `benchmarks/results/kills.jsonl`.
"""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from selfie_data.build.build_shards import build_shards
from selfie_data.dataset.verify import verify_dataset
from tests.selfie_data.build.killed_build import OPTIONS, source
from tests.selfie_data.build.test_build_shards import contents

REPOSITORY = Path(__file__).parents[3]
RESULTS = REPOSITORY / "benchmarks" / "results" / "kills.jsonl"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected") / "out"
    build_shards(source(2000), out, OPTIONS, workers=1)
    return contents(out)


def start(out: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.selfie_data.build.killed_build", str(out), "2000", str(workers)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE)


def kill_at(out: Path, process: subprocess.Popen[bytes], moment: int, rng: random.Random) -> bool:
    """Kills the build some time after `moment` files of it are there; says whether it was still at work."""
    while process.poll() is None and sum(1 for _ in out.rglob("*")) < moment:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def until_finished(out: Path, workers: int) -> None:
    process = start(out, workers)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize(("moment", "workers"), [(1, 1), (6, 1), (12, 2), (18, 2), (24, 1)])
def test_a_killed_build_ends_in_the_same_bytes(
    tmp_path: Path, expected: dict[str, bytes], moment: int, workers: int
) -> None:
    out = tmp_path / "out"
    killed = kill_at(out, start(out, workers), moment, random.Random(moment))
    assert killed
    until_finished(out, workers)
    assert contents(out) == expected
    assert verify_dataset(out) == []


@pytest.mark.fuzz
def test_many_kills(tmp_path: Path, expected: dict[str, bytes]) -> None:
    rng = random.Random(20190607)
    kills, rounds = 0, 0
    while kills < 40:
        out = tmp_path / str(rounds)
        for _ in range(rng.randint(1, 4)):
            kills += kill_at(out, start(out, rng.choice((1, 2))), rng.randint(1, 36), rng)
        until_finished(out, rng.choice((1, 2)))
        assert contents(out) == expected, f"round {rounds}"
        assert verify_dataset(out, decode=True) == []
        rounds += 1
    line = {
        "question": "kills",
        "sigkills": kills,
        "builds": rounds,
        "samples": 2000,
        "shards": 8,
        "different_bytes": 0,
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_ctrl_c_leaves_no_process_and_goes_on(tmp_path: Path, expected: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    process = start(out, 2)
    while not list(out.glob("shard-*.tar")):
        time.sleep(0.005)
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert not psutil.wait_procs(children, timeout=10)[1]
    until_finished(out, 2)
    assert contents(out) == expected
