"""Shards built by the nodes of a Ray cluster: a window of tasks, one progress, and what is done when something dies.

A task gets the part of the job that its shard needs (docs/decisions/093) and reads the source itself. A lost worker or
node costs what it was at, which is begun again elsewhere; a shard that kills its worker three times ends the build, by
the name of the image it was at: from the second attempt on a task says so before it decodes (docs/decisions/094).
"""

import contextlib
import logging
import os
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selfie_data.build.finish import prepare_finishing
from selfie_data.build.ray_task import Board, Requirements, Told, build_there
from selfie_data.build.shard_task import Done, Job, Report, Tick
from selfie_data.dataset.names import BUILD
from selfie_data.errors import BuildError, SelfieDataError
from selfie_data.storage.place import storage_of

_log = logging.getLogger(__name__)
_TASKS_A_CPU = 2  # one at work, one that waits for it
_DEATHS = 3  # of a shard's worker by itself
_LOSSES = 20  # of the node that a shard was at
_LOOK_S = 0.5
_ANSWER_S = 10.0  # of the cluster to a question
_CONNECT_S = 10.0
_SILENT_S = 3600.0  # without a word from any task: no node, or none that is free


def run_ray(
    job: Job,
    shards: Sequence[int],
    report: Report,
    *,
    address: str | None = None,
) -> Generator[Done, None, None]:
    """Builds on a Ray cluster.

    Args:
        job: what to build. Its folder and its source must be the same from every node.
        shards: their numbers.
        report: told of work done; of what is lost, less than nothing.
        address: `host:port` of the cluster. None: what `RAY_ADDRESS` names, else the one that this machine is part of,
            else one of this machine alone.

    Raises:
        BuildError: no cluster; a node with other codecs, folders or sources; a shard that ends its worker three times.
        SelfieDataError: what a task raised.
    """
    ray = _ray()
    with _connected(ray, address):
        token = f"cluster-{secrets.token_hex(8)}"
        build = _Build(ray, job, Requirements.of(job, token), report)
        try:
            yield from build.run(shards)
        finally:
            build.end()
            with contextlib.suppress(OSError):  # goes with the rest of `.build` then
                storage_of(job.out).delete([f"{BUILD}/{token}"])


@dataclass(slots=True)
class _Task:
    shard: int
    attempt: int
    told: Told


class _Build:
    def __init__(self, ray: Any, job: Job, requirements: Requirements, report: Report) -> None:
        self.ray = ray
        self.job = job
        self.whole = None if job.divisible else ray.put(job)
        self.requirements = requirements
        self.report = report
        self.again = deque[int]()
        self.deaths, self.losses = Counter[int](), Counter[int]()
        self.running: dict[Any, _Task] = {}
        self.heard = time.monotonic()
        self.task = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(build_there)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        self.board = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Board).remote()

    def run(self, shards: Sequence[int]) -> Iterator[Done]:
        waiting = iter(shards)
        self._fill(waiting)
        prepare_finishing()
        while self.running:
            ready, _ = self.ray.wait(list(self.running), timeout=_LOOK_S)
            self._read_board()
            for reference in ready:
                yield from self._finish(reference)
            self._fill(waiting)
            if time.monotonic() - self.heard > _SILENT_S:
                raise BuildError(
                    f"the cluster has done nothing for {_SILENT_S / 60:.0f} minutes: `ray status` says why; finished "
                    "shards are kept, the same command goes on"
                )

    def end(self) -> None:
        """Ends what runs; the shards it was at are begun again by the next build."""
        for reference in self.running:
            self.ray.cancel(reference, force=True)
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=_ANSWER_S)
        self.ray.kill(self.board)

    def _fill(self, waiting: Iterator[int]) -> None:
        window = max(1, _TASKS_A_CPU * int(self.ray.cluster_resources().get("CPU", 0)))
        while len(self.running) < window:
            number = self.again.popleft() if self.again else next(waiting, None)
            if number is None:
                return
            attempt = self.deaths[number] + self.losses[number]
            job = self.job.of_shard(number) if self.whole is None else self.whole
            reference = self.task.remote(
                job, number, attempt, self.requirements, self.board, watched=self.deaths[number] > 0
            )
            self.running[reference] = _Task(number, attempt, Told(Tick(0, 0, 0)))

    def _read_board(self, *ended: _Task) -> None:
        try:
            told = self.ray.get(self.board.read.remote(), timeout=_ANSWER_S)
        except self.ray.exceptions.RayError:  # its node is lost: it begins again elsewhere, and is told again
            return
        if told:
            self.heard = time.monotonic()
        for task in (*self.running.values(), *ended):
            if news := told.get((task.shard, task.attempt)):
                self._count(task, news)

    def _count(self, task: _Task, told: Told) -> None:
        self.report(told.done.minus(task.told.done))
        task.told = told

    def _finish(self, reference: Any) -> Iterator[Done]:
        task = self.running.pop(reference)
        self.heard = time.monotonic()
        errors = self.ray.exceptions
        try:
            result = self.ray.get(reference, timeout=_ANSWER_S)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            self._begin_again(task, self.deaths, _cause(error))
        except (errors.NodeDiedError, errors.LocalRayletDiedError, errors.ObjectLostError):
            self._begin_again(task, self.losses, "its node was lost")
        except errors.RayTaskError as error:  # a defect of ours, with its place; or nothing of ours is installed there
            if isinstance(error.cause, ImportError):
                raise BuildError(f"a node lacks a package ({error.cause}): install the same there as here") from None
            raise RuntimeError(f"in a task of the cluster:\n{error}") from None
        except errors.RayError as error:
            raise BuildError(f"shard {task.shard}: {_first_line(error)}; the same command goes on") from error
        else:
            if isinstance(result, SelfieDataError):
                raise result
            done, total = result
            self._count(task, Told(total))
            yield done

    def _begin_again(self, task: _Task, counter: Counter[int], reason: str) -> None:
        self._read_board(task)  # what it said before it ended
        counter[task.shard] += 1
        times, most = counter[task.shard], _DEATHS if counter is self.deaths else _LOSSES
        where = f", at {task.told.image}" if task.told.image else ""
        if times >= most:
            raise BuildError(
                f"shard {task.shard}: {reason}{where}, and so {times} times; finished shards are kept: take that image "
                "out or give the nodes more memory, and give the same command again"
            )
        _log.warning("shard %d: %s%s; it is begun again", task.shard, reason, where)
        self._count(task, Told(Tick(0, 0, 0)))
        self.again.append(task.shard)


def _cause(error: Exception) -> str:
    if type(error).__name__ == "OutOfMemoryError":
        return "its worker was ended by Ray for lack of memory"
    return "its worker was killed (for lack of memory?) or crashed"


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _ray() -> Any:
    """Imports Ray where it is used.

    Raises:
        BuildError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise BuildError("--engine ray needs Ray: pip install 'selfie[ray]', on every node") from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connects this process, unless its program did already.

    Raises:
        BuildError: there is nobody, or another version.
    """
    if ray.is_initialized():
        yield
        return
    _refuse_absent(address or os.environ.get("RAY_ADDRESS"))
    # Ray prints what it thinks of dead workers and nodes to stdout, `log_to_driver` or not; we say it ourselves.
    ray._private.worker.listen_error_messages = lambda *_: None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        tokens = "" if "RAY_AUTH_MODE" in os.environ else "; a cluster with tokens needs RAY_AUTH_MODE=token here too"
        raise BuildError(f"the Ray cluster cannot be used: {_first_line(error)}{tokens}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_absent(address: str | None) -> None:
    """Raises a BuildError where an address is none of a cluster, or nobody answers: Ray itself waits for minutes."""
    if address in (None, "", "auto", "local"):
        return
    assert address is not None
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise BuildError(f"a Ray cluster's address is HOST:PORT as `ray start --head` says it, got {address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise BuildError(
            f"no Ray cluster answers at {address} ({error}): `ray start --head` begins one, or mend --ray-address"
        ) from None
