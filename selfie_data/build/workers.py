"""Where shards are built: in this process, or in processes of this machine.

An engine takes a job and shard numbers and yields shards as they are finished, in any order. What is built does not
depend on it. Every process gets the job once and one number at a time; it holds nothing that is not on disk already, so
ending it at any moment loses at most the shards in work.
"""

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from selfie_data.build.shard_task import Done, Job, Report, Tick, build_shard
from selfie_data.errors import BuildError, SelfieDataError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_inline(job: Job, shards: Sequence[int], report: Report) -> Iterator[Done]:
    """Builds in this process."""
    labels = job.source.labels
    for number in shards:
        yield build_shard(job, labels, number, report)


def run_processes(
    job: Job, shards: Sequence[int], report: Report, *, workers: int, meanwhile: Callable[[], object]
) -> Iterator[Done]:
    """Builds in `workers` processes, started afresh (not forked: threads and locks of the caller stay out of them).

    Args:
        meanwhile: what this process does while they start, Ctrl-C held; longer than a shard takes, and they wait.

    Raises:
        BuildError: a process ended by itself, such as for lack of memory.
        SelfieDataError: what a process raised.
    """
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # its start would let interrupts through while they are held below
    payload = pickle.dumps(job)
    pool: dict[Connection, BaseProcess] = {}
    try:
        for number in range(workers):
            with _interrupts_held():  # until it is in `pool`: a worker nobody knows would be left to die noisily
                ours, theirs = context.Pipe()
                process: BaseProcess = context.Process(
                    target=_work, args=(theirs, payload), daemon=True, name=f"selfie-build-{number}"
                )
                process.start()
                theirs.close()
                pool[ours] = process
        yield from _serve(pool, shards, report, meanwhile)
    finally:
        for connection, process in pool.items():
            process.kill()
            connection.close()
        for process in pool.values():
            process.join()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started meanwhile never gets Ctrl-C, not even while it imports; it reaches this process afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(
    pool: dict[Connection, BaseProcess], shards: Sequence[int], report: Report, meanwhile: Callable[[], object]
) -> Iterator[Done]:
    waiting = iter(shards)
    busy = {connection for connection in pool if _assign(connection, waiting)}
    with _interrupts_held():  # an interrupt inside an import may come out as any exception
        meanwhile()
    while busy:
        for ready in cast(list[Connection], wait(list(busy))):
            try:
                message = ready.recv()
            except (EOFError, OSError):
                raise BuildError(_obituary(pool[ready])) from None
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Tick):
                report(message)
                continue
            if not _assign(ready, waiting):
                busy.remove(ready)
            yield message


def _assign(connection: Connection, waiting: Iterator[int]) -> bool:
    number = next(waiting, None)
    if number is None:
        return False
    with contextlib.suppress(OSError):  # it is dead: found out, with the reason, when its answer is awaited
        connection.send(number)
    return True


def _obituary(process: BaseProcess) -> str:
    process.join(5)
    code = process.exitcode
    if code is not None and code < 0:
        reason = f"was killed by {signal.Signals(-code).name}"
        reason += " (for lack of memory?)" if code == -signal.SIGKILL else ""
    else:
        reason = f"ended with exit status {code}"
    return f"a worker process {reason}; finished shards are kept: give the same command again, or with fewer --workers"


def _work(connection: Connection, payload: bytes) -> None:
    """The life of a worker: receives numbers, sends events; ends when the other side does."""
    _end_with_parent()
    try:
        job: Job = pickle.loads(payload)  # noqa: S301 - written by our own parent
        labels = job.source.labels
        while True:
            number: int = connection.recv()
            connection.send(build_shard(job, labels, number, connection.send))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except SelfieDataError as error:
        connection.send(error)
    except Exception:  # a defect of ours: shown with its place, which pickling would lose
        connection.send(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))


def _end_with_parent() -> None:
    """Asks Linux to end this process when its parent ends, even by SIGKILL in the middle of a shard."""
    parent = os.getppid()
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):  # not Linux: ends after the shard it is at
        return
    if os.getppid() != parent:
        os._exit(1)
