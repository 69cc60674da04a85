"""Shards in a folder, and processes that read them through a cache, as tests of the cache need them."""

import hashlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfie_data.cache.home import CacheHome
from selfie_data.cache.plans import Plan, PlannedUse
from selfie_data.cache.shard_cache import CachedShard, ShardCache
from selfie_data.storage.local import LocalStorage

PIECE = 50_000


@dataclass(frozen=True, slots=True)
class SlowStorage(LocalStorage):
    """A folder that gives small pieces with pauses between, and notes in `log` what it was asked for."""

    pause_s: float = 0.0
    log: Path | None = None

    def pieces(self, name: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if self.log is not None:
            with self.log.open("ab", buffering=0) as log:
                log.write(f"{name}\n".encode())
        data = self.read(name, start=start, length=length)
        for at in range(0, len(data), PIECE):
            yield data[at : at + PIECE]
            time.sleep(self.pause_s)

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        return (self.root / name).read_bytes()[start:][:length]


def write_shards(folder: Path, count: int, size: int = 4 * PIECE) -> list[CachedShard]:
    folder.mkdir()
    shards = []
    for number in range(count):
        data = random.Random(number).randbytes(size)
        (folder / f"shard-{number}.tar").write_bytes(data)
        shards.append(CachedShard(f"shard-{number}.tar", size, hashlib.sha256(data).hexdigest()))
    return shards


def is_whole(descriptor: int, shard: CachedShard) -> bool:
    """Says whether a descriptor gives the shard's bytes, and closes it."""
    try:
        return hashlib.sha256(os.pread(descriptor, shard.bytes + 1, 0)).hexdigest() == shard.sha256
    finally:
        os.close(descriptor)


def read_for_ever(storage: SlowStorage, home: CacheHome, shards: list[CachedShard], seed: int, ready: Path) -> None:
    """Reads shards at random, planned ones and others, until it is killed; a wrong byte is left as a file."""
    draw = random.Random(seed)
    cache, plan = ShardCache(storage, home), Plan(home.folder)
    while True:
        ready.write_bytes(b"")
        order = draw.sample(shards, len(shards))
        plan.replace(0, [PlannedUse(shard.sha256, step, step) for step, shard in enumerate(order)])
        for step, shard in enumerate(order):
            plan.advance(step)
            descriptor = cache.open(shard, distance=draw.randrange(3))
            if descriptor is not None and not is_whole(descriptor, shard):
                ready.with_suffix(".bad").write_text(shard.name)


def read_all(storage: SlowStorage, home: CacheHome, shards: list[CachedShard]) -> None:
    cache = ShardCache(storage, home)
    for shard in shards:
        descriptor = cache.open(shard)
        assert descriptor is not None
        assert is_whole(descriptor, shard)
