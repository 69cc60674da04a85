"""What does opening a dataset take as it grows, and what does an image cost, built and loaded?

    python -m benchmarks opening

Sets of 10⁶ and more are made of entries alone, of shards of 5,000 images; rows are there of the shards that one rank of
8 is at. Each opening is a process of its own: seconds, and memory beyond that of its imports.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from benchmarks.harness.record import RESULTS, Record, record, save, versions
from benchmarks.harness.table import summary
from benchmarks.work import material
from pipelines import PatchLoader
from pipelines.sampling.lanes import LaneShuffle
from pipelines.sampling.order import BlockShuffle, EpochOrder, StepOrder
from pipelines.sampling.partition import Partition
from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.dataset.manifest import Manifest, Sizes
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pages import entries_of, write_pages
from selfie_data.dataset.rows import ROW, ShardRecord, encode_rows
from selfie_data.source import Json, Progress, SourceImage
from selfie_data.storage.place import Place

QUESTION = "opening"
EACH, BATCH, LANES, WINDOW, RANKS = 5_000, 4_096, 64, 64, 8
SIZES = (10**6, 10**8, 10**10)
GLOBAL = 10**7
BUILT = (10**4, 10**5, 10**6)
ROUNDS = {10**4: 12, 10**5: 6, 10**6: 3}  # the first compiles
SET = {"samples_per_shard": EACH, "global_batch_size": BATCH, "lanes": LANES, "shard_window": WINDOW, "ranks": RANKS}


@click.command(QUESTION)
@click.option("--scratch", type=click.Path(path_type=Path), help="Up to 5 GB.  [default: in the temp folder]")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "opening.jsonl", help="Records.")
def command(scratch: Path | None, output: Path) -> None:
    """Seconds and memory to open a dataset of up to 10¹⁰ images; what an image costs, built and loaded."""
    folder = (scratch or material.default_folder()) / QUESTION
    shutil.rmtree(folder, ignore_errors=True)
    records = list[Record]()
    for part in (_opened(folder), _held(folder), _costs(folder)):
        for each in part:
            records.append(each)
            save(records, output)
    shutil.rmtree(folder, ignore_errors=True)
    click.echo(summary(records))


def order_of(kind: str, counts: NDArray[np.int64]) -> EpochOrder:
    """Returns the order of an epoch by lanes or in windows."""
    if kind == "lanes":
        return LaneShuffle(shard_samples=counts, global_batch_size=BATCH, lanes=LANES, seed=1).order(3)
    return BlockShuffle(shard_samples=counts, shard_window=WINDOW, seed=1, epoch=3)


def ids_of_a_step(kind: str, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns what the middle rank reads in the middle of an epoch."""
    partition = Partition(samples=int(counts.sum()), global_batch_size=BATCH, rank=RANKS // 2, world_size=RANKS)
    return StepOrder(order_of(kind, counts), partition).step(partition.steps // 2)


def write_set(folder: Path, samples: int, with_rows: NDArray[np.int64]) -> None:
    """Writes root and pages of a set without images, with the rows of some of its shards."""
    folder.mkdir(parents=True)
    shards, zeros = samples // EACH, "0" * 64
    numbers = np.arange(shards)
    entries = entries_of({"number": numbers, "samples": np.full(shards, EACH), "first": EACH * numbers})
    rows = np.zeros(EACH, ROW)
    rows["offset"], rows["length"], rows["height"], rows["width"] = 4096 * np.arange(EACH) + 512, 3_000, 32, 32
    for number in with_rows.tolist():
        facts: dict[str, Any] = {"bytes": 0, "sha256": "", "index_sha256": zeros, "sums": None, "quarantined": ()}
        data = encode_rows(ShardRecord(number=number, rows=rows, **facts))
        (folder / f"shard-{number:06d}.rows").write_bytes(data)
        entries["rows_sha256"][number] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
    Manifest(
        source={"kind": "entries"},
        options={},
        seed=0,
        class_names=tuple(f"class {number}" for number in range(1000)),
        image_size=32,
        encoding="jpeg",
        codecs={},
        permutation_version=1,
        mean=(127.0, 127.0, 127.0),
        std=(64.0, 64.0, 64.0),
        pixels=1024 * samples,
        samples=samples,
        class_counts={"0": samples},
        sizes=Sizes(height=(32, 32), width=(32, 32), length=(3_000, 3_000), area=1024),
        shards=write_pages(folder, entries),
        files={},
    ).sealed().save(folder)
    if shards <= 4_096:  # whose sizes are looked at
        for number in range(shards):
            (folder / f"shard-{number:06d}.tar").touch()


def measure_opening(folder: Path, kind: str) -> dict[tuple[str, str], float]:
    """Opens a set and goes to a step: {(what, unit): value} of this process."""
    before, start = _resident("VmRSS"), time.perf_counter()
    dataset = open_dataset(folder)
    opened = time.perf_counter() - start
    found = {("open", "s"): opened, ("open, memory above imports", "MiB"): _resident("VmHWM") - before}
    if kind == "global":
        dataset.prepare_rows(scattered=True)
        taken = {("open, all rows", "s"): time.perf_counter() - start}
        return taken | {("open, all rows, memory above imports", "MiB"): _resident("VmHWM") - before}
    ids = ids_of_a_step(kind, dataset.manifest.shards.samples)
    rows = dataset.rows(ids)
    assert len(rows) == BATCH // RANKS
    found[f"open, rows of a first step by {kind}", "s"] = time.perf_counter() - start
    found[f"open, rows of a first step by {kind}, memory above imports", "MiB"] = _resident("VmHWM") - before
    return found


def _opened(folder: Path) -> Iterator[Record]:
    for samples in SIZES:
        counts = np.broadcast_to(np.int64(EACH), samples // EACH)
        needed = [ids_of_a_step(kind, counts) // EACH for kind in ("lanes", "windows")]
        place, held = folder / str(samples), samples <= 2_000_000  # all rows are read then
        write_set(place, samples, np.arange(len(counts)) if held else np.unique(np.concatenate(needed)))
        yield _record(f"{samples:,} images", "root", [(place / "manifest.json").stat().st_size / 1e3], "kB")
        pages = sum(file.stat().st_size for file in (place / "pages").iterdir())
        yield _record(f"{samples:,} images", "pages and their index", [pages / 1e6], "MB")
        yield from _rounds(place, samples, ("lanes", "windows"), 4)
        shutil.rmtree(place)


def _held(folder: Path) -> Iterator[Record]:
    place = folder / "global"
    write_set(place, GLOBAL, np.arange(GLOBAL // EACH))
    yield from _rounds(place, GLOBAL, ("global",), 3)
    yield from _gathered(place)
    shutil.rmtree(place)


def _rounds(place: Path, samples: int, kinds: tuple[str, ...], rounds: int) -> Iterator[Record]:
    runs: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for kind in kinds:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # a peak never falls
                for key, value in pool.submit(measure_opening, place, kind).result(timeout=600).items():
                    runs.setdefault(key, []).append(value)
    for (what, unit), values in runs.items():
        yield _record(f"{samples:,} images", what, values, unit)


def _gathered(place: Path) -> Iterator[Record]:
    """Rows of 512 samples of 64 shards, from what is held of few shards and from a table of all."""
    chosen = np.random.default_rng(0).integers(0, 64 * EACH, (200, 512))
    few, whole = open_dataset(place), open_dataset(place)
    _ = whole.table
    runs: dict[str, list[float]] = {"held of few shards": [], "table of all": []}
    for _ in range(6):
        for name, gather in (("held of few shards", few._cache.gather), ("table of all", whole.table.take)):
            start = time.perf_counter()
            for ids in chosen:
                gather(ids)
            runs[name].append(1e9 * (time.perf_counter() - start) / chosen.size)
    for name, values in runs.items():
        yield _record("rows of 512 samples", name, values[1:], "ns an image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A source of 32 px pictures whose reading costs nothing: a thousand of them, again and again."""

    pictures: NDArray[np.uint8] | Sequence[bytes]
    labels: NDArray[np.int32]

    kind = "repeated"
    class_names = ("a", "b")
    spool_bytes = 0
    fingerprint = "repeated"

    @property
    def description(self) -> Mapping[str, Json]:
        return {"kind": self.kind, "count": len(self)}

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> SourceImage:
        return SourceImage(str(index), self.pictures[index % len(self.pictures)])

    def spool(self, directory: Place, progress: Progress | None = None) -> "Repeated":  # noqa: ARG002
        return self


def _costs(folder: Path) -> Iterator[Record]:
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 32, 32, 3), np.uint8)
    kinds: dict[str, NDArray[np.uint8] | Sequence[bytes]] = {"raw": pixels}
    kinds["keep"] = [simplejpeg.encode_jpeg(picture, 90) for picture in pixels]
    runs: dict[tuple[str, int], list[float]] = {}
    for turn, samples, encoding in product(range(max(ROUNDS.values())), BUILT, kinds):
        if turn >= ROUNDS[samples]:
            continue
        place, labels, start = folder / "built", np.zeros(samples, np.int32), time.process_time()
        options = BuildOptions(size=32, samples_per_shard=EACH, encoding=encoding)
        build_shards(Repeated(pictures=kinds[encoding], labels=labels), place, options, workers=1)
        built = time.process_time() - start
        dataset = open_dataset(place)
        _epoch(dataset, 20)  # compiled, buffers made
        start = time.process_time()
        steps = _epoch(dataset)
        loaded = time.process_time() - start
        shutil.rmtree(place)
        if turn or samples != BUILT[0]:
            runs.setdefault((f"build, {dataset.encoding}", samples), []).append(1e6 * built / samples)
            runs.setdefault((f"load, {dataset.encoding}", samples), []).append(1e6 * loaded / (512 * steps))
    for (what, samples), values in sorted(runs.items()):
        yield _record(f"cost of an image, {what}", f"{samples:,} images", values, "µs of a processor")


def _epoch(dataset: Dataset, most: int | None = None) -> int:
    done = 0
    with PatchLoader(dataset, global_batch_size=512, device="cpu", threads=1, shuffle=8) as loader:
        for done, _ in enumerate(loader, 1):
            if done == most:
                break
    return done


def _resident(field: str) -> float:
    """Returns MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def _record(case: str, system: str, runs: list[float], unit: str) -> Record:
    return record(QUESTION, case, system, runs, unit=unit, settings=SET, versions=versions(["numpy"]))
