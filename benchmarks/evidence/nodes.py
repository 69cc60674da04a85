"""A store and agents of `torchrun` on this machine: the guide's own commands, and processes that die and join."""

import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.harness.record import ROOT

GUIDE = ROOT / "docs" / "guides" / "multi-node.md"
LIMIT_S = 240.0  # for what takes seconds, on a machine that others use too
POLL_S = 0.02
_PORT, _STEPS = "29787", "--steps 160"  # what the guide's commands say


class Nodes:
    """A store and agents that run the guide's commands in a folder.

    Attributes:
        folder: where they run; `one` is the undisturbed run there, `three` that of the agents.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], steps: int) -> None:
        self.folder = folder
        self._environment = {**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._environment["PYTHONPATH"] = str(ROOT)
        blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        texts = (text.replace(_PORT, str(self._port)).replace(_STEPS, f"--steps {steps}") for text in blocks[:5])
        self._store, self._build, self._one, self._agent, self._build_in_bucket = texts
        self._from_bucket = ""  # what else is said before the commands
        self._started: list[psutil.Process] = []
        self.agents: list[psutil.Process] = []

    @property
    def run(self) -> Path:
        """The folder of the agents' run."""
        return self.folder / "three"

    def build(self) -> None:
        """Builds the guide's dataset."""
        self._finish(self._start(self._build, "build"))

    def build_in_bucket(self) -> None:
        """Builds the guide's dataset into the bucket that the environment names, for all that is begun afterwards."""
        self._finish(self._start(self._build_in_bucket, "build"))
        *_, self._from_bucket = self._build_in_bucket.splitlines(keepends=True)

    def train_alone(self) -> None:
        """Runs the process that nobody disturbs, to its end."""
        self._finish(self._start(self._one, "one"))

    def start_store(self) -> None:
        self._start(self._store, "store")

    def start_agent(self) -> psutil.Process:
        agent = self._start(self._agent, f"agent-{len(self._started)}")
        self.agents.append(agent)
        return agent

    def join(self) -> None:
        """Starts an agent; while it imports the others' processes are stopped, else the run may end before it came."""
        working = [worker for agent in self.agents for worker in self.workers(agent)]
        for worker in working:
            worker.suspend()
        try:
            agent = self.start_agent()
            deadline = time.monotonic() + LIMIT_S
            while not any(self._port in (one.raddr or ()) for one in _connections(agent)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no agent at the store after {LIMIT_S:.0f} s\n{self.log()}")
                time.sleep(POLL_S)
        finally:
            for worker in working:
                worker.resume()

    def workers(self, agent: psutil.Process) -> list[psutil.Process]:
        """Returns the training processes of an agent."""
        with suppress(psutil.NoSuchProcess):
            return [child for child in agent.children(recursive=True) if _rank(child) is not None]
        return []

    def worker_of_rank(self, rank: int) -> tuple[psutil.Process, psutil.Process]:
        """Returns the agent that has `rank`, and its process."""
        for agent in self.agents:
            for worker in self.workers(agent):
                if _rank(worker) == rank:
                    return agent, worker
        raise AssertionError(f"no process of rank {rank}\n{self.log()}")

    def kill(self, agent: psutil.Process) -> None:
        """A node that is gone: its agent, and its processes, which are a session of their own and would live on."""
        for process in (agent, *agent.children(recursive=True)):
            process.kill()
        self.agents.remove(agent)

    def leave(self, agent: psutil.Process) -> None:
        """A node that is told to go: its agent hands SIGTERM on to its processes."""
        next(one for one in (agent, *agent.children()) if "torchrun" in " ".join(one.cmdline())).terminate()
        self.agents.remove(agent)

    def replace(self, agent: psutil.Process) -> None:
        """An agent that is killed alone, its processes live on; and a new one."""
        orphans = self.workers(agent)
        for process in (agent, *agent.children(recursive=True)):
            if process not in orphans:
                process.kill()
        self.agents.remove(agent)
        self._started += orphans
        self.join()

    def wait_for_end(self) -> list[int]:
        """Waits until every agent has ended; returns their exit codes."""
        return [agent.wait(timeout=LIMIT_S) for agent in self.agents]

    def log(self) -> str:
        """Returns what every process wrote."""
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """Kills whatever was started and is still there."""
        for process in self._started:
            with suppress(psutil.NoSuchProcess):
                for one in (*process.children(recursive=True), process):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
                process.wait()

    def _start(self, text: str, name: str) -> psutil.Process:
        with (self.folder / f"{name}.log").open("w") as log:
            process = psutil.Popen(
                ["bash", "-ec", self._from_bucket + text],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def _finish(self, process: psutil.Process) -> None:
        if process.wait(timeout=LIMIT_S) != 0:
            raise RuntimeError(self.log())


@contextmanager
def cluster(folder: Path, shards: str | None = None, *, bucket: bool = False, steps: int = 160) -> Iterator[Nodes]:
    """A dataset, one undisturbed run on it, a store; what was started is ended with it.

    Args:
        folder: of everything.
        shards: another dataset than the one that the guide builds.
        bucket: the guide's dataset in a bucket, of a store that the environment names.
        steps: of both runs.
    """
    nodes = Nodes(folder, {"SHARDS": shards} if shards else {}, steps)
    try:
        if bucket:
            nodes.build_in_bucket()
        elif shards is None:
            nodes.build()
        nodes.train_alone()
        nodes.start_store()
        yield nodes
    finally:
        nodes.close()


def _connections(agent: psutil.Process) -> list[Any]:
    """Returns the TCP connections of an agent and of what it started."""
    found: list[Any] = []
    for process in (agent, *agent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found += process.net_connections("tcp")
    return found


def _rank(process: psutil.Process) -> int | None:
    """Returns the rank that a process was given, None for one that is no training process."""
    try:
        rank = process.environ().get("RANK")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return None if rank is None else int(rank)
