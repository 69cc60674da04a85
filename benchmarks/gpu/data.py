"""The datasets of the GPU run, made once in the scratch folder, and loaders of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.setting import Setting
from benchmarks.work import material
from benchmarks.work.dataset import shards, store
from benchmarks.work.task import Task, rows

KINDS = {"raw32": "raw32", "jpeg256": "jpeg256-antialiased", "full": "full-antialiased"}  # row of the loader's table


def task(kind: str, setting: Setting) -> Task:
    """The row of the loader's table that `kind` stands for, with its material prepared."""
    images = Path(setting.images) if setting.images else None
    folder = Path(setting.scratch) / ("dry" if setting.dry else "gpu" if images else "gpu-synthetic")
    material.prepare(kind, folder, images=images, limit=96 if setting.dry else None)
    small = rows(folder, threads=setting.threads)[KINDS[kind]]
    return replace(small, batch_size=setting.size(512, 16) if kind == "raw32" else setting.size(256, 8))


def loader(kind: str, setting: Setting, **options: Any) -> Any:
    """A `PatchLoader` of that kind on the setting's device."""
    from pipelines import PatchLoader

    one = task(kind, setting)
    if options.pop("resident", False):
        options["store"] = store(one)
    chosen = {"global_batch_size": one.batch_size, "device": setting.device, "threads": setting.threads, **options}
    return PatchLoader(shards(one), **chosen)


def endless(loader: Any) -> Iterator[Any]:
    """Batches of one epoch after another."""
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1
