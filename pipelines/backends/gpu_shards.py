"""The default on a GPU: images of the shards, decoded by DALI; raw ones are copied as they are read.

    encoded   read + check -> cut windows -> DALI decodes -> one flat tensor of DALI's memory, without a copy
    raw       read + check, into pinned memory -> one copy

Reading is the work of a thread; it is two batches ahead. JPEGs with restart markers are cut down to what is looked at
before they are decoded (`jpeg_windows.py`).
"""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.backends.buffers import BufferPool
from pipelines.backends.gpu import DevicePixels, GpuBackend, Numbers, device_name
from pipelines.backends.jpeg_windows import Misfits, Windows
from pipelines.backends.shard_reader import Payloads, ShardReader, check_raw
from pipelines.batch_plan import BatchPlan, Decode, OutputSpec, Verify
from pipelines.dali.decoder import ENCODED, build_decoder, flat
from pipelines.dali.error import explained
from pipelines.dali.queue import DEPTH, DaliFailedError, DaliQueue
from pipelines.staging import Staging
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import corrupt_sample, decode_payload
from selfie_data.errors import DeviceError

# Of 255, in the mean over what is compared: to tell a decoder that works from one that does not. Another inverse
# transform alone is 1.1 off, chroma of the nearest pixel 0.55; the tests allow nvJPEG 0.6.
MIXED_BOUND = 2.0


class GpuShardBackend(GpuBackend):
    """The backend of the name `gpu`: see `batch_plan.Backend`."""

    def __init__(
        self,
        dataset: Dataset,
        spec: OutputSpec,
        *,
        device: torch.device,
        decode: Decode = "mixed",
        verify: Verify = "first",
        threads: int = 2,
        prefetch: int = 2,
    ) -> None:
        reader = ShardReader(dataset, verify=verify, compiled=True)
        images = (
            RawImages(dataset, reader, device=device, batch_size=spec.batch_size, keep=prefetch + 3)
            if dataset.encoding == "raw"
            else DecodedImages(
                dataset, reader, device=device, batch_size=spec.batch_size, decode=decode, threads=threads
            )
        )
        super().__init__(spec, images, device=device)


class RawImages:
    """See `gpu.DeviceImages`: pixels, read into pinned memory and copied."""

    def __init__(
        self, dataset: Dataset, reader: ShardReader, *, device: torch.device, batch_size: int, keep: int
    ) -> None:
        self._dataset, self._reader = dataset, reader
        self._staging = Staging(device)
        longest = dataset.sizes.length[1]
        self._pool = BufferPool(
            batch_size=batch_size, row=(longest,), dtype="uint8", keep=keep, allocate=self._staging.lane.allocate
        )
        self._reading: deque[tuple[BatchPlan, Future[tuple[Tensor, Payloads]]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="selfie-gpu")

    def sizes(self, ids: Numbers) -> Numbers:
        return _sizes(self._dataset, ids)

    def submit(self, plan: BatchPlan, needed: Numbers) -> None:
        del needed  # reading is not worth a choice
        self._reading.append((plan, self._thread.submit(self._read, plan)))

    def take(self) -> DevicePixels:
        plan, reading = self._reading.popleft()
        tensor, payloads = reading.result()
        return DevicePixels(self._staging.move(tensor), payloads.offset, _whole(self.sizes(plan.sample_id)))

    def check(self, plan: BatchPlan, needed: Numbers, pixels: DevicePixels) -> None:
        del plan, needed, pixels  # what was read was checked, and nothing decodes it

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._reading.clear()
        self._reader.close()

    def _read(self, plan: BatchPlan) -> tuple[Tensor, Payloads]:
        memory: Any = self._pool.take(len(plan)).reshape(-1)
        payloads = self._reader.read(plan.sample_id, memory)
        check_raw(self._dataset, plan.sample_id, payloads)
        return self._pool.tensor(memory[: int(payloads.length.sum())]), payloads


class _Fed(NamedTuple):
    payloads: Payloads
    placed: Numbers


class DecodedImages:
    """See `gpu.DeviceImages`: JPEGs and PNGs, decoded by DALI."""

    def __init__(
        self,
        dataset: Dataset,
        reader: ShardReader,
        *,
        device: torch.device,
        batch_size: int,
        decode: Decode,
        threads: int,
    ) -> None:
        self._dataset, self._reader = dataset, reader
        self._device, self._decode = device, decode
        self._batch_size, self._threads = batch_size, threads
        self._misfits = Misfits(dataset)
        self._windows = np.empty(0, np.uint8)  # DALI copies what it is fed, so the next plan may overwrite it
        self._memory: deque[NDArray[np.uint8]] = deque(maxlen=DEPTH + 1)  # of payloads that nobody needs any more
        self._queue: DaliQueue[tuple[BatchPlan, Numbers], _Fed] = DaliQueue(self._feed, self._forget)

    @cached_property
    def _graph(self) -> Any:
        gpu = (self._device.index or 0) if self._device.type == "cuda" else None
        return build_decoder(batch_size=self._batch_size, decode=self._decode, device_id=gpu, threads=self._threads)

    def _forget(self) -> None:
        self.__dict__.pop("_graph", None)

    def sizes(self, ids: Numbers) -> Numbers:
        return _sizes(self._dataset, ids)

    def submit(self, plan: BatchPlan, needed: Numbers) -> None:
        self._queue.submit((plan, needed))

    def take(self) -> DevicePixels:
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        try:
            (plan, _), (payloads, placed), (images,) = self._queue.take(stream)
        except DaliFailedError as failed:
            plan, payloads = failed.work[0], failed.kept.payloads
            raise explained(failed.found, self._dataset, plan, payloads.__getitem__) from failed
        shapes = np.array(images.shape())
        for row in np.flatnonzero((shapes[:, :2] != placed[:, 2:]).any(axis=1))[:1]:
            sample = int(plan.sample_id[row])
            decode_payload(self._dataset, sample, payloads[row])  # says what is wrong, if that finds it too
            reason = f"DALI decodes it to {shapes[row].tolist()}, not to {placed[row, 2:].tolist()} pixels"
            raise corrupt_sample(self._dataset, sample, reason)
        self._memory.append(payloads.buffer)
        room = shapes.prod(axis=1)
        return DevicePixels(flat(images), np.cumsum(room) - room, placed)

    def check(self, plan: BatchPlan, needed: Numbers, pixels: DevicePixels) -> None:
        ids = plan.sample_id
        payloads, off = self._reader.read(ids), []
        for row in range(len(plan)):
            top, left, height, width = needed[row].tolist()
            stored = decode_payload(self._dataset, int(ids[row]), payloads[row])
            wanted = stored[top : top + height, left : left + width].astype(np.int16)
            y, x = top - int(pixels.placed[row, 0]), left - int(pixels.placed[row, 1])
            found = pixels.part(row)[
                y : y + height, x : x + width
            ]  # around it a window has no neighbours to smooth with
            off.append(float(np.abs(found - wanted).mean()))
        mixed = self._decode == "mixed" and self._device.type == "cuda"
        bound = MIXED_BOUND if mixed else 0.0
        if np.mean(off) > bound:
            raise DeviceError(
                f"{device_name(self._device)} decodes the first {len(plan)} images to pixels that are "
                f"{np.mean(off):.2g} of 255 off in the mean, where {bound:g} are allowed, most of all sample "
                f"{ids[int(np.argmax(off))]}: go on with {'decode' if mixed else 'backend'}='cpu', or with "
                "backend='dali-operators', and report this line"
            )

    def close(self) -> None:
        self._queue.close()
        self._memory.clear()
        self._reader.close()
        self._misfits.close()

    def _feed(self, work: tuple[BatchPlan, Numbers]) -> tuple[Any, _Fed]:
        """Reads a plan's images and feeds the decoder with what is needed of them; in the queue's thread."""
        plan, needed = work
        payloads = self._reader.read(plan.sample_id, self._memory.popleft() if self._memory else None)
        stored = self.sizes(plan.sample_id)
        windows = Windows(plan.sample_id, payloads, stored, self._misfits)
        if self._dataset.encoding == "jpeg":
            if self._windows.size < payloads.buffer.size:
                self._windows = np.empty(payloads.buffer.size, np.uint8)
            windows.cut(needed, self._windows)
        self._graph.feed_input(ENCODED, [windows.jpeg(row) for row in range(len(plan))])
        return self._graph, _Fed(payloads, windows.placed)


def _sizes(dataset: Dataset, ids: Numbers) -> Numbers:
    rows = dataset.rows(ids)
    return np.stack((rows.height, rows.width), axis=1).astype(np.int64)


def _whole(sizes: Numbers) -> Numbers:
    """Returns [k, 4]: all of images of these sizes [k, 2]."""
    return np.hstack((np.zeros_like(sizes), sizes))
