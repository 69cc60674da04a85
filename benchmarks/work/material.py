"""The real images of the benchmarks, packed once: bytes end to end, with offsets, sizes and labels beside them.

`full`: 120 ImageNet photographs at their original resolution; `jpeg256`: the same, shorter side 256, JPEG quality 90;
`jpeg32` and `raw32`: ImageNet at 32x32, 50,000 images of 100 classes, as JPEG and as pixels. The 120 are repeated to
reach a useful number (`REPEATS`); records say so. Where no real images are at hand, `synthetic` makes stand-ins and
records say that instead.
"""

import io
import json
import os
import random
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPEATS = {"full": 40, "jpeg256": 96, "jpeg32": 1, "raw32": 1}
MATERIALS = tuple(REPEATS)
_FULL = "imagenet-fullres-120.tar"
_SMALL = "imagenet32-100-jpeg.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Images of one material.

    Attributes:
        data: uint8 [bytes], all images end to end, mapped.
        offset: int64 [N + 1].
        height, width: int32 [N].
        label: int32 [N].
        description: where they are from, for the record.
    """

    data: NDArray[np.uint8]
    offset: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    label: NDArray[np.int32]
    description: str

    def __len__(self) -> int:
        return len(self.label)

    def payload(self, index: int) -> NDArray[np.uint8]:
        """The stored bytes of image `index`, a view."""
        return self.data[self.offset[index] : self.offset[index + 1]]


def load(folder: Path) -> Packed:
    """Maps a packed material; FileNotFoundError when it was never made."""
    columns = {name: np.load(folder / f"{name}.npy") for name in ("offset", "height", "width", "label")}
    data = np.memmap(folder / "data.bin", dtype=np.uint8, mode="r")
    return Packed(data=data, description=json.loads((folder / "about.json").read_text()), **columns)


def default_folder() -> Path:
    """Where prepared material lies unless `--scratch` says otherwise."""
    return Path(tempfile.gettempdir()) / "selfie-benchmarks"


def prepare(material: str, scratch: Path, *, images: Path | None, limit: int | None = None) -> Path:
    """Packs `material` under `scratch` unless it is there; returns its folder.

    Args:
        images: folder of the real archives; None makes synthetic stand-ins.
        limit: at most this many images.
    """
    target = scratch / material
    if not (target / "about.json").exists():
        found = _real(material, images) if images else _synthetic(material)
        source = "real images" if images else "synthetic images"
        chosen = list(found)
        random.Random(0).shuffle(chosen)  # not class by class, as a careful user packs for buffer shuffles
        _pack(target, chosen[:limit], 1 if limit else REPEATS[material], source)
    return target


def images_folder() -> Path | None:
    """The folder that SELFIE_TEST_DATA names, where the archives are there."""
    named = os.environ.get("SELFIE_TEST_DATA", "")
    folder = Path(named)
    return folder if named and (folder / _FULL).exists() and (folder / _SMALL).exists() else None


Image = tuple[bytes, int, int, int]  # payload, height, width, label


def _pack(target: Path, found: list[Image], repeats: int, source: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    payloads, heights, widths, labels = zip(*found, strict=True)
    with (target / "data.bin").open("wb") as file:
        for _ in range(repeats):
            file.writelines(payloads)
    lengths = np.tile([len(payload) for payload in payloads], repeats)
    np.save(target / "offset.npy", np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))
    for name, column in (("height", heights), ("width", widths), ("label", labels)):
        np.save(target / f"{name}.npy", np.tile(column, repeats).astype(np.int32))
    about = f"{len(found)} {source} x {repeats}, mean {int(np.mean(lengths))} bytes"
    (target / "about.json").write_text(json.dumps(about))  # last: its presence says that the rest is there


def _real(material: str, images: Path) -> Iterator[Image]:
    if material in ("full", "jpeg256"):
        for number, payload in enumerate(_members(images / _FULL, "")):
            yield _full(payload, number) if material == "full" else _shorter_256(payload, number)
        return
    names: dict[str, int] = {}
    with tarfile.open(images / _SMALL) as archive:
        for member in archive:
            parts = member.name.split("/")
            if member.isfile() and parts[1] == "train":
                payload = _read(archive, member)
                label = names.setdefault(parts[2], len(names))
                yield (payload, 32, 32, label) if material == "jpeg32" else (_pixels(payload).tobytes(), 32, 32, label)


def _synthetic(material: str) -> Iterator[Image]:
    """Smooth random pictures, so that JPEG has something to code: 240 x 320 and 256 x 341, or 32 x 32."""
    rng = np.random.default_rng(0)
    shape = {"full": (240, 320), "jpeg256": (256, 341)}.get(material, (32, 32))
    for number in range(1024 if shape == (32, 32) else 256):
        coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        pixels = _resized(coarse, shape[1], shape[0])
        payload = pixels.tobytes() if material == "raw32" else _jpeg(pixels)
        yield payload, *shape, number % 10


def _members(path: Path, prefix: str) -> Iterator[bytes]:
    with tarfile.open(path) as archive:
        for member in sorted((one for one in archive if one.isfile()), key=lambda one: one.name):
            if member.name.startswith(prefix):
                yield _read(archive, member)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return file.read()


def _full(payload: bytes, label: int) -> Image:
    height, width, _ = _pixels(payload).shape
    return payload, height, width, label


def _shorter_256(payload: bytes, label: int) -> Image:
    pixels = _pixels(payload)
    height, width, _ = pixels.shape
    scale = 256 / min(height, width)
    small = _resized(pixels, round(width * scale), round(height * scale))
    return _jpeg(small), small.shape[0], small.shape[1], label


def _pixels(payload: bytes) -> NDArray[np.uint8]:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(payload)) as image:
        return np.asarray(image.convert("RGB"))


def _resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.BICUBIC))


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()
