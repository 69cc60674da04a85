"""A reader of datasets written from `docs/format.md` alone: tarfile, json and NumPy, nothing of the packages."""

import hashlib
import io
import json
import math
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from selfie_data.cli.__main__ import main
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_data.dataset.rows import encode_rows
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.dataset.verify import verify_dataset

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
COLUMNS = {"label": "<i4", "offset": "<i8", "length": "<i8", "height": "<i4", "width": "<i4", "crc32c": "<u4"}
ROW = np.dtype(list(COLUMNS.items()))
PAGE_LINE = np.dtype([("sha256", "V32"), ("samples", "<i8"), ("shards", "<i8")])
COUNTS = [("number", "<u4"), ("samples", "<u4"), ("first", "<i8"), ("quarantined", "<u4"), ("generation", "<u4")]
ENTRY = np.dtype([*COUNTS, ("bytes", "<i8"), ("sha256", "V32"), ("rows_sha256", "V32")])


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
    assert manifest["schema"] == 2
    for name, digest in manifest["files"].items():
        assert (tree_digest(dataset, name) if (dataset / name).is_dir() else hash_of(dataset / name)) == digest, name
    return manifest


def hash_of(file: Path) -> str:
    return sha256(file.read_bytes())


def tree_digest(dataset: Path, folder: str) -> str:
    files = sorted(path for path in (dataset / folder).rglob("*") if path.is_file())
    names = sorted((path.relative_to(dataset).as_posix(), hash_of(path)) for path in files)
    return sha256("".join(f"{digest}  {name}\n" for name, digest in names).encode())


def read_pages(dataset: Path, manifest: dict[str, Any]) -> NDArray[np.void]:
    """Returns the entries of all shards."""

    def named(digest: str, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        data = (dataset / "pages" / digest).read_bytes()
        assert sha256(data) == digest
        return np.frombuffer(data, dtype)

    index = named(manifest["shards"]["pages"], PAGE_LINE)
    pages = [named(line["sha256"].tobytes().hex(), ENTRY) for line in index]
    assert [len(page) for page in pages] == index["shards"].tolist()
    assert [page["samples"].sum() for page in pages] == index["samples"].tolist()
    return np.concatenate(pages)


def read_rows(file: Path, digest: str) -> tuple[dict[str, Any], NDArray[np.void]]:
    data = file.read_bytes()
    assert sha256(data) == digest
    line, _, rows = data.partition(b"\n")
    facts: dict[str, Any] = json.loads(line)
    assert facts["rows_sha256"] == sha256(rows)
    return facts, np.frombuffer(rows, ROW)


def read_table(dataset: Path, samples: int) -> dict[str, NDArray[Any]]:
    chunks = range(-(-samples // 65_536))
    return {
        name: np.concatenate(
            [np.frombuffer((dataset / "samples.zarr" / name / "c" / str(c)).read_bytes(), dtype) for c in chunks]
        )[:samples]
        for name, dtype in (*COLUMNS.items(), ("shard", "<i4"))
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
    table, entries = read_table(dataset, manifest["samples"]), read_pages(dataset, manifest)
    sample, place, total = 0, 0, dict.fromkeys(manifest["class_counts"], 0)
    for position, entry in enumerate(entries):
        name = f"shard-{entry['number']:06d}" + (f".{entry['generation']}" if entry["generation"] else "")
        facts, rows = read_rows(dataset / f"{name}.rows", entry["rows_sha256"].tobytes().hex())
        quarantined = [int(key) for key, _, _ in facts["quarantined"]]
        keys = [f"{key:012d}" for key in range(place, place + len(rows) + len(quarantined)) if key not in quarantined]
        path = dataset / f"{name}.tar"
        data = path.read_bytes()
        assert (len(rows), place) == (entry["samples"], entry["first"])
        assert (len(data), sha256(data)) == (entry["bytes"], entry["sha256"].tobytes().hex())
        assert hash_of(path.with_suffix(".idx")) == facts["index_sha256"]
        first, *index = path.with_suffix(".idx").read_text().splitlines()
        assert first == f"v1.2 {len(rows)}"
        counts: dict[str, int] = {}
        for line, row, wanted, (key, members) in zip(index, rows, keys, read_shard(path), strict=True):
            words = [
                word for kind, (at, content) in members.items() for word in (kind, at, len(content), f"{key}.{kind}")
            ]
            assert (line, key) == (" ".join(map(str, words)), wanted)
            label = int(members["cls"][1]) if "cls" in members else -1
            offset, payload = members[suffix]
            assert (row["label"], row["offset"], row["length"]) == (label, offset, len(payload))
            assert {name: table[name][sample] for name in COLUMNS} == {name: row[name] for name in COLUMNS}
            assert table["shard"][sample] == position
            if sample % 50 == 0:
                assert row["crc32c"] == crc32c(payload)
            if suffix == "raw":
                pixels = np.frombuffer(payload, np.uint8).reshape(manifest["image_size"], manifest["image_size"], 3)
            else:
                pixels = np.asarray(Image.open(io.BytesIO(payload)).convert("RGB"))
            assert pixels.shape == (row["height"], row["width"], 3)
            assert -1 <= label < max(1, len(manifest["class_names"]))
            sample += 1
            counts[str(label)] = counts.get(str(label), 0) + 1
            total[str(label)] += 1
        assert counts == facts["class_counts"]
        place += len(keys) + len(quarantined)
    assert (sample, total) == (manifest["samples"], manifest["class_counts"])
    for name, (smallest, largest) in list(manifest["sizes"].items())[:3]:
        assert (table[name].min(), table[name].max()) == (smallest, largest)


def test_the_fingerprint_is_computed_as_the_page_says(dataset: Path) -> None:
    manifest = read_manifest(dataset)
    parts = {name: manifest[name] for name in ("schema", "image_size", "encoding", "class_names", "mean", "std")}
    parts["pages"] = manifest["shards"]["pages"]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert sha256(text.encode()) == manifest["fingerprint"]


def write_example(dataset: Path) -> dict[str, str]:
    """Writes the example of the page by what the page says; returns the SHA-256 of each file, and the fingerprint."""
    size, labels, digests = 4, {0: 1, 2: -1, 3: 0}, dict[str, str]()

    def write(name: str, data: bytes) -> str:
        (dataset / name).parent.mkdir(exist_ok=True)
        (dataset / name).write_bytes(data)
        digests[name] = sha256(data)
        return digests[name]

    buffer, rows, index = io.BytesIO(), [], [f"v1.2 {len(labels)}"]
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for place, label in labels.items():
            key, pixels = f"{place:012d}", bytes([place] * size * size * 3)
            members = {"raw": pixels} | ({"cls": str(label).encode()} if label >= 0 else {})
            words = []
            for extension, content in members.items():
                words += [extension, str(tar.offset + 512), str(len(content)), f"{key}.{extension}"]
                entry = tarfile.TarInfo(f"{key}.{extension}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            rows.append((label, int(words[1]), len(pixels), size, size, crc32c(pixels)))
            index.append(" ".join(words))
    tar_bytes = buffer.getvalue()
    row_bytes = np.array(rows, ROW).tobytes()
    facts = {
        "number": 0,
        "samples": 3,
        "bytes": len(tar_bytes),
        "sha256": write("shard-000000.tar", tar_bytes),
        "index_sha256": write("shard-000000.idx", "".join(f"{line}\n" for line in index).encode()),
        "class_counts": {"-1": 1, "0": 1, "1": 1},
        "sums": [48, [80, 80, 80], [208, 208, 208]],
        "quarantined": [["000000000001", "one.png", "cannot be decoded"]],
        "decoders": {},
        "restarts": None,
        "notices": [],
        "rows_sha256": sha256(row_bytes),
    }
    facts_digest = write("shard-000000.rows", json.dumps(facts).encode() + b"\n" + row_bytes)
    hashes = [bytes.fromhex(digest) for digest in (digests["shard-000000.tar"], facts_digest)]
    page = np.array([(0, 3, 0, 1, 0, len(tar_bytes), *hashes)], ENTRY).tobytes()
    pages = np.array([(bytes.fromhex(sha256(page)), 3, 1)], PAGE_LINE).tobytes()
    for data in (page, pages):
        write(f"pages/{sha256(data)}", data)
    mean, std = [80 / 48] * 3, [math.sqrt(48 * 208 - 80 * 80) / 48] * 3
    parts = {
        "schema": 2,
        "image_size": size,
        "encoding": "raw",
        "class_names": ["cat", "dög"],
        "mean": mean,
        "std": std,
    }
    text = json.dumps({**parts, "pages": sha256(pages)}, sort_keys=True, separators=(",", ":"))
    root = {
        "schema": 2,
        "fingerprint": sha256(text.encode()),
        "source": {"kind": "example"},
        "options": {},
        "seed": 0,
        "class_names": parts["class_names"],
        "image_size": size,
        "encoding": "raw",
        "codecs": {},
        "permutation_version": 1,
        "mean": mean,
        "std": std,
        "pixels": 48,
        "samples": 3,
        "class_counts": facts["class_counts"],
        "sizes": {"height": [4, 4], "width": [4, 4], "length": [48, 48], "area": 16},
        "shards": {"count": 1, "bytes": len(tar_bytes), "quarantined": 1, "largest": 3, "pages": sha256(pages)},
        "files": {},
    }
    body = json.dumps(root, indent=1).removesuffix("\n}").encode()
    write("manifest.json", body + b',\n "digest": "' + sha256(body).encode() + b'"\n}\n')
    return digests | {"fingerprint": root["fingerprint"]}


def test_a_dataset_written_by_the_page_is_one_and_has_its_digests(tmp_path: Path) -> None:
    digests = write_example(tmp_path)
    assert [line for line in (f"{digest}  {name}" for name, digest in digests.items()) if line not in PAGE] == []
    assert verify_dataset(tmp_path, decode=True) == []
    opened = open_dataset(tmp_path)
    assert (opened.fingerprint, opened.class_names) == (digests["fingerprint"], ("cat", "dög"))
    assert [opened.key(sample) for sample in range(3)] == [f"{place:012d}" for place in (0, 2, 3)]
    root = (tmp_path / "manifest.json").read_bytes()
    opened.manifest.save(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == root
    assert encode_rows(opened.record(0)) == (tmp_path / "shard-000000.rows").read_bytes()


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
    manifest = read_manifest(raw_dataset)
    (rows, *_) = sorted(raw_dataset.glob("*.rows"))
    entries = read_rows(rows, hash_of(rows))[0]
    named = {*manifest, *manifest["shards"], *manifest["sizes"], *entries, "key", "name", "reason"}
    named |= {"shard", *COLUMNS, *(ENTRY.names or ()), *(PAGE_LINE.names or ())}
    assert [name for name in sorted(named) if f"`{name}`" not in PAGE] == []


def test_the_page_is_enough_to_read_what_a_dataset_became_and_was(raw_dataset: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(raw_dataset, tmp_path / "changed"))
    before = read_manifest(changed)
    for command in ("extend OUT synthetic --limit 100 --workers 1", "drop OUT 5 1002", "drop OUT 7 8 --purge"):
        done = CliRunner().invoke(main, command.replace("OUT", str(changed)).split())
        assert done.exit_code == 0, done.output
    manifest = read_manifest(changed)
    assert [(each["samples"], each["excluded"]) for each in manifest["lineage"]] == [(1000, 0), (1100, 0), (1100, 2)]
    assert manifest["lineage"][0]["fingerprint"] == before["fingerprint"]
    assert manifest["lineage"][-1]["fingerprint"] == manifest["parent"]
    file = changed / "excluded" / f"{manifest['excluded']['sha256']}.npy"
    assert hash_of(file) == manifest["excluded"]["sha256"]
    excluded = np.load(io.BytesIO(file.read_bytes())).tolist()
    assert (excluded, manifest["excluded"]["samples"]) == ([5, 7, 8, 1002], 4)
    purged, live, sample = list[int](), dict.fromkeys(manifest["class_counts"], 0), 0
    for entry in read_pages(changed, manifest):
        name = f"shard-{entry['number']:06d}" + (f".{entry['generation']}" if entry["generation"] else "")
        _, rows = read_rows(changed / f"{name}.rows", entry["rows_sha256"].tobytes().hex())
        members = read_shard(changed / f"{name}.tar")
        for row in rows:
            if row["length"] == 0:
                purged.append(sample)
            else:
                key, parts = next(members)
                assert (key, parts["raw"][0], int(parts["cls"][1])) == (f"{sample:012d}", row["offset"], row["label"])
            if sample not in excluded:
                live[str(row["label"])] += 1
            sample += 1
        assert next(members, None) is None
    assert (sample, purged, live) == (manifest["samples"], [7, 8], manifest["class_counts"])
    parts = {name: manifest[name] for name in ("schema", "image_size", "encoding", "class_names", "mean", "std")}
    parts |= {"pages": manifest["shards"]["pages"], "excluded": manifest["excluded"]["sha256"]}
    assert sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()) == manifest["fingerprint"]
    words = philox_first_words(seed=manifest["seed"], counter=(1000, 0, 0, 13 << 16))
    assert manifest["lineage"][0]["added"]["seed"] == words[0] + (words[1] << 32)  # generated pictures take it, too


def philox_first_words(*, seed: int, counter: tuple[int, int, int, int]) -> tuple[int, int]:
    x0, x1, x2, x3 = counter
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        low, high = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = high >> 32 ^ x1 ^ key0, high & 0xFFFFFFFF, low >> 32 ^ x3 ^ key1, low & 0xFFFFFFFF
        key0, key1 = key0 + 0x9E3779B9 & 0xFFFFFFFF, key1 + 0xBB67AE85 & 0xFFFFFFFF
    return x0, x1
