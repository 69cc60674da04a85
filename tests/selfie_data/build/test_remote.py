"""Builds into a bucket: the bytes of a local build, nothing partial, going on, two at once, faults on the way."""

import contextlib
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from selfie_data.build.build_shards import build_shards
from selfie_data.build.shard_task import scratch_folder
from selfie_data.dataset.names import BUILD
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError
from selfie_data.storage import remote
from selfie_data.storage.place import place_of, storage_of
from selfie_data.storage.protocol import StorageError
from tests.selfie_data.build.test_build_shards import SMALL, contents, pictures
from tests.selfie_data.build.test_workspace import Interrupt
from tests.servers import seaweed
from tests.servers.fault_proxy import Fault, FaultProxy


@pytest.fixture(autouse=True)
def _own_folder_for_temporaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """The files of a local build."""
    build_shards(pictures(48), tmp_path / "local", SMALL, workers=1)
    return contents(tmp_path / "local")


def objects(url: str) -> dict[str, bytes]:
    storage = storage_of(place_of(url))
    return {found.name: storage.read(found.name) for found in storage.list()}


BUILD_IT = """
import sys
from selfie_data.build.build_shards import build_shards
from tests.selfie_data.build.test_build_shards import SMALL, pictures
if __name__ == "__main__":
    build_shards(pictures(48), sys.argv[1], SMALL, workers=int(sys.argv[2]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_are_those_of_a_local_build(bucket: str, expected: dict[str, bytes], workers: int) -> None:
    # A process of its own: workers have the environment of the server that they are forked from, and here one may run.
    subprocess.run([sys.executable, "-c", BUILD_IT, bucket, str(workers)], check=True, timeout=120)
    assert objects(bucket) == expected
    assert verify_dataset(place_of(bucket), decode=True) == []
    assert not scratch_folder(place_of(bucket)).exists()


def test_a_build_that_was_interrupted_goes_on(bucket: str, expected: dict[str, bytes], proxy: FaultProxy) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_shards(pictures(48), bucket, SMALL, workers=1, progress=Interrupt(after=20))
    there = objects(bucket)
    assert f"{BUILD}/identity.json" in there
    assert "manifest.json" not in there
    assert all(there[name] == expected[name] for name in there if name.startswith("shard-"))
    proxy.reset_counts()
    build_shards(pictures(48), bucket, SMALL, workers=1)
    assert objects(bucket) == expected
    again = 2 * 3 + 1 + 15 + 1  # three shards at most and their indexes, records; plan; table; manifest
    assert proxy.requests["PUT"] <= again + 3


def test_a_killed_build_leaves_nothing_partial_and_no_credentials_and_goes_on(
    bucket: str, expected: dict[str, bytes]
) -> None:
    storage = storage_of(place_of(bucket))
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", BUILD_IT, bucket, "1"], stderr=subprocess.DEVNULL)
        before = len(objects(bucket))
        deadline = time.monotonic() + 60
        while process.poll() is None and len(list(storage.list())) <= before + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        there = objects(bucket)
        assert all(there[name] == expected[name] for name in there if name in expected)
        assert seaweed.SECRET_KEY.encode() not in b"".join(there.values())
        assert seaweed.ACCESS_KEY.encode() not in b"".join(there.values())
    build_shards(pictures(48), bucket, SMALL, workers=1)
    assert objects(bucket) == expected


def test_a_finished_build_is_found_finished(bucket: str, expected: dict[str, bytes], proxy: FaultProxy) -> None:
    for _ in range(2):
        build_shards(pictures(48), bucket, SMALL, workers=1)
    proxy.reset_counts()
    build_shards(pictures(48), bucket, SMALL, workers=1)
    assert proxy.requests["PUT"] == 0
    assert objects(bucket) == expected


def test_another_build_is_refused(bucket: str) -> None:
    storage = storage_of(place_of(bucket))
    storage.write("somebody's", b"1")
    with pytest.raises(BuildError, match=r"not empty \(it holds somebody's\) and no build of ours"):
        build_shards(pictures(48), bucket, SMALL, workers=1)
    storage.delete(["somebody's"])
    with pytest.raises(KeyboardInterrupt):
        build_shards(pictures(48), bucket, SMALL, workers=1, progress=Interrupt(after=20))
    with pytest.raises(BuildError, match=r"source\.count = 48, asked for is 47; give the same command as then"):
        build_shards(pictures(47), bucket, SMALL, workers=1)


def test_a_build_whose_record_or_shard_is_lost_builds_it_again(bucket: str, expected: dict[str, bytes]) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_shards(pictures(48), bucket, SMALL, workers=1, progress=Interrupt(after=40))
    storage = storage_of(place_of(bucket))
    storage.delete(["shard-000000.tar", "shard-000001.rows"])
    build_shards(pictures(48), bucket, SMALL, workers=1)
    assert objects(bucket) == expected


def test_the_same_build_twice_at_once_is_harmless(
    bucket: str, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = []
    for number in range(2):  # each with temporaries of its own, as on machines of their own
        (tmp_path / f"machine{number}").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / f"machine{number}"))
        running.append(subprocess.Popen([sys.executable, "-c", BUILD_IT, bucket, "1"], stderr=subprocess.PIPE))
    told = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert objects(bucket) == expected


def test_on_one_machine_a_second_build_waits_for_nobody(bucket: str) -> None:
    seen: list[str] = []

    class Second(Interrupt):
        def start(self, images: int) -> None:
            try:
                build_shards(pictures(48), bucket, SMALL, workers=1)
            except BuildError as error:
                seen.append(str(error))

    build_shards(pictures(48), bucket, SMALL, workers=1, progress=Second(after=1000))
    assert "another build is at work in this folder" in seen[0]


def test_refused_credentials_end_a_build_in_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-is-wrong")
    remote._new_store.cache_clear()
    with pytest.raises(StorageError, match="access is refused") as caught:
        build_shards(pictures(48), bucket, SMALL, workers=1)
    assert "a-secret-that-is-wrong" not in str(caught.value)


def test_a_reply_that_is_lost_to_any_write_changes_nothing(
    bucket: str, expected: dict[str, bytes], proxy: FaultProxy
) -> None:
    names = (".tar", ".idx", ".rows", "pages/", "identity.json", "plan.json", "samples.zarr/zarr.json", "manifest.json")
    proxy.faults = [Fault("lose_reply", method="PUT", within=name) for name in names]
    build_shards(pictures(48), bucket, SMALL, workers=1)
    assert len(proxy.met) == len(names)
    assert objects(bucket) == expected


def _random_fault(chosen: random.Random) -> Fault:
    kind = chosen.choice(("refuse", "status", "reset", "close", "slow", "lose_reply"))
    method = chosen.choice(("", "GET", "PUT", "HEAD"))
    after = chosen.choice((0, 1, 100, 5000))
    return Fault(
        kind, after=max(after, 100) if kind == "slow" else after, status=chosen.choice((429, 500, 503)), method=method
    )


def _build_through_faults(
    bucket: str, expected: dict[str, bytes], proxy: FaultProxy, *, seed: int, faults: int
) -> None:
    """Lets faults fall into a build, at most six in a row, and gives the command again where it ends in one line."""
    chosen = random.Random(seed)
    left = [_random_fault(chosen) for _ in range(faults)]
    stop = threading.Event()

    def disturb() -> None:
        while left and not stop.wait(chosen.uniform(0.0, 0.05)):
            if not proxy.faults:
                proxy.faults = [left.pop() for _ in range(min(len(left), chosen.randint(1, 3)))]

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(10):
            with contextlib.suppress(BuildError, StorageError):
                build_shards(pictures(48), bucket, SMALL, workers=1)
                break
    finally:
        stop.set()
        thread.join()
    proxy.faults = []
    build_shards(pictures(48), bucket, SMALL, workers=1)
    assert objects(bucket) == expected
    assert len(open_dataset(bucket)) == 48


def test_a_build_survives_faults(bucket: str, expected: dict[str, bytes], proxy: FaultProxy) -> None:
    _build_through_faults(bucket, expected, proxy, seed=1, faults=6)


@pytest.mark.fuzz
def test_a_build_survives_thirty_random_faults(bucket: str, expected: dict[str, bytes], proxy: FaultProxy) -> None:
    met = 0
    for seed in range(1000):
        proxy.met = []
        storage = storage_of(place_of(bucket))
        storage.delete([found.name for found in storage.list()])
        _build_through_faults(bucket, expected, proxy, seed=seed, faults=10)
        met += len(proxy.met)
        if met >= 30:
            return
    pytest.fail(f"only {met} faults came to pass")
