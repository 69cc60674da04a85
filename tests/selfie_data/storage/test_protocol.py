"""What every storage promises, asked of a folder and of a bucket alike."""

import pickle
import threading
from datetime import UTC, datetime
from pathlib import Path

import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore

from selfie_data.storage import remote
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of
from selfie_data.storage.protocol import Storage


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return LocalStorage(tmp_path / "root")
    return storage_of(place_of(request.getfixturevalue("bucket")))


def _file(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("a/b/one.bin", b"0123456789")
    storage.write("empty", b"", durable=False)
    assert storage.read("a/b/one.bin") == b"0123456789"
    assert storage.read("a/b/one.bin", start=2, length=3) == b"234"
    assert storage.read("a/b/one.bin", start=8) == b"89"
    assert storage.read("a/b/one.bin", start=4, length=0) == b""
    assert storage.read("empty") == b""
    found = storage.stat("a/b/one.bin")
    assert found is not None
    assert (found.name, found.size) == ("a/b/one.bin", 10)
    assert found.changed > 1_600_000_000 * 10**9


def test_fewer_bytes_than_asked_for_are_an_error(storage: Storage) -> None:
    storage.write("short", b"0123")
    for start, length in ((0, 5), (3, 2), (4, 1), (100, 1)):
        with pytest.raises(OSError, match="truncated"):
            storage.read("short", start=start, length=length)


def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    storage.write("there", b"1")
    assert storage.stat("not-there") is None
    with pytest.raises(FileNotFoundError):
        storage.read("not-there")
    assert list(storage.list("nowhere")) == []
    storage.delete(["not-there"])


def test_files_below_are_listed(storage: Storage) -> None:
    for name in ("x", "d/y", "d/e/z", "dd/w"):
        storage.write(name, name.encode())
    assert sorted((found.name, found.size) for found in storage.list()) == [
        ("d/e/z", 5), ("d/y", 3), ("dd/w", 4), ("x", 1),
    ]  # fmt: skip
    assert sorted(found.name for found in storage.list("d")) == ["d/e/z", "d/y"]
    storage.delete(["x", "d/y"])
    assert sorted(found.name for found in storage.list()) == ["d/e/z", "dd/w"]


def test_folders_that_a_console_made_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Amazon lists them: `photos/`, `photos/a/`, ..., which come without the `/`; here on two pages."""
    written = datetime.now(UTC)
    sizes = {"photos": 0, "photos/a": 0, "photos/a/x.jpg": 3, "photos/b": 0, "photos/b-c": 0, "photos/y.jpg": 3}
    found = [{"path": path, "size": size, "last_modified": written} for path, size in sizes.items()]
    monkeypatch.setattr(obstore, "list", lambda *_, **__: iter([found[:2], found[2:]]))
    storage = storage_of(place_of("s3://bucket/photos"))
    assert [each.name for each in storage.list()] == ["a/x.jpg", "b", "b-c", "y.jpg"]
    monkeypatch.setattr(obstore, "list", lambda *_, **__: iter([found[:1]]))
    assert list(storage.list()) == []


def test_a_store_that_stops_at_what_is_not_there_deletes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Google's and Azure's do, and obstore's for folders."""
    monkeypatch.setattr(remote, "_new_store", lambda *_: LocalStore(tmp_path))
    storage = storage_of(place_of("gs://bucket"))
    for name in "abcdefghijklmnopqrstuvwxyz":
        storage.write(name, b"1")
    storage.delete(["not-there", *"abcdefghijklmnopqrstuvwxy", "nor-this"])
    assert [each.name for each in storage.list()] == ["z"]


def test_published_files_are_whole_and_replace_what_was_there(storage: Storage, tmp_path: Path) -> None:
    storage.write("new/one", b"old")
    files = {name: _file(tmp_path / "made", name.replace("/", "-"), name.encode()) for name in ("new/one", "two")}
    storage.publish(files)
    assert [storage.read(name) for name in files] == [b"new/one", b"two"]
    assert list((tmp_path / "made").iterdir()) == []
    storage.publish({"two": _file(tmp_path / "made", "again", b"two")})
    assert storage.read("two") == b"two"
    storage.publish({"nothing": _file(tmp_path / "made", "nothing", b"")})
    assert storage.read("nothing") == b""


def test_of_many_creators_one_is_told_that_it_did(storage: Storage) -> None:
    told = []
    barrier = threading.Barrier(8)

    def create(number: int) -> None:
        barrier.wait()
        told.append((storage.create("identity", b"%d" % number), number))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    winners = [number for did, number in told if did]
    assert len(winners) == 1
    assert storage.read("identity") == b"%d" % winners[0]


def test_nothing_but_the_url_is_pickled(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("a", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-key-of-tests")
    data = pickle.dumps(storage)
    assert b"secret" not in data
    assert b"access-key" not in data
    assert pickle.loads(data).read("a") == b"1"  # noqa: S301 - our own


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 300), part=st.integers(1, 90), cut=st.tuples(st.integers(0, 300), st.integers(0, 300)))
def test_any_range_comes_whole_whatever_the_parts(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, size: int, part: int, cut: tuple[int, int]
) -> None:
    monkeypatch.setattr("selfie_data.storage.remote.PART_BYTES", part)
    data = bytes(number % 251 for number in range(size))
    storage.write("data", data)
    start, end = (min(each, size) for each in sorted(cut))
    assert storage.read("data") == data
    assert storage.read("data", start=start, length=end - start) == data[start:end]
