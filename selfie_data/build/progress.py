"""What a build tells while it works: a bar on a terminal, plain lines elsewhere, JSON lines for machines."""

import json
import sys
import time
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from selfie_data.build.shard_task import Tick

_LINE_S = 5.0
_JSON_S = 1.0


class Reporter(Protocol):
    """Told what happens. `spool` and `tick` come many times a second and must be quick."""

    def spool(self, done: int, expected: int) -> None:
        """Bytes spooled so far, and about how many there will be."""

    def start(self, images: int) -> None:
        """Encoding begins."""

    def tick(self, tick: Tick) -> None:
        """Work that was done since the last call."""

    def close(self) -> None:
        """Nothing more will come."""


class Silent:
    """Says nothing."""

    def spool(self, done: int, expected: int) -> None: ...

    def start(self, images: int) -> None: ...

    def tick(self, tick: Tick) -> None: ...

    def close(self) -> None: ...


class Bar:
    """A bar with rate and remaining time, bytes written, images quarantined."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar: tqdm[Any] | None = None
        self._spooling = False
        self._bytes = 0
        self._quarantined = 0

    def spool(self, done: int, expected: int) -> None:
        if self._bar is None:
            self._spooling = True
            self._bar = tqdm(total=expected, unit="B", unit_scale=True, desc="spool", file=self._stream)
        self._bar.total = expected
        self._bar.update(done - self._bar.n)

    def start(self, images: int) -> None:
        self.close()
        self._bar = tqdm(total=images, unit="image", unit_scale=True, desc="build", file=self._stream)

    def tick(self, tick: Tick) -> None:
        if self._bar is None:
            return
        self._bytes += tick.bytes
        self._quarantined += tick.quarantined
        self._bar.set_postfix_str(f"{human_bytes(self._bytes)}, {self._quarantined} quarantined", refresh=False)
        self._bar.update(tick.images)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Counts:
    """Sums ticks up and says when the next report is due."""

    def __init__(self, interval_s: float) -> None:
        self.total = 0
        self.done = Tick(0, 0, 0)
        self._interval_s = interval_s
        self._started = self._last = time.monotonic()

    def start(self, images: int) -> None:
        self.total = images
        self._started = self._last = time.monotonic()

    def add(self, tick: Tick) -> None:
        self.done = Tick(*(old + new for old, new in zip(self.done, tick, strict=True)))

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._interval_s:
            return False
        self._last = now
        return True

    @property
    def rate(self) -> float:
        """Images a second since the start."""
        return self.done.images / max(time.monotonic() - self._started, 1e-9)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the end at this rate; None before the first image."""
        return (self.total - self.done.images) / self.rate if self.done.images else None


class Lines:
    """A plain line every five seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._counts = _Counts(_LINE_S)

    def spool(self, done: int, expected: int) -> None:
        if self._counts.is_due():
            self._say(f"spool: {human_bytes(done)} of about {human_bytes(expected)}")

    def start(self, images: int) -> None:
        self._counts.start(images)

    def tick(self, tick: Tick) -> None:
        self._counts.add(tick)
        if self._counts.is_due():
            self._report()

    def close(self) -> None:
        if self._counts.total:
            self._report()

    def _report(self) -> None:
        counts = self._counts
        images, written, quarantined = counts.done
        remaining = "time left not known" if counts.remaining_s is None else f"{counts.remaining_s:.0f} s left"
        self._say(
            f"build: {images:,} of {counts.total:,} images, {counts.rate:,.0f}/s, {human_bytes(written)}, "
            f"{quarantined} quarantined, {remaining}"
        )

    def _say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class JsonLines:
    """A JSON object a line, each second: {"event": "build", "images": …, "total": …, "bytes": …, …}."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._counts = _Counts(_JSON_S)

    def spool(self, done: int, expected: int) -> None:
        if self._counts.is_due():
            self.emit({"event": "spool", "bytes": done, "expected_bytes": expected})

    def start(self, images: int) -> None:
        self._counts.start(images)
        self.emit({"event": "start", "total": images})

    def tick(self, tick: Tick) -> None:
        self._counts.add(tick)
        if self._counts.is_due():
            self._report()

    def close(self) -> None:
        if self._counts.total:
            self._report()

    def emit(self, event: dict[str, Any]) -> None:
        """Writes one object as a line."""
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()

    def _report(self) -> None:
        images, written, quarantined = self._counts.done
        remaining_s = self._counts.remaining_s
        self.emit(
            {
                "event": "build",
                "images": images,
                "total": self._counts.total,
                "bytes": written,
                "quarantined": quarantined,
                "images_per_s": round(self._counts.rate, 1),
                "remaining_s": None if remaining_s is None else round(remaining_s, 1),
            }
        )


def human_bytes(count: float) -> str:
    """Returns a number of bytes for people: 64.0 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
