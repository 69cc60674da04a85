"""Our own datasets of the benchmarks' material: shards and, at 32 px, the pixel store. Built once, kept."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.work.material import Packed, load
from benchmarks.work.task import Task
from selfie_data.source import ImageSource, SourceImage
from selfie_data.storage.place import Place


@dataclass(frozen=True, kw_only=True)
class PackedSource:
    """A packed material as a source that `build_shards` can read by index.

    Attributes:
        folder: of the packed material.
        pixels: its payloads are pixels, not files.
        samples: how many images, the material again and again; 0 = as many as it holds.
    """

    folder: Path
    pixels: bool = False
    samples: int = 0
    kind: str = "benchmark"
    spool_bytes: int = 0

    @cached_property
    def packed(self) -> Packed:
        """Mapped when first asked for, in each process anew."""
        return load(self.folder)

    @property
    def description(self) -> dict[str, Any]:
        """What goes into the manifest."""
        return {"kind": self.kind, "material": self.folder.name, "about": self.packed.description}

    @property
    def fingerprint(self) -> str:
        """Good enough for material that only this benchmark writes."""
        identity = f"{self.folder.name}:{len(self)}:{self.packed.data.size}"
        return hashlib.sha256(identity.encode()).hexdigest()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Numbers, wide enough that sorting keeps their order."""
        return tuple(f"{number:04d}" for number in range(int(self.packed.label.max()) + 1))

    @property
    def labels(self) -> NDArray[np.int32]:
        """int32 [N]."""
        return np.resize(self.packed.label, len(self))

    def __len__(self) -> int:
        return self.samples or len(self.packed)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "packed"}

    def read(self, index: int) -> SourceImage:
        """The stored bytes, or the pixels of a raw image [H, W, 3]."""
        name, index = f"{index}", index % len(self.packed)
        payload = self.packed.payload(index)
        if self.pixels:
            height, width = int(self.packed.height[index]), int(self.packed.width[index])
            return SourceImage(name=name, data=np.array(payload).reshape(height, width, 3))
        return SourceImage(name=f"{name}.jpg", data=payload.tobytes())

    def spool(self, directory: Place, progress: object = None) -> ImageSource:
        """Random access already: nothing to do."""
        del directory, progress
        return self


def shards(task: Task) -> Path:
    """The shards of the task's material: pixels raw, JPEGs kept; photographs get restart markers, nothing else changes.

    Peers and floors read the same pictures without. Datasets without markers, of a checkout from before, are called
    `selfie`, so one folder serves both.
    """
    from selfie_data.build.build_shards import build_shards
    from selfie_data.build.options import BuildOptions

    marked = task.encoded and task.crops
    target = task.converted("selfie-marked" if marked else "selfie")
    with _alone(target):
        if not (target / "manifest.json").exists():
            shorter = 0 if task.crops else None
            encoding = "auto" if marked or not task.encoded else "keep"
            options = BuildOptions(size=task.image_size, encoding=encoding, resize_shorter=shorter)
            source = PackedSource(folder=task.source, pixels=not task.encoded)
            build_shards(source, target, options, workers=task.threads)
    return target


def store(task: Task) -> Path:
    """The pixel store of the task's shards."""
    from selfie_data.dataset.opened import open_dataset
    from selfie_data.dataset.pixel_store import export_store

    built = shards(task)
    target = task.converted("store.zarr")
    with _alone(target):
        if not target.exists():
            export_store(open_dataset(built), target, workers=task.threads)
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Lets one process at a time make `target`: several systems that need it start together."""
    with target.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
