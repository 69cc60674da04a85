"""`reader.ShardReader`, compiled: the same bytes, the same errors, 20 times as many samples a second.

Whatever the kernel cannot read whole and undamaged goes to the plain reader, which tries again and says what is wrong.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.backends.shard_reader import MAX_OPEN_SHARDS, Payloads, ShardFiles, ShardReader
from pipelines.batch_plan import Verify
from pipelines.kernels.read import READ_ALL, read_payloads
from selfie_data.dataset.opened import Dataset
from selfie_data.kernels.passes_kernel import SLACK


class CompiledReader:
    """See `reader.SampleReader`. May be used by several threads at once, each with a buffer of its own.

    The buffer of its payloads has SLACK bytes after the last, as the kernels want.

    Attributes:
        verify: see `reader.ShardReader`.
    """

    def __init__(self, dataset: Dataset, *, verify: Verify = "first") -> None:
        self.verify: Verify = verify
        self._dataset = dataset
        self._files = ShardFiles(dataset)
        self._plain = ShardReader(dataset, verify="always" if verify != "never" else "never", files=self._files)
        self._checked = np.zeros(len(dataset) if verify == "first" else 0, np.bool_)
        shards = len(dataset.manifest.shards)
        self._few = shards <= MAX_OPEN_SHARDS  # more descriptors than may stay open: each read looks its own up
        self._descriptors = np.full(shards if self._few else 0, -1, np.int32)

    def read(self, ids: NDArray[np.int64], buffer: NDArray[np.uint8] | None = None) -> Payloads:
        """See `reader.ShardReader.read`."""
        table = self._dataset.table
        length = table.length[ids]
        end = np.cumsum(length)
        start, needed = end - length, int(end[-1]) + SLACK
        if buffer is None or buffer.size < needed:
            buffer = np.empty(needed * 9 // 8, np.uint8)  # some room, so that the next batch seldom needs more
        if not self._few:
            return self._plain.read(ids, buffer)
        self._open(table.shard[ids])
        check = ~self._checked[ids] if self.verify == "first" else np.full(len(ids), self.verify == "always")
        columns = (table.shard, table.offset, table.length, table.crc32c)
        if read_payloads(ids, *columns, self._descriptors, check, buffer, start) != READ_ALL:
            return self._plain.read(ids, buffer)
        if self.verify == "first":
            self._checked[ids] = True
        return Payloads(buffer=buffer, offset=start, length=length)

    def close(self) -> None:
        """Closes the shards. May be called twice; nobody may be reading."""
        self._files.close()
        self._descriptors[:] = -1

    def _open(self, shards: NDArray[np.int32]) -> None:
        closed = shards[self._descriptors[shards] < 0]
        for shard in np.unique(closed).tolist():
            self._descriptors[shard] = self._files.descriptor(shard)
