"""The parent's side of `benchmarks.harness.serve`: one process group a system, stopped while others are measured."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.record import ROOT
from benchmarks.work.systems import System
from benchmarks.work.task import Task

START_LIMIT_S = 900  # the first start converts the data
ANSWER_LIMIT_S = 120
CLOSE_LIMIT_S = 3


class Unavailable(Exception):
    """The system cannot run here; the message is the reason, one line."""


class Child:
    """A system in a process of its own; between calls its whole process group is stopped.

    Attributes:
        ready: what it said when its first batch was there: settings, versions, times.
    """

    def __init__(self, system: System, task: Task) -> None:
        self.system = system
        self.task = system.task(task)
        python = interpreter(system.environment)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", "-m", "benchmarks.harness.serve", system.module],
            cwd=system.checkout or ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,
        )
        self.ready: dict[str, Any] = {}
        self._send(self.task.to_json())

    def wait_until_ready(self) -> "Child":
        """Waits for the first batch; the process is stopped then, until something is asked of it.

        Raises:
            Unavailable: it cannot run here.
        """
        answer = self._receive(START_LIMIT_S)
        if "skip" in answer:
            raise Unavailable(answer["skip"])
        self.ready = answer["ready"]
        self._signal(signal.SIGSTOP)
        return self

    def ask(self, **command: object) -> dict[str, Any]:
        """Sends one command and returns its answer."""
        self._signal(signal.SIGCONT)
        self._send(json.dumps(command))
        answer = self._receive(ANSWER_LIMIT_S)
        self._signal(signal.SIGSTOP)
        return answer

    def measure(self, seconds: float, settle: float) -> dict[str, float]:
        """Images and seconds of one window."""
        return self.ask(do="measure", seconds=seconds, settle=settle)

    def close(self) -> None:
        """Ends the whole process group.

        First politely: Python's resource tracker ignores SIGTERM and removes shared memory once its clients are gone.
        """
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        deadline = time.monotonic() + CLOSE_LIMIT_S
        while time.monotonic() < deadline and self._alive():
            self._process.poll()
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream:
                stream.close()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _alive(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable(self._last_error()) from None

    def _receive(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], limit_s)
        if not readable:
            raise Unavailable(f"no answer in {limit_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(self._last_error())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_error(self) -> str:
        self._process.wait(timeout=10)
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        said = lines[-1].strip() if lines else "nothing"
        return f"ended with code {self._process.returncode}: {said}".replace(str(Path.home()), "~")


def interpreter(environment: str) -> Path:
    """The Python of an environment: `.bench-env` for peers; for our own, the one that runs this."""
    if environment == "main":
        return Path(sys.executable)
    path = ROOT / ".bench-env" / "bin" / "python"
    if not path.exists():
        raise Unavailable("no .bench-env: run `make bench-env`")
    return path


def _environment() -> dict[str, str]:
    """The caller's, with libraries kept from starting a thread a core in every worker."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"}
