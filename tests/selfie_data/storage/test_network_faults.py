"""What networks and stores do to a read and a write: it is repeated, or one typed line says what to do."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from obstore import exceptions

from selfie_data.storage import remote
from selfie_data.storage.place import place_of, storage_of
from selfie_data.storage.protocol import Storage, StorageError
from tests.servers import seaweed
from tests.servers.fault_proxy import Fault, FaultProxy

DATA = bytes(number * 7 % 251 for number in range(300_000))

PASSING = {
    "refused three times": [Fault("refuse")] * 3,
    "503, 500, 429": [Fault("status", status=status) for status in (503, 500, 429)],
    "reset in the body": [Fault("reset", after=1000), Fault("reset", after=5)],
    "closed in the body": [Fault("close", after=1000)],
    "stalled in the body": [Fault("stall", after=1000)],
    "no reply": [Fault("hang")],
    "slow but going on": [Fault("slow", after=10_000)],
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for; the order of them is that of the real ones."""
    limits = {"connect": 1.0, "silence": 1.0, "read": 5.0, "write": 5.0, "retry": 5.0}
    monkeypatch.setattr(remote, "_LIMITS", {name: timedelta(seconds=value) for name, value in limits.items()})
    monkeypatch.setattr(remote, "_RETRIES", 5)
    remote._new_store.cache_clear()


@pytest.fixture
def storage(bucket: str) -> Storage:
    return storage_of(place_of(bucket))


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_a_read_survives_what_passes(storage: Storage, proxy: FaultProxy, faults: list[Fault]) -> None:
    storage.write("data", DATA)
    proxy.faults = list(faults)
    assert storage.read("data") == DATA
    assert proxy.met == faults


@pytest.mark.parametrize(
    "faults",
    [[Fault("refuse")] * 3, [Fault("status", status=503), Fault("status", status=500)], [Fault("lose_reply")]],
    ids=["refused", "503, 500", "its reply lost"],
)
def test_a_write_survives_what_passes(storage: Storage, proxy: FaultProxy, faults: list[Fault]) -> None:
    proxy.faults = [fault._replace(method="PUT") for fault in faults]
    storage.write("data", DATA)
    assert len(proxy.met) == len(faults)
    assert storage.read("data") == DATA


def test_a_create_whose_reply_is_lost_leaves_what_was_written(storage: Storage, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("lose_reply", method="PUT")]
    assert not storage.create("identity", b"ours")  # it was tried again, and found what it had written itself
    assert storage.read("identity") == b"ours"


@pytest.mark.parametrize("kind", ["reset", "close", "stall"])
def test_a_list_that_breaks_off_is_gone_on_with(storage: Storage, proxy: FaultProxy, kind: str) -> None:
    """On its second page, of a thousand names each."""
    names = [f"{number:04d}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: storage.write(name, b"1"), names))
    proxy.faults = [Fault(kind, after=2000, within="list-type"), Fault(kind, after=2000, within="continuation-token")]
    assert [found.name for found in storage.list()] == names
    assert len(proxy.met) == 2


def test_a_deletion_whose_reply_is_lost_is_done_again(storage: Storage, proxy: FaultProxy) -> None:
    for name in "abc":
        storage.write(name, b"1")
    proxy.faults = [Fault("lose_reply", method="POST")]
    storage.delete(["a", "b"])
    assert len(proxy.met) == 1
    assert [found.name for found in storage.list()] == ["c"]


def test_a_server_that_is_gone_is_one_line_in_bounded_time(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{seaweed.free_ports(1)[0]}")
    remote._new_store.cache_clear()
    for operation in (lambda: storage.read("data"), lambda: storage.write("data", DATA), lambda: storage.stat("data")):
        with pytest.raises(StorageError, match=r"cannot be .* repeat the command"):
            operation()


def test_an_upload_that_is_cut_short_leaves_no_object(storage: Storage, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("refuse", method="PUT")] * 20
    with pytest.raises(StorageError, match="cannot be written"):
        storage.write("data", DATA)
    proxy.faults = []
    assert list(storage.list()) == []


def test_an_upload_without_a_reply_ends_in_bounded_time(storage: Storage, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("hang", method="PUT")] * 20
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot be written .* repeat the command"):
        storage.write("data", DATA)
    assert time.monotonic() - started < 30
    proxy.faults = []
    assert list(storage.list()) == []


@pytest.mark.parametrize("refused", [1, 100])
def test_an_upload_in_parts_is_whole_or_not_there(
    storage: Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: int
) -> None:
    monkeypatch.setattr(remote, "_SINGLE_PUT_BYTES", 1 << 20)
    file = tmp_path / "large"
    file.write_bytes(DATA * 40)
    proxy.faults = [Fault("status", status=503, method="PUT", within="partNumber=2")] * refused
    if refused == 1:
        storage.publish({"large": file})
        assert storage.read("large") == DATA * 40
        assert proxy.requests["POST"] == 2  # begun, completed
    else:
        with pytest.raises(StorageError, match="cannot be written"):
            storage.publish({"large": file})
        assert list(storage.list()) == []
        assert file.exists()


def test_an_object_that_changes_between_parts_is_noticed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", 100_000)
    storage.write("data", DATA)
    assert isinstance(storage, remote.ObjectStorage)
    part, calls = remote.ObjectStorage._part, []

    def changing(self: remote.ObjectStorage, *given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            self.write("data", DATA[::-1])
        return part(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(remote.ObjectStorage, "_part", changing)
    with pytest.raises(StorageError, match="changed while it was read"):
        storage.read("data")


def test_a_missing_bucket_says_so(proxy: FaultProxy) -> None:
    storage = storage_of(place_of("s3://no-such-bucket/x"))
    for operation in (lambda: storage.read("data"), lambda: list(storage.list())):
        with pytest.raises(StorageError, match="there is no such bucket; make it, or mend the URL"):
            operation()


@pytest.mark.parametrize("code", ["NoSuchBucket", "ContainerNotFound"])
def test_a_missing_bucket_is_known_by_the_code_of_any_store(storage: Storage, code: str) -> None:
    def answered(_: object) -> None:
        raise FileNotFoundError(f"status code: 404 Not Found, body: <Error><Code>{code}</Code></Error>")

    assert isinstance(storage, remote.ObjectStorage)
    with pytest.raises(StorageError, match="there is no such bucket; make it, or mend the URL"):
        storage._call("data", answered)


def test_names_that_cannot_be_used_are_told_and_not_tried_again(storage: Storage) -> None:
    def listed(_: object) -> None:
        raise exceptions.GenericError('Encountered object with invalid path: Path "a//x" contained empty path segment')

    assert isinstance(storage, remote.ObjectStorage)
    with pytest.raises(StorageError, match=r"a name there cannot be used, rename or remove it .*a//x"):
        storage._call("", listed)
    with pytest.raises(StorageError, match="a name there cannot be used"):
        storage.write("a/../b", b"")


WRONG = {
    "key": ("AWS_ACCESS_KEY_ID", "a-key-that-is-not-known"),
    "secret": ("AWS_SECRET_ACCESS_KEY", "a-secret-that-is-wrong"),
    "token": ("AWS_SESSION_TOKEN", "a-token-that-has-expired"),
}


@pytest.mark.parametrize("name", ["key", "secret", "expired"])
def test_refused_credentials_are_one_line_without_them(
    storage: Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    if name == "expired":
        proxy.faults = [Fault("status", status=403)] * 10
    else:
        monkeypatch.setenv(*WRONG[name])
    remote._new_store.cache_clear()
    operations: list[Callable[[], object]] = [
        lambda: storage.read("data"),
        lambda: storage.write("data", DATA),
        lambda: list(storage.list()),
        lambda: storage.create("data", DATA),
        lambda: storage.delete(["data"]),
    ]
    for operation in operations:
        with pytest.raises(StorageError, match=r"access is refused.* the credentials in the environment") as caught:
            operation()
        told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value.__dict__)
        values = [os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], seaweed.SECRET_KEY]
        assert not any(value in told for value in values)


def test_nothing_that_a_client_says_can_carry_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-one")
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "hidden-two")
    raised = ValueError("hidden-one at https://host/x?sig=hidden-three and hidden-two <a>hidden-four</a>")
    assert "hidden" not in remote._line(raised)


def _read_in_child(storage: Storage, answer: Connection) -> None:
    try:
        answer.send(storage.read("data"))
    except StorageError as error:
        answer.send(error)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_use_after_a_fork_is_one_clear_error_and_after_a_spawn_none(storage: Storage) -> None:
    storage.write("data", b"1")
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        process = context.Process(target=_read_in_child, args=(storage, theirs))
        process.start()
        assert ours.poll(30)
        found = ours.recv()
        process.join(10)
        if method == "spawn":
            assert found == b"1"
        else:
            assert "does not survive a fork" in str(found)
