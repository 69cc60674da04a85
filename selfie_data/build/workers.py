"""Where shards are built: in this process, or in processes of this machine.

An engine takes a job and numbers of shards and yields each shard as it is finished, in any order. What is built does
not depend on it: a shard is a task of its own, and what is finished is on disk. One for a cluster: `ray_engine`.

Workers are forked from a server that has imported all they need, never from the caller, whose threads and locks stay
out of them. Each gets one shard's part of the job at a time, or the job once and then numbers (docs/decisions/093). It
holds nothing that is not on disk already, so ending it at any moment loses at most the shard it is at. Why not a
ProcessPoolExecutor: docs/decisions/047.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from selfie_data.build.shard_task import Done, Job, Report, Tick, build_shard
from selfie_data.errors import BuildError, SelfieDataError

Engine = Callable[[Job, Sequence[int], Report], Generator[Done, None, None]]
"""Called with the job, the numbers of the shards to build, and what is told of work done a few times a second."""

_CONTEXT = multiprocessing.get_context("forkserver")
_NAME = "selfie-build"  # of worker processes, with a number after it
_UNGUARDED = 78  # exit status of a worker whose import of the script began a build; EX_CONFIG of sysexits.h
_PRELOADED = ["selfie_data.build.workers", "selfie_data.images.encode"]  # 0.4 s
_KERNELS = [
    "selfie_data.kernels.resample",
    "selfie_data.kernels.sums",
    "selfie_data.images.jpeg_restarts_kernel",
]  # 0.5 s more: Numba


def run_inline(job: Job, shards: Sequence[int], report: Report) -> Generator[Done, None, None]:
    """Builds in this process."""
    labels = job.source.labels
    for number in shards:
        yield build_shard(job, labels, number, report)


def run_processes(
    job: Job, shards: Sequence[int], report: Report, *, workers: int, meanwhile: Callable[[], object]
) -> Generator[Done, None, None]:
    """Builds in `workers` processes.

    Args:
        job: what to build.
        shards: their numbers.
        report: told of work done.
        workers: how many processes, at least 1.
        meanwhile: what this process does while the server of the workers starts, Ctrl-C held.

    Raises:
        BuildError: a process ended by itself, such as for lack of memory.
        SelfieDataError: what a process raised.
    """
    start_server(kernels=job.encoder.encoding != "raw")
    with _interrupts_held():  # an interrupt inside an import may come out as any exception
        meanwhile()
    payload = pickle.dumps(None if job.divisible else job)
    pool: dict[Connection, BaseProcess] = {}
    try:
        for number in range(workers):
            with _interrupts_held():  # until it is in `pool`: a worker nobody knows would not be ended
                ours, theirs = _CONTEXT.Pipe()
                process: BaseProcess = _CONTEXT.Process(
                    target=worker_main, args=(theirs, payload), name=f"{_NAME}-{number}"
                )
                process.daemon = True
                process.start()
                theirs.close()
                pool[ours] = process
        yield from _dispatch(pool, job, shards, report)
    finally:
        for connection, process in pool.items():
            process.kill()
            connection.close()
        for process in pool.values():
            process.join()


def start_server(*, kernels: bool) -> None:
    """Starts the process that workers are forked from, if it does not run yet; it imports while its caller goes on.

    Args:
        kernels: import the compiled kernels too, once instead of once a worker. Raw images hardly need them.
    """
    resource_tracker.ensure_running()  # its start lets interrupts through, also where they are held
    with _interrupts_held():  # the server hands it down: no worker ever gets Ctrl-C, not even while it imports
        _CONTEXT.set_forkserver_preload(_PRELOADED + _KERNELS * kernels)
        forkserver.ensure_running()


def refuse_in_worker() -> None:
    """Ends this process if it is a worker: what it imports is a script that builds without a `__main__` guard."""
    if multiprocessing.current_process().name.startswith(_NAME):
        os._exit(_UNGUARDED)  # its parent tells, once; an exception would be a traceback a worker


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches this process after the block, and what is started in it never."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dispatch(
    pool: dict[Connection, BaseProcess], job: Job, shards: Sequence[int], report: Report
) -> Generator[Done, None, None]:
    waiting = iter(shards)
    busy = {connection for connection in pool if _assign(connection, job, waiting)}
    while busy:
        for ready in cast(list[Connection], wait(list(busy))):
            try:
                message = ready.recv()
            except (EOFError, OSError):
                raise BuildError(_exit_reason(pool[ready])) from None
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Tick):
                report(message)
                continue
            if not _assign(ready, job, waiting):
                busy.remove(ready)
            yield message


def _assign(connection: Connection, job: Job, waiting: Iterator[int]) -> bool:
    number = next(waiting, None)
    if number is None:
        return False
    with contextlib.suppress(OSError):  # it is dead: found out, with the reason, when its answer is awaited
        connection.send((number, job.of_shard(number) if job.divisible else None))
    return True


def _exit_reason(process: BaseProcess) -> str:
    process.join(5)
    code = process.exitcode
    if code == _UNGUARDED:
        return (
            "the script builds again in every worker process, which imports it; put what it does below "
            '`if __name__ == "__main__":`, or build with workers=1'
        )
    if code is not None and code < 0:
        reason = f"was killed by {signal.Signals(-code).name}"
        reason += " (for lack of memory?)" if code == -signal.SIGKILL else ""
    else:
        reason = f"ended with exit status {code}"
    return f"a worker process {reason}; finished shards are kept: give the same command again, or with fewer --workers"


def worker_main(connection: Connection, payload: bytes) -> None:
    """The life of a worker: receives numbers, sends ticks and finished shards or what went wrong."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        whole: Job | None = pickle.loads(payload)  # noqa: S301 - written by our own parent
        while True:
            number, part = cast(tuple[int, Job | None], connection.recv())
            job = part or whole
            assert job is not None
            connection.send(build_shard(job, job.source.labels, number, connection.send))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except SelfieDataError as error:
        connection.send(error)
    except Exception:  # a defect of ours: shown with its place, which pickling would lose
        connection.send(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))


def _end_with_parent() -> None:
    """Ends this process when the one that builds ends, even by SIGKILL while a shard is in work."""
    parent = multiprocessing.parent_process()  # the server forked it: PR_SET_PDEATHSIG would wait for the server's end
    assert parent is not None
    parent.join()
    os._exit(1)
