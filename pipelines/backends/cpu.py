"""The backends of a CPU: plans become batches in pieces, each image finished while it is in a core's cache.

    a few rows of a plan: stored images -> [crop, resize, window, flip] -> gathered, normalised

A batch is cut into pieces of a few samples; `threads` workers take them, each works on one image until it is finished,
so that all cores are busy for as long as there is a plan. Everything but a few microseconds a piece runs without the
interpreter's lock. Output goes into memory that is used again (`buffers.py`).
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.backends.buffers import BufferPool
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.kernels.gather import factors_of, gather, hide_cells, levels_of
from pipelines.staging import Staging
from selfie_data.kernels.resample import cut_views, needed_pixels, scratch_bytes

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]
_log = logging.getLogger(__name__)


# Batches that are looked at while others are built: one in a plain loop, which asks for the next; trainers that fetch
# one ahead hold another. Memory is made when it is first needed; in fresh memory a photograph takes 100 us more.
_HELD = 4


class StoredPixels(NamedTuple):
    """Stored images of some rows of a plan.

    Attributes:
        pixels: uint8, flat.
        starts: [k] int64, where each of the k images [H, W, 3] begins.
        placed: [k, 4] int64, top, left, height, width of the part of each image that is there; None: all of it.
    """

    pixels: Bytes
    starts: Numbers
    placed: Numbers | None = None


class StoredImages(Protocol):
    """Where stored images come from; used by several threads at once.

    Attributes:
        piece: samples that a thread takes at most.
    """

    piece: int

    def sizes(self, ids: Numbers) -> tuple[Numbers, Numbers]:
        """Returns the heights and the widths of samples, pixels, int64 [k] each."""
        ...

    def read(self, ids: Numbers, needed: Numbers | None) -> Iterator[StoredPixels]:
        """Yields the images of all `ids`, in order, any number at a time; each is valid until the next is asked for.

        Args:
            ids: [k] int64.
            needed: [k, 4] int64, top, left, height, width of what will be looked at, so that the rest may be left out;
                None: everything will.

        Raises:
            DatasetError: samples cannot be read, or are damaged.
        """
        ...

    def close(self) -> None:
        """Frees files and memory; nobody is reading. May be called twice."""
        ...


class Scratch(threading.local):
    """Memory of a thread's own, used again and again."""

    def __init__(self) -> None:
        self._arrays: dict[str, Bytes] = {}

    def take(self, name: str, size: int) -> Bytes:
        """Returns at least `size` bytes: those that were taken last under this name, if they are enough."""
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, np.uint8)
        return self._arrays[name]

    def keep(self, name: str, array: Bytes) -> None:
        """Makes `array` what the next `take` of this name returns, if it is enough."""
        self._arrays[name] = array


class _Outstanding(NamedTuple):
    pieces: list[Future[None]]
    patches: NDArray[Any] | None
    images: NDArray[Any] | None


class _Batch(NamedTuple):
    """What all pieces of a plan have in common, as the kernels want it."""

    sample_id: Numbers
    geometry: tuple[Any, ...] | None  # of `cut_views`, from `widths` to `antialias`; None: images are used as stored
    needed: Numbers | None  # of stored images: see `StoredImages.read`
    scratch_bytes: int  # of `cut_views`
    flip: NDArray[np.bool_]  # empty where `cut_views` mirrors
    position: Numbers
    hidden: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    patches: NDArray[Any] | None
    images: NDArray[Any] | None


class CpuBackend:
    """See `batch_plan.Backend`; subclasses say where stored images come from."""

    def __init__(
        self, spec: OutputSpec, stored: StoredImages, *, device: torch.device, threads: int, prefetch: int, name: str
    ) -> None:
        self._spec = spec
        self._stored = stored
        self._staging = Staging(device)
        self._threads = threads
        self._factors, self._levels = factors_of(spec), levels_of(spec)
        size, p = spec.image_size, spec.patch_size or 0
        keep = prefetch + _HELD
        pool = partial(
            BufferPool,
            batch_size=spec.batch_size,
            dtype=spec.dtype,
            keep=keep,
            allocate=self._staging.lane.allocate,  # what a GPU copies from must be pinned
        )
        self._patches, self._images = pool(row=(spec.patch_count, p, p, 3)), pool(row=(size, size, 3))
        self._outstanding: deque[_Outstanding] = deque()
        self._scratch = Scratch()
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix=f"selfie-{name}")
        if not gather.signatures:
            _log.info("loading compiled kernels; where they were never used before, compiling them takes some seconds")

    def submit(self, plan: BatchPlan) -> None:
        patches = None if plan.position is None else self._patches.take(len(plan))
        images = self._images.take(len(plan)) if self._spec.whole_image else None
        batch = self._batch(plan, patches, images)
        piece = max(1, min(self._stored.piece, -(-len(plan) // self._threads)))
        bounds = [(start, min(start + piece, len(plan))) for start in range(0, len(plan), piece)]
        pieces = [self._workers.submit(self._piece, batch, *bound) for bound in bounds]
        self._outstanding.append(_Outstanding(pieces, patches, images))

    def result(self) -> BackendOutput:
        pieces, patches, images = self._outstanding.popleft()
        for piece in pieces:
            piece.result()
        return BackendOutput(
            patches=None if patches is None else self._staging.move(self._patches.tensor(patches)),
            image=None if images is None else self._staging.move(self._images.tensor(images)),
        )

    def close(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._outstanding.clear()
        self._stored.close()

    def _batch(self, plan: BatchPlan, patches: NDArray[Any] | None, images: NDArray[Any] | None) -> _Batch:
        count, size = len(plan), self._spec.image_size
        heights, widths = self._stored.sizes(plan.sample_id)
        flip, geometry, needed, scratch = _given(plan.flip, (0,), np.bool_), None, None, 0
        same_size = bool((heights == size).all() and (widths == size).all())
        if not same_size or plan.crop is not None or plan.resize is not None or plan.window is not None:
            zeros = np.zeros(count, np.int64)
            crop = np.stack((zeros, zeros, heights, widths), axis=1) if plan.crop is None else plan.crop
            resize, window = _given(plan.resize, (0, 2), np.int64), _given(plan.window, (count, 2), np.int64)
            crop = np.array(crop, np.int64)  # a copy: `_views` moves it
            geometry = (widths, crop, resize, window, flip, size, self._spec.antialias)
            needed = np.empty((count, 4), np.int64)
            needed_pixels(*geometry[1:4], *geometry[5:], needed)
            scratch = 0 if plan.resize is None else int(scratch_bytes(*crop[:, 2:].max(axis=0).tolist(), size))
            flip = np.zeros(0, np.bool_)
        return _Batch(
            sample_id=plan.sample_id,
            geometry=geometry,
            needed=needed,
            scratch_bytes=scratch,
            flip=flip,
            position=_given(plan.position, (count, 0), np.int64),
            hidden=_given(plan.hidden, (0, 0), np.bool_),
            mask=_given(plan.mask if self._spec.patch_size else None, (0, 0), np.bool_),
            patches=_flat(patches),
            images=_flat(images),
        )

    def _piece(self, batch: _Batch, start: int, stop: int) -> None:
        """Finishes rows start..stop - 1."""
        size = self._spec.image_size
        patch, first = self._spec.patch_size or size, start
        needed = None if batch.needed is None else batch.needed[start:stop]
        for stored in self._stored.read(batch.sample_id[start:stop], needed):
            last = first + len(stored.starts)
            if batch.geometry is not None:
                stored = self._views(batch.geometry, batch.scratch_bytes, stored, first, last)
            pixels, starts, _ = stored
            if batch.patches is not None:
                self._gather(batch, pixels, starts, patch, batch.position, batch.hidden, first, last, batch.patches)
            if batch.images is not None:
                whole, nothing = np.zeros((len(batch.sample_id), 1), np.int64), np.zeros((0, 0), np.bool_)
                self._gather(batch, pixels, starts, size, whole, nothing, first, last, batch.images)
                if batch.mask.shape[0]:
                    hide_cells(batch.images, size, patch, batch.mask, first, last)
            first = last

    def _views(
        self, geometry: tuple[Any, ...], scratch: int, stored: StoredPixels, first: int, last: int
    ) -> StoredPixels:
        """Returns what the model sees of stored images."""
        values = 3 * self._spec.image_size**2
        views = self._scratch.take("views", (last - first) * values)
        if stored.placed is not None:
            widths, crop = geometry[:2]
            widths[first:last] = stored.placed[:, 3]
            crop[first:last, :2] -= stored.placed[:, :2]
        memory = self._scratch.take("resampling", scratch)
        cut_views(stored.pixels, stored.starts, *geometry, first, last, memory, views)
        return StoredPixels(views, np.arange(last - first) * values)

    def _gather(
        self, batch: _Batch, pixels: Bytes, starts: Numbers, patch: int, position: Numbers, hidden: NDArray[np.bool_],
        first: int, last: int, out: NDArray[Any],
    ) -> None:  # fmt: skip
        size = self._spec.image_size
        square = self._scratch.take("square", 3 * size**2)
        cell = out if out.dtype == np.uint8 else self._scratch.take("cell", 3 * patch**2)
        gather(
            pixels, starts, batch.flip, size, patch, position, hidden, self._factors, self._levels, first, last, square,
            cell, out,
        )  # fmt: skip


def _given(values: NDArray[Any] | None, missing: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    return np.zeros(missing, dtype) if values is None else np.ascontiguousarray(values)


def _flat(output: NDArray[Any] | None) -> NDArray[Any] | None:
    """Returns an output's values in a row; 16-bit floats as their bits."""
    if output is None:
        return None
    return output.reshape(-1).view(np.uint16) if output.dtype == np.float16 else output.reshape(-1)
