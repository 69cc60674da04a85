"""Worker processes: none outlives the build, one that dies is told as what it died of, a script without guard too."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from selfie_data.build.plan import Plan
from selfie_data.build.shard_task import Job
from selfie_data.build.workers import run_inline, run_processes
from selfie_data.dataset.names import BUILD
from selfie_data.errors import BuildError
from tests.material import MemorySource, memory_source, picture
from tests.selfie_data.build.killed_build import OPTIONS

REPOSITORY = Path(__file__).parents[3]


def test_workers_in_the_midst_of_a_shard_end_at_once_with_their_parent(tmp_path: Path) -> None:
    """A worker notices a closed pipe after its shard only, and this one is never finished."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tests.selfie_data.build.endless_build", str(out)]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    while len(list((out / BUILD).glob("*.tar.*.tmp"))) < 2:
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.wait()
    alive = psutil.wait_procs(children, timeout=5)[1]
    for child in alive:
        child.kill()
    assert alive == []


class Deadly(MemorySource):
    """A source whose last image ends the process that reads it, as lack of memory does."""

    def read(self, index: int) -> object:  # type: ignore[override]
        if index == len(self) - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


def job(source: MemorySource, out: Path) -> Job:
    (out / BUILD).mkdir(parents=True)
    plan = Plan(size=len(source), samples=len(source), samples_per_shard=10, seed=0)
    return Job(source=source, plan=plan, encoder=OPTIONS.encoder, out=out, fail_on_error=False)


def test_a_worker_that_dies_is_one_clear_line(tmp_path: Path) -> None:
    alive = memory_source([picture(32, 32, seed=n) for n in range(100)])
    deadly = job(Deadly(images=alive.images, labels=alive.labels), tmp_path)
    with pytest.raises(BuildError, match=r"a worker process was killed by SIGKILL \(for lack of memory\?\); finished"):
        list(run_processes(deadly, range(10), lambda _: None, workers=2, meanwhile=lambda: None))


def test_every_engine_reports_the_same_work(tmp_path: Path) -> None:
    source = memory_source([*(picture(32, 32, seed=n) for n in range(34)), b"no image"])
    told = []
    for name, engine in (("here", run_inline), ("there", run_processes)):
        ticks: list[tuple[int, int, int]] = []
        options = {} if engine is run_inline else {"workers": 2, "meanwhile": lambda: None}
        done = list(engine(job(source, tmp_path / name), range(4), ticks.append, **options))
        assert sorted(done) == [(number, False) for number in range(4)]
        told.append([sum(column) for column in zip(*ticks, strict=True)])
    assert told[0] == told[1]
    assert (told[0][0], told[0][2]) == (35, 1)


SCRIPT = """
import sys
from selfie_data import BuildOptions, build_shards, open_source
OPTIONS = BuildOptions(size=32, samples_per_shard=20)
try:
    build_shards(open_source("synthetic", limit=40), sys.argv[1], OPTIONS, workers=2)
except Exception as error:
    sys.exit(str(error))
"""


def test_a_script_without_a_guard_is_told_so_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'put what it does below `if __name__ == "__main__":`' in line
    script.write_text("if __name__ == '__main__':" + SCRIPT.replace("\n", "\n    "))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
