"""Sources of images for tests, held in memory."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfie_data.errors import ImageError
from selfie_data.images.decode import decode_image
from selfie_data.source import Json, Progress, SourceImage
from selfie_data.storage.place import Place


@dataclass(frozen=True, kw_only=True, eq=False)
class MemorySource:
    """Images given as file bytes or pixels; an exception in their place is raised when it is read."""

    images: Sequence[bytes | NDArray[np.uint8] | Exception]
    labels: NDArray[np.int32]
    class_names: tuple[str, ...] = ()
    kind: str = "memory"
    spool_bytes: int = 0
    name: str = "memory"
    description: Mapping[str, Json] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(image.tobytes() if isinstance(image, np.ndarray) else repr(image).encode())
        digest.update(self.labels.tobytes())
        object.__setattr__(self, "fingerprint", digest.hexdigest())
        object.__setattr__(self, "description", {"kind": self.kind, "name": self.name, "count": len(self.images)})

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> SourceImage:
        image = self.images[index]
        if isinstance(image, ImageError):
            raise ImageError(f"memory/{index:06d}: {image}")
        if isinstance(image, Exception):
            raise image
        return SourceImage(f"memory/{index:06d}", image)

    def spool(self, directory: Place, progress: Progress | None = None) -> "MemorySource":
        return self


def memory_source(
    images: Sequence[bytes | NDArray[np.uint8] | Exception],
    labels: Sequence[int] | None = None,
    *,
    name: str = "memory",
) -> MemorySource:
    """Returns a source of these images; without labels it is unlabelled, else its classes are named c0, c1, …"""
    array = np.full(len(images), -1, np.int32) if labels is None else np.array(labels, np.int32)
    classes = tuple(f"c{index}" for index in range(int(array.max(initial=-1)) + 1))
    return MemorySource(images=images, labels=array, class_names=classes, name=name)


def picture(height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    """Returns uint8 [H, W, 3]: soft blobs of colour under fine noise, so that a JPEG of it is neither tiny nor huge."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noise = rng.integers(-12, 13, (height, width, 1), dtype=np.int16)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def jpeg(pixels: NDArray[np.uint8], **options: object) -> bytes:
    """Returns the JPEG that Pillow makes of uint8 [H, W] or [H, W, 3]; options go to `Image.save`."""
    return encoded(Image.fromarray(pixels), "JPEG", **{"quality": 90, **options})


def decoded(data: bytes, **options: Any) -> NDArray[np.uint8]:
    """Returns the pixels of `decode_image`."""
    return decode_image(data, **options).pixels


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Returns an image as a file of the kind that Pillow names so."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photographs(count: int, *, seed: int = 0) -> list[bytes]:
    """Returns JPEGs of many sizes: two of three fit 256 px and stay as they are, every eighth is gray."""
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(160, 420, 2))
        pixels = picture(height, width, seed=seed * 100_003 + number)
        files.append(jpeg(pixels[:, :, 0] if number % 8 == 7 else pixels))
    return files
