"""Plans become batches on a CPU, in pieces: what all compiled backends have in common.

    a few rows of a plan: stored images from a source -> resampled, flipped, cut, normalised by `render_images`

A batch is cut into pieces of a few samples; `threads` workers take them, each works on one image until it is finished,
so that the image stays in its core's cache and all cores are busy for as long as there is a plan. Everything but a few
microseconds a piece runs without the interpreter's lock. Output goes into memory that is used again (`buffers.py`).
"""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.backends.buffers import BufferPool
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.kernels.gather import KERNEL_DTYPE, factors_of
from pipelines.kernels.render import render_images
from selfie_data.kernels.compiled import announce
from selfie_data.kernels.passes_kernel import SLACK, middle_bytes

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class Stored(NamedTuple):
    """Stored images of some rows of a plan.

    Attributes:
        pixels: uint8, flat, with SLACK bytes after the last image.
        starts: [k] int64, where each of the k images [H, W, 3] begins.
    """

    pixels: Bytes
    starts: Numbers


class Source(Protocol):
    """Where stored images come from; used by several threads at once.

    Attributes:
        piece: samples that a thread takes at most.
    """

    piece: int

    def sizes(self, ids: Numbers) -> tuple[Numbers, Numbers]:
        """Returns the heights and the widths of samples, pixels, int64 [k] each."""
        ...

    def read(self, ids: Numbers) -> Iterator[Stored]:
        """Yields the images of all `ids`, in order, any number at a time; each is valid until the next is asked for.

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


class _Work(NamedTuple):
    pieces: list[Future[None]]
    patches: NDArray[Any] | None
    images: NDArray[Any] | None


class _Batch(NamedTuple):
    sample_id: Numbers
    arguments: tuple[Any, ...]  # of `render_images`, from `widths` to `images`
    middle_bytes: int


class RenderingBackend:
    """See `plan.Backend`; the images are those of a source."""

    def __init__(
        self, spec: OutputSpec, source: Source, *, device: torch.device, threads: int, prefetch: int, name: str
    ) -> None:
        self._spec = spec
        self._source = source
        self._device = device
        self._threads = threads
        self._factors = factors_of(spec)
        keep, size, p = prefetch + 2, spec.image_size, spec.patch_size or 0  # one is built, one is looked at
        self._patches = BufferPool(
            batch_size=spec.batch_size, row=(spec.patch_count, p, p, 3), dtype=spec.dtype, keep=keep
        )
        self._images = BufferPool(batch_size=spec.batch_size, row=(size, size, 3), dtype=spec.dtype, keep=keep)
        self._pending: deque[_Work] = deque()
        self._scratch = Scratch()
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix=f"selfie-{name}")
        announce(render_images)

    def submit(self, plan: BatchPlan) -> None:
        patches = None if plan.position is None else self._patches.take(len(plan))
        images = self._images.take(len(plan)) if self._spec.whole_image else None
        batch = self._batch(plan, [_flat(output, self._spec) for output in (patches, images)])
        piece = max(1, min(self._source.piece, -(-len(plan) // self._threads)))
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
        self._source.close()

    def _batch(self, plan: BatchPlan, outputs: list[NDArray[Any]]) -> _Batch:
        """Returns what all pieces of a plan have in common, as the kernel wants it."""
        spec, ids, count = self._spec, plan.sample_id, len(plan)
        heights, widths = self._source.sizes(ids)
        crop = plan.crop
        if crop is None:
            zeros = np.zeros(count, np.int64)
            crop = np.stack((zeros, zeros, heights, widths), axis=1)
        arguments = (
            widths,
            np.ascontiguousarray(crop),
            _given(plan.resize, (0, 2), np.int64),
            _given(plan.window, (count, 2), np.int64),
            _given(plan.flip, (0,), np.bool_),
            spec.image_size,
            spec.antialias,
            spec.patch_size or spec.image_size,
            _given(plan.position, (count, 0), np.int64),
            _given(plan.hole, (0, 0), np.bool_),
            _given(plan.mask if spec.patch_size else None, (0, 0), np.bool_),
            self._factors,
            *outputs,
        )
        middle = 0 if plan.resize is None else middle_bytes(*crop[:, 2:].max(axis=0).tolist(), spec.image_size)
        return _Batch(ids, arguments, middle)

    def _piece(self, batch: _Batch, start: int, stop: int) -> None:
        """Finishes rows start..stop - 1."""
        middle = self._scratch.take("middle", batch.middle_bytes)
        square = self._scratch.take("square", 3 * self._spec.image_size**2 + SLACK)
        first = start
        for pixels, starts in self._source.read(batch.sample_id[start:stop]):
            last = first + len(starts)
            render_images(pixels, starts, *batch.arguments, first, last, middle, square)
            first = last


def _given(values: NDArray[Any] | None, missing: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    return np.zeros(missing, dtype) if values is None else np.ascontiguousarray(values)


def _flat(output: NDArray[Any] | None, spec: OutputSpec) -> NDArray[Any]:
    dtype = KERNEL_DTYPE[spec.dtype]
    return np.empty(0, dtype) if output is None else output.reshape(-1).view(dtype)
