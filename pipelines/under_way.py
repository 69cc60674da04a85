"""Plans under way in a backend, which is built when the first is handed in, and anew after an error or a fork."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.batch_plan import Backend, BackendOutput, BatchPlan


class PlansUnderWay:
    """Plans handed to a backend whose tensors nobody has taken yet, oldest first.

    Attributes:
        backend: of the process that asked last; None before a plan and after an error.
    """

    def __init__(self, make_backend: Callable[[], Backend]) -> None:
        self.backend: Backend | None = None
        self._make_backend = make_backend
        self._plans: deque[BatchPlan] = deque()
        self._process = 0  # that `backend` was built in

    def submit(self, plan: BatchPlan) -> None:
        """Hands in one more plan and returns at once."""
        with self._closing_on_error():
            self._own_backend().submit(plan)
            self._plans.append(plan)

    def result(self) -> BackendOutput:
        """Waits for and returns the tensors of the oldest plan."""
        with self._closing_on_error():
            output = self._own_backend().result()
            self._plans.popleft()
        return output

    def drop(self) -> None:
        """Lets go of all plans; nobody asks for their tensors any more, so their errors are not raised."""
        if self.backend is None or self._process != os.getpid():
            self._plans.clear()
        try:
            while self._plans:
                self.result()
        except Exception:  # whatever it was, `result` has closed the backend: the next plan gets a new one
            return

    def close(self) -> None:
        """Closes the backend, if it is this process's: the threads of another's are not here to be ended."""
        backend, self.backend = self.backend, None
        self._plans.clear()
        if backend is not None and self._process == os.getpid():
            backend.close()

    def _own_backend(self) -> Backend:
        """Returns this process's backend; a child of the process that handed the plans in has them done again."""
        if self.backend is None or self._process != os.getpid():
            self.backend, self._process = self._make_backend(), os.getpid()
            for plan in self._plans:
                self.backend.submit(plan)
        return self.backend

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        """Closes the backend when anything goes wrong inside, Ctrl-C too: what it still has under way is unknown."""
        try:
            yield
        except BaseException:
            self.close()
            raise
