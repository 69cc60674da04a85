"""The fused backend, the default on a CPU: one compiled pass from stored bytes to patches, in threads.

    raw images   read, checked, cut: compiled from end to end
    JPEG, PNG    read, decoded by libjpeg-turbo (PNG: Pillow), then cropped, resized, mirrored and cut in one pass

Equal to the reference backend bit for bit, through decoding and resizing too.
"""

import math
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.buffers import BufferPool
from pipelines.fused_kernel import Factors, Geometry, Target, decoded_patches, raw_patches
from pipelines.normalise import Normalisation, normalise
from pipelines.plan import BackendOutput, BatchPlan, OutputSpec, Verify
from pipelines.read_kernel import OK
from pipelines.reader import MAX_OPEN_SHARDS, ShardFiles, ShardReader, corrupt_sample
from pipelines.reference import decode
from selfie_data.dataset import Dataset

_RAW_ROWS, _DECODED_ROWS = 256, 8  # samples a task: enough to pay for itself, few enough for threads to end together


class FusedBackend:
    """See `plan.Backend`. `threads` workers share the samples of every batch."""

    def __init__(
        self,
        dataset: Dataset,
        spec: OutputSpec,
        *,
        device: torch.device,
        verify: Verify = "first",
        threads: int = 1,
        prefetch: int = 1,
    ) -> None:
        self._dataset = dataset
        self._spec = spec
        self._device = device
        self._verify: Verify = verify
        self._factors = _factors(spec)
        self._files = ShardFiles(dataset)
        self._reader = ShardReader(dataset, verify=verify)
        # Beyond this many shards a descriptor may be closed for another's sake while a thread still reads from it.
        self._many_shards = len(dataset.manifest.shards) > MAX_OPEN_SHARDS
        self._read_lock = threading.Lock() if self._many_shards else nullcontext()
        self._checked = np.full(len(dataset), verify == "never")
        p, size, keep = spec.patch_size or spec.image_size, spec.image_size, prefetch + 2
        batch = spec.batch_size
        self._patches = BufferPool(batch_size=batch, row=(spec.patch_count, p, p, 3), dtype=spec.dtype, keep=keep)
        self._images = BufferPool(batch_size=batch, row=(1, size, size, 3), dtype=spec.dtype, keep=keep)
        self._pending: deque[tuple[BackendOutput, list[Future[None]]]] = deque()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="selfie-fused")
        self._buffers = threading.local()  # of each worker: encoded bytes, decoded pixels

    def submit(self, plan: BatchPlan) -> None:
        patches = self._patches.take(len(plan))
        images = self._images.take(len(plan) if self._spec.whole_image else 0)
        target = _target(plan, self._spec, patches, images)
        raw = self._dataset.encoding == "raw" and plan.crop is None and plan.resize is None and not self._many_shards
        work, rows = (self._raw, _RAW_ROWS) if raw else (self._decoded, _DECODED_ROWS)
        geometry = _geometry(plan, self._dataset)
        parts = [slice(start, start + rows) for start in range(0, len(plan), rows)]
        tasks = [
            self._threads.submit(work, plan.sample_id[part], _part(geometry, part), _target_part(target, part))
            for part in parts
        ]
        output = BackendOutput(
            patches=None if plan.cells is None else self._patches.tensor(patches),
            image=self._images.tensor(images)[:, 0] if self._spec.whole_image else None,
        )
        self._pending.append((output, tasks))

    def result(self) -> BackendOutput:
        output, tasks = self._pending.popleft()
        for task in tasks:
            task.result()
        return BackendOutput(patches=self._moved(output.patches), image=self._moved(output.image))

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
        self._files.close()
        self._reader.close()

    def _moved(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(self._device)

    def _raw(self, ids: NDArray[np.int64], geometry: Geometry, target: Target) -> None:
        """Reads and cuts samples that are stored as pixels of one size."""
        table = self._dataset.table
        check = np.ones(len(ids), np.bool_) if self._verify == "always" else ~self._checked[ids]
        status = np.empty(len(ids), np.int64)
        shards, which = np.unique(table.shard[ids], return_inverse=True)
        descriptors = np.array([self._files.descriptor(int(shard)) for shard in shards], np.int32)
        raw_patches(
            descriptors[which],
            table.offset[ids],
            table.crc32c[ids],
            check,
            int(table.height[ids[0]]),
            int(table.width[ids[0]]),
            geometry,
            target,
            self._factors,
            status,
        )
        if (status != OK).any():
            self._explain(int(ids[status != OK][0]))
        self._checked[ids] = True

    def _explain(self, sample: int) -> None:
        """Raises the error of a sample that the compiled reader could not use, found again by the plain reader."""
        ShardReader(self._dataset, verify="always").read(np.array([sample]))
        raise corrupt_sample(self._dataset, sample, "damaged when first read, whole when read again; check the storage")

    def _decoded(self, ids: NDArray[np.int64], geometry: Geometry, target: Target) -> None:
        """Reads, decodes and cuts a few samples."""
        own = self._buffers
        with self._read_lock:
            payloads = self._reader.read(ids, getattr(own, "payloads", None))
        own.payloads = payloads.buffer
        for row, sample in enumerate(ids.tolist()):
            image = self._decode(sample, payloads[row])
            decoded_patches(image, row, self._spec.antialias, geometry, target, self._factors)

    def _decode(self, sample: int, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the stored image, uint8 [H, W, 3]; valid until this thread decodes the next."""
        if self._dataset.encoding != "jpeg":
            return np.ascontiguousarray(decode(self._dataset, sample, payload))
        shape = (int(self._dataset.table.height[sample]), int(self._dataset.table.width[sample]), 3)
        size = math.prod(shape)
        pixels = getattr(self._buffers, "pixels", None)
        if pixels is None or pixels.size < size:
            pixels = self._buffers.pixels = np.empty(size + size // 2, np.uint8)
        try:
            if (
                simplejpeg.decode_jpeg_header(payload)[:2] == shape[:2]
            ):  # before decoding: a header may promise any size
                return simplejpeg.decode_jpeg(payload, "RGB", buffer=pixels[:size]).reshape(shape)
        except ValueError:
            pass  # the reference decoder says what is wrong, or knows better
        return np.ascontiguousarray(decode(self._dataset, sample, payload))


def _factors(spec: OutputSpec) -> Factors:
    row = spec.patch_size or spec.image_size
    every = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)  # each byte in each channel
    halves = np.zeros((256, 3), np.uint16)
    if spec.dtype in ("float16", "bfloat16"):
        floats = torch.from_numpy(normalise(every, Normalisation(spec.scale, spec.bias))[0])
        halves = floats.to(spec.torch_dtype).view(torch.int16).numpy().view(np.uint16)
    return Factors(np.tile(spec.scale, row), np.tile(spec.bias, row), np.ascontiguousarray(halves.T))


def _geometry(plan: BatchPlan, dataset: Dataset) -> Geometry:
    """Returns what a plan says of every sample, and what it leaves out."""
    crop = plan.crop
    if crop is None:
        height, width = (column[plan.sample_id] for column in (dataset.table.height, dataset.table.width))
        crop = np.stack((np.zeros_like(height), np.zeros_like(height), height, width), axis=1).astype(np.int64)
    window = np.zeros((len(plan), 2), np.int64) if plan.window is None else plan.window
    flip = np.zeros(len(plan), np.bool_) if plan.flip is None else plan.flip
    return Geometry(crop, crop[:, 2:].copy() if plan.resize is None else plan.resize, window, flip)


def _target(plan: BatchPlan, spec: OutputSpec, patches: NDArray[np.generic], images: NDArray[np.generic]) -> Target:
    rows = len(plan)
    cells = np.zeros((rows, 0), np.int64) if plan.cells is None else plan.cells
    hole = np.zeros(cells.shape, np.bool_) if plan.hole is None else plan.hole
    mask = np.zeros((rows, 1), np.bool_) if plan.mask is None else plan.mask
    side = math.isqrt(mask.shape[1])
    return Target(
        spec.image_size,
        np.ascontiguousarray(cells),
        np.ascontiguousarray(hole),
        np.ascontiguousarray(mask).reshape(rows, side, side),
        _bits(patches).reshape(rows, cells.shape[1], -1) if cells.size else _bits(patches).reshape(rows, 0, 3),
        _bits(images).reshape(len(images), 1, -1) if len(images) else _bits(images).reshape(0, 1, 3),
    )


def _bits(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """16-bit floats as integers: compiled code moves their bits only."""
    return array.view(np.uint16) if array.dtype == np.float16 else array


def _part(geometry: Geometry, part: slice) -> Geometry:
    return Geometry(*(column[part] for column in geometry))


def _target_part(target: Target, part: slice) -> Target:
    arrays = (target.cells, target.hole, target.mask, target.patches)
    return Target(target.size, *(array[part] for array in arrays), target.images[part])
