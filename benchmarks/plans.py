"""How evenly do a build's plans mix the classes? Distance of a shard's class histogram from that of the set.

python -m benchmarks plans

Nothing is encoded: labels and byte ranges of the sources, and the plan's arithmetic. The distance is total variation,
half the sum of |share in the shard - share in the set|: 0 for the same mix, near 1 for few of many classes. The plan
without blocks is what chance gives.
"""

import gzip
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.record import Record, record, versions
from selfie_data.build.plan import BlockPlan, Plan
from selfie_data.source import Blocks
from selfie_data.sources import open_source
from selfie_data.sources.readers.byte_ranges import RangeSource

QUESTION = "plans"
BLOCKS = {"no blocks": 0, "blocks of 16 MiB": 16 << 20, "blocks of 4 MiB": 4 << 20, "blocks of 1 MiB": 1 << 20}
BLOCKS |= {"blocks of 256 KiB": 256 << 10, "blocks of 64 KiB": 64 << 10}
WINDOW = 16  # shards that a loader with a block shuffle may mix
_SEEDS = 5
_TARS = {  # what it is called: the file, its part, images a shard
    "CIFAR-10, tar of 50,000 JPEGs": ("cifar10-jpeg.tar.gz", "cifar10/train", 1563),
    "ImageNet-32, tar of 50,000 JPEGs of 100 classes": ("imagenet32-100-jpeg.tar.gz", "imagenet32/train", 1563),
    "ILSVRC's layout, 1,000 photographs of 224 px, 10 classes": ("ILSVRC2012_img_train-small.tar", None, 64),
}


def run(*, scratch: Path, images: Path | None, seeds: int = _SEEDS) -> list[Record]:
    """Measures every plan on every set, as it lies (by class) and shuffled."""
    if images is None:
        raise SystemExit("SELFIE_TEST_DATA names no folder: the plans are of real sources")
    records = []
    for name, size, labels, bytes_each, per_shard in _sets(images, scratch):
        for order in ("by class", "shuffled"):
            kept = np.arange(len(labels)) if order == "by class" else np.random.default_rng(1).permutation(len(labels))
            for system, block_bytes in BLOCKS.items():
                if block_bytes * 2 > size:
                    continue
                records += _measure(
                    f"{name}, {order}", system, labels[kept], bytes_each[kept], per_shard, block_bytes, seeds
                )
    return records


def _measure(
    case: str,
    system: str,
    labels: NDArray[np.int32],
    bytes_each: NDArray[np.int64],
    per_shard: int,
    block_bytes: int,
    seeds: int,
) -> list[Record]:
    shards, windows, classes, blocks = list[float](), list[float](), list[float](), 0.0
    for seed in range(seeds):
        plan = _plan(bytes_each, per_shard, block_bytes, seed)
        drawn = (labels[plan.sources(plan.positions(number))] for number in range(plan.shards))
        counts = np.array([np.bincount(each, minlength=labels.max() + 1) for each in drawn])
        shards.append(_distance(counts, labels))
        windows.append(_distance(np.add.reduceat(counts, range(0, len(counts), WINDOW)), labels))
        classes.append(float((counts > 0).sum(axis=1).mean()))
        blocks = len(plan.blocks) / plan.shards if isinstance(plan, BlockPlan) else 0.0
    settings = {"block_bytes": block_bytes, "images": len(labels), "bytes": int(bytes_each.sum()), "seeds": seeds}
    settings |= {"samples_per_shard": per_shard, "classes": int(labels.max()) + 1}
    check = {"classes in a shard": round(float(np.mean(classes)), 1), "blocks a shard": round(blocks, 1)}
    note = f"{check['classes in a shard']:g} classes a shard"
    common = {"settings": settings, "check": check, "versions": versions(["numpy"]), "note": note}
    return [
        record(QUESTION, case, f"{system}, {what}", runs, unit="total variation", **common)  # type: ignore[arg-type]
        for what, runs in (("a shard", shards), (f"{WINDOW} shards", windows))
        if what == "a shard" or plan.shards > 2 * WINDOW
    ]


def _plan(bytes_each: NDArray[np.int64], per_shard: int, block_bytes: int, seed: int) -> Plan | BlockPlan:
    count = len(bytes_each)
    if not block_bytes:
        return Plan(size=count, samples=count, samples_per_shard=per_shard, seed=seed)
    starts = np.cumsum(bytes_each) - bytes_each
    blocks = Blocks.cut(np.zeros(count, np.int32), starts, bytes_each, block_bytes=block_bytes)
    return BlockPlan(blocks=blocks, samples=count, samples_per_shard=per_shard, seed=seed)


def _distance(counts: NDArray[np.int64], labels: NDArray[np.int32]) -> float:
    """Returns the mean distance of rows of counts from the set's histogram."""
    wanted = np.bincount(labels) / len(labels)
    return float((np.abs(counts / counts.sum(axis=1, keepdims=True) - wanted).sum(axis=1) / 2).mean())


def _sets(images: Path, scratch: Path) -> Iterator[tuple[str, int, NDArray[np.int32], NDArray[np.int64], int]]:
    """Yields names, sizes, labels and bytes (headers included) in the order in which they lie, and images a shard."""
    for name, (file, part, per_shard) in _TARS.items():
        source = _opened(images / file, part, scratch)
        yield name, int(_bytes(source).sum()), source.labels, _bytes(source), per_shard
    photographs = _bytes(_opened(images / "imagenet-fullres-120.tar", None, scratch))
    labels = np.repeat(np.arange(1000, dtype=np.int32), 1281)
    drawn = np.random.default_rng(0).choice(photographs, len(labels))
    name = "1,281,000 of 1,000 classes, sizes drawn from 120 photographs at original resolution"
    yield name, int(drawn.sum()), labels, drawn, 2600  # a shard of 64 MiB at 256 px


def _opened(path: Path, part: str | None, scratch: Path) -> RangeSource:
    if path.suffix == ".gz":
        scratch.mkdir(parents=True, exist_ok=True)
        plain = scratch / path.stem
        with gzip.open(path) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
        path = plain
    kind = "imagenet" if path.name.startswith("ILSVRC") else "tar"
    source = open_source(kind, path, subtree=part) if part else open_source(kind, path)
    assert isinstance(source, RangeSource)
    return source.in_blocks(os.stat(path).st_size)[0]  # in the order in which they lie


def _bytes(source: RangeSource) -> NDArray[np.int64]:
    return 512 + -(-source.ranges.length // 512) * 512
