"""MosaicML Streaming: MDS shards on the local disk, `StreamingDataset` with py1e shuffling, decoding by batch.

Source: docs.mosaicml.com/projects/streaming (local data sets, `batch_size` given to the data set, `py1e`).
The package imports torchvision for its own vision data sets, which are not used here; where torchvision is absent,
empty stand-ins let the import pass.
"""

import importlib.machinery
import importlib.util
import shutil
import sys
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.peers.cut import make_batch, one_thread
from benchmarks.work.material import load
from benchmarks.work.task import Task

PACKAGES = ("mosaicml-streaming", "torch", "numpy", "simplejpeg", "opencv-python-headless")
SETTINGS = {"workers": "one a core", "shuffle_algo": "py1e", "items": "bytes", "collate": "whole batches"}


def _stand_in_for_torchvision() -> None:
    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    for name in names:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for needed in ("VisionDataset", "CIFAR10", "to_tensor"):
            setattr(module, needed, type(needed, (), {}))
        sys.modules[name] = module


def _library() -> Any:
    if importlib.util.find_spec("torchvision") is None:
        _stand_in_for_torchvision()
    import streaming

    return streaming


def convert(task: Task) -> None:
    """MDS shards of 64 MiB with a bytes column."""
    folder = task.converted("streaming")
    if (folder / "index.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    packed = load(task.source)
    with _library().MDSWriter(out=str(folder), columns={"image": "bytes"}, size_limit=1 << 26) as writer:
        for index in range(len(packed)):
            writer.write({"image": packed.payload(index).tobytes()})


def batches(task: Task) -> Iterator[torch.Tensor]:
    one_thread()
    streaming = _library()
    streaming.base.util.clean_stale_shared_memory()
    images = streaming.StreamingDataset(
        local=str(task.converted("streaming")), shuffle=True, batch_size=task.batch_size, shuffle_seed=task.seed
    )
    loader = streaming.StreamingDataLoader(
        images,
        batch_size=task.batch_size,
        num_workers=task.threads,
        persistent_workers=True,
        drop_last=True,
        prefetch_factor=2,
        collate_fn=partial(_collate, task=task),
    )
    while True:
        yield from loader


def _collate(samples: list[dict[str, bytes]], task: Task) -> torch.Tensor:
    torch.set_num_threads(1)
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    return make_batch([sample["image"] for sample in samples], task, rng)
