"""FFCV: its own file, its fused decoders, its flip, and one compiled operation that cuts (and normalises) patches.

Source: docs.ffcv.io (RGBImageField, RandomResizedCropRGBImageDecoder, custom transforms, OrderOption.RANDOM with
`os_cache=True`). FFCV stores JPEGs that it encodes itself from the decoded pixels, here with as many bytes as the
images had: at its default quality of 90, photographs of ILSVRC become 38 % smaller, and so faster to decode, and worse.
It decodes with libjpeg-turbo's fast DCT and resizes with OpenCV's area filter: between antialiased and not.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cv2
import ffcv.fields.decoders as decoders
import numpy as np
import torch
from ffcv.fields import RGBImageField
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

from benchmarks.peers.cut import decoder, masked, rows
from benchmarks.work.material import Packed, load
from benchmarks.work.task import Masked, Task

PACKAGES = ("ffcv", "numba", "opencv-python-headless", "torch", "numpy")
SETTINGS = {
    "workers": "one thread a core",
    "order": "RANDOM",
    "os_cache": True,
    "resize": "OpenCV INTER_AREA",
    "decode": "TJFLAG_FASTDCT",
    "jpeg_quality": "as many bytes as the images had",
    "flip, cut, normalise": "one compiled operation, twice as fast as FFCV's own flip followed by a cut",
}

_SAMPLED = 50
_QUALITIES = range(90, 101)  # from FFCV's default on


class _Pixels:
    """Decoded images by index, as FFCV's writer asks for them."""

    def __init__(self, packed: Packed, task: Task) -> None:
        self.packed, self.task = packed, task

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> tuple[Any]:
        payload = self.packed.payload(index)
        if self.task.encoded:
            return (decoder("simplejpeg")(payload),)
        return (np.asarray(payload).reshape(self.task.image_size, self.task.image_size, 3),)


def convert(task: Task) -> None:
    """One .beton file."""
    path = task.converted("beton")
    if path.exists():
        return
    temporary = path.with_suffix(".partial")
    packed = load(task.source)
    mode = {"write_mode": "jpg", "jpeg_quality": equal_quality(packed)} if task.encoded else {"write_mode": "raw"}
    DatasetWriter(str(temporary), {"image": RGBImageField(**mode)}, num_workers=task.threads).from_indexed_dataset(
        _Pixels(packed, task)
    )
    temporary.replace(path)


def equal_quality(packed: Packed) -> int:
    """Returns the JPEG quality at which a sample of the images, encoded again, is nearest to its bytes."""
    payloads = [packed.payload(index) for index in range(0, len(packed), max(1, len(packed) // _SAMPLED))]
    pixels = [decoder("simplejpeg")(payload) for payload in payloads]
    wanted = sum(len(payload) for payload in payloads)

    def distance(quality: int) -> int:
        how = [cv2.IMWRITE_JPEG_QUALITY, quality]
        return abs(sum(len(cv2.imencode(".jpg", one, how)[1]) for one in pixels) - wanted)

    return min(_QUALITIES, key=distance)


class _Cut(Operation):  # type: ignore[misc]
    """[B, S, S, 3] -> [B, N, p, p, 3], cells in random order, or row by row for `masked`; normalised when float32."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.side = task.image_size // task.patch_size
        self.patch = task.patch_size
        self.dtype = np.dtype(task.dtype)
        self.shuffles = not task.visible

    def generate_code(self) -> Callable[..., Any]:
        my_range = Compiler.get_iterator()
        side, patch, shuffles = self.side, self.patch, self.shuffles
        exact = self.dtype == np.uint8
        scale, bias = rows(self.patch)

        def write(images: Any, i: int, top: int, left: int, mirrored: bool, out: Any) -> None:
            for y in range(patch):
                if mirrored:
                    for x in range(patch):
                        for c in range(3):
                            value = images[i, top + y, left + patch - 1 - x, c]
                            out[y, x, c] = value if exact else np.float32(value) * scale[c] + bias[c]
                else:
                    row = images[i, top + y, left : left + patch].reshape(-1)
                    into = out[y].reshape(-1)
                    for x in range(patch * 3):
                        into[x] = row[x] if exact else np.float32(row[x]) * scale[x] + bias[x]

        write = Compiler.compile(write)

        def cut(images: Any, out: Any) -> Any:
            mirrored = np.random.rand(images.shape[0]) < 0.5
            for i in my_range(images.shape[0]):
                order = np.arange(side * side)
                for k in range(side * side):
                    other = np.random.randint(k, side * side) if shuffles else k
                    cell = order[other]
                    order[other] = order[k]
                    write(images, i, cell // side * patch, cell % side * patch, mirrored[i], out[i, k])
            return out

        cut.is_parallel = True  # type: ignore[attr-defined]
        return cut

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, Any]:
        shape = (self.side**2, self.patch, self.patch, 3)
        state = replace(previous_state, shape=shape, dtype=self.dtype, jit_mode=True)
        return state, AllocationQuery(shape, self.dtype)


def batches(task: Task) -> Iterator[torch.Tensor | Masked]:
    size = (task.image_size, task.image_size)
    if task.crops:
        first = decoders.RandomResizedCropRGBImageDecoder(size, scale=task.area, ratio=(3 / 4, 4 / 3))
    else:
        first = decoders.SimpleRGBImageDecoder()
    loader = Loader(
        str(task.converted("beton")),
        batch_size=task.batch_size,
        num_workers=task.threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        seed=task.seed,
        pipelines={"image": [first, _Cut(task), ToTensor()]},
    )
    while True:
        for batch in loader:
            yield masked(batch[0], task) if task.visible else batch[0]
