"""DALI as its documentation has it: its WebDataset reader, its decoder with random crop, its operators, its plugin.

The permutation is the one thing DALI lacks: it comes from an external source, by batch. Patches are frames and
`sequence_rearrange` samples them. Source: docs.nvidia.com/deeplearning/dali (readers.webdataset, image_random_crop).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from benchmarks.work.material import load
from benchmarks.work.task import MEAN, STD, Task

PACKAGES = ("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13", "torch", "numpy")
SETTINGS = {"threads": "one a core", "prefetch_queue_depth": 2, "reader": "webdataset, shuffle buffer 1024"}


def convert(task: Task) -> None:
    """One tar with its index, written as plain USTAR."""
    folder = task.converted("dali")
    if (folder / "0.idx").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, task)


def _write(folder: Path, task: Task) -> None:
    import io
    import tarfile

    packed = load(task.source)
    lines = [f"v1.2 {len(packed)}"]
    with tarfile.open(folder / "0.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for index in range(len(packed)):
            payload = packed.payload(index).tobytes()
            member = tarfile.TarInfo(f"{index:012d}.img")
            member.size = len(payload)
            lines.append(f"img {archive.offset + 512} {len(payload)} {member.name}")
            archive.addfile(member, io.BytesIO(payload))
    (folder / "0.idx").write_text("\n".join(lines) + "\n")


def batches(task: Task) -> Iterator[torch.Tensor]:
    from nvidia.dali import fn, pipeline_def, types

    orders = np.random.default_rng(task.seed)
    folder = task.converted("dali")

    def order() -> Any:
        return orders.random((task.batch_size, task.cells)).argsort(axis=1).astype(np.int32)

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=task.batch_size, num_threads=task.threads, device_id=None, prefetch_queue_depth=2, seed=task.seed
    )
    def graph() -> Any:
        stored = fn.readers.webdataset(
            paths=[str(folder / "0.tar")],
            index_paths=[str(folder / "0.idx")],
            ext=["img"],
            random_shuffle=True,
            initial_fill=1024,
            name="reader",
        )
        image = _image(fn, types, stored, task)
        patches = _patches(fn, image, fn.external_source(order, batch=True), task)
        if task.dtype == "float32":
            mean = np.array(MEAN, np.float32).reshape(1, 1, 1, 3)
            std = np.array(STD, np.float32).reshape(1, 1, 1, 3)
            patches = fn.normalize(patches, mean=mean, stddev=std, dtype=types.FLOAT)
        return patches

    pipeline = graph()
    pipeline.build()
    while True:
        (patches,) = pipeline.run()
        yield from_dlpack(patches.as_tensor())


def _image(fn: Any, types: Any, stored: Any, task: Task) -> Any:
    size = task.image_size
    if not task.encoded:
        return fn.flip(fn.reshape(stored, shape=[size, size, 3], layout="HWC"), horizontal=fn.random.coin_flip())
    if not task.crops:
        return fn.flip(fn.decoders.image(stored, device="cpu"), horizontal=fn.random.coin_flip())
    cropped = fn.decoders.image_random_crop(
        stored, device="cpu", random_area=list(task.area), random_aspect_ratio=[3 / 4, 4 / 3]
    )
    resized = fn.resize(
        cropped,
        size=[size, size],
        interp_type=types.INTERP_LINEAR,
        antialias=task.quality == "antialiased",
    )
    return fn.flip(resized, horizontal=fn.random.coin_flip())


def _patches(fn: Any, image: Any, order: Any, task: Task) -> Any:
    side, patch = task.image_size // task.patch_size, task.patch_size
    grid = fn.reshape(image, shape=[side, patch, side, patch * 3], layout="")
    grid = fn.transpose(grid, perm=[0, 2, 1, 3])
    frames = fn.reshape(grid, shape=[side * side, patch, patch, 3], layout="FHWC")
    return fn.sequence_rearrange(frames, new_order=order)
