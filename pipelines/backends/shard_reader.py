"""Reads payloads of samples out of the shards: batches of ids in, one byte buffer out.

Plain positioned reads, never a memory map: a shard that is cut short while mapped kills the process with SIGBUS; here
it is a `CorruptSampleError` that names shard, offset and key.
"""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.batch_plan import Verify
from selfie_data.errors import CorruptSampleError, DatasetError

if TYPE_CHECKING:
    from selfie_data.dataset.opened import Dataset

# Half of the usual limit of 1,024 descriptors a process. A global shuffle touches every shard all the time, so beyond
# this many shards each read opens a file (10 us).
MAX_OPEN_SHARDS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Payloads:
    """Encoded images of a batch.

    Attributes:
        buffer: uint8 [at least sum(length)]; sample i is `buffer[offset[i] : offset[i] + length[i]]`.
        offset: [B] int64.
        length: [B] int64.
    """

    buffer: NDArray[np.uint8]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        start = int(self.offset[index])
        return self.buffer[start : start + int(self.length[index])]


class SampleReader(Protocol):
    """What backends read through; the compiled reader has the same meaning and the same errors."""

    def read(self, ids: NDArray[np.int64], buffer: NDArray[np.uint8] | None = None) -> Payloads: ...

    def close(self) -> None: ...


class ShardFiles:
    """Descriptors of the shards, opened when first needed, checked for their size, at most `limit` at a time.

    A descriptor stays valid until `limit` other shards have been asked for. Safe to use after a fork: positioned reads
    share no file position.
    """

    def __init__(self, dataset: "Dataset", *, limit: int = MAX_OPEN_SHARDS) -> None:
        self._dataset = dataset
        self._limit = limit
        self._open: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._closed = False

    def descriptor(self, shard: int) -> int:
        """Returns an open descriptor of a shard."""
        if os.getpid() != self._process:  # forked: the lock may have been held by a thread that does not exist here
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            if self._closed:
                raise ValueError("the reader is closed")
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
            descriptor = self._open_checked(shard)
            self._open[shard] = descriptor
            if len(self._open) > self._limit:
                os.close(self._open.popitem(last=False)[1])
            return descriptor

    def _open_checked(self, shard: int) -> int:
        path = self._dataset.shard_path(shard)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DatasetError(f"{path.name}: the shard cannot be opened ({error.strerror})") from error
        expected, actual = self._dataset.manifest.shards[shard].bytes, os.fstat(descriptor).st_size
        if actual != expected:
            os.close(descriptor)
            raise DatasetError(
                f"{path.name}: {actual} bytes long, the manifest says {expected}; restore the shard or build again"
            )
        return descriptor

    def close(self) -> None:
        with self._lock:
            self._closed = True
            while self._open:
                os.close(self._open.popitem()[1])


class ShardReader:
    """Reads samples by id and checks their CRC32C.

    Attributes:
        verify: `first` checks a payload the first time this reader reads it, `always` each time, `never` not at all.
    """

    def __init__(self, dataset: "Dataset", *, verify: Verify = "first", files: ShardFiles | None = None) -> None:
        self.verify: Verify = verify
        self._dataset = dataset
        self._files = ShardFiles(dataset) if files is None else files
        self._checked = np.zeros(len(dataset) if verify == "first" else 0, np.bool_)

    def read(self, ids: NDArray[np.int64], buffer: NDArray[np.uint8] | None = None) -> Payloads:
        """Returns the payloads of `ids` in their order.

        Args:
            ids: [B] int64, rows of the sample table.
            buffer: memory of an earlier call to be used again if it is large enough; its old content is lost.

        Raises:
            CorruptSampleError: a payload ends early or is not what was written.
            DatasetError: a shard cannot be opened or read, or has another size than the manifest says.
        """
        table = self._dataset.table
        length = np.asarray(table.length[ids], dtype=np.int64)
        end = np.cumsum(length)
        offset = end - length
        total = int(end[-1]) if len(end) else 0
        if buffer is None or buffer.size < total:
            buffer = np.empty(total + total // 8, np.uint8)  # some room, so that the next batch seldom needs more
        payloads = Payloads(buffer=buffer, offset=offset, length=length)
        view = memoryview(buffer)  # type: ignore[arg-type]  # NumPy's stubs for Python < 3.12 do not say so
        places = zip(ids, table.shard[ids], table.offset[ids], offset, length, strict=True)
        for sample, shard, position, start, size in places:
            self._read_one(int(sample), int(shard), int(position), view[start : start + size])
        self._check(ids, payloads)
        return payloads

    def close(self) -> None:
        """Closes the shards. May be called twice."""
        self._files.close()

    def _read_one(self, sample: int, shard: int, position: int, target: memoryview) -> None:
        descriptor = self._files.descriptor(shard)
        try:
            count = os.preadv(descriptor, [target], position)
            while 0 < count < len(target):  # a signal or a network file system may cut a read short
                more = os.preadv(descriptor, [target[count:]], position + count)
                if more == 0:
                    break
                count += more
        except OSError as error:
            name = self._dataset.manifest.shards[shard].name
            raise DatasetError(f"{name}: reading failed at offset {position} ({error.strerror})") from error
        if count != len(target):
            raise corrupt_sample(self._dataset, sample, f"the shard ends after {count} of {len(target)} bytes")

    def _check(self, ids: NDArray[np.int64], payloads: Payloads) -> None:
        if self.verify == "never":
            return
        todo = range(len(ids)) if self.verify == "always" else np.flatnonzero(~self._checked[ids]).tolist()
        expected = self._dataset.table.crc32c
        for index in todo:
            wanted, actual = int(expected[ids[index]]), google_crc32c.value(payloads[index])
            if actual != wanted:
                raise corrupt_sample(self._dataset, int(ids[index]), checksum_message(wanted, actual))
        if self.verify == "first":
            self._checked[ids] = True


def corrupt_sample(dataset: "Dataset", sample: int, reason: str) -> CorruptSampleError:
    """Returns the error for one sample; says where it lies and what can be done about it."""
    shard = int(dataset.table.shard[sample])
    return CorruptSampleError(
        f"{reason}; restore the shard, or leave the sample out with exclude=[{sample}]",
        shard=dataset.manifest.shards[shard].name,
        offset=int(dataset.table.offset[sample]),
        key=dataset.key(sample),
    )


def checksum_message(expected: int, actual: int) -> str:
    """Returns the wording all readers use for damaged bytes."""
    return f"CRC32C is {actual:08x}, the sample table says {expected:08x}"
