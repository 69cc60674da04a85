"""Images of any sizes where a GPU's backend takes them from, and what the reference makes of them."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.backends.gpu import DevicePixels, GpuBackend
from pipelines.backends.reference import image_of, render
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.staging import Staging

CPU = torch.device("cpu")
Image8 = NDArray[np.uint8]


class ListedImages:
    """See `gpu.DeviceImages`; `windowed`: nothing of an image is there but what is needed."""

    def __init__(self, images: Sequence[Image8], *, windowed: bool, device: torch.device = CPU) -> None:
        self._images, self._windowed, self._device = images, windowed, device
        self._plans: deque[tuple[BatchPlan, NDArray[np.int64]]] = deque()

    def sizes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([self._images[one].shape[:2] for one in ids.tolist()], np.int64)

    def submit(self, plan: BatchPlan, needed: NDArray[np.int64]) -> None:
        self._plans.append((plan, needed))

    def take(self) -> DevicePixels:
        plan, needed = self._plans.popleft()
        sizes = self.sizes(plan.sample_id)
        placed = needed if self._windowed else np.hstack((np.zeros_like(sizes), sizes))
        parts = []
        for sample, (top, left, height, width) in zip(plan.sample_id.tolist(), placed.tolist(), strict=True):
            parts.append(self._images[sample][top : top + height, left : left + width].reshape(-1))
        starts = np.cumsum([0, *(part.size for part in parts[:-1])])
        return DevicePixels(torch.from_numpy(np.concatenate(parts)).to(self._device), starts, placed)

    def check(self, plan: BatchPlan, needed: NDArray[np.int64], pixels: DevicePixels) -> None:
        pass

    def close(self) -> None:
        pass


def by_kernels(
    images: Sequence[Image8],
    plan: BatchPlan,
    spec: OutputSpec,
    *,
    windowed: bool = False,
    device: torch.device = CPU,
) -> BackendOutput:
    backend = GpuBackend(spec, ListedImages(images, windowed=windowed, device=device), device=device)
    backend.submit(plan)
    return backend.result()


def by_reference(images: Sequence[Image8], plan: BatchPlan, spec: OutputSpec) -> BackendOutput:
    seen = [image_of(images[sample], plan, row, spec) for row, sample in enumerate(plan.sample_id.tolist())]
    return render(np.stack(seen), plan, spec, Staging(CPU))
