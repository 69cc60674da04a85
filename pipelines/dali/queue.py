"""Work that DALI does in its order, fed by a thread of its own, two pieces at a time.

    work -> read, feed, schedule     the feeder's thread
         -> outputs                  the caller's

What an error of DALI's leaves behind is of no use: the graphs are let go, and the work behind it is fed again.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, NamedTuple, TypeVar

from pipelines.dali.error import DaliError, read_error
from selfie_data.errors import DatasetError

# Batches in DALI at a time: one more would hold the pixels of another batch, which no speed was seen from.
DEPTH = 2

Work = TypeVar("Work")
Kept = TypeVar("Kept")


class Done(NamedTuple, Generic[Work, Kept]):
    """One piece of work: itself, what `feed` kept of it, and DALI's outputs."""

    work: Work
    kept: Kept
    outputs: Any


class DaliFailedError(Exception, Generic[Work, Kept]):
    """DALI could not do a piece of work; `found` is what it says of that."""

    def __init__(self, work: Work, kept: Kept, found: DaliError) -> None:
        super().__init__(found.cause)
        self.work, self.kept, self.found = work, kept, found


class DaliQueue(Generic[Work, Kept]):
    """See the module.

    Args:
        feed: prepares a piece of work and feeds a graph with it, in the feeder's thread; returns the graph, and what is
            to come back with the outputs. Its errors come out of `take`.
        forget: lets go of all graphs.
    """

    def __init__(self, feed: Callable[[Work], tuple[Any, Kept]], forget: Callable[[], None]) -> None:
        self._feed, self._forget = feed, forget
        # DALI's queue of outputs has no lock of its own: `schedule_run` adds to it, `outputs` takes from it.
        self._outputs = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._running: deque[tuple[Work, Future[tuple[Any, Kept]]]] = deque()
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="selfie-dali")

    def submit(self, work: Work) -> None:
        """Hands in one more piece and returns at once."""
        self._waiting.append(work)
        self._start_next()

    def take(self, stream: Any) -> Done[Work, Kept]:
        """Waits for and returns the oldest piece, its outputs in the order of a CUDA stream; None: there is none.

        Raises:
            DaliFailedError: DALI failed at it.
        """
        if not self._running:
            raise IndexError("no plan is outstanding")
        work, fed = self._running.popleft()
        try:
            return self._done(work, fed, stream)
        finally:
            self._start_next()

    def close(self) -> None:
        """Ends the thread and drops what is under way. May be called twice."""
        self._waiting.clear()
        self._feeder.shutdown(wait=True, cancel_futures=True)
        self._running.clear()
        self._forget()  # the last references: DALI ends its threads

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < DEPTH:
            work = self._waiting.popleft()
            self._running.append((work, self._feeder.submit(self._fed, work)))

    def _fed(self, work: Work) -> tuple[Any, Kept]:
        graph, kept = self._feed(work)
        with self._outputs:
            graph.schedule_run()
        return graph, kept

    def _done(self, work: Work, fed: Future[tuple[Any, Kept]], stream: Any) -> Done[Work, Kept]:
        try:
            graph, kept = fed.result()
            with self._outputs:
                return Done(work, kept, graph.outputs(cuda_stream=stream))
        except DatasetError:  # found before anything was fed
            raise
        except RuntimeError as error:  # DALI's for everything; its pipeline is of no use after one
            self._start_over()
            if fed.exception() is not None:
                raise
            raise DaliFailedError(work, kept, read_error(str(error))) from error

    def _start_over(self) -> None:
        wait(fed for _, fed in self._running)
        self._waiting.extendleft(work for work, _ in reversed(self._running))
        self._running.clear()
        self._forget()
