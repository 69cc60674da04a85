"""The store backend on a GPU: the pixel store, held in device memory and cut into patches beforehand.

    table [F * N * G, p * p * 3] uint8      row ((flip * N) + id) * G + cell is one finished patch

A batch is one `index_select` of rows. F = 2 holds every image mirrored too, so that flips cost nothing; F = 1, where
memory does not suffice for that, mirrors afterwards. Whole images are put together from their patches (without patches:
one patch the size of the image). What the store holds, and what it refuses: see `cpu_store.py`.

All operations are PyTorch's and run on a CPU too: so they are tested where there is no GPU.
"""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.backends.cpu_store import check_central, load_matching
from pipelines.backends.reference import image_of, render
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec, Verify
from pipelines.sampling.grid import Grid, patchify
from pipelines.staging import Mark, Staging, hide
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import stored_at_size

_CUT_AT_ONCE = 4_096  # images, so that cutting needs little memory besides the two layouts
_SHARE_OF_MEMORY = 0.5  # of what is free, that a table with both flips may take


class GpuStoreBackend:
    """See `batch_plan.Backend`. One thread gathers, in a lane beside the trainer's, while the trainer's step runs.

    Attributes:
        both_flips: whether the table holds mirrored images too.
    """

    def __init__(
        self,
        dataset: Dataset,
        spec: OutputSpec,
        *,
        store: Path | str,
        device: torch.device,
        verify: Verify = "first",
        threads: int = 1,
        prefetch: int = 1,
        both_flips: bool | None = None,
    ) -> None:
        del verify, prefetch  # loading checks every byte of the store; plans wait in a queue of any length
        self._dataset = dataset
        self._spec = spec
        self._staging = Staging(device)
        self._lane = self._staging.lane
        self._grid = Grid(image_size=spec.image_size, patch_size=spec.patch_size or spec.image_size)
        self._stored_at_size = stored_at_size(dataset)
        images = load_matching(store, dataset, threads=threads)
        self.both_flips = _memory_suffices(2 * images.nbytes, device) if both_flips is None else both_flips
        self._table = _cut(images, self._grid.patch_size, both_flips=self.both_flips).to(device)
        values = 3 * self._grid.patch_size**2
        self._factors = [torch.from_numpy(np.resize(f, values)).to(device) for f in (spec.scale, spec.bias)]
        self._pending: deque[Future[tuple[BackendOutput, Mark]]] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="selfie-store")

    def submit(self, plan: BatchPlan) -> None:
        self._pending.append(self._worker.submit(self._work, plan))

    def result(self) -> BackendOutput:
        output, mark = self._pending.popleft().result()
        self._lane.join(mark, *(tensor for tensor in (output.patches, output.image) if tensor is not None))
        return output

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
        self._table = torch.empty(0)

    def _work(self, plan: BatchPlan) -> tuple[BackendOutput, Mark]:
        with self._lane.working():
            return self._output(plan), self._lane.mark()

    def _output(self, plan: BatchPlan) -> BackendOutput:
        if not self._stored_at_size:
            check_central(plan, self._dataset)
        elif plan.crop is not None or plan.resize is not None:
            return self._resampled(plan)
        patches = image = None
        if plan.position is not None:
            patches = self._finished(self._gather(plan, plan.position), plan.hidden)
        if self._spec.whole_image:
            image = self._whole(plan)
        return BackendOutput(patches=patches, image=image)

    def _gather(self, plan: BatchPlan, cells: NDArray[np.int64]) -> Tensor:
        """Returns the patches [b, n, p, p, 3] of `cells` [b, n], mirrored where the plan says so."""
        side, p = self._grid.side, self._grid.patch_size
        flip = np.zeros(len(plan), np.bool_) if plan.flip is None else plan.flip
        first = plan.sample_id
        if self.both_flips:
            first = first + flip * np.int64(len(self._dataset))
        elif flip.any():  # the cell that comes to lie here when the image is mirrored
            row, column = np.divmod(cells, side)
            cells = np.where(flip[:, None], row * side + side - 1 - column, cells)
        (rows,) = self._staging.send((first[:, None] * self._grid.cells + cells).reshape(-1))
        patches = self._table.index_select(0, rows).view(*cells.shape, p, p, 3)
        if not self.both_flips and flip.any():
            (mirrored,) = self._staging.send(flip)
            patches = torch.where(mirrored[:, None, None, None, None], patches.flip(3), patches)
        return patches

    def _whole(self, plan: BatchPlan) -> Tensor:
        side, p, size = self._grid.side, self._grid.patch_size, self._spec.image_size
        every = np.broadcast_to(np.arange(self._grid.cells), (len(plan), self._grid.cells))
        tiles = self._gather(plan, every).view(len(plan), side, side, p, p, 3)
        image = tiles.transpose(2, 3).reshape(len(plan), size, size, 3)
        if plan.window is not None and self._stored_at_size:
            image = self._windowed(image, plan.window, plan.flip)
        if plan.mask is None:
            return self._finished(image, None)
        cells = plan.mask.reshape(len(plan), side, side)
        return self._finished(image, cells.repeat(p, axis=1).repeat(p, axis=2))

    def _windowed(self, image: Tensor, window: NDArray[np.int64], flip: NDArray[np.bool_] | None) -> Tensor:
        """Returns S x S of each image from `window` on, zeros outside; the images are mirrored already."""
        size, reach = self._spec.image_size, int(np.abs(window).max())
        top, left = window[:, 0], window[:, 1] if flip is None else np.where(flip, -window[:, 1], window[:, 1])
        padded = torch.nn.functional.pad(image, (0, 0, reach, reach, reach, reach))
        steps = np.arange(size) + reach
        y, x = self._staging.send(*(start[:, None] + steps for start in (top, left)))
        each = torch.arange(len(image), device=self._staging.device)
        return padded[each[:, None, None], y[:, :, None], x[:, None, :]]

    def _finished(self, pixels: Tensor, hidden: NDArray[np.bool_] | None) -> Tensor:
        spec = self._spec
        if spec.dtype != "uint8":
            pixels = self._normalised(pixels)
        if hidden is not None:
            hide(pixels, *self._staging.send(hidden))
        return pixels

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Returns uint8 [b, ..., 3] in the spec's dtype."""
        scale, bias = self._factors  # of one patch: rows as long as that are faster than three values
        rows = pixels.reshape(-1, len(scale))
        values = rows.to(torch.float32).mul_(scale).add_(bias)  # not addcmul: it may round once only
        return values.to(self._spec.torch_dtype).view(pixels.shape)

    def _resampled(self, plan: BatchPlan) -> BackendOutput:
        """Crops that need resizing take the reference's way, one image at a time."""
        unchanged = BatchPlan(epoch=plan.epoch, step=plan.step, sample_id=plan.sample_id)
        every = np.broadcast_to(np.arange(self._grid.cells), (len(plan), self._grid.cells))
        side, p, size = self._grid.side, self._grid.patch_size, self._spec.image_size
        tiles = self._gather(unchanged, every).view(len(plan), side, side, p, p, 3)
        stored = tiles.transpose(2, 3).reshape(len(plan), size, size, 3).cpu().numpy()
        images = np.stack([image_of(image, plan, row, self._spec) for row, image in enumerate(stored)])
        return render(images, plan, self._spec, self._staging)


def _cut(images: NDArray[np.uint8], patch_size: int, *, both_flips: bool) -> Tensor:
    """Returns images [N, S, S, 3] as rows of patches [F * N * G, p * p * 3]."""
    samples, size = images.shape[:2]
    cells = (size // patch_size) ** 2
    table = np.empty((1 + both_flips, samples, cells, patch_size, patch_size, 3), np.uint8)
    for start in range(0, samples, _CUT_AT_ONCE):
        block = images[start : start + _CUT_AT_ONCE]
        table[0, start : start + len(block)] = patchify(block, patch_size)
        if both_flips:
            table[1, start : start + len(block)] = patchify(block[:, :, ::-1], patch_size)
    return torch.from_numpy(table.reshape(-1, patch_size * patch_size * 3))


def _memory_suffices(needed: int, device: torch.device) -> bool:
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return needed <= free * _SHARE_OF_MEMORY
