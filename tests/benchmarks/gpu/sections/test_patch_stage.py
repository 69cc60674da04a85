"""The geometry of what is compared on a GPU is right; no GPU is needed."""

import torch

from benchmarks.gpu.sections.patch_stage import gather_torch
from pipelines.sampling.grid import patchify


def test_gather_is_patchify_and_take() -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    cells = torch.rand(3, 16).argsort(dim=1)
    expected = torch.from_numpy(patchify(images.numpy(), 8)).take_along_dim(cells[:, :, None, None, None], 1)
    assert torch.equal(gather_torch(images, cells, 8), expected)
