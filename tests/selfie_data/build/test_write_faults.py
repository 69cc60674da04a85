"""What goes wrong when writing is one clear line, and nothing is lost: no space, I/O errors, no permission."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selfie_data.build.build_shards import build_shards
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.errors import BuildError, DatasetError
from tests.selfie_data.build.test_build_shards import SMALL, contents, pictures


class Fault(NamedTuple):
    """A system call that fails, and from its which call on."""

    call: str
    error: int
    after: int

    def inject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real: Callable[..., Any] = getattr(os, self.call)
        calls = 0

        def failing(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > self.after:
                raise OSError(self.error, os.strerror(self.error))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, self.call, failing)


# A shard takes 3 writes, 3 fsyncs (tar, index, their folder) and 3 renames.
FAULTS = [
    Fault(call, error, after)
    for call, places in {
        "write": (0, 1, 3, 9, 11),
        "fsync": (0, 3, 7, 20, 25, 40),
        "replace": (0, 3, 5, 9, 10),
    }.items()
    for after in places
    for error in (errno.ENOSPC, errno.EIO)
]


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.call}-{errno.errorcode[fault.error]}-{fault.after}"
)
def test_a_fault_while_writing_loses_nothing(tmp_path: Path, fault: Fault, whole: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        fault.inject(monkeypatch)
        with pytest.raises(BuildError, match=os.strerror(fault.error)) as caught:
            build_shards(pictures(48), out, SMALL, workers=1)
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError):
        Manifest.load(out)
    build_shards(pictures(48), out, SMALL, workers=1)
    assert contents(out) == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    build_shards(pictures(48), out, SMALL, workers=1)
    return contents(out)


def test_what_gets_its_name_is_on_disk_before_and_its_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards, indexes, rows, pages, table, manifest, subsets, pixel store."""
    synced: set[str] = set()
    unnamed: set[str] = set()  # folders with names that are not on disk yet
    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        fsync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.add(path)
        unnamed.discard(path)

    def rename(source: Path, target: Path) -> None:
        if ".store.zarr.partial" not in target.parts:  # zarr renames within it
            below = [source, *source.rglob("*")]
            assert [str(path) for path in below if str(path) not in synced] == []
            unnamed.add(str(target.parent))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    build_shards(pictures(48), tmp_path / "out", SMALL, workers=1)
    for kind in (".idx.", ".rows."):
        assert sum(kind in path and path.endswith(".tmp") for path in synced) == 3
    dataset = open_dataset(tmp_path / "out")
    write_splits(dataset, SplitOptions())
    export_store(dataset, tmp_path / "store.zarr")
    assert unnamed == set()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, memoryview(data)[:1000]))
    build_shards(pictures(48), tmp_path / "out", SMALL, workers=1)
    assert contents(tmp_path / "out") == whole


def test_too_little_space_is_said_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int = 50_000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage())
    with pytest.raises(BuildError, match=r"not enough space for the shards: about .* needed, 48\.8 KiB free"):
        build_shards(pictures(48), tmp_path / "out", SMALL, workers=1)
    assert not list((tmp_path / "out").glob("shard-*"))


def test_a_folder_that_may_not_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """In a child without privileges: the tests may run as root, who may write anywhere."""
    out = tmp_path / "out"
    out.mkdir(mode=0o755)
    assert _as_nobody(out) == f"{out}: cannot be written (Permission denied)"
    assert "Permission denied" in _as_nobody(out / "below")


def _as_nobody(out: Path) -> str:
    """Returns the message of the BuildError that a build in `out` ends with."""
    for folder in out.parents:
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid() and str(folder) != "/":
            folder.chmod(folder.stat().st_mode | 0o055)
        if folder.parent == folder:
            break
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65_534)
                os.setuid(65_534)
            else:
                out.chmod(0o555)
            try:
                build_shards(pictures(48), out, SMALL, workers=1)
            except BuildError as error:
                os.write(writing, str(error).encode())
                status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        message = file.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return message
