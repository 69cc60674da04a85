"""The cache of a node: whole shards or none, whoever fetches them, ends, is killed, or runs out of room."""

import errno
import math
import multiprocessing
import os
import random
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from selfie_data.cache import shard_cache as module
from selfie_data.cache.home import CacheHome
from selfie_data.cache.plans import Plan, PlannedUse
from selfie_data.cache.shard_cache import CachedShard, ShardCache, clear, contents
from selfie_data.errors import CacheError, DatasetError
from selfie_data.storage.local import LocalStorage
from tests.selfie_data.cache.reading import PIECE, SlowStorage, is_whole, read_all, read_for_ever, write_shards

SIZE = 4 * PIECE
KILLS = 12


@pytest.fixture
def shards(tmp_path: Path) -> list[CachedShard]:
    return write_shards(tmp_path / "origin", 6)


@pytest.fixture
def storage(tmp_path: Path) -> SlowStorage:
    return SlowStorage(tmp_path / "origin", log=tmp_path / "log")


@pytest.fixture
def home(tmp_path: Path) -> CacheHome:
    (tmp_path / "cache").mkdir()
    return CacheHome(tmp_path / "cache", 3 * SIZE)


def opened(cache: ShardCache, shard: CachedShard, *, distance: int = 0) -> int:
    descriptor = cache.open(shard, distance=distance)
    assert descriptor is not None
    return descriptor


def held(home: CacheHome, shards: list[CachedShard]) -> list[int]:
    return [number for number, shard in enumerate(shards) if (home.folder / shard.sha256).exists()]


def plan_of(home: CacheHome, shards: list[CachedShard], order: list[int], step: int = 0) -> Plan:
    plan = Plan(home.folder)
    plan.replace(step, [PlannedUse(shards[number].sha256, step, step) for step, number in enumerate(order)])
    return plan


def test_a_shard_is_fetched_once_and_its_bytes_are_those_of_the_origin(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    cache = ShardCache(storage, home)
    for _ in range(3):
        assert is_whole(opened(cache, shards[0]), shards[0])
    assert storage.log is not None
    assert storage.log.read_text() == "shard-0.tar\n"
    assert contents(home.folder) == (1, SIZE, 0, 0)


def test_what_is_needed_last_goes_first_and_a_descriptor_outlives_it(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    cache, plan = ShardCache(storage, home), plan_of(home, shards, [0, 1, 2, 3, 2, 0, 1])
    descriptors = [opened(cache, shards[number]) for number in (0, 1, 2)]
    plan.advance(3)
    assert is_whole(opened(cache, shards[3]), shards[3])
    assert held(home, shards) == [0, 2, 3]  # 1 is needed last
    assert all(is_whole(descriptor, shards[number]) for number, descriptor in enumerate(descriptors))
    plan.close()
    assert is_whole(opened(cache, shards[4]), shards[4])  # nobody plans anything now: the longest unused goes
    assert held(home, shards) == [2, 3, 4]


def test_fetching_ahead_drops_nothing_that_is_needed_as_soon(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    cache, plan = ShardCache(storage, home), plan_of(home, shards, [0, 1, 2, 3, 4])
    for number in (0, 1, 2):
        os.close(opened(cache, shards[number]))
    assert cache.open(shards[3], distance=3) is None
    assert held(home, shards) == [0, 1, 2]
    plan.advance(1)
    assert is_whole(opened(cache, shards[3], distance=2), shards[3])
    assert held(home, shards) == [1, 2, 3]
    plan.close()


def test_what_is_there_is_looked_at_only_now_and_then(
    tmp_path: Path, storage: SlowStorage, home: CacheHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as there is room, and by a full cache once for as many shards as are the 128th part of it."""
    shards = write_shards(tmp_path / "small", 320, size=100)
    looks, limit = list[str](), 256 * 100
    seen = module._Room.__init__

    def noting(self: module._Room, *given: object, but: str) -> None:
        looks.append(but)
        seen(self, *given, but=but)  # type: ignore[arg-type]

    monkeypatch.setattr(module._Room, "__init__", noting)
    cache = ShardCache(LocalStorage(tmp_path / "small"), CacheHome(home.folder, limit))
    for number, shard in enumerate(shards):
        assert is_whole(opened(cache, shard), shard)
        assert number >= 256 or len(looks) == 1
    assert len(looks) == 1 + math.ceil((320 - 256) / 3)
    assert 253 <= contents(home.folder).shards <= 256


def test_plans_of_several_processes_are_respected_and_those_of_dead_ones_removed(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    cache, ours, other = ShardCache(storage, home), plan_of(home, shards, [0, 1]), plan_of(home, shards, [2, 2])
    for number in (0, 1, 2):
        os.close(opened(cache, shards[number]))
    os.close(opened(cache, shards[3]))
    assert held(home, shards) == [0, 2, 3]
    os.close(other._descriptor)  # as when its process ends, however
    os.close(opened(cache, shards[4]))
    assert held(home, shards) == [0, 3, 4]
    assert contents(home.folder).readers == 1
    ours.close()


def test_a_limit_below_what_is_needed_at_once_says_what_would_do(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    cache, plan = ShardCache(storage, home), Plan(home.folder)
    plan.replace(0, [PlannedUse(shard.sha256, 0, 9) for shard in shards])
    for number in (0, 1, 2):
        os.close(opened(cache, shards[number]))
    with pytest.raises(CacheError, match=rf"may hold {3 * SIZE:,} bytes, and at one moment {4 * SIZE:,} are needed"):
        cache.open(shards[3])
    assert held(home, shards) == [0, 1, 2]
    assert contents(home.folder).arriving == 0
    plan.close()


@pytest.mark.parametrize("change", ["bytes", "shorter", "missing"])
def test_what_is_not_the_shard_of_the_manifest_leaves_nothing(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard], change: str
) -> None:
    path, cache = storage.root / shards[1].name, ShardCache(storage, home)
    whole = path.read_bytes()
    path.write_bytes({"bytes": whole[:-1] + bytes([whole[-1] ^ 1]), "shorter": whole[:-1], "missing": b""}[change])
    if change == "missing":
        path.unlink()
    expected = "missing; restore" if change == "missing" else r"changed, SHA-256 is .{12}…, the manifest says .{12}…"
    with pytest.raises(DatasetError, match=expected):
        cache.open(shards[1])
    assert os.listdir(home.folder) == ["room"] or os.listdir(home.folder) == []
    path.write_bytes(whole)
    assert is_whole(opened(cache, shards[1]), shards[1])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1000k", "none", folder], capture_output=True)
    if made.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_what_is_not_needed_goes_and_then_one_line_is_said(
    storage: SlowStorage, small_disk: Path, shards: list[CachedShard]
) -> None:
    home = CacheHome(small_disk, 1 << 40)
    cache, plan = ShardCache(storage, home), plan_of(home, shards, [0])
    for shard in shards:  # five are on the disk at a time
        assert is_whole(opened(cache, shard), shard)
    assert len(held(home, shards)) < len(shards)
    plan.replace(0, [PlannedUse(shard.sha256, 0, 9) for shard in shards])
    missing = next(shard for shard in shards if not (small_disk / shard.sha256).exists())
    with pytest.raises(
        CacheError, match=r"no space left on the disk of the cache .* make room, or name another folder"
    ):
        cache.open(missing)
    assert contents(home.folder).arriving == 0
    plan.close()


def test_a_disk_that_fails_while_a_shard_is_written_is_one_line(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "write_all", failing)
    with pytest.raises(CacheError, match=r"the cache cannot be written .No space left on device.; make room"):
        ShardCache(storage, home).open(shards[0])
    assert contents(home.folder) == (0, 0, 0, 0)


def test_a_limit_on_the_size_of_files_is_one_line(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE, before[1]))
    try:
        with pytest.raises(CacheError, match=r"the cache cannot be written .File too large."):
            ShardCache(storage, home).open(shards[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_process_that_fetches_for_ever_is_not_waited_for(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STUCK_S", 0.2)
    cache = ShardCache(storage, home)
    with module._own(home.folder / f"{shards[0].sha256}.part", give_up=lambda: None), _stuck("fetching this for"):
        cache.open(shards[0])
    monkeypatch.setattr(module, "_ROOM_S", 0.2)
    with module._own(home.folder / "room", give_up=lambda: None), _stuck("making room in it for"):
        cache.open(shards[0])


def _stuck(doing: str) -> AbstractContextManager[object]:
    return pytest.raises(CacheError, match=f"another process has been {doing}")


def test_a_closed_cache_ends_what_is_under_way(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    cache = ShardCache(SlowStorage(storage.root, pause_s=0.05), home)
    threading.Timer(0.08, cache.close).start()
    with pytest.raises(CacheError, match="the loader was closed while it was fetched"):
        cache.open(shards[0])
    assert contents(home.folder).arriving == 0


def test_a_closed_cache_does_not_wait_for_room(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    """Another process fetches what would have to go."""
    slow, small = SlowStorage(storage.root, pause_s=0.5), CacheHome(home.folder, SIZE)
    other, cache = ShardCache(slow, small), ShardCache(storage, small)
    fetching = threading.Thread(target=lambda: os.close(opened(other, shards[0])))
    fetching.start()
    while not contents(home.folder).arriving or not (home.folder / f"{shards[0].sha256}.part").stat().st_size:
        time.sleep(0.01)
    threading.Timer(0.1, cache.close).start()
    with pytest.raises(CacheError, match=r"the loader was closed while room was made for shard-1"):
        cache.open(shards[1])
    fetching.join()


def test_processes_and_threads_fetch_a_shard_once_between_them(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    slow = SlowStorage(storage.root, pause_s=0.05, log=storage.log)
    context = multiprocessing.get_context("spawn")
    readers = [context.Process(target=read_all, args=(slow, home, shards[:3])) for _ in range(2)]
    threads = [threading.Thread(target=read_all, args=(slow, home, shards[:3])) for _ in range(2)]
    for each in (*readers, *threads):
        each.start()
    for each in (*readers, *threads):
        each.join(30)
    assert [reader.exitcode for reader in readers] == [0, 0]
    assert storage.log is not None
    assert sorted(storage.log.read_text().split()) == ["shard-0.tar", "shard-1.tar", "shard-2.tar"]


def test_kills_at_any_moment_leave_neither_damage_nor_leftovers(tmp_path: Path) -> None:
    """Four processes fetch, drop and read; twelve times one is killed, and another takes its place."""
    shards, limit = write_shards(tmp_path / "origin", 16), 10 * SIZE
    (tmp_path / "cache").mkdir()
    home, slow = CacheHome(tmp_path / "cache", limit), SlowStorage(tmp_path / "origin", pause_s=0.002)
    context, draw = multiprocessing.get_context("spawn"), random.Random()

    def start(number: int) -> tuple[multiprocessing.process.BaseProcess, Path]:
        ready = tmp_path / f"{number}.ready"
        process = context.Process(target=read_for_ever, args=(slow, home, shards, number, ready))
        process.start()
        return process, ready

    running = [start(number) for number in range(4)]
    for kill in range(KILLS):
        victim, ready = running.pop(0)
        _wait_for(ready)
        time.sleep(draw.uniform(0, 0.05))
        assert victim.is_alive()
        victim.kill()
        victim.join()
        running.append(start(4 + kill))
    for process, ready in running:
        _wait_for(ready)
        assert process.is_alive()
        process.kill()
        process.join()
    left = {path.name for path in home.folder.iterdir()}
    assert any(name.endswith(".plan") for name in left)
    ShardCache(slow, home)  # the next open
    names = {path.name for path in home.folder.iterdir()} - {"room"}
    digests = {shard.sha256: shard for shard in shards}
    assert names <= digests.keys()
    assert sum(digests[name].bytes for name in names) <= limit
    for name in names:
        assert is_whole(os.open(home.folder / name, os.O_RDONLY), digests[name])
    assert list(tmp_path.glob("*.bad")) == []


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_clearing_removes_shards_and_readers_read_on(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    descriptor = opened(ShardCache(storage, home), shards[0])
    assert clear(home.folder) == (1, SIZE, 0, 0)
    assert contents(home.folder) == (0, 0, 0, 0)
    assert is_whole(descriptor, shards[0])


def test_files_that_are_not_the_caches_are_left_alone(
    storage: SlowStorage, home: CacheHome, shards: list[CachedShard]
) -> None:
    theirs = [home.folder / name for name in ("notes", "film.mp4.part", "network.plan", "0" * 63)]
    for path in theirs:
        path.write_text("not ours")
    (home.folder / ("0" * 64 + ".part")).write_text("a leftover")
    ShardCache(storage, home)
    clear(home.folder)
    assert sorted(home.folder.iterdir()) == sorted(theirs)
