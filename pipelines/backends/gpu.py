"""The backend of a GPU: stored images that lie in its memory become patches by Triton's kernels, to the bit the
reference's.

    plan -> geometry, small arrays, in one copy ----.
         -> stored images, flat (`gpu_shards.py`) ---+-> taps -> patches -> torch's memory, in the trainer's stream

The first batch, and the first with the pass along the width that large crops take, are compared with the reference
before they are handed out: a card that computes other bits, or decodes something else, ends the run and not the
experiment. Without a GPU the kernels run in Triton's interpreter, for tests.
"""

from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.backends.reference import image_of, render
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.kernels.patches_triton import (
    Cut,
    Views,
    calculate_taps,
    cut_patches,
    views_of,
    weigh_rows,
    worth_weighing,
)
from pipelines.staging import HostLane, Staging
from selfie_data.errors import DeviceError
from selfie_data.kernels.resample import needed_pixels

Numbers = NDArray[np.int64]

CHECKED = 16  # images of a batch that are compared with the reference
_CPU = torch.device("cpu")
_REMEDY = "go on with backend='dali-operators', or with backend='cpu', and report this line"


class DevicePixels(NamedTuple):
    """Stored images of a plan.

    Attributes:
        pixels: uint8, flat, on the device.
        starts: [b] int64, where each image, or the part of it that is there, begins: [height, width, 3].
        placed: [b, 4] int64, top, left, height, width of that part in the image.
    """

    pixels: Tensor
    starts: Numbers
    placed: Numbers

    def part(self, row: int) -> NDArray[np.uint8]:
        """Returns what is there of an image, uint8 [height, width, 3], on the host."""
        height, width = self.placed[row, 2:].tolist()
        start = int(self.starts[row])
        pixels: NDArray[np.uint8] = self.pixels[start : start + 3 * height * width].cpu().numpy()
        return pixels.reshape(height, width, 3)


class DeviceImages(Protocol):
    """Where stored images come from."""

    def sizes(self, ids: Numbers) -> Numbers:
        """Returns heights and widths of samples, pixels, int64 [k, 2]."""
        ...

    def submit(self, plan: BatchPlan, needed: Numbers) -> None:
        """Begins to fetch the images of a plan; `needed` as of `needed_of`."""
        ...

    def take(self) -> DevicePixels:
        """Waits for and returns the images of the oldest plan, for work in the caller's stream.

        Raises:
            DatasetError: samples cannot be read, or are damaged.
        """
        ...

    def check(self, plan: BatchPlan, needed: Numbers, pixels: DevicePixels) -> None:
        """Compares what is needed of a plan's images with what the reference decodes.

        Raises:
            DeviceError: they are others.
        """
        ...

    def close(self) -> None:
        """Frees threads, files and memory. May be called twice."""
        ...


class GpuBackend:
    """See `batch_plan.Backend`; subclasses say where stored images come from."""

    def __init__(self, spec: OutputSpec, images: DeviceImages, *, device: torch.device) -> None:
        self._spec = spec
        self._images = images
        self._staging = Staging(device)
        self._plans: deque[tuple[BatchPlan, Numbers]] = deque()
        self._checked = set[bool]()  # kinds of batches, without and with the pass along the width, that were compared
        self._factors = tuple(torch.from_numpy(factor).to(device) for factor in (spec.scale, spec.bias))

    def submit(self, plan: BatchPlan) -> None:
        needed = needed_of(plan, self._images.sizes(plan.sample_id), self._spec)
        self._plans.append((plan, needed))
        self._images.submit(plan, needed)

    def result(self) -> BackendOutput:
        plan, needed = self._plans.popleft()
        stored = self._images.take()
        output, weighed = self._output(plan, needed, stored)
        if weighed not in self._checked:
            self._check(first_of(plan, CHECKED), needed[:CHECKED], stored, output)
            self._checked.add(weighed)
        return output

    def close(self) -> None:
        self._plans.clear()
        self._images.close()

    def _output(self, plan: BatchPlan, needed: Numbers, stored: DevicePixels) -> tuple[BackendOutput, bool]:
        """Returns the output, and whether the width was done first."""
        spec, sizes = self._spec, self._images.sizes(plan.sample_id)
        size, p = spec.image_size, spec.patch_size or spec.image_size
        given = views_of(
            plan, stored=sizes, placed=stored.placed, starts=stored.starts, needed=needed, antialias=spec.antialias
        )
        whole, nothing = np.zeros((len(plan), 1), np.int32), np.zeros((0, 0), np.bool_)
        cells = whole if plan.position is None else plan.position.astype(np.int32)
        hidden, mask = (nothing if values is None else values for values in (plan.hidden, plan.mask))
        sent = self._staging.send(*given, cells, whole, hidden, mask)
        views, pixels = Views(*sent[: len(given)]), stored.pixels
        taps = calculate_taps(views, size, int(given.taps.max()), antialias=spec.antialias)
        weighed = worth_weighing(given)
        if weighed:
            pixels, views = weigh_rows(pixels, views, taps, needed[:, 2])

        def cut(patch: int, cells: Tensor, hidden: Tensor | None) -> Tensor:
            how = Cut(size, patch, p, spec.torch_dtype, *self._factors)
            return cut_patches(pixels, views, taps, how, cells, hidden, weighed=weighed)

        cells_sent, whole_sent, hidden_sent, mask_sent = sent[len(given) :]
        hides = plan.mask is not None and spec.patch_size is not None
        output = BackendOutput(
            patches=None if plan.position is None else cut(p, cells_sent, None if plan.hidden is None else hidden_sent),
            image=cut(size, whole_sent, mask_sent if hides else None)[:, 0] if spec.whole_image else None,
        )
        return output, weighed

    def _check(self, plan: BatchPlan, needed: Numbers, stored: DevicePixels, output: BackendOutput) -> None:
        """Raises DeviceError where images of `plan`, the first of a batch, are not the reference's of these pixels."""
        self._images.check(plan, needed, stored)
        rows = len(plan)
        images = [self._seen(plan, stored, row) for row in range(rows)]
        twin = render(np.stack(images), plan, self._spec, Staging(_CPU, lane=HostLane()))
        for ours, theirs in ((output.patches, twin.patches), (output.image, twin.image)):
            if ours is None or theirs is None:
                continue
            differ = (ours[:rows].cpu() != theirs).flatten(1).any(dim=1)
            if bool(differ.any()):
                raise DeviceError(
                    f"{device_name(ours.device)} makes other patches than the reference of {int(differ.sum())} of the "
                    f"first {rows} images, sample {int(plan.sample_id[int(differ.int().argmax())])} among them: "
                    f"{_REMEDY}"
                )

    def _seen(self, plan: BatchPlan, stored: DevicePixels, row: int) -> NDArray[np.uint8]:
        """Returns the image [S, S, 3] that the reference sees of a row; pixels that are not there are not looked at."""
        height, width = self._images.sizes(plan.sample_id[row : row + 1])[0].tolist()
        whole = np.zeros((height, width, 3), np.uint8)
        top, left, rows, columns = stored.placed[row].tolist()
        whole[top : top + rows, left : left + columns] = stored.part(row)
        return image_of(whole, plan, row, self._spec)


def needed_of(plan: BatchPlan, stored: Numbers, spec: OutputSpec) -> Numbers:
    """Returns which pixels of its images [b, 2] a plan looks at: [b, 4] int64 top, left, height, width."""
    zeros = np.zeros((len(plan), 2), np.int64)
    crop = np.hstack((zeros, stored)) if plan.crop is None else np.ascontiguousarray(plan.crop)
    resize = zeros[:0] if plan.resize is None else np.ascontiguousarray(plan.resize)
    window = zeros if plan.window is None else np.ascontiguousarray(plan.window)
    needed = np.empty((len(plan), 4), np.int64)
    needed_pixels(crop, resize, window, spec.image_size, spec.antialias, needed)
    return needed


def first_of(plan: BatchPlan, rows: int) -> BatchPlan:
    """Returns the plan of the first rows of a plan."""
    per_row = ("sample_id", "crop", "resize", "window", "flip", "position", "hidden", "mask")
    kept: dict[str, Any] = {name: getattr(plan, name) for name in per_row}
    kept = {name: None if values is None else values[:rows] for name, values in kept.items()}
    return BatchPlan(epoch=plan.epoch, step=plan.step, **kept)


def device_name(device: torch.device) -> str:
    """Returns what the user knows a device by."""
    return f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else str(device)
