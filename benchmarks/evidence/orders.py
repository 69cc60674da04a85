"""How well do the orders mix, what does a cluster fetch under each, and what is a node's cache worth? By simulation.

    python -m benchmarks orders

Nothing is read: the orders say which sample, hence which shard, stands where. The set has 2,048 shards of 500 images of
1,000 classes, a class or two in each ("by class") or a fair draw ("shuffled"); batches are of 4,096.
"""

import heapq
import itertools
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from math import lgamma
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.record import RESULTS, Record, record, save, versions
from benchmarks.harness.table import summary
from pipelines.sampling.lanes import LaneShuffle
from pipelines.sampling.order import BlockShuffle, StepOrder, global_shuffle
from pipelines.sampling.partition import Partition

SHARDS, EACH, CLASSES, BATCH, LANES = 2_048, 500, 1_000, 4_096, 64
SAMPLES = SHARDS * EACH
WINDOW = 128  # shards of the block shuffle: as many as 64 lanes hold open
NODES = (1, 2, 3, 4, 8, 12, 32)
SHARES = (0.25, 0.5, 0.75)
SEEDS = 5
RANKS, RANKS_A_NODE = 1_024, 8
SET = {"shards": SHARDS, "samples_per_shard": EACH, "classes": CLASSES, "global_batch_size": BATCH, "lanes": LANES}
Ids = NDArray[np.int64]


@click.command("orders")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "orders.jsonl", help="Records.")
def command(output: Path) -> None:
    """How well orders mix, what they make a cluster fetch, and what a cache is worth; by simulation."""
    records = [*_mixing(), *_fetched(), *_cached(), *_scales()]
    save(records, output)
    click.echo(summary(records))


def orders(seed: int, epoch: int) -> dict[str, Ids]:
    """Returns the samples of an epoch's steps under each order: [steps * B] int64."""
    counts, used = np.full(SHARDS, EACH), np.arange(SAMPLES // BATCH * BATCH)
    lanes = LaneShuffle(shard_samples=counts, global_batch_size=BATCH, lanes=LANES, seed=seed)
    block = BlockShuffle(shard_samples=counts, shard_window=WINDOW, seed=seed, epoch=epoch)
    return {
        f"{LANES} lanes": lanes.order(epoch)(used),
        f"blocks of {WINDOW} shards": block(used),
        "global": global_shuffle(SAMPLES, seed, epoch)(used),
    }


def _mixing() -> Iterator[Record]:
    measured: dict[tuple[str, str, str], list[float]] = {}
    classes = {"by class": np.arange(SAMPLES) * CLASSES // SAMPLES}
    classes["shuffled"] = np.random.default_rng(0).permutation(classes["by class"])
    for seed in range(SEEDS):
        first, second = orders(seed, 0), orders(seed, 1)
        for name, samples in first.items():
            values = {
                ("shards in a batch", "shards"): _shards_in_a_batch(samples),
                ("two of one batch, in one batch again next epoch", "per million"): 1e6
                * _met_again(samples, second[name]),
                ("distance of a sample's places in two epochs (chance 0.333)", "epochs"): _moved(samples, second[name]),
            }
            for kind, labels in classes.items():
                values[f"classes of a batch, shards {kind}", "total variation"] = _distance(labels[samples])
            for what, value in values.items():
                measured.setdefault((*what, name), []).append(value)
    for kind in classes:
        expected = hypergeometric_distance(SAMPLES, CLASSES, BATCH)
        measured[f"classes of a batch, shards {kind}", "total variation", "floor: fair draw, expected"] = [expected]
    for (case, unit, name), runs in measured.items():
        yield _record(case, name, runs, unit)


def _fetched() -> Iterator[Record]:
    measured: dict[tuple[int, str], list[float]] = {}
    for seed in range(SEEDS):
        for name, samples in orders(seed, 0).items():
            shards = samples.reshape(-1, BATCH) // EACH
            for nodes in NODES:
                bounds = [node * BATCH // nodes for node in range(nodes + 1)]
                parts = (shards[:, low:high] for low, high in itertools.pairwise(bounds))
                fetched = sum(len(np.unique(part)) for part in parts) / SHARDS
                measured.setdefault((nodes, name), []).append(fetched)
    for (nodes, name), runs in measured.items():
        yield _record(f"fetched in a cold epoch, nodes: {nodes}", name, runs, "times the set")


def _cached() -> Iterator[Record]:
    for share in SHARES:
        found: dict[str, list[float]] = {"farthest next use": [], "least recently used": []}
        for seed in range(SEEDS):
            shuffle = LaneShuffle(shard_samples=np.full(SHARDS, EACH), global_batch_size=BATCH, lanes=LANES, seed=seed)
            uses = shard_uses(shuffle, node=3, nodes=8, epochs=5)
            for name, hits in zip(found, cache_hits(uses, share), strict=True):
                found[name].append(hits)
        for name, runs in found.items():
            yield _record(f"found in a cache of {share:.0%} of a node's share, epochs 2 to 5", name, runs, "share")


def _scales() -> Iterator[Record]:
    for samples in (10**6, 10**8, 10**10):
        runs: dict[tuple[str, str], list[float]] = {}
        for seed in range(3):
            # A process each: the peak of a process never falls.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                for key, value in pool.submit(_scale, samples, seed).result(timeout=600).items():
                    runs.setdefault(key, []).append(value)
        for (name, unit), values in runs.items():
            settings = {"ranks": RANKS, "lanes": RANKS, "global_batch_size": 65_536, "samples_per_shard": 3_125}
            yield _record(f"{samples:,} images, {RANKS:,} ranks", name, values, unit, settings=settings)


def _scale(samples: int, seed: int) -> dict[tuple[str, str], float]:
    """One rank opens the order, goes into the middle of an epoch, and simulates its node's cache over four epochs."""
    before = _resident("VmRSS")
    start = time.perf_counter()
    counts = np.broadcast_to(np.int64(3_125), samples // 3_125)  # no memory of its own
    shuffle = LaneShuffle(shard_samples=counts, global_batch_size=65_536, lanes=RANKS, seed=seed)
    partition = Partition(samples=samples, global_batch_size=65_536, rank=RANKS // 2, world_size=RANKS)
    StepOrder(shuffle.order(7), partition).step(partition.steps // 2)
    opened = time.perf_counter() - start
    uses = shard_uses(shuffle, node=RANKS // RANKS_A_NODE // 2, nodes=RANKS // RANKS_A_NODE, epochs=4)
    farthest, recent = cache_hits(uses, 0.5)
    simulated = time.perf_counter() - start - opened
    peak = _resident("VmHWM")
    return {
        ("rank: open, ids of a step", "s"): opened,
        ("node: 4 epochs, its cache", "s"): simulated,
        ("peak of the process", "MiB"): peak,
        ("of it order and cache", "MiB"): peak - before,
        ("farthest next use", "found in a cache of 50 %"): farthest,
        ("least recently used", "found in a cache of 50 %"): recent,
    }


def _resident(field: str) -> float:
    """Returns MiB of this process; `getrusage` would give the peak of the parent where that is higher."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def shard_uses(shuffle: LaneShuffle, *, node: int, nodes: int, epochs: int) -> list[list[int]]:
    """Returns the shards that a node reads, epoch by epoch, in the order in which they are needed first."""
    return [[use.shard for use in shuffle.reads(node, nodes, epoch)] for epoch in range(epochs)]


def cache_hits(uses: list[list[int]], share: float) -> tuple[float, float]:
    """Returns what is found, after the first epoch, by farthest next use and by least recent use."""
    room = int(share * len(set(uses[0])))
    row = [shard for epoch in uses for shard in epoch]
    cold = len(uses[0])
    return _mean(list(_farthest(row, room))[cold:]), _mean(list(_recent(row, room))[cold:])


def _farthest(row: list[int], room: int) -> Iterator[bool]:
    """Whether each use is found where the shard that is needed last goes first, be it the one just read."""
    following, seen = [0] * len(row), dict[int, int]()
    for at in range(len(row) - 1, -1, -1):
        following[at] = seen.get(row[at], len(row))
        seen[row[at]] = at
    kept, queue = dict[int, int](), list[tuple[int, int]]()
    for at, shard in enumerate(row):
        yield shard in kept
        kept[shard] = following[at]
        heapq.heappush(queue, (-following[at], shard))
        while len(kept) > room:
            use, farthest = heapq.heappop(queue)
            if kept.get(farthest) == -use:  # else an entry of before its last use
                del kept[farthest]


def _recent(row: list[int], room: int) -> Iterator[bool]:
    kept = OrderedDict[int, None]()
    for shard in row:
        yield shard in kept
        kept[shard] = None
        kept.move_to_end(shard)
        if len(kept) > room:
            kept.popitem(last=False)


def hypergeometric_distance(samples: int, classes: int, batch: int) -> float:
    """Returns the total variation to expect of a fair draw without replacement from equal classes."""
    of_class = samples // classes
    drawn = range(min(of_class, batch) + 1)

    def ways(among: int, taken: int) -> float:
        return lgamma(among + 1) - lgamma(taken + 1) - lgamma(among - taken + 1)

    rest = samples - of_class
    chances = np.exp([ways(of_class, k) + ways(rest, batch - k) - ways(samples, batch) for k in drawn])
    return float(classes / 2 * (chances * np.abs(np.array(drawn) / batch - of_class / samples)).sum())


def _distance(labels: NDArray[np.int64]) -> float:
    rows = labels.reshape(-1, BATCH)
    shares = (np.bincount(row, minlength=CLASSES) / BATCH for row in rows)
    return _mean(float(np.abs(share - 1 / CLASSES).sum() / 2) for share in shares)


def _shards_in_a_batch(samples: Ids) -> float:
    return _mean(float(len(np.unique(row))) for row in samples.reshape(-1, BATCH) // EACH)


def _met_again(first: Ids, second: Ids) -> float:
    """Of pairs that share a batch, and are not left out afterwards, those that share one in the next epoch too."""
    batch = np.full(SAMPLES, -1)
    batch[second] = np.arange(len(second)) // BATCH
    together, pairs = 0, 0
    for row in batch[first].reshape(-1, BATCH):
        counts = np.bincount(row[row >= 0])
        together += int((counts * (counts - 1)).sum())
        pairs += int(counts.sum() * (counts.sum() - 1))
    return together / pairs


def _moved(first: Ids, second: Ids) -> float:
    place = np.full(SAMPLES, -1)
    place[second] = np.arange(len(second))
    there = place[first] >= 0
    return float(np.abs(place[first] - np.arange(len(first)))[there].mean() / len(first))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _record(case: str, name: str, runs: list[float], unit: str, *, settings: dict[str, int] = SET) -> Record:
    return record("orders", case, name, runs, unit=unit, settings=settings, versions=versions(["numpy"]))
