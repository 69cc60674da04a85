"""Ending a run early but cleanly: a signal or a time limit asks, the training loop decides where.

SIGTERM, SIGINT, SIGUSR1 and SIGHUP ask. A second SIGINT is not waited for; SIGHUP stays ignored where it is, as under
`nohup`.
"""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """Becomes true on a signal or when the time is up; as a context it takes the handlers over and gives them back.

    Attributes:
        reason: why, empty until then.
    """

    def __init__(self, *, time_limit_s: float = 0.0) -> None:
        self.reason = ""
        self._deadline = time.monotonic() + time_limit_s if time_limit_s > 0 else float("inf")
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            for number in _SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        if not self.reason and time.monotonic() >= self._deadline:
            self.reason = "the time limit"
        return bool(self.reason)

    def wait(self, limit_s: float) -> bool:
        """Returns whether this process is asked within `limit_s` seconds, as soon as it is."""
        deadline = time.monotonic() + limit_s
        while not self and time.monotonic() < deadline:
            time.sleep(0.02)
        return bool(self)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is Python's
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name
