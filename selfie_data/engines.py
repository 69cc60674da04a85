"""How the tasks of a build are run: in this process, or in several. Results come as they are finished.

Processes are started afresh (`spawn`), so that no lock, thread or descriptor of the caller is inherited.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from selfie_data.errors import BuildError

Result = TypeVar("Result")

_task: Callable[[int], object] | None = None  # of this worker process: sent once, not with every number


def run_tasks(task: Callable[[int], Result], numbers: Iterable[int], *, workers: int) -> Iterator[Result]:
    """Yields `task(number)` for every number, in the order they are finished.

    Args:
        task: picklable; it must be idempotent.
        numbers: what to do.
        workers: processes; 1 runs in this one.

    Raises:
        BuildError: a worker died. Errors of a task come through as they are.
    """
    if workers == 1:
        yield from map(task, numbers)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(task,))
    waiting = iter(numbers)
    try:
        running: set[Future[Result]] = {pool.submit(_run, number) for number in islice(waiting, 2 * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_run, number) for number in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise BuildError(
            "a worker died (killed, or out of memory); start again, with fewer --workers if memory is short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(task: Callable[[int], object]) -> None:
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C; a shard in work is finished or redone


def _run(number: int) -> Any:
    assert _task is not None
    return _task(number)
