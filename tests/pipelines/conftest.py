"""Small datasets, written here by hand in the format that `selfie_data` documents, so that reading is tested apart from
building; and the loader's own fixtures."""

import gc
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.pages import entries_of, write_pages
from selfie_data.dataset.rows import ROW, ShardRecord, encode_rows
from selfie_data.dataset.sums import Sums

MakeDataset = Callable[..., Path]

if not torch.cuda.is_available():  # Triton's kernels run in its interpreter, which they ask for when they are imported
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(2)


def random_images(samples: int, size: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth pictures, so that JPEG and resizing behave as on photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (samples, 5, 5, 3), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in coarse]
    return np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)


def encode(image: NDArray[np.uint8], encoding: str) -> bytes:
    if encoding == "raw":
        return image.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, encoding.upper(), quality=90)
    return buffer.getvalue()


def write_dataset(
    directory: Path,
    *,
    samples: int = 50,
    shards: int = 3,
    size: int = 32,
    encoding: str = "raw",
    shapes: list[tuple[int, int]] | None = None,
    labelled: bool = True,
    seed: int = 0,
    encode_one: Callable[[NDArray[np.uint8]], bytes] | None = None,
) -> Path:
    """Writes a dataset; `shapes` gives stored heights and widths in turn, else all are size x size.

    `encode_one` makes the payloads, else `encode` does.
    """
    suffix = {"raw": "raw", "jpeg": "jpg", "png": "png"}[encoding]
    images = list(random_images(samples, size, seed))
    if shapes is not None:
        images = [
            np.asarray(Image.fromarray(image).resize(shapes[number % len(shapes)][::-1], Image.Resampling.BICUBIC))
            for number, image in enumerate(images)
        ]
    directory.mkdir(parents=True)
    sums = Sums()
    for shard, members in enumerate(np.array_split(np.arange(samples), shards)):
        path, index, rows = directory / f"shard-{shard:06d}.tar", [f"v1.2 {len(members)}"], []
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in members.tolist():
                key = f"{number:012d}"
                payload = encode_one(images[number]) if encode_one else encode(images[number], encoding)
                offset = _add(tar, f"{key}.{suffix}", payload)
                line = f"{suffix} {offset} {len(payload)} {key}.{suffix}"
                if labelled:
                    label = str(number % 4).encode()
                    line += f" cls {_add(tar, f'{key}.cls', label)} {len(label)} {key}.cls"
                index.append(line)
                height, width = images[number].shape[:2]
                crc32c = google_crc32c.value(payload)
                rows.append((number % 4 if labelled else -1, offset, len(payload), height, width, crc32c))
        path.with_suffix(".idx").write_text("\n".join(index) + "\n")
        record = ShardRecord(
            number=shard,
            bytes=path.stat().st_size,
            sha256=_sha256(path),
            index_sha256=_sha256(path.with_suffix(".idx")),
            sums=None,
            quarantined=(),
            rows=np.array(rows, ROW),
        )
        path.with_suffix(".rows").write_bytes(encode_rows(record))
        sums.add(record, _sha256(path.with_suffix(".rows")))
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64)
    manifest = Manifest(
        source={"kind": "handmade"},
        options={},
        seed=seed,
        class_names=("a", "b", "c", "d") if labelled else (),
        image_size=size,
        encoding=encoding,
        codecs={},
        permutation_version=1,
        mean=tuple(pixels.mean(0).tolist()),
        std=tuple(pixels.std(0).tolist()),
        pixels=len(pixels),
        samples=samples,
        class_counts=sums.class_counts,
        sizes=sums.sizes if samples else None,
        shards=write_pages(directory, entries_of(sums.columns)),
        files={},
    )
    manifest.sealed().save(directory)
    return directory


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, io.BytesIO(data))
    return offset


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Returns `write_dataset` with a new directory each call."""
    numbers = iter(range(1_000_000))

    def make(**options: object) -> Path:
        return write_dataset(tmp_path / f"dataset-{next(numbers)}", **options)

    return make


@pytest.fixture(scope="session")
def raw_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 labelled 32 px raw images in 3 shards. Not to be changed by tests."""
    return write_dataset(tmp_path_factory.mktemp("raw") / "shards")


@pytest.fixture(scope="session")
def photo_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 JPEGs of several sizes for a 64-pixel grid of 96 px images (beyond the small ones). Not to be changed."""
    shapes = [(110, 140), (128, 110), (111, 111), (96, 200), (110, 96)]
    return write_dataset(
        tmp_path_factory.mktemp("photo") / "shards", samples=30, size=96, encoding="jpeg", shapes=shapes
    )


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails a test after which more threads or open files exist than before."""
    process = psutil.Process()
    gc.collect()
    threads, files = process.num_threads(), _open_files()
    yield
    gc.collect()
    assert _open_files() == files
    assert process.num_threads() <= threads


def _open_files() -> list[str]:
    links = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
        except FileNotFoundError:  # the directory listing's own
            continue
    return sorted(link for link in links if link.startswith("/") and not link.startswith("/proc"))
