"""A reader of datasets written from `docs/format.md` alone: tarfile, json and NumPy, nothing of the packages."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_data.dataset.splits import SplitOptions, write_splits

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
COLUMNS = {"label": "<i4", "shard": "<i4", "offset": "<i8", "length": "<i8"}
COLUMNS |= {"height": "<i4", "width": "<i4", "crc32c": "<u4"}


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_manifest(dataset: Path) -> dict[str, Any]:
    text = (dataset / "manifest.json").read_bytes()
    before, _, after = text.rpartition(b',\n "digest": "')
    assert after == sha256(before).encode() + b'"\n}\n'
    manifest: dict[str, Any] = json.loads(text)
    assert manifest["schema"] == 1
    for name, digest in manifest["files"].items():
        assert sha256((dataset / name).read_bytes()) == digest, name
    return manifest


def read_table(dataset: Path, samples: int) -> dict[str, NDArray[Any]]:
    chunks = range(-(-samples // 65_536))
    return {
        name: np.concatenate(
            [np.frombuffer((dataset / "samples.zarr" / name / "c" / str(c)).read_bytes(), dtype) for c in chunks]
        )[:samples]
        for name, dtype in COLUMNS.items()
    }


def read_shard(path: Path) -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """Yields key and {extension: (offset, content)} of every sample of a tar."""
    key, members = "", dict[str, tuple[int, bytes]]()
    with tarfile.open(path, "r:") as tar:
        for entry in tar:
            assert (entry.isreg(), entry.mode, entry.uid, entry.gid, entry.mtime) == (True, 0o644, 0, 0, 0)
            content = tar.extractfile(entry)
            assert content is not None
            name, _, extension = entry.name.partition(".")
            if name != key and members:
                yield key, members
                members = {}
            key, members[extension] = name, (entry.offset_data, content.read())
    yield key, members


@pytest.fixture(params=["raw_dataset", "jpeg_dataset", "unlabelled_dataset"])
def dataset(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_the_page_is_enough_to_read_a_dataset(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    suffix = {"raw": "raw", "jpeg": "jpg", "png": "png"}[manifest["encoding"]]
    table = read_table(dataset, sum(shard["samples"] for shard in manifest["shards"]))
    sample = 0
    last_key = ""
    for position, shard in enumerate(manifest["shards"]):
        path = dataset / shard["name"]
        data = path.read_bytes()
        assert (len(data), sha256(data)) == (shard["bytes"], shard["sha256"])
        first, *index = path.with_suffix(".idx").read_text().splitlines()
        assert first == f"v1.2 {shard['samples']}"
        counts: dict[str, int] = {}
        for line, (key, members) in zip(index, read_shard(path), strict=True):
            words = [
                word for kind, (at, content) in members.items() for word in (kind, at, len(content), f"{key}.{kind}")
            ]
            assert line == " ".join(map(str, words))
            label = int(members["cls"][1]) if "cls" in members else -1
            offset, payload = members[suffix]
            row = {name: int(column[sample]) for name, column in table.items()}
            assert (row["label"], row["shard"]) == (label, position)
            assert (row["offset"], row["length"]) == (offset, len(payload))
            if sample % 50 == 0:
                assert row["crc32c"] == crc32c(payload)
            if suffix == "raw":
                pixels = np.frombuffer(payload, np.uint8).reshape(manifest["image_size"], manifest["image_size"], 3)
            else:
                pixels = np.asarray(Image.open(io.BytesIO(payload)).convert("RGB"))
            assert pixels.shape == (row["height"], row["width"], 3)
            assert key > last_key
            assert -1 <= label < max(1, len(manifest["class_names"]))
            last_key, sample = key, sample + 1
            counts[str(label)] = counts.get(str(label), 0) + 1
        assert counts == shard["class_counts"]
    assert sample == len(table["label"])


def test_the_fingerprint_is_computed_as_the_page_says(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    parts = {name: manifest[name] for name in ("schema", "image_size", "encoding", "class_names", "mean", "std")}
    parts["shards"] = [[shard["name"], shard["samples"], shard["sha256"]] for shard in manifest["shards"]]
    parts["table"] = {name: digest for name, digest in manifest["files"].items() if name.startswith("samples.zarr/")}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert sha256(text.encode()) == manifest["fingerprint"]


def test_the_page_is_enough_to_read_splits_and_a_store(raw_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    for file in raw_dataset.iterdir():
        (tmp_path / "dataset" / file.name).symlink_to(file)
    opened = open_dataset(tmp_path / "dataset")
    write_splits(opened, SplitOptions())
    listed = json.loads((tmp_path / "dataset/splits/splits.json").read_text())
    assert listed["dataset"] == opened.fingerprint
    ids = {}
    for name, entry in listed["subsets"].items():
        data = (tmp_path / f"dataset/splits/{name}.npy").read_bytes()
        ids[name] = np.load(io.BytesIO(data))
        assert (sha256(data), len(ids[name]), ids[name].dtype) == (entry["sha256"], entry["samples"], np.dtype("<i8"))
        assert (np.diff(ids[name]) > 0).all()
    assert sorted([*ids["train"], *ids["validation"]]) == list(range(len(opened)))
    assert set(ids["all-5"]) <= set(ids["all-20"])

    export_store(opened, tmp_path / "store.zarr")
    attributes = json.loads((tmp_path / "store.zarr/zarr.json").read_text())["attributes"]
    assert attributes.pop("digest") == sha256(json.dumps(attributes, sort_keys=True).encode())
    grid = json.loads((tmp_path / "store.zarr/images/zarr.json").read_text())["chunk_grid"]["configuration"]
    rows, size = grid["chunk_shape"][0], attributes["image_size"]
    chunks = range(-(-attributes["samples"] // rows))
    files = [(tmp_path / f"store.zarr/images/c/{c}/0/0/0").read_bytes() for c in chunks]
    images = np.concatenate([np.frombuffer(data[:-4], np.uint8).reshape(rows, size, size, 3) for data in files])
    table = read_table(raw_dataset, len(opened))
    with (raw_dataset / "shard-000000.tar").open("rb") as shard:
        shard.seek(int(table["offset"][7]))
        assert images[7].tobytes() == shard.read(size * size * 3)
    labels = (tmp_path / "store.zarr/labels/c/0").read_bytes()
    assert np.array_equal(np.frombuffer(labels[:-4], "<i4"), table["label"])
    assert int.from_bytes(labels[-4:], "little") == crc32c(labels[:-4])


def test_the_page_names_every_entry_and_column(raw_dataset: Path) -> None:
    manifest = json.loads((raw_dataset / "manifest.json").read_text())
    named = {*manifest, *manifest["shards"][0], "key", "name", "reason", *COLUMNS}
    assert [name for name in sorted(named) if f"`{name}`" not in PAGE] == []
