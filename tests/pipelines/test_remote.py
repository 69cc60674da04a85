"""Loaders of datasets at URLs: the batches of local ones, to the bit, whatever network, store and cache do."""

import itertools
import multiprocessing
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from selfie_data.cache.shard_cache import contents
from selfie_data.dataset import opened
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pages import Shard
from selfie_data.dataset.rows import ROW, ShardRecord
from selfie_data.errors import CacheError, CorruptSampleError, DatasetError
from selfie_data.storage import remote
from selfie_data.storage.place import Place, place_of, storage_of
from selfie_data.storage.protocol import StorageError
from tests.pipelines.conftest import _open_files, write_dataset
from tests.pipelines.streams import assert_equal_batches, assert_same_stream, ids_of, images, patches
from tests.servers.fault_proxy import Fault, FaultProxy

SAMPLES, SHARDS = 240, 24
TAR = 51_200  # bytes of each of the shards


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 raw images in 24 shards; read only."""
    return write_dataset(tmp_path_factory.mktemp("remote") / "shards", samples=SAMPLES, shards=SHARDS)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SELFIE_CACHE_BYTES", "1GB")
    return tmp_path / "cache"


@pytest.fixture
def url(local: Path, bucket: str, proxy: FaultProxy, cache: Path) -> str:
    """The same dataset in a bucket, before a cold cache."""
    upload(local, bucket)
    proxy.reset_counts()
    return bucket


def upload(local: Path, url: str) -> None:
    storage = storage_of(place_of(url))
    for path in local.rglob("*"):
        if path.is_file():
            storage.write(path.relative_to(local).as_posix(), path.read_bytes())


ORDERS: dict[str, dict[str, Any]] = {
    "lanes": {"shuffle": "lanes"},
    "blocks": {"shuffle": 3},
    "global": {"shuffle": "global"},
    "evaluation": {"evaluation": True},
}


@pytest.mark.parametrize("order", ORDERS)
def test_two_epochs_are_those_of_a_local_loader(local: Path, url: str, cache: Path, order: str) -> None:
    """Cold, then warm; the cache holds what it may, and nothing is left open."""
    for backend in ("cpu", "reference"):
        for make in (patches, images):
            with (
                make(local, backend=backend, **ORDERS[order]) as ours,
                make(url, backend=backend, **ORDERS[order]) as far,
            ):
                for _ in range(2):
                    assert_same_stream(far, ours)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("selfie-")]
    assert not [file for file in _open_files() if file.startswith(str(cache))]


@pytest.mark.parametrize("verify", ["first", "always", "never"])
def test_jpegs_and_every_level_of_verification(photo_shards: Path, bucket: str, cache: Path, verify: str) -> None:
    upload(photo_shards, bucket)
    options = {"batch": 8, "shuffle": "lanes", "backend": "cpu", "verify": verify}
    with patches(photo_shards, **options) as ours, patches(bucket, **options) as far:
        assert_same_stream(far, ours)


def test_a_web_server_does_as_well(local: Path, web: tuple[str, Path], cache: Path) -> None:
    url, root = web
    for path in local.rglob("*"):
        if path.is_file():
            target = root / path.relative_to(local)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    with patches(local, shuffle="lanes") as ours, patches(url) as far:
        assert_same_stream(far, ours)


def test_the_order_of_a_url_is_lanes_unless_said(local: Path, url: str) -> None:
    with patches(url) as far, patches(local) as near, patches(url, shuffle="global") as mixed:
        assert "16 lanes" in str(far.state_dict()["order"])
        assert near.state_dict()["order"] == mixed.state_dict()["order"] == "global"


def test_ranks_put_together_are_the_one_rank_and_fetch_the_set_once(local: Path, url: str, proxy: FaultProxy) -> None:
    """Two ranks of a node share its cache."""
    with ExitStack() as stack:
        whole = stack.enter_context(patches(local, shuffle="lanes"))
        ranks = [stack.enter_context(patches(url, rank=rank, world_size=2)) for rank in range(2)]
        for batch, *slices in zip(whole, *ranks, strict=True):
            assert torch.equal(batch.patches, torch.cat([part.patches for part in slices]))
    assert fetched(proxy) == [1] * SHARDS


def test_nodes_fetch_their_own_lanes(
    local: Path, url: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in range(4):
        monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / f"node-{rank}"))
        with patches(url, rank=rank, world_size=4, lanes=8, shuffle="lanes") as loader:
            assert len(list(loader)) == len(loader)
    assert len(fetched(proxy)) == SHARDS
    assert sum(fetched(proxy)) <= SHARDS + 3  # one at each border between nodes


def fetched(proxy: FaultProxy) -> list[int]:
    """Returns how often each shard came through the proxy, of those that did."""
    return [count for path, count in proxy.paths.items() if path.endswith(".tar")]


@pytest.mark.parametrize("order", ORDERS)
def test_a_loader_goes_on_anywhere_with_a_cold_cache(
    local: Path, url: str, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patches(url, **ORDERS[order]) as loader:
        list(islice(loader, 7))
        state = loader.state_dict()
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "another"))
    with patches(url, **ORDERS[order]) as far, patches(local, **ORDERS[order]) as ours:
        far.load_state_dict(state)
        ours.load_state_dict(state)
        assert_same_stream(far, ours)
        assert far.state_dict()["epoch"] == 1


def test_rows_of_a_large_set_come_with_its_shards(
    local: Path, url: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About once each, and but for the first windows before a batch asks for them."""
    monkeypatch.setattr(opened, "_ROW_BYTES", 21 * 10 * ROW.itemsize)
    read, readers = opened.read_rows, list[str]()

    def noting(path: Place, shard: Shard) -> ShardRecord:
        readers.append(threading.current_thread().name)
        return read(path, shard)

    with patches(local, shuffle=2) as ours, patches(url, shuffle=2) as far:
        monkeypatch.setattr(opened, "read_rows", noting)
        for batch, expected in zip(far, ours, strict=True):
            assert_equal_batches(batch, expected)
            time.sleep(0.02)
    fetches = sum(count for path, count in proxy.paths.items() if path.endswith(".rows"))
    assert SHARDS <= fetches <= SHARDS + 4 + 8  # the first windows, by both; of the next epoch
    assert sum(name.startswith("selfie-fetch") for name in readers) >= SHARDS // 2


def test_what_is_in_the_cache_is_not_fetched_again(
    local: Path, url: str, cache: Path, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold, a warm and a half-warm cache, of another process as far as the loader knows."""
    monkeypatch.setattr("pipelines.readahead.FETCHES", 1)
    for missing in (SHARDS, 0, SHARDS // 2):
        for path in sorted(path for path in cache.glob("*") if len(path.name) == 64)[:missing]:
            path.unlink()
        proxy.reset_counts()
        with patches(local, shuffle="lanes") as ours, patches(url) as far:
            assert_same_stream(far, ours)
        assert sum(fetched(proxy)) == missing


def test_a_first_batch_needs_a_window_and_not_the_set(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.readahead.FETCHES", 1)
    with patches(url, shuffle=2, prefetch=1) as loader:
        next(iter(loader))
        assert contents(cache).shards <= 3 * 2 + 3 * 2 + 1  # windows of steps under way, as many, what is on its way


def test_a_second_epoch_fetches_what_the_cache_does_not_hold(
    bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of a share of the set saves that share of the next epoch, and nothing is fetched twice."""
    monkeypatch.setattr("pipelines.readahead.FETCHES", 1)
    shards = 100
    upload(write_dataset(tmp_path / "many", samples=4 * shards, shards=shards), bucket)
    size = open_dataset(bucket).manifest.shards[0].bytes
    for share in (0.25, 0.5, 0.75):
        monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / f"cache-{share}"))
        monkeypatch.setenv("SELFIE_CACHE_BYTES", str(int(share * shards * size)))
        with patches(bucket, batch=4, shuffle=1, prefetch=1) as loader:
            list(loader)
            proxy.reset_counts()
            for _ in loader:
                time.sleep(0.002)  # a step that takes no time at all is over before its shard is
            assert abs(sum(fetched(proxy)) / shards - (1 - share)) <= 0.02
            assert max(fetched(proxy)) == 1


def test_a_limit_below_the_window_says_what_is_needed(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFIE_CACHE_BYTES", str(3 * TAR))
    expected = rf"may hold {3 * TAR:,} bytes, and at one moment {4 * TAR:,} are needed"
    with patches(url, batch=4, shuffle=4, prefetch=1) as loader, pytest.raises(CacheError, match=expected):
        next(iter(loader))
    assert contents(cache).shards == 0
    with pytest.raises(ValueError, match=r"shuffle='global' needs every shard .* use shuffle='lanes', or allow more"):
        patches(url, shuffle="global")


PASSING = {
    "refused three times": [Fault("refuse")] * 3,
    "503, 500, 429": [Fault("status", status=status) for status in (503, 500, 429)],
    "reset in the body": [Fault("reset", after=1000), Fault("reset", after=5)],
    "closed in the body": [Fault("close", after=1000)],
    "stalled in the body": [Fault("stall", after=1000)],
    "slow but going on": [Fault("slow", after=10_000)],
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits that a test can wait for; the order of them is that of the real ones."""
    limits = {"connect": 1.0, "silence": 1.0, "read": 5.0, "write": 5.0, "retry": 5.0}
    monkeypatch.setattr(remote, "_LIMITS", {name: timedelta(seconds=value) for name, value in limits.items()})
    monkeypatch.setattr(remote, "_RETRIES", 5)
    remote._new_store.cache_clear()
    yield
    remote._new_store.cache_clear()


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
@pytest.mark.usefixtures("impatient")
def test_an_epoch_survives_what_passes(local: Path, url: str, proxy: FaultProxy, faults: list[Fault]) -> None:
    with patches(local, shuffle=4, backend="cpu") as ours, patches(url, shuffle=4, backend="cpu") as far:
        proxy.faults = [fault._replace(within=".tar") for fault in faults]
        assert_same_stream(far, ours)
    assert len(proxy.met) == len(faults)


@pytest.mark.usefixtures("impatient")
def test_credentials_that_expire_in_mid_epoch_are_one_line_and_the_epoch_goes_on_later(
    local: Path, url: str, proxy: FaultProxy
) -> None:
    with patches(local, shuffle=2, backend="cpu") as ours, patches(url, shuffle=2, backend="cpu") as far:
        batches, reference = iter(far), iter(ours)
        assert_equal_batches(next(batches), next(reference))
        proxy.faults = [Fault("status", status=403, within=".tar")] * 1000
        with pytest.raises(StorageError, match=r"access is refused .*: the credentials in the environment"):
            list(batches)
        state = far.state_dict()
        proxy.faults = []  # renewed
        far.load_state_dict(state)
        ours.load_state_dict(state)
        assert_same_stream(far, ours)


def test_a_store_that_is_gone_is_one_line_in_bounded_time(url: str, proxy: FaultProxy, impatient: None) -> None:
    with patches(url, shuffle=1, backend="cpu") as loader:
        batches = iter(loader)
        next(batches)
        proxy.faults = [Fault("refuse")] * 100_000
        with pytest.raises(StorageError, match=r"cannot be read .* repeat the command"):
            list(batches)


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "right size, wrong bytes": (lambda data: data[:-2000] + b"x" * 2000, "changed, SHA-256 is .*; restore the shard"),
    "truncated": (lambda data: data[:-512], "truncated"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_changed_since_the_dataset_was_opened_is_told(url: str, cache: Path, change: str) -> None:
    alter, expected = CHANGES[change]
    dataset, storage = open_dataset(url), storage_of(place_of(url))
    name = dataset.manifest.shards[5].name
    whole = storage.read(name)
    storage.write(name, alter(whole))
    with patches(dataset, backend="cpu") as loader:
        with pytest.raises((DatasetError, StorageError), match=f"{name}: {expected}"):
            list(loader)
        storage.write(name, whole)
    with patches(dataset, backend="cpu") as loader:
        assert len(list(loader)) == len(loader)
    assert contents(cache).arriving == 0


def test_an_object_that_changes_between_its_parts_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", 10_000)
    part, storage, numbers = remote.ObjectStorage._part, storage_of(place_of(url)), itertools.count(1)

    def changing(self: remote.ObjectStorage, name: str, start: int, *given: object) -> object:
        if name.endswith(".tar") and start == 20_000:
            storage.write(name, bytes([next(numbers)]) * TAR)
        return part(self, name, start, *given)  # type: ignore[arg-type]

    dataset = open_dataset(url)
    monkeypatch.setattr(remote.ObjectStorage, "_part", changing)
    with patches(dataset) as loader, pytest.raises(StorageError, match="changed while it was read"):
        list(loader)


def test_a_missing_shard_and_a_missing_bucket_are_told(url: str) -> None:
    dataset = open_dataset(url)
    storage_of(place_of(url)).delete([dataset.manifest.shards[3].name])
    with patches(dataset) as loader, pytest.raises(DatasetError, match="missing; restore the shard"):
        list(loader)
    with pytest.raises((DatasetError, StorageError), match="there is no such bucket; make it, or mend the URL"):
        patches("s3://no-such-bucket/x")


def test_a_damaged_file_of_the_cache_is_told_as_a_damaged_shard_is(url: str, cache: Path) -> None:
    with patches(url) as loader:
        list(loader)
    for path in cache.iterdir():
        if len(path.name) == 64:
            path.write_bytes(bytes(path.stat().st_size))
    with patches(url) as loader, pytest.raises(CorruptSampleError, match=r"CRC32C is .*: selfie-data cache clear"):
        list(loader)


def test_shards_are_closed_when_no_batch_needs_them(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with patches(url, shuffle=2, backend="cpu") as loader:
        most, shard = 0, re.compile(r"/cache/[0-9a-f]{64}( \(deleted\))?$")
        for _ in loader:
            most = max(most, sum(shard.search(file) is not None for file in _open_files()))
    assert 2 <= most <= 2 * 2 + 2 + 8  # two windows, and one shard more at their border; shards being fetched


def _iterate(loader: PatchLoader | ImageLoader, answer: Connection) -> None:
    try:
        answer.send(ids_of(loader))
    except CacheError as error:
        answer.send(str(error))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_make_its_own_loader(url: str) -> None:
    context = multiprocessing.get_context("fork")
    with patches(url) as loader:
        next(iter(loader))
        ours, theirs = context.Pipe()
        process = context.Process(target=_iterate, args=(loader, theirs))
        process.start()
        assert ours.poll(30)
        assert "make the loader here" in ours.recv()
        process.join(10)
        assert process.exitcode == 0
