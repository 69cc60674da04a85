"""Reads payloads of samples out of the shards: batches of ids in, one byte buffer out.

Plain positioned reads, never a memory map: a shard that is cut short while mapped kills the process with SIGBUS; here
it is a `CorruptSampleError` that names shard, offset and key.
"""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipelines.batch_plan import Verify
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import corrupt_sample, decode_payload
from selfie_data.dataset.table import SampleTable
from selfie_data.errors import DatasetError

# Half of the usual limit of 1,024 descriptors a process. A global shuffle touches every shard all the time, so beyond
# this many shards each read opens a file (10 us).
MAX_OPEN_SHARDS = 512
# Samples of which it is known whether they were checked, a byte each. Of more, all are checked each time: an epoch of
# them is long, and a checksum takes 5 us of the 2 ms that a photograph does.
_REMEMBERED = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Payloads:
    """Encoded images of a batch.

    Attributes:
        buffer: uint8 [at least sum(length)]; sample i is `buffer[offset[i] : offset[i] + length[i]]`.
        offset: [B] int64.
        length: [B] int64.
        rows: of the samples.
    """

    buffer: NDArray[np.uint8]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    rows: SampleTable

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        start = int(self.offset[index])
        return self.buffer[start : start + int(self.length[index])]


class ShardFiles:
    """Descriptors of the shards, opened when first needed, checked for their size, at most `limit` at a time.

    A descriptor stays valid until `limit` other shards have been asked for and, at a URL, until no batch under way
    needs its shard: what the cache drops takes room on the disk for as long as it is open. Safe to use after a fork:
    positioned reads share no file position.

    Attributes:
        table: [shards] int32, the descriptors; -1 = not open.
    """

    def __init__(self, dataset: Dataset, *, limit: int = MAX_OPEN_SHARDS) -> None:
        self.table = np.full(len(dataset.manifest.shards), -1, np.int32)
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
        if (descriptor := self._opened(shard)) is None:
            new = self._open_checked(shard)  # without the lock: it may have to be fetched
            if (descriptor := self._opened(shard, new)) != new:
                os.close(new)
        assert descriptor is not None
        return descriptor

    def _opened(self, shard: int, new: int | None = None) -> int | None:
        """Returns the descriptor of a shard, `new` if there is none yet."""
        with self._lock:
            if self._closed:
                if new is not None:
                    os.close(new)
                raise ValueError("the reader is closed")
            if shard in self._open:
                self._open.move_to_end(shard)
            elif new is not None:
                self._retire()
                self._open[shard] = self.table[shard] = new
                if len(self._open) > self._limit:
                    self._close(next(iter(self._open)))
            return self._open.get(shard)

    def _retire(self) -> None:
        if (opener := self._dataset.opener) is not None:
            for shard in [shard for shard in self._open if not opener.is_needed(shard)]:
                self._close(shard)

    def _close(self, shard: int) -> None:
        self.table[shard] = -1
        os.close(self._open.pop(shard))

    def _open_checked(self, shard: int) -> int:
        if self._dataset.opener is not None:
            return self._dataset.opener.open(shard)
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
            for shard in list(self._open):
                self._close(shard)


class ShardReader:
    """Reads samples by id and checks their CRC32C. May be used by several threads at once, each with its own buffer.

    Compiled, it reads 20 times as many samples a second; whatever the kernel cannot read whole and undamaged is read
    again plainly, which says what is wrong.

    Attributes:
        verify: `first` checks a payload the first time this reader reads it, `always` each time, `never` not at all.
    """

    def __init__(
        self, dataset: Dataset, *, verify: Verify = "first", compiled: bool = False, limit: int = MAX_OPEN_SHARDS
    ) -> None:
        self.verify: Verify = verify
        self._dataset = dataset
        shards = len(dataset.manifest.shards)
        few = shards <= limit or (dataset.opener is not None and dataset.opener.few)
        self._compiled = compiled and few  # the kernel takes descriptors that stay open
        self._files = ShardFiles(dataset, limit=shards if few else limit)
        remembers = verify == "first" and len(dataset) <= _REMEMBERED
        self._checked = np.zeros(len(dataset) if remembers else 0, np.bool_)

    def read(self, ids: NDArray[np.int64], buffer: NDArray[np.uint8] | None = None) -> Payloads:
        """Returns the payloads of `ids` in their order.

        Args:
            ids: [B] int64.
            buffer: memory of an earlier call to be used again if it is large enough; its old content is lost.

        Raises:
            CorruptSampleError: a payload ends early or is not what was written.
            DatasetError: a shard cannot be opened or read, or has another size than the manifest says.
        """
        rows = self._dataset.rows(ids)
        length = np.asarray(rows.length, dtype=np.int64)
        end = np.cumsum(length)
        total = int(end[-1]) if len(end) else 0
        if buffer is None or buffer.size < total:
            buffer = np.empty(total + total // 8, np.uint8)  # some room, so that the next batch seldom needs more
        payloads = Payloads(buffer=buffer, offset=end - length, length=length, rows=rows)
        remembers = len(self._checked) > 0
        check = ~self._checked[ids] if remembers else np.full(len(ids), self.verify != "never")
        if not (self._compiled and self._read_compiled(payloads, check)):
            self._read_plainly(ids, payloads, check)
        if remembers:
            self._checked[ids] = True
        return payloads

    def close(self) -> None:
        """Closes the shards. May be called twice; nobody may be reading."""
        self._files.close()

    def _read_compiled(self, payloads: Payloads, check: NDArray[np.bool_]) -> bool:
        """Reads all payloads in one call; False if anything is wrong."""
        from pipelines.kernels.read import READ_ALL, read_payloads  # the plain way must do without Numba

        rows = payloads.rows
        for shard in np.unique(rows.shard[self._files.table[rows.shard] < 0]).tolist():
            self._files.descriptor(shard)
        columns = (rows.shard, rows.offset, rows.length, rows.crc32c)
        read = read_payloads(*columns, self._files.table, check, payloads.buffer, payloads.offset)
        return int(read) == READ_ALL

    def _read_plainly(self, ids: NDArray[np.int64], payloads: Payloads, check: NDArray[np.bool_]) -> None:
        rows = payloads.rows
        view = memoryview(payloads.buffer)  # type: ignore[arg-type]  # NumPy's stubs for Python < 3.12 do not say so
        places = zip(ids, rows.shard, rows.offset, payloads.offset, payloads.length, strict=True)
        for sample, shard, position, start, size in places:
            self._read_one(int(sample), int(shard), int(position), view[start : start + size])
        for index in np.flatnonzero(check).tolist():
            wanted, found = int(rows.crc32c[index]), google_crc32c.value(payloads[index])
            if found != wanted:
                reason = f"CRC32C is {found:08x}, the sample table says {wanted:08x}"
                if self._dataset.opener is not None:
                    reason += "; the shard was whole when it came: selfie-data cache clear, then repeat the command"
                raise corrupt_sample(self._dataset, int(ids[index]), reason)

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


def check_raw(dataset: Dataset, ids: NDArray[np.int64], payloads: Payloads) -> None:
    """Raises CorruptSampleError where the length of a payload of raw pixels is not that of its image."""
    wrong = payloads.length != 3 * payloads.rows.height.astype(np.int64) * payloads.rows.width
    for row in np.flatnonzero(wrong)[:1]:
        decode_payload(dataset, int(ids[row]), payloads[row])
