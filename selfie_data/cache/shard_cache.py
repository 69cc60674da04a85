"""Whole, checked shards of remote storage in a folder of this machine, shared by the processes of a node.

    <SHA-256>        a shard, whole: its bytes were compared with its name before it got that name
    <SHA-256>.part   one that is on its way, locked by who fetches it, as large as it is going to be
    reader-*.plan    what a process is going to read (`plans`)
    room             locked while room is made: 8 bytes, no less than what is held and on its way

There is no daemon, no shared memory, and no count of readers: a shard is read through a descriptor, which a removal of
its name does not touch. Nor can a lock go stale: a process that ends loses its own, and what it leaves, a `.part` or a
plan that nobody has locked, is removed by whoever comes next. Files of other names are left alone.
"""

import contextlib
import errno
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from selfie_data.cache import plans
from selfie_data.cache.home import CacheHome
from selfie_data.cache.locks import is_at, is_owned, lock, unlock
from selfie_data.errors import CacheError, DatasetError
from selfie_data.files import write_all
from selfie_data.storage.protocol import Storage

_PART = ".part"
_WHOLE = re.compile(r"[0-9a-f]{64}")
_PAUSE_S = 0.05
_SPARE = 128  # of what is held a full cache drops as much more: going through 16,384 files takes 0.09 s
_ROOM_S = 300  # that others may take to finish what stands in our way
_STUCK_S = 600  # without a byte, of another process: more than storage's own limits, and than waiting for room, allow
_FULL = (errno.ENOSPC, errno.EDQUOT)


class CachedShard(NamedTuple):
    """A shard as the manifest knows it: its name in the storage, its size, its SHA-256."""

    name: str
    bytes: int
    sha256: str


class CacheContents(NamedTuple):
    """What is in a cache: whole shards and their bytes, shards on their way, processes that read."""

    shards: int
    bytes: int
    arriving: int
    readers: int


class ShardCache:
    """The shards of one dataset in the cache of this node. May be used by several threads at once.

    Args:
        storage: of the dataset.
        home: where the cache lies.
    """

    def __init__(self, storage: Storage, home: CacheHome) -> None:
        self.home = home
        self._storage = storage
        self._closed = threading.Event()
        _remove_leftovers(home.folder)

    def open(self, shard: CachedShard, *, distance: int = 0) -> int | None:
        """Returns a descriptor of a whole shard, fetched if it is not there; it can be read until it is closed.

        Args:
            shard: what is wanted.
            distance: steps until it is needed. If not 0, nothing that is needed as soon makes room for it, and None is
                returned where there is none.

        Raises:
            CacheError: there is no room for what is needed at this moment, the disk is full, another process is stuck,
                or the cache is closed.
            DatasetError: the shard is missing, or is not what the manifest says.
            StorageError: it cannot be fetched.
        """
        whole, part = (self.home.folder / f"{shard.sha256}{end}" for end in ("", _PART))
        while True:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(whole, os.O_RDONLY | os.O_CLOEXEC)
                os.utime(descriptor)
                return descriptor
            with self._disk(), _own(part, give_up=self._impatient(part)) as owned:
                if whole.exists():  # whoever had the lock has brought it
                    continue
                if not self._make_room(owned, shard, distance):
                    return None
                self._receive(owned, shard)
                os.fdatasync(owned)
                os.rename(part, whole)
                return os.dup(owned)

    @property
    def allowed(self) -> int:
        """How many bytes the cache may hold, as things are."""
        return self.home.allowed(contents(self.home.folder).bytes)

    def close(self) -> None:
        """Makes what is under way end at its next piece, with an error."""
        self._closed.set()

    def _receive(self, owned: int, shard: CachedShard) -> None:
        where, digest = f"{self._storage.url.rstrip('/')}/{shard.name}", hashlib.sha256()
        os.lseek(owned, 0, os.SEEK_SET)
        try:
            for piece in self._storage.pieces(shard.name, length=shard.bytes):
                if self._closed.is_set():
                    raise CacheError(f"{where}: the loader was closed while it was fetched")
                digest.update(piece)
                write_all(owned, piece)
        except FileNotFoundError:
            raise DatasetError(f"{where}: missing; restore the shard") from None
        if digest.hexdigest() != shard.sha256:
            raise DatasetError(
                f"{where}: changed, SHA-256 is {digest.hexdigest()[:12]}…, the manifest says {shard.sha256[:12]}…; "
                "restore the shard"
            )

    def _make_room(self, owned: int, shard: CachedShard, distance: int) -> bool:
        """Reserves a shard's bytes on the disk; False if that would take what is needed as soon."""
        deadline = time.monotonic() + _ROOM_S
        while True:
            with _own(self.home.folder / "room", give_up=_until(deadline, self._room_is_taken), keep=True) as known:
                if self._has_room(known, owned, shard.bytes):
                    return True
                room = _Room(self.home, plans.next_uses(self.home.folder), but=shard.sha256)
                reserved = room.reserve(owned, shard.bytes, distance)
                _write_number(known, sum(room.held.values()) + reserved * shard.bytes)
                if reserved:
                    return True
            if distance:
                return False
            if not room.arriving or time.monotonic() > deadline:
                raise CacheError(room.refusal(shard))
            if self._closed.wait(_PAUSE_S):  # what arrives may be dropped, once it has
                raise CacheError(f"{self.home.folder}: the loader was closed while room was made for {shard.name}")

    def _has_room(self, known: int, owned: int, size: int) -> bool:
        """Reserves bytes where there is room for sure, without looking at what there is."""
        held = _read_number(known)
        if held is None or held + size > self.home.allowed(held):
            return False
        _write_number(known, held + size)  # before they are: who is killed in between leaves too much, never too little
        return _allocate(owned, size)

    def _room_is_taken(self) -> CacheError:
        return CacheError(f"{self.home.folder}: another process has been making room in it for {_ROOM_S} s; end it")

    def _impatient(self, part: Path) -> Callable[[], None]:
        """Returns what raises a CacheError when another process has added nothing to a shard for too long."""
        seen, since = 0, time.monotonic()

        def check() -> None:
            nonlocal seen, since
            with contextlib.suppress(FileNotFoundError):
                changed = part.stat().st_mtime_ns
                if changed != seen:
                    seen, since = changed, time.monotonic()
            if self._closed.is_set():
                raise CacheError(f"{part}: the loader was closed while another process fetched it")
            if time.monotonic() - since > _STUCK_S:
                raise CacheError(
                    f"{part}: another process has been fetching this for {_STUCK_S} s without a byte; end it"
                )

        return check

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Turns errors of the cache's disk into one line."""
        try:
            yield
        except OSError as error:
            if error.errno is None:  # a storage's, in one line already
                raise
            raise CacheError(
                f"{self.home.folder}: the cache cannot be written ({error.strerror}); make room, or name another "
                "folder by SELFIE_CACHE"
            ) from error


class _Room:
    """What the cache holds at a moment, under the lock `room`.

    Attributes:
        held: digest -> bytes, of whole shards and of those on their way, but for one.
        arriving: which of them are on their way.
    """

    def __init__(self, home: CacheHome, next_uses: dict[str, int], *, but: str) -> None:
        self.held, self.arriving = dict[str, int](), set[str]()
        self._home = home
        self._next_uses = next_uses
        self._needed = 0
        self._full = False
        used = dict[str, int]()
        for name, facts in _files(home.folder):
            digest = name.removesuffix(_PART)
            if digest == but:
                continue
            if name != digest and is_owned(home.folder / name):
                if not facts.st_size:  # waits for room itself
                    continue
                self.arriving.add(digest)
            elif name != digest:
                try:
                    facts = (home.folder / digest).stat()  # it has arrived meanwhile
                except FileNotFoundError:
                    continue
            self.held[digest], used[digest] = facts.st_size, facts.st_mtime_ns
        self._allowed = home.allowed(sum(self.held.values()))
        whole = self.held.keys() - self.arriving
        self._farthest = sorted(whole, key=lambda digest: (-self._distance(digest), used[digest]))

    def reserve(self, owned: int, size: int, distance: int) -> bool:
        """Reserves bytes for an open file, dropping what is needed last, and nothing that is needed as soon."""
        droppable = [digest for digest in self._farthest if self._distance(digest) > distance]
        self._needed = size + sum(self.held.values()) - sum(self.held[digest] for digest in droppable)
        spare, full = sum(self.held.values()) // _SPARE, False
        while self._needed <= self._allowed:
            if sum(self.held.values()) + size <= self._allowed:
                if _allocate(owned, size):
                    break
                self._full = True
            if not droppable:
                return False
            self._drop(droppable.pop(0))
            full = True
        else:
            return False
        while full and droppable and self.held[droppable[0]] <= spare:
            spare -= self.held[droppable[0]]
            self._drop(droppable.pop(0))
        return True

    def refusal(self, shard: CachedShard) -> str:
        """Returns why there is no room, and what to do."""
        if self._full:
            return (
                f"{self._home.folder}: no space left on the disk of the cache for {shard.name}, {shard.bytes:,} bytes, "
                "and all that is left in it is needed now; make room, or name another folder by SELFIE_CACHE"
            )
        return too_small(self._home.folder, self._allowed, self._needed)

    def _drop(self, digest: str) -> None:
        (self._home.folder / digest).unlink(missing_ok=True)
        del self.held[digest]

    def _distance(self, digest: str) -> int:
        return self._next_uses.get(digest, plans.NEVER)


def _allocate(owned: int, size: int) -> bool:
    """Takes bytes from the disk, where it knows how; False if it is full."""
    if size == 0:
        return True
    try:
        os.posix_fallocate(owned, 0, size)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        os.ftruncate(owned, 0)
        return False
    return True


def _read_number(descriptor: int) -> int | None:
    data = os.pread(descriptor, 8, 0)
    return int.from_bytes(data, "little") if len(data) == 8 else None


def _write_number(descriptor: int, number: int) -> None:
    os.pwrite(descriptor, number.to_bytes(8, "little"), 0)


def too_small(folder: Path, allowed: int, needed: int) -> str:
    """Returns what to say where a cache may not hold what is needed at one moment, in bytes."""
    return (
        f"{folder}: the cache may hold {allowed:,} bytes, and at one moment {needed:,} are needed: allow that much, "
        "twice that to fetch ahead, by SELFIE_CACHE_BYTES or on a larger disk by SELFIE_CACHE; or mix fewer shards "
        "(fewer lanes, a smaller window)"
    )


def contents(folder: Path) -> CacheContents:
    """Says what is in a cache; what processes that have ended left in it is removed."""
    readers = _remove_leftovers(folder)
    found = [(name.endswith(_PART), facts.st_size) for name, facts in _files(folder)]
    return CacheContents(
        shards=sum(not arriving for arriving, _ in found),
        bytes=sum(size for arriving, size in found if not arriving),
        arriving=sum(arriving for arriving, _ in found),
        readers=readers,
    )


def clear(folder: Path) -> CacheContents:
    """Removes the whole shards of a cache and returns what there was; loaders that read them read on."""
    there = contents(folder)
    for name, _ in _files(folder):
        if not name.endswith(_PART):
            (folder / name).unlink(missing_ok=True)
    return there


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yields the shards of a cache, whole and on their way; other files are none of its business."""
    for entry in os.scandir(folder):
        if _WHOLE.fullmatch(entry.name.removesuffix(_PART)):
            with contextlib.suppress(FileNotFoundError):
                yield entry.name, entry.stat()


def _remove_leftovers(folder: Path) -> int:
    """Removes what processes that have ended left in a cache; returns how many read from it."""
    for name, _ in _files(folder):
        if name.endswith(_PART):
            is_owned(folder / name)
    return len(plans.living(folder))


@contextmanager
def _own(path: Path, *, give_up: Callable[[], None], keep: bool = False) -> Iterator[int]:
    """Yields a locked descriptor of a file, which is removed afterwards if it still has its name, or kept."""
    descriptor = lock(path, give_up=give_up)
    try:
        yield descriptor
    finally:
        if not keep and is_at(descriptor, path):
            path.unlink(missing_ok=True)
        unlock(descriptor)


def _until(deadline: float, error: Callable[[], Exception]) -> Callable[[], None]:
    def check() -> None:
        if time.monotonic() > deadline:
            raise error()

    return check
