"""How a build tells what it does: a bar on a terminal, plain lines elsewhere, JSON lines for machines."""

import json
import time
from collections.abc import Callable
from typing import Any, Protocol

from tqdm import tqdm

from selfie_data.task import ShardResult

_LINE_EVERY_S = 5.0


class Progress(Protocol):
    """What a build reports to."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins: "spool" of `total` bytes (0: nothing to do), or "shards" of `total` images."""

    def spooled(self, done: int, total: int) -> None:
        """So many bytes of the spool are there; `total` is an estimate."""

    def shard(self, result: ShardResult) -> None:
        """A shard is finished."""


class Silent:
    """Reports nothing."""

    def stage(self, name: str, total: int) -> None: ...

    def spooled(self, done: int, total: int) -> None: ...

    def shard(self, result: ShardResult) -> None: ...


class Bar:
    """A bar with rate, time left, bytes and the number of quarantined images."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._bytes = self._quarantined = 0

    def stage(self, name: str, total: int) -> None:
        self.close()
        if total:
            unit, scale = ("B", True) if name == "spool" else ("image", False)
            self._bar = tqdm(total=total, desc=name, unit=unit, unit_scale=scale, dynamic_ncols=True)

    def spooled(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.total = max(total, done)
            self._bar.update(done - self._bar.n)

    def shard(self, result: ShardResult) -> None:
        self._bytes += result.record.bytes
        self._quarantined += len(result.quarantined)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._bytes / 1e6:,.1f} MB, {self._quarantined} quarantined", refresh=False)
            self._bar.update(result.record.samples + len(result.quarantined))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    """A line every few seconds, as text or as JSON."""

    def __init__(self, write: Callable[[str], object], *, as_json: bool = False) -> None:
        self._write = write
        self._as_json = as_json
        self._name, self._total, self._done, self._bytes, self._quarantined = "", 0, 0, 0, 0
        self._started = self._told = time.monotonic()

    def stage(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._started = time.monotonic()

    def spooled(self, done: int, total: int) -> None:
        self._done, self._total = done, max(done, total)
        self._tell()

    def shard(self, result: ShardResult) -> None:
        self._bytes += result.record.bytes
        self._quarantined += len(result.quarantined)
        self._done += result.record.samples + len(result.quarantined)
        self._tell()

    def close(self) -> None: ...

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < _LINE_EVERY_S and self._done < self._total:
            return
        self._told = now
        rate = self._done / max(now - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate else 0.0
        facts = {
            "stage": self._name,
            "done": self._done,
            "total": self._total,
            "per_second": round(rate, 1),
            "seconds_left": round(left, 1),
            "bytes": self._bytes,
            "quarantined": self._quarantined,
        }
        if self._as_json:
            self._write(json.dumps(facts))
        else:
            unit = "bytes" if self._name == "spool" else "images"
            self._write(
                f"{self._name}: {self._done:,} of {self._total:,} {unit}, {rate:,.0f}/s, {left:,.0f} s left, "
                f"{self._bytes / 1e6:,.1f} MB written, {self._quarantined} quarantined"
            )
