"""The fused backend, the default on a CPU: everything after decoding is one compiled pass over each image.

    a few rows of a plan: read, check (compiled) -> [decode JPEG] -> resample, flip, cut, normalise (compiled)

A batch is cut into pieces of a few samples; `threads` workers take them, each works on one image until it is finished,
so that the image stays in its core's cache and all cores are busy for as long as there is a plan. Everything but a few
microseconds a piece runs without the interpreter's lock. Output goes into memory that is used again (`buffers.py`).
"""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from pipelines.buffers import BufferPool
from pipelines.compiled import announce
from pipelines.compiled_reader import CompiledReader
from pipelines.fused_kernel import render_images
from pipelines.gather_kernel import value_table
from pipelines.plan import BackendOutput, BatchPlan, OutputSpec, Verify
from pipelines.read_kernel import read_payloads
from pipelines.reader import Payloads
from pipelines.reference import decode
from selfie_data.dataset import Dataset
from selfie_data.passes_kernel import SLACK, middle_stride

_RAW_PIECE = 256  # samples: 0.8 MB at 32 px, which a core's second cache holds
_ENCODED_PIECE = 16  # samples: some milliseconds, so that cores finish a batch together

_AT_THE_START = np.zeros(1, np.int64)

Bytes = NDArray[np.uint8]


class _Work(NamedTuple):
    pieces: list[Future[None]]
    patches: NDArray[Any] | None
    images: NDArray[Any] | None


class _Batch(NamedTuple):
    sample_id: NDArray[np.int64]
    arguments: tuple[Any, ...]  # of `render_images`, from `widths` to `images`
    middle_bytes: int


class FusedBackend:
    """See `plan.Backend`."""

    def __init__(
        self,
        dataset: Dataset,
        spec: OutputSpec,
        *,
        device: torch.device,
        verify: Verify = "first",
        threads: int = 2,
        prefetch: int = 2,
    ) -> None:
        self._dataset = dataset
        self._spec = spec
        self._device = device
        self._threads = threads
        self._reader = CompiledReader(dataset, verify=verify)
        self._table = value_table(spec)
        keep, size, p = prefetch + 2, spec.image_size, spec.patch_size or 0  # one is built, one is looked at
        self._patches = BufferPool(
            batch_size=spec.batch_size, row=(spec.patch_count, p, p, 3), dtype=spec.dtype, keep=keep
        )
        self._images = BufferPool(batch_size=spec.batch_size, row=(size, size, 3), dtype=spec.dtype, keep=keep)
        self._pending: deque[_Work] = deque()
        self._scratch = threading.local()
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="selfie-fused")
        announce(read_payloads, render_images)

    def submit(self, plan: BatchPlan) -> None:
        patches = None if plan.cells is None else self._patches.take(len(plan))
        images = self._images.take(len(plan)) if self._spec.whole_image else None
        batch = self._batch(plan, [_flat(output, self._table) for output in (patches, images)])
        largest = _RAW_PIECE if self._dataset.encoding == "raw" else _ENCODED_PIECE
        piece = max(1, min(largest, -(-len(plan) // self._threads)))
        bounds = [(start, min(start + piece, len(plan))) for start in range(0, len(plan), piece)]
        work = [self._workers.submit(self._piece, batch, *bound) for bound in bounds]
        self._pending.append(_Work(work, patches, images))

    def result(self) -> BackendOutput:
        work = self._pending.popleft()
        for piece in work.pieces:
            piece.result()
        patches, images = work.patches, work.images
        return BackendOutput(
            patches=None if patches is None else self._patches.tensor(patches).to(self._device),
            image=None if images is None else self._images.tensor(images).to(self._device),
        )

    def close(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
        self._reader.close()

    def _batch(self, plan: BatchPlan, outputs: list[NDArray[Any]]) -> _Batch:
        """Returns what all pieces of a plan have in common, as the kernel wants it."""
        spec, table, ids, count = self._spec, self._dataset.table, plan.sample_id, len(plan)
        widths = table.width[ids].astype(np.int64)
        crop = plan.crop
        if crop is None:
            zeros = np.zeros(count, np.int64)
            crop = np.stack((zeros, zeros, table.height[ids].astype(np.int64), widths), axis=1)
        arguments = (
            widths,
            np.ascontiguousarray(crop),
            _given(plan.resize, (0, 2), np.int64),
            _given(plan.window, (count, 2), np.int64),
            _given(plan.flip, (0,), np.bool_),
            spec.image_size,
            spec.antialias,
            spec.patch_size or spec.image_size,
            _given(plan.cells, (count, 0), np.int64),
            _given(plan.hole, (0, 0), np.bool_),
            _given(plan.mask if spec.patch_size else None, (0, 0), np.bool_),
            self._table,
            *outputs,
        )
        middle = 0 if plan.resize is None else int(crop[:, 2].max()) * middle_stride(spec.image_size)
        return _Batch(ids, arguments, middle)

    def _piece(self, batch: _Batch, start: int, stop: int) -> None:
        """Finishes rows start..stop - 1."""
        ids = batch.sample_id[start:stop]
        payloads = self._reader.read(ids, getattr(self._scratch, "payloads", None))
        self._scratch.payloads = payloads.buffer
        if self._dataset.encoding == "raw":
            self._check_raw(ids, payloads)
            self._render(batch, start, stop, payloads.buffer, payloads.offset)
            return
        for row in range(start, stop):
            pixels = self._decoded(int(ids[row - start]), payloads[row - start])
            self._render(batch, row, row + 1, pixels, _AT_THE_START)

    def _render(self, batch: _Batch, start: int, stop: int, pixels: Bytes, places: NDArray[np.int64]) -> None:
        middle = self._memory("middle", batch.middle_bytes)
        square = self._memory("square", 3 * self._spec.image_size**2 + SLACK)
        render_images(pixels, places, *batch.arguments, start, stop, middle, square)

    def _check_raw(self, ids: NDArray[np.int64], payloads: Payloads) -> None:
        """Raises CorruptSampleError where the length of a payload is not that of its image."""
        table = self._dataset.table
        wrong = payloads.length != 3 * table.height[ids].astype(np.int64) * table.width[ids]
        for row in np.flatnonzero(wrong)[:1]:
            decode(self._dataset, int(ids[row]), payloads[row])

    def _decoded(self, sample: int, payload: Bytes) -> Bytes:
        """Returns the pixels of a payload, flat, in memory of this thread; see `reference.decode`."""
        table = self._dataset.table
        height, width = int(table.height[sample]), int(table.width[sample])
        pixels = self._memory("pixels", 3 * height * width + SLACK)
        if self._dataset.encoding == "jpeg":
            try:
                image = simplejpeg.decode_jpeg(payload, "RGB", fastdct=False, fastupsample=False, buffer=pixels)
            except ValueError:  # larger than the table says, or damaged: the reference has the last word
                pass
            else:
                if image.shape == (height, width, 3):
                    return pixels
        image = decode(self._dataset, sample, payload)
        pixels[: image.size] = image.reshape(-1)
        return pixels

    def _memory(self, name: str, size: int) -> Bytes:
        """Returns at least `size` bytes of this thread's own, used again and again."""
        memory: Bytes | None = getattr(self._scratch, name, None)
        if memory is None or memory.size < size:
            memory = np.empty(size, np.uint8)
            setattr(self._scratch, name, memory)
        return memory


def _given(values: NDArray[Any] | None, missing: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    return np.zeros(missing, dtype) if values is None else np.ascontiguousarray(values)


def _flat(output: NDArray[Any] | None, table: NDArray[Any]) -> NDArray[Any]:
    return np.empty(0, table.dtype) if output is None else output.reshape(-1).view(table.dtype)
