"""The reference backend: NumPy and Pillow, one image at a time, slow and obvious. It defines what all backends give.

Also what is used where neither compiled kernels nor DALI can be installed.
"""

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.backends.plain_resize import resize_bilinear
from pipelines.backends.shard_reader import ShardReader
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec, Verify
from pipelines.normalise import Normalisation, normalise
from pipelines.sampling.grid import patchify, unpatchify
from pipelines.staging import Staging
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import decode_payload
from selfie_data.images.resize import resize_by_pillow

Image8 = NDArray[np.uint8]


class ReferenceBackend:
    """See `plan.Backend`. Works when a result is asked for; has no threads and prefetches nothing."""

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
        del threads, prefetch  # this backend does one thing at a time
        self._dataset = dataset
        self._spec = spec
        self._staging = Staging(device)
        self._reader = ShardReader(dataset, verify=verify)
        self._plans: deque[BatchPlan] = deque()

    def submit(self, plan: BatchPlan) -> None:
        self._plans.append(plan)

    def result(self) -> BackendOutput:
        plan = self._plans.popleft()
        payloads = self._reader.read(plan.sample_id)
        images = []
        for row, sample in enumerate(plan.sample_id):
            stored = decode_payload(self._dataset, int(sample), payloads[row])
            images.append(image_of(stored, plan, row, self._spec))
        return render(np.stack(images), plan, self._spec, self._staging)

    def close(self) -> None:
        self._plans.clear()
        self._reader.close()


def image_of(stored: Image8, plan: BatchPlan, row: int, spec: OutputSpec) -> Image8:
    """Returns the image [S, S, 3] that the model sees of a stored image: crop, resize, window, flip."""
    image = stored
    if plan.crop is not None:
        top, left, height, width = plan.crop[row]
        image = image[top : top + height, left : left + width]
    if plan.resize is not None:
        height, width = plan.resize[row].tolist()
        image = (
            resize_by_pillow(image, height, width)
            if spec.antialias
            else resize_bilinear(image, height, width, antialias=False)
        )
    top, left = (0, 0) if plan.window is None else (int(plan.window[row, 0]), int(plan.window[row, 1]))
    image = window_of(image, top, left, spec.image_size)
    return image[:, ::-1] if plan.flip is not None and plan.flip[row] else image


def window_of(image: Image8, top: int, left: int, size: int) -> Image8:
    """Returns [size, size, 3] of the image from (top, left) on; what lies outside is 0."""
    height, width = image.shape[:2]
    result = np.zeros((size, size, 3), np.uint8)
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    if y0 < y1 and x0 < x1:
        result[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return result


def render(images: Image8, plan: BatchPlan, spec: OutputSpec, staging: Staging) -> BackendOutput:
    """Returns the tensors of images [b, S, S, 3] on the device: cut, gathered, normalised, hidden."""
    patches = image = None
    if plan.position is not None and spec.patch_size is not None:
        grid = patchify(images, spec.patch_size)
        chosen = np.take_along_axis(grid, plan.position[:, :, None, None, None], axis=1)
        (patches,) = staging.send(_as_tensor(chosen, spec, plan.hidden))
    if spec.whole_image:
        (image,) = staging.send(_as_tensor(images, spec, _pixels_of(plan.mask, spec)))
    return BackendOutput(patches=patches, image=image)


def _pixels_of(mask: NDArray[np.bool_] | None, spec: OutputSpec) -> NDArray[np.bool_] | None:
    """Returns a mask [b, G] over cells as one over pixels, [b, S, S]."""
    if mask is None or spec.patch_size is None:
        return None
    p = spec.patch_size
    cells = np.broadcast_to(mask[:, :, None, None, None], (*mask.shape, p, p, 1))
    pixels: NDArray[np.bool_] = unpatchify(np.ascontiguousarray(cells))[..., 0]
    return pixels


def _as_tensor(pixels: Image8, spec: OutputSpec, hidden: NDArray[np.bool_] | None) -> Tensor:
    """Returns pixels in the spec's dtype; zero, after normalising, where `hidden` (over the leading axes)."""
    values: NDArray[np.uint8] | NDArray[np.float32]
    values = pixels if spec.dtype == "uint8" else normalise(pixels, Normalisation(spec.scale, spec.bias))
    values = values.copy()
    if hidden is not None:
        values[hidden] = 0
    return torch.from_numpy(values).to(spec.torch_dtype)
