"""The store backend on a GPU: the pixel store, held in device memory, through the kernels that take images of shards.

    pixels [N * S * S * 3] uint8      image `id` begins at byte id * S * S * 3; nothing is copied for a batch

What the store holds, and what it refuses: see `cpu_store.py`.
"""

from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipelines.backends.cpu_store import check_central, load_matching
from pipelines.backends.gpu import DevicePixels, GpuBackend, Numbers
from pipelines.batch_plan import BatchPlan, OutputSpec, Verify
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import Pixels, stored_at_size


class GpuStoreBackend(GpuBackend):
    """See `batch_plan.Backend`.

    Raises:
        DatasetError: there is no store of this dataset at `store`, or it is damaged.
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
    ) -> None:
        del verify, prefetch  # loading checks every byte of the store; plans wait in a queue of any length
        self._dataset = dataset
        self._stored_at_size = stored_at_size(dataset)
        images = load_matching(store, dataset, threads=threads)
        super().__init__(spec, ResidentImages(images, device), device=device)

    def submit(self, plan: BatchPlan) -> None:
        if not self._stored_at_size:
            check_central(plan, self._dataset)
            plan = replace(plan, resize=None, window=None)
        super().submit(plan)


class ResidentImages:
    """See `gpu.DeviceImages`: images [N, S, S, 3] in the device's memory."""

    def __init__(self, images: Pixels, device: torch.device) -> None:
        self._size = images.shape[1]
        self._pixels = torch.from_numpy(images.reshape(-1)).to(device)
        self._ids: deque[Numbers] = deque()

    def sizes(self, ids: Numbers) -> Numbers:
        return np.full((len(ids), 2), self._size, np.int64)

    def submit(self, plan: BatchPlan, needed: Numbers) -> None:
        del needed  # all is there
        self._ids.append(plan.sample_id)

    def take(self) -> DevicePixels:
        ids = self._ids.popleft()
        sizes = self.sizes(ids)
        return DevicePixels(self._pixels, ids * (3 * self._size**2), np.hstack((np.zeros_like(sizes), sizes)))

    def check(self, plan: BatchPlan, needed: Numbers, pixels: DevicePixels) -> None:
        del plan, needed, pixels  # the store's bytes were checked when it was loaded

    def close(self) -> None:
        self._ids.clear()
        self._pixels = torch.empty(0, dtype=torch.uint8)
