"""`shard-NNNNNN.rows`: what is known of a shard, one line of JSON, and a row a sample behind it, 32 bytes each.

It is written when the tar and its index are in place: a shard without is not finished. Loaders read the rows of the
shards that they are at.
"""

import hashlib
import json
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.pages import Shard, Shards
from selfie_data.dataset.table import SampleTable, read_checked
from selfie_data.errors import DatasetError
from selfie_data.images.statistics import PixelSums
from selfie_data.storage.place import Place

ROW = np.dtype(
    [
        ("label", "<i4"),
        ("offset", "<i8"),
        ("length", "<i8"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("crc32c", "<u4"),
    ]
)


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input that could not be used: its key (plan position, 12 digits), its name in the source, and why.

    `name` is empty where the source itself refused the image: `reason` names it then.
    """

    key: str
    name: str
    reason: str

    @property
    def text(self) -> str:
        """Name and reason for people."""
        return f"{self.name}: {self.reason}" if self.name else self.reason


class Restarts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart markers of stored JPEGs.

    Attributes:
        intervals: MCUs between markers, written as text ("0": no markers), to the number of images.
        reasons: why images are stored as they came, to their number; the others got their markers.
    """

    intervals: dict[str, int]
    reasons: dict[str, int]


def add_restarts(parts: Iterable[Restarts | None]) -> Restarts | None:
    """Returns the sums over shards, sorted; None if no shard counted any."""
    counted = [part for part in parts if part is not None]
    if not counted:
        return None
    intervals, reasons = Counter[str](), Counter[str]()
    for part in counted:
        intervals.update(part.intervals)
        reasons.update(part.reasons)
    by_number = sorted(intervals.items(), key=lambda item: int(item[0]))
    return Restarts(intervals=dict(by_number), reasons=dict(sorted(reasons.items())))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardRecord:
    """A finished shard; without samples (all quarantined) there is no tar and `sha256` is empty.

    Attributes:
        number: of the shard.
        bytes: of the tar.
        sha256: of the tar, in hexadecimal, as `index_sha256` of the index.
        sums: of the stored pixels; None where they were not kept.
        quarantined: in order of key.
        rows: structured array [samples] of `ROW`, in the order of the shard.
        restarts: of its JPEGs, if they were to get markers.
        decoders: name -> version of what decoded images of the rarer formats, "missing" if nothing could.
        notices: reason and name of each image that was used in part, or by a guess.
    """

    number: int
    bytes: int
    sha256: str
    index_sha256: str
    sums: PixelSums | None
    quarantined: tuple[Quarantined, ...]
    rows: NDArray[np.void]
    decoders: dict[str, str] = field(default_factory=dict)
    restarts: Restarts | None = None
    notices: tuple[tuple[str, str], ...] = ()

    @property
    def samples(self) -> int:
        return len(self.rows)

    @property
    def removed(self) -> NDArray[np.int64]:
        """Plan positions of what was quarantined, rising."""
        return np.array([int(entry.key) for entry in self.quarantined], dtype=np.int64)


def count_classes(labels: NDArray[np.int32]) -> dict[str, int]:
    """Returns class index, as text, -> number of samples, in order of index; -1: no label."""
    values, counts = np.unique(labels, return_counts=True)
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def encode_rows(record: ShardRecord) -> bytes:
    """Returns the bytes of a rows file."""
    rows = record.rows.tobytes()
    line = {
        "number": record.number,
        "samples": record.samples,
        "bytes": record.bytes,
        "sha256": record.sha256,
        "index_sha256": record.index_sha256,
        "class_counts": count_classes(record.rows["label"]),
        "sums": record.sums,
        "quarantined": [[entry.key, entry.name, entry.reason] for entry in record.quarantined],
        "decoders": record.decoders,
        "restarts": msgspec.to_builtins(record.restarts),
        "notices": record.notices,
        "rows_sha256": hashlib.sha256(rows).hexdigest(),
    }
    return json.dumps(line).encode() + b"\n" + rows


def decode_rows(data: bytes) -> ShardRecord:
    """Returns what a rows file says.

    Raises:
        ValueError: it is none, or damaged.
    """
    line, _, rows = data.partition(b"\n")
    try:
        parts: dict[str, Any] = json.loads(line)
        if parts.pop("rows_sha256") != hashlib.sha256(rows).hexdigest():
            raise ValueError("its rows are not those that its first line is of")
        samples, counts, sums = parts.pop("samples"), parts.pop("class_counts"), parts.pop("sums")
        quarantined = [Quarantined(key=key, name=name, reason=reason) for key, name, reason in parts.pop("quarantined")]
        restarts, notices = msgspec.convert(parts.pop("restarts"), Restarts | None), parts.pop("notices")
        record = ShardRecord(
            **parts,
            restarts=restarts,
            notices=tuple((reason, name) for reason, name in notices),
            sums=sums and PixelSums(sums[0], tuple(sums[1]), tuple(sums[2])),
            quarantined=tuple(quarantined),
            rows=np.frombuffer(rows, ROW),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the first line of a rows file ({error})") from error
    if (samples, counts) != (record.samples, count_classes(record.rows["label"])):
        raise ValueError("its first line counts other samples or classes than there are rows")
    return record


def load_rows(path: Place) -> ShardRecord | None:
    """Returns what a rows file says; None if there is none or it is damaged, and the shard is to be built again."""
    try:
        return decode_rows(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def read_rows(dataset: Place, shard: Shard) -> ShardRecord:
    """Returns what the rows file of a shard says, its SHA-256 compared with the entry's.

    Raises:
        DatasetError: it is missing, changed, or of another shard.
    """
    data = read_checked(dataset, shard.rows_name, {shard.rows_name: shard.rows_sha256})
    try:
        record = decode_rows(data)
    except ValueError as error:
        raise DatasetError(f"{dataset / shard.rows_name}: damaged, {error}") from error
    found = (record.number, record.samples, len(record.quarantined), record.bytes, record.sha256 or "0" * 64)
    if found != (shard.number, shard.samples, shard.quarantined, shard.bytes, shard.sha256):
        raise DatasetError(f"{dataset / shard.rows_name}: of another shard than the page says")
    return record


class RowCache:
    """Rows of the shards that were asked for last, gathered for batches of ids. Safe for threads and after a fork.

    Shards have slots of one length in columns that are made once, so that a batch is gathered by NumPy as from a table.
    """

    def __init__(self, shards: Shards, read: Callable[[int], NDArray[np.void]], *, limit: int, threads: int) -> None:
        """`read` returns the rows of a shard by its position; `limit`: bytes that are kept, two shards at least."""
        self._shards, self._read, self._limit, self._threads = shards, read, limit, threads
        self._process, self._lock = os.getpid(), threading.Lock()
        self._slots: OrderedDict[int, int] = OrderedDict()  # shard -> slot, the one asked for last at the end
        self._slot_of = np.full(0, -1, np.int32)
        self._columns: dict[str, NDArray[Any]] = {}
        self._length = 0

    def gather(self, ids: NDArray[np.int64]) -> SampleTable:
        """Returns the rows of ids [B].

        Raises:
            DatasetError: a rows file is missing or changed.
        """
        shard, place = self._shards.locate(ids)
        if os.getpid() != self._process:  # forked: the lock may have been held by a thread that does not exist here
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            if not self._columns:
                self._allocate()
            wanted = np.unique(shard)
            capacity = len(self._columns["label"]) // self._length
            found = {name: np.empty(len(ids), column.dtype) for name, column in self._columns.items()}
            for start in range(0, len(wanted), capacity):
                some = wanted[start : start + capacity]
                inside = slice(None) if len(some) == len(wanted) else np.isin(shard, some)
                for number, read in self._missing(some.tolist()):
                    self._keep(number, read)
                rows = self._slot_of[shard[inside]].astype(np.int64) * self._length + place[inside]
                for name, column in self._columns.items():
                    found[name][inside] = column[rows]
        return SampleTable(shard=shard.astype(np.int32), **found)

    def bring(self, shard: int) -> None:
        """Reads the rows of a shard that is going to be asked for, while others are gathered.

        Raises:
            DatasetError: its rows file is missing or changed.
        """
        with self._lock:
            kept = shard in self._slots
        if not kept:
            rows = self._read(shard)
            with self._lock:
                if not self._columns:
                    self._allocate()
                self._keep(shard, rows)

    def _missing(self, shards: list[int]) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yields those that are not kept, with their rows; the others become those that were asked for last."""
        missing = [shard for shard in shards if shard not in self._slots]
        for shard in set(shards).difference(missing):
            self._slots.move_to_end(shard)
        if len(missing) < 2:
            yield from ((shard, self._read(shard)) for shard in missing)
            return
        with ThreadPoolExecutor(min(self._threads, len(missing))) as pool:
            yield from zip(missing, pool.map(self._read, missing), strict=True)

    def _allocate(self) -> None:
        self._length = max(1, self._shards.totals.largest)
        slots = min(len(self._shards), max(2, self._limit // (self._length * ROW.itemsize)))
        self._slot_of = np.full(len(self._shards), -1, np.int32)
        self._columns = {name: np.empty(slots * self._length, ROW[name]) for name in ROW.names or ()}

    def _keep(self, shard: int, rows: NDArray[np.void]) -> None:
        """Keeps the rows of a shard, as those that were asked for last."""
        if shard in self._slots:
            return
        if len(self._slots) < len(self._columns["label"]) // self._length:
            slot = len(self._slots)
        else:
            oldest, slot = self._slots.popitem(last=False)
            self._slot_of[oldest] = -1
        for name, column in self._columns.items():
            column[slot * self._length : slot * self._length + len(rows)] = rows[name]
        self._slots[shard], self._slot_of[shard] = slot, slot
