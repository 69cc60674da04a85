"""The store backend on a CPU: the pixel store, held in memory, through the kernels that take images of shards.

Order, draws and batches are those of the shards: bit for bit where images are stored at the model's size. A store of
larger photographs holds their central views only, so that random crops of them are refused.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipelines.backends.cpu import Bytes, CpuBackend, Numbers, StoredPixels
from pipelines.batch_plan import BatchPlan, OutputSpec, Verify
from pipelines.sampling.augment import evaluation_crop
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.pixel_store import check_store, load_store
from selfie_data.dataset.read import Pixels, stored_at_size

_PIECE = 256  # samples: 0.2 ms at 32 px, ten times what handing a piece over costs


class StoreBackend(CpuBackend):
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
        threads: int = 2,
        prefetch: int = 2,
    ) -> None:
        del verify  # loading checks every byte of the store
        self._dataset = dataset
        self._stored_at_size = stored_at_size(dataset)
        images = load_matching(store, dataset, threads=threads)
        super().__init__(spec, MemoryImages(images), device=device, threads=threads, prefetch=prefetch, name="store")

    def submit(self, plan: BatchPlan) -> None:
        if not self._stored_at_size:
            check_central(plan, self._dataset)
            plan = replace(plan, resize=None, window=None)
        super().submit(plan)


class MemoryImages:
    """See `cpu.StoredImages`: images [N, S, S, 3] in memory."""

    piece = _PIECE

    def __init__(self, images: Pixels) -> None:
        self._size = images.shape[1]
        self._pixels: Bytes = images.reshape(-1)

    def sizes(self, ids: Numbers) -> tuple[Numbers, Numbers]:
        sides = np.full(len(ids), self._size)
        return sides, sides

    def read(self, ids: Numbers, needed: Numbers | None) -> Iterator[StoredPixels]:
        del needed  # all is there
        yield StoredPixels(self._pixels, ids * (3 * self._size**2))

    def close(self) -> None:
        self._pixels = np.empty(0, np.uint8)


def load_matching(store: Path | str, dataset: Dataset, *, threads: int) -> Pixels:
    """Returns the images of the store of `dataset`, uint8 [N, S, S, 3].

    Raises:
        DatasetError: there is none at `store`, or it is damaged.
    """
    check_store(store, dataset)
    return load_store(store, threads=threads).images


def check_central(plan: BatchPlan, dataset: Dataset) -> None:
    """Raises ValueError if the plan wants anything but the central view of a photograph."""
    rows = dataset.rows(plan.sample_id)
    central = evaluation_crop(rows.height, rows.width, dataset.image_size)[1]
    if plan.crop is not None or plan.window is None or not np.array_equal(plan.window, central):
        raise ValueError(
            "the pixel store holds the central views of these images only, so random crops need the shards: "
            "leave out store=, or give augment='none' or Augmentation(flip=True)"
        )
