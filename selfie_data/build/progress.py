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
        self._options: dict[str, Any] = {"unit_scale": True, "file": stream or sys.stderr}
        self._bar: tqdm[Any] | None = None
        self._bytes = 0
        self._quarantined = 0

    def spool(self, done: int, expected: int) -> None:
        if self._bar is None:
            self._bar = tqdm(unit="B", desc="spool", **self._options)
        self._bar.total = expected
        self._bar.update(done - self._bar.n)

    def start(self, images: int) -> None:
        self.close()
        self._bar = tqdm(total=images, unit="image", desc="build", **self._options)

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


class JsonLines:
    """A JSON object a line, each second: {"event": "build", "images": …, "total": …, "bytes": …, …}."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._interval_s = _JSON_S
        self._total = 0
        self._done = Tick(0, 0, 0)
        self._started = self._last = time.monotonic()

    def spool(self, done: int, expected: int) -> None:
        if self._is_due():
            self._write({"event": "spool", "bytes": done, "expected_bytes": expected})

    def start(self, images: int) -> None:
        self._total = images
        self._started = self._last = time.monotonic()
        self._write({"event": "start", "total": images})

    def tick(self, tick: Tick) -> None:
        self._done = self._done.plus(tick)
        if self._is_due():
            self._report()

    def close(self) -> None:
        if self._total:
            self._report()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._interval_s:
            return False
        self._last = now
        return True

    def _report(self) -> None:
        images, written, quarantined = self._done
        rate = images / max(time.monotonic() - self._started, 1e-9)
        event = {"event": "build", "images": images, "total": self._total, "bytes": written, "quarantined": quarantined}
        left = round((self._total - images) / rate, 1) if images else None  # not known before the first image
        self._write({**event, "images_per_s": round(rate, 1), "remaining_s": left})

    def _write(self, event: dict[str, Any]) -> None:
        if line := self._form(event):
            self._stream.write(line + "\n")
            self._stream.flush()

    def _form(self, event: dict[str, Any]) -> str:
        return json.dumps(event)


class Lines(JsonLines):
    """The same as plain lines, every five seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream or sys.stderr)
        self._interval_s = _LINE_S

    def _form(self, event: dict[str, Any]) -> str:
        if event["event"] == "start":
            return ""
        size = human_bytes(event["bytes"])
        if event["event"] == "spool":
            return f"spool: {size} of about {human_bytes(event['expected_bytes'])}"
        left = "time left not known" if event["remaining_s"] is None else f"{event['remaining_s']:.0f} s left"
        return (
            f"build: {event['images']:,} of {event['total']:,} images, {event['images_per_s']:,.0f}/s, {size}, "
            f"{event['quarantined']} quarantined, {left}"
        )


def human_bytes(count: float) -> str:
    """Returns a number of bytes for people: 64.0 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
