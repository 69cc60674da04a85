"""One shard's work: read the source images of its plan positions, encode, write, and record what was done.

    .build/records/shard-000007.json    the shard's record, quarantined inputs, channel sums
    .build/records/shard-000007.npy     its rows of the sample table

A record is written after its shard, so a record that is there speaks of a whole shard.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from selfie_data.atomic import write_atomic
from selfie_data.dataset import SUFFIX
from selfie_data.encode import Encoded, Encoder, pixel_sums
from selfie_data.errors import BuildError, ImageError
from selfie_data.manifest import Quarantined, ShardRecord
from selfie_data.plan import Plan
from selfie_data.sample import Source, SourceImage
from selfie_data.shard import ShardWriter, publish_shard, shard_name
from selfie_data.table import DTYPES

ROW = np.dtype(list(DTYPES.items()))
_READ_AHEAD = 256  # images asked of a source at once


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What a shard's task found; `sums` are exact channel sums of pixels and their squares, `pixels` their number."""

    record: ShardRecord
    index_sha256: str
    quarantined: tuple[Quarantined, ...]
    sums: tuple[tuple[int, ...], ...]
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """Everything a worker needs; the same task gives the same bytes wherever and whenever it runs.

    Attributes:
        out: the dataset directory.
        work: `.build` inside it.
        fail: whether the first bad image ends the build, instead of being quarantined.
    """

    source: Source
    labels: NDArray[np.int32]
    plan: Plan
    encoder: Encoder
    out: Path
    work: Path
    fail: bool

    def run(self, number: int) -> ShardResult:
        """Builds shard `number`, or checks it if an earlier build finished it."""
        if done := self._finished(number):
            return done
        name = shard_name(number)
        scratch = self.work / f"{name}.tmp"
        try:
            with scratch.open("wb", buffering=0) as file:
                writer = ShardWriter(file, SUFFIX[self.encoder.stored])
                rows, quarantined, sums, pixels = self._write_samples(writer, number)
                digest, index = writer.finish()
            if len(rows):
                publish_shard(scratch, self.out / name, index)
            else:  # everything in it was quarantined, and an empty shard cannot be read
                scratch.unlink()
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise BuildError(
                f"{self.out / name}: cannot be written ({error.strerror}); make room and start again"
            ) from error
        labels = Counter(str(label) for label in rows["label"].tolist())
        result = ShardResult(
            record=ShardRecord(
                name=name,
                samples=len(rows),
                bytes=writer.position,
                sha256=digest,
                class_counts=dict(sorted(labels.items(), key=lambda item: int(item[0]))),
            ),
            index_sha256=hashlib.sha256(index).hexdigest(),
            quarantined=tuple(quarantined),
            sums=tuple(tuple(int(value) for value in row) for row in sums),
            pixels=pixels,
        )
        self._record(result, rows)
        return result

    def _write_samples(
        self, writer: ShardWriter, number: int
    ) -> tuple[NDArray[np.void], list[Quarantined], NDArray[np.int64], int]:
        positions, indices = self.plan.shard(number)
        rows = np.empty(len(positions), ROW)
        quarantined: list[Quarantined] = []
        sums, pixels, count = np.zeros((2, 3), np.int64), 0, 0
        raw: list[bytes] = []
        for position, index, item in self._encoded(positions, indices):
            key = f"{position:012d}"
            if isinstance(item, ImageError):
                if self.fail:
                    raise item
                quarantined.append(Quarantined(key=key, name=f"image {index}", reason=str(item)))
                continue
            label = int(self.labels[index])
            offset = writer.add(key, item.payload, label)
            checksum = google_crc32c.value(item.payload)
            rows[count] = (label, number, offset, len(item.payload), item.height, item.width, checksum)
            count += 1
            pixels += item.height * item.width
            if item.sums is None:
                raw.append(item.payload)
            else:
                sums += item.sums
            if len(raw) == _READ_AHEAD:
                sums += pixel_sums(b"".join(raw))
                raw.clear()
        return rows[:count], quarantined, sums + pixel_sums(b"".join(raw)), pixels

    def _encoded(
        self, positions: NDArray[np.int64], indices: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, Encoded | ImageError]]:
        """Yields (plan position, source index, what is stored or why nothing is), in plan order."""
        for start in range(0, len(indices), _READ_AHEAD):
            part = slice(start, start + _READ_AHEAD)
            images = self._read(indices[part].tolist())
            for position, index, image in zip(positions[part].tolist(), indices[part].tolist(), images, strict=True):
                yield position, index, image if isinstance(image, ImageError) else self._encode(image)

    def _encode(self, image: SourceImage) -> Encoded | ImageError:
        try:
            return self.encoder.encode(image)
        except ImageError as error:
            return error

    def _read(self, indices: list[int]) -> Iterator[SourceImage | ImageError]:
        read_many = getattr(self.source, "read_many", None)  # the pictures that are generated come cheaper by the dozen
        if read_many is not None:
            yield from read_many(indices)
            return
        for index in indices:
            try:
                yield self.source.read(index)
            except ImageError as error:
                yield error

    def _record(self, result: ShardResult, rows: NDArray[np.void]) -> None:
        files = record_files(self.work, result.record.name)
        write_atomic(files.rows, _npy(rows))
        write_atomic(files.result, json.dumps(asdict(result)).encode())

    def _finished(self, number: int) -> ShardResult | None:
        """Returns the record of a finished shard if the shard and its index are still what it says."""
        result = load_result(self.work, shard_name(number))
        if result is None:
            return None
        path = self.out / result.record.name
        found = (_sha256(path), _sha256(path.with_suffix(".idx")))
        whole = found == (result.record.sha256, result.index_sha256) or not result.record.samples
        return result if whole else None


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """Where the record of a shard lies: `result` (JSON), written last, and `rows` (npy)."""

    result: Path
    rows: Path


def record_files(work: Path, shard: str) -> RecordFiles:
    """Returns the paths of the record of the shard named `shard`."""
    stem = work / "records" / Path(shard).stem
    return RecordFiles(stem.with_suffix(".json"), stem.with_suffix(".npy"))


def load_result(work: Path, shard: str) -> ShardResult | None:
    """Returns a shard's record, None if there is none that can be read: the shard is then built again."""
    files = record_files(work, shard)
    try:
        parts: dict[str, Any] = json.loads(files.result.read_bytes())
        load_rows(work, shard)
        return ShardResult(
            record=ShardRecord(**parts["record"]),
            index_sha256=parts["index_sha256"],
            quarantined=tuple(Quarantined(**entry) for entry in parts["quarantined"]),
            sums=tuple(tuple(row) for row in parts["sums"]),
            pixels=parts["pixels"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_rows(work: Path, shard: str) -> NDArray[np.void]:
    """Returns the rows of the table of a finished shard, a structured array of `ROW`."""
    rows: NDArray[np.void] = np.load(record_files(work, shard).rows, allow_pickle=False)
    return rows


def _npy(array: NDArray[np.void]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
