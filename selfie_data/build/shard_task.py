"""Building one shard: a task of its own, idempotent, in any process.

The shard is written under a temporary name, made durable, published; then its index; then its rows. Whatever was cut
short is done again; a shard with rows is checked and left alone: by its hash, in a bucket by its size.
"""

import hashlib
import os
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from selfie_data.build.plan import OneShard, ShardPlan
from selfie_data.dataset.names import BUILD, SUFFIX, index_name, key_of, rows_name, shard_name
from selfie_data.dataset.rows import ROW, Quarantined, Restarts, ShardRecord, encode_rows, load_rows
from selfie_data.dataset.shard import Member, ShardWriter, format_index
from selfie_data.errors import BuildError, ImageError
from selfie_data.files import write_file
from selfie_data.images.encode import STORED_AS, Stored
from selfie_data.images.formats import current_versions, decoder_versions, rare_format
from selfie_data.images.statistics import PixelSums, add_up, sum_by_numpy, sum_pixels
from selfie_data.source import GatheringSource, ImageSource, SourceImage, read_images
from selfie_data.storage.place import Place, storage_of

_BATCH = 256  # images summed at once where all have one size
_TICK_S = 0.2


class Tick(NamedTuple):
    """What was done since the last tick: images, bytes written, images quarantined."""

    images: int
    bytes: int
    quarantined: int

    def plus(self, other: "Tick") -> "Tick":
        return Tick(*(mine + its for mine, its in zip(self, other, strict=True)))

    def minus(self, other: "Tick") -> "Tick":
        return Tick(*(mine - its for mine, its in zip(self, other, strict=True)))


class Done(NamedTuple):
    """A shard is finished; `reused`: it was there already."""

    shard: int
    reused: bool


Report = Callable[[Tick], None]


class ImageEncoder(Protocol):
    """What a shard task asks of an encoder: `encode.Encoder`, or what puts markers into stored JPEGs."""

    @property
    def encoding(self) -> str: ...

    @property
    def restart_blocks(self) -> int | Literal["auto"]: ...

    def __call__(self, image: SourceImage) -> Stored: ...


class Carried(NamedTuple):
    """What an earlier build, whose dataset is the source, found out about a shard: see `rows.ShardRecord`."""

    sums: PixelSums | None = None
    quarantined: tuple[Quarantined, ...] = ()
    notices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """Everything a process needs to build any shard of a dataset, or one of them.

    `carried` tells of a shard what goes over from the dataset that is the source; None: it is none.
    """

    source: ImageSource
    plan: ShardPlan
    encoder: ImageEncoder
    out: Place
    fail_on_error: bool
    carried: Callable[[int], Carried] | None = None

    @property
    def divisible(self) -> bool:
        """Whether the source says by `take` what a shard needs of it; else it is small, or at home here only."""
        return hasattr(self.source, "take")

    def of_shard(self, number: int) -> "Job":
        """Returns what one shard of a divisible job needs: some 45 bytes an image of it."""
        take: Callable[[NDArray[np.int64]], ImageSource] = self.source.take  # type: ignore[attr-defined]
        plan = OneShard.of(self.plan, number)
        return replace(self, source=take(self.plan.sources(np.asarray(self.plan.positions(number)))), plan=plan)


def finished_shards(out: Place) -> set[int]:
    """Returns the numbers of the shards that have rows."""
    found = (re.fullmatch(r"shard-(\d+)\.rows", each.name) for each in storage_of(out).list())
    return {int(match[1]) for match in found if match}


def scratch_folder(out: Place) -> Path:
    """Returns where files are written before they get their names; of a URL, a folder of this machine for temporaries.

    It is found again when the same command is given again on this machine. `workspace.locked` makes it.
    """
    if isinstance(out, Path):
        return out / BUILD
    digest = hashlib.sha256(f"{os.getuid()} {out}".encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"selfie-build-{digest[:16]}"


def build_shard(job: Job, labels: NDArray[np.int32], number: int, report: Report) -> Done:
    """Builds shard `number`, or finds it finished.

    Args:
        job: what to build.
        labels: the source's labels, int32 [N].
        number: of the shard in the plan.
        report: called a few times a second.

    Raises:
        BuildError: it cannot be written, or an image failed and that is to end the build.
        SourceError: the source cannot be read.
    """
    record = load_rows(job.out / rows_name(shard_name(number)))
    if record is not None and _is_intact(job.out, record):
        written = record.bytes
        report(Tick(record.samples + len(record.quarantined), written, len(record.quarantined)))
        return Done(number, True)
    try:
        _ShardTask(job, labels, number, report).run()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BuildError(
            f"{job.out / shard_name(number)}: cannot be written ({reason}); "
            "finished shards are kept: mend that and give the same command again"
        ) from error
    return Done(number, False)


def _is_intact(out: Place, record: ShardRecord) -> bool:
    if record.decoders != current_versions(record.decoders):
        return False
    if record.samples == 0:
        return True
    name = shard_name(record.number)
    if not isinstance(out, Path):  # a reply to a PUT says that all of it arrived
        found, index = (storage_of(out).stat(each) for each in (name, index_name(name)))
        return found is not None and found.size == record.bytes and index is not None
    shard = out / name
    try:
        if shard.stat().st_size != record.bytes:
            return False
        return _digest(shard) == record.sha256 and _digest(shard.with_suffix(".idx")) == record.index_sha256
    except FileNotFoundError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _ShardTask:
    def __init__(self, job: Job, labels: NDArray[np.int32], number: int, report: Report) -> None:
        self.job = job
        self.labels = labels
        self.number = number
        self.report = report
        self.token = f"{socket.gethostname()}-{os.getpid()}"  # two may be at one shard, on one file system
        self.suffix = SUFFIX[STORED_AS[job.encoder.encoding]]
        carried = job.carried(number) if job.carried else Carried()
        self.carried_sums = carried.sums
        self.quarantined = list(carried.quarantined)
        self.rows: list[tuple[int, int, int, int, int, int]] = []
        self.members: list[tuple[Member, ...]] = []
        self.intervals = Counter[str]()
        self.reasons = Counter[str]()
        self.sums: list[PixelSums] = []
        self.decoders: dict[str, str] = {}
        self.notices = list(carried.notices)
        self.reported = Tick(len(carried.quarantined), 0, len(carried.quarantined))
        self.next_tick = time.monotonic() + _TICK_S

    def run(self) -> None:
        """Writes tar, index and rows, and gives them their names in this order, durably."""
        name = shard_name(self.number)
        scratch = scratch_folder(self.job.out) / f"{name}.{self.token}.tmp"
        with ShardWriter(scratch) as shard:
            self._fill(shard)
        files, index = {name: scratch}, format_index(self.members)
        if self.rows:
            files[index_name(name)] = scratch.with_name(f"{index_name(name)}.{self.token}.tmp")
            write_file(files[index_name(name)], index, durable=True)
        else:  # an archive without samples is legal tar, but no reader of shards takes it
            files.pop(name).unlink()
        files[rows_name(name)] = scratch.with_name(f"{rows_name(name)}.{self.token}.tmp")
        record = ShardRecord(
            number=self.number,
            bytes=shard.bytes if self.rows else 0,
            sha256=shard.sha256 if self.rows else "",
            index_sha256=hashlib.sha256(index).hexdigest() if self.rows else "",
            sums=self.carried_sums if self.job.carried else add_up(self.sums),
            quarantined=tuple(self.quarantined),
            rows=np.array(self.rows, dtype=ROW),
            restarts=self._restarts(),
            decoders=self.decoders,
            notices=tuple(self.notices),
        )
        write_file(files[rows_name(name)], encode_rows(record), durable=True)
        storage_of(self.job.out).publish(files)

    def _restarts(self) -> Restarts | None:
        if self.job.encoder.restart_blocks == 0:
            return None
        return Restarts(intervals=dict(self.intervals), reasons=dict(self.reasons))

    def _fill(self, shard: ShardWriter) -> None:
        images = self._images()
        for _ in range(0, len(self.job.plan.positions(self.number)), _BATCH):
            pixels: list[NDArray[np.uint8]] = []
            for position, label, image in islice(images, _BATCH):
                stored = self._encode(position, image)
                if stored is None:
                    continue
                self._add(shard, key_of(position), label, stored)
                pixels.append(stored.pixels)
                if self.suffix != "raw":
                    self.sums.append(sum_pixels(pixels.pop()))
                    self._tick(shard)
            if pixels:  # by NumPy 1.5 µs more an image: Numba's import, 0.5 s, would pay after 350,000 a process
                self.sums.append(sum_by_numpy(np.stack(pixels)))
            self.sums = [add_up(self.sums)]
            self._tick(shard)
        self.next_tick = 0.0
        self._tick(shard)

    def _images(self) -> Iterator[tuple[int, int, SourceImage | ImageError]]:
        """Yields plan positions, labels and images."""
        source, plan = self.job.source, self.job.plan
        for window in plan.windows(self.number):
            indices = plan.sources(window)
            if plan.by_blocks:
                assert isinstance(source, GatheringSource)
                images = source.read_together(indices.tolist(), scratch_folder(self.job.out))
            else:
                images = read_images(source, indices.tolist())
            yield from zip(window.tolist(), self.labels[indices].tolist(), images, strict=True)

    def _encode(self, position: int, image: SourceImage | ImageError) -> Stored | None:
        try:
            if isinstance(image, ImageError):
                raise image
            if isinstance(image.data, bytes) and (rare := rare_format(image.data)):
                self.decoders |= decoder_versions(rare)
            stored = self.job.encoder(image)
        except ImageError as error:
            name = "" if isinstance(image, ImageError) else image.name
            if self.job.fail_on_error:
                where = f"{name}: " if name else ""
                raise BuildError(f"{where}{error} (--on-error quarantine goes on without it)") from error
            self.quarantined.append(Quarantined(key=key_of(position), name=name, reason=str(error)))
            return None
        self.notices += [(reason, image.name) for reason in stored.notices]
        return stored

    def _add(self, shard: ShardWriter, key: str, label: int, stored: Stored) -> None:
        payload = stored.payload
        name = f"{key}.{self.suffix}"
        offset = shard.add(name, payload)
        members: tuple[Member, ...] = (Member(name=name, offset=offset, length=len(payload)),)
        if label >= 0:
            text = b"%d" % label
            members += (Member(name=f"{key}.cls", offset=shard.add(f"{key}.cls", text), length=len(text)),)
        self.members.append(members)
        self.intervals[str(stored.interval)] += 1
        if stored.reason:
            self.reasons[stored.reason] += 1
        height, width = stored.pixels.shape[:2]
        self.rows.append((label, offset, len(payload), height, width, google_crc32c.value(payload)))

    def _tick(self, shard: ShardWriter) -> None:
        if (now := time.monotonic()) < self.next_tick:
            return
        self.next_tick = now + _TICK_S
        quarantined = len(self.quarantined)
        done = Tick(len(self.rows) + quarantined, shard.bytes, quarantined)
        self.report(done.minus(self.reported))
        self.reported = done
