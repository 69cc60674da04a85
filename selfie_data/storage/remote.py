"""Buckets (`s3://`, `gs://`, `az://`) and web servers (`http://`, `https://`, read-only) as storage, through obstore.

obstore repeats what failed on the way (refused, reset, cut short, stalled, 429, 5xx) with growing pauses and goes on in
the middle of an object by its ETag. What is here asks for parts whose transfer a time limit can bound, compares lengths
(obstore gives what there is of a range, without a word) and says in one line what went wrong. Credentials come from the
environment and stay in the client: not in URLs, not in what is pickled, not in errors.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from errno import ENOENT
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from selfie_data.storage.protocol import PART_BYTES, Stat, StorageError

BUCKETS = ("s3", "gs", "az")
WEB = ("http", "https")
_SINGLE_PUT_BYTES = 5000 << 20  # Azure's largest, S3's is 5 GiB; beyond it an upload has parts
_LIMITS = {
    "connect": timedelta(seconds=5),
    "silence": timedelta(seconds=20),  # between two pieces of a reply
    "read": timedelta(minutes=2),  # a request and its reply
    "write": timedelta(minutes=15),  # likewise: a shard of 1 GiB at 1.2 MB/s
    "retry": timedelta(minutes=3),  # from the first attempt on
}
_RETRIES = 10
_PAUSES_S = (0.1, 0.5, 2.0)
_SHOWN = 160  # characters of what a server or the client says
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|CREDENTIAL|ACCESS_KEY|ACCOUNT_KEY|SAS|SIGNATURE", re.IGNORECASE)
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")  # S3 and Google, Azure
_user: int | None = None  # the process whose client has threads: a fork of it would wait for them for ever

_T = TypeVar("_T")


class _UnansweredError(StorageError):
    """No reply, or none that could be read: what was asked for may have been done."""


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """The `Storage` of a bucket, or of what lies below a path in it."""

    url: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.fragment or self.url.endswith("#"):
            raise StorageError(
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…",
                "a URL ends where # begins: write it as %23",
            )
        if parts.username is not None or parts.query or "@" in parts.netloc:
            raise StorageError(
                f"{parts.scheme}://…",
                "the URL holds credentials or a query, which would end in logs and manifests: give the plain URL, and "
                "credentials by the environment",
            )
        if not parts.netloc:
            raise StorageError(self.url, "a URL names a bucket or a host, as in s3://bucket/folder")
        if any(part in ("", ".", "..") for part in self.prefix.split("/")) and self.prefix:
            raise StorageError(self.url, "no part of a URL's path may be empty, . or ..; mend the URL")

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        pieces = list(self.pieces(name, start=start, length=length))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, name: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        end = None if length is None else start + length
        options = dict[str, Any]()
        while end is None or start < end:
            stop = start + PART_BYTES if end is None else min(start + PART_BYTES, end)
            size, options["if_match"], piece = self._part(name, start, stop, options)
            end = size if end is None else end
            wanted = min(stop, end) - start
            if len(piece) != wanted:
                raise StorageError(
                    self._at(name),
                    f"truncated, it has {size} bytes, and of {start} to {start + wanted} came {len(piece)}; restore it",
                )
            yield piece
            start += wanted

    def _part(self, name: str, start: int, stop: int, options: Mapping[str, Any]) -> tuple[int, str | None, bytes]:
        """Returns the object's size and ETag, and what there is of its bytes from `start` to `stop`."""

        def get(store: Any) -> tuple[int, str | None, bytes]:
            given = {"range": (start, stop), **{key: value for key, value in options.items() if value}}
            result = _obstore(self.url).get(store, self._key(name), options=given)
            return result.meta["size"], result.meta["e_tag"], result.bytes().to_bytes()

        try:
            return self._call(name, get)
        except StorageError as error:
            if "416" not in str(error):
                raise
            found = self.stat(name)  # no range of it can be had: does it end before?
            if found is None or found.size > start:
                raise
            return found.size, None, b""

    def stat(self, name: str) -> Stat | None:
        try:
            found = self._call(name, lambda store: _obstore(self.url).head(store, self._key(name)))
        except FileNotFoundError:
            return None
        return Stat(name, found["size"], _nanoseconds(found))

    def list(self, folder: str = "") -> Iterator[Stat]:
        inside, cut = self._key(folder), len(self.prefix) + 1 if self.prefix else 0
        before: Stat | None = None  # consoles make folders: empty objects named `x/`, which the client tells of as `x`
        for found in self._listed(folder):
            each = Stat(found["path"][cut:], found["size"], _nanoseconds(found))
            if before and not (before.size == 0 and (each == before or each.name.startswith(f"{before.name}/"))):
                yield before
            before = None if found["path"] == inside else each
        if before:
            yield before

    def _listed(self, folder: str) -> Iterator[Any]:
        """Yields what the client tells of objects; a list that breaks off is gone on with behind the last of them."""
        pages: Iterator[Any] | None = None
        last: str | None = None

        def next_page(store: Any) -> Any:
            nonlocal pages
            asked = pages or iter(_obstore(self.url).list(store, self._key(folder) or None, offset=last))
            pages = None  # until it has answered
            page = next(asked, None)
            pages = asked
            return page

        while page := self._persist(lambda: self._call(folder, next_page)):
            yield from page
            last = page[-1]["path"]

    def publish(self, files: Mapping[str, Path]) -> None:
        for name, file in files.items():
            size = file.stat().st_size
            if 0 < size <= _SINGLE_PUT_BYTES:
                # Mapped: given a path the client holds all of it in memory, 512 MB for 300 MB, and took 3.9 s, not 2.7.
                with file.open("rb") as opened:
                    self._put(name, mmap(opened.fileno(), 0, access=ACCESS_READ), use_multipart=False)
            else:
                self._put(name, file, use_multipart=size > _SINGLE_PUT_BYTES)
            file.unlink()

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:  # noqa: ARG002 - a bucket always is
        self._put(name, data, use_multipart=False)

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._persist(lambda: self._put(name, data, use_multipart=False, mode="create"))
        except _obstore(self.url).exceptions.AlreadyExistsError:
            return False  # perhaps made by ourselves, if a reply was lost: the caller compares
        return True

    def delete(self, names: Iterable[str]) -> None:
        keys = [self._key(name) for name in names]
        try:
            self._delete(keys)
        except FileNotFoundError:  # Google and Azure stop at a name that is not there
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    self._delete([key])

    def _delete(self, keys: Sequence[str]) -> None:
        if keys:
            delete = _obstore(self.url).delete
            self._persist(lambda: self._call("", lambda store: delete(store, keys), writing=True))

    def _persist(self, attempt: Callable[[], _T]) -> _T:
        """Does what obstore does not repeat, as it may have been done, and what it gives up in the midst of a reply."""
        deadline = time.monotonic() + _LIMITS["retry"].total_seconds()
        for pause in _PAUSES_S:
            try:
                return attempt()
            except _UnansweredError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(pause)
        return attempt()

    def _put(self, name: str, data: bytes | mmap | Path, **options: Any) -> None:
        self._call(name, lambda store: _obstore(self.url).put(store, self._key(name), data, **options), writing=True)

    @property
    def prefix(self) -> str:
        """What the names of all objects begin with, in the bucket; "" for the whole bucket."""
        return unquote(urlsplit(self.url).path).strip("/")

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}".strip("/")

    def _at(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    def _call(self, name: str, operation: Callable[[Any], _T], *, writing: bool = False) -> _T:
        """Runs an operation of obstore; what it raises becomes one line, and its own text, with URLs, goes no further.

        Raises:
            FileNotFoundError: there is no such object.
            AlreadyExistsError: `create` found one.
            StorageError: anything else.
        """
        parts = urlsplit(self.url)
        store = _store(f"{parts.scheme}://{parts.netloc}", writing=writing)
        from obstore import exceptions

        try:
            return operation(store)
        except exceptions.AlreadyExistsError:
            raise
        except (exceptions.BaseError, ValueError, OSError) as error:
            status, code = _answer(error)
            if code not in _NO_BUCKET and (status == "404" or isinstance(error, FileNotFoundError)):
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT), self._at(name)) from None
            where, verb = self._at(name), "write" if writing else "read"
            if reason := _refusal(error, status, code, verb=verb):
                failure = StorageError(where, reason)
            else:
                done = verb.replace("write", "written")
                failure = _UnansweredError(where, f"cannot be {done} ({_line(error)}); repeat the command")
        raise failure from None


@dataclass(frozen=True, slots=True)
class HttpStorage(ObjectStorage):
    """The `Storage` of a web server that knows byte ranges: files are read by their names, nothing else."""

    def list(self, folder: str = "") -> Iterator[Stat]:
        raise StorageError(self._at(folder), "a web server has no list of its files; name one")

    def _put(self, name: str, data: bytes | mmap | Path, **options: Any) -> None:  # noqa: ARG002
        raise self._read_only(name)

    def delete(self, names: Iterable[str]) -> None:
        raise self._read_only(next(iter(names), ""))

    def _read_only(self, name: str) -> StorageError:
        return StorageError(self._at(name), "a web server is read only; write into a folder or a bucket")


def _store(url: str, *, writing: bool) -> Any:
    """Returns this process's client.

    Raises:
        StorageError: obstore is not there, the URL names nothing it knows, or the process was forked off a user of it.
    """
    global _user
    if _user not in (None, os.getpid()):
        raise StorageError(
            url,
            "the process that this one was forked from used remote storage, whose client does not survive a fork: "
            'start processes with multiprocessing.get_context("spawn") or "forkserver"',
        )
    _user = os.getpid()
    return _new_store(url, writing)


@lru_cache
def _new_store(url: str, writing: bool) -> Any:
    library = _obstore(url).store
    options: Any = {
        "client_options": {
            "allow_http": True,  # where the user's own endpoint or URL says http
            "connect_timeout": _LIMITS["connect"],
            # A limit on silence would count an upload as silence.
            **(
                {"timeout": _LIMITS["write"]}
                if writing
                else {"timeout": _LIMITS["read"], "read_timeout": _LIMITS["silence"]}
            ),
        },
        "retry_config": {"max_retries": _RETRIES, "retry_timeout": _LIMITS["retry"]},
    }
    scheme, _, place = url.partition("://")
    try:
        return library.AzureStore(place, **options) if scheme == "az" else library.from_url(url, **options)
    except (_obstore(url).exceptions.BaseError, ValueError) as error:
        raise StorageError(url, f"cannot be opened ({_line(error)})") from None


def _obstore(where: str) -> Any:
    """Imports the client where it is used.

    Raises:
        StorageError: it is not installed.
    """
    try:
        import obstore
        import obstore.store
    except ImportError:
        raise StorageError(where, "remote storage needs obstore: pip install 'selfie[remote]'") from None
    return obstore


def _nanoseconds(found: Any) -> int:
    return int(found["last_modified"].timestamp() * 1_000_000) * 1000


def _answer(error: Exception) -> tuple[str, str]:
    """Returns status and code of the reply that an error tells of, "" where there are none."""
    status, code = (re.search(pattern, str(error)) for pattern in (r"status code: (\d+)", r"<Code>(\w+)</Code>"))
    return status[1] if status else "", code[1] if code else ""


def _refusal(error: Exception, status: str, code: str, *, verb: str) -> str:
    """Returns why the server refuses and what to do, "" if it does not: obstore tells it by type or in the text."""
    from obstore import exceptions

    if code in _NO_BUCKET:
        return "there is no such bucket; make it, or mend the URL"
    if status in ("401", "403") or isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    ):
        return (
            f"access is refused ({code or status or 'no credentials'}): the credentials in the environment are "
            f"missing, expired or do not allow to {verb} here"
        )
    if status == "412" or isinstance(error, exceptions.PreconditionError):
        return "changed while it was read: let its writer end, then begin again"
    if re.search("parse path|invalid path", str(error)):
        return f"a name there cannot be used, rename or remove it ({_line(error)})"
    if isinstance(error, exceptions.NotSupportedError):
        return "the server does not give ranges of bytes; choose one that does, or copy the files"
    return ""


def _line(error: Exception) -> str:
    """Returns what went wrong without URLs, of which a query may hold a signature, and without credentials."""
    text = re.sub(r"\S+://\S+", "…", str(error).partition("\n\nDebug source")[0].partition("<")[0])
    for name, value in os.environ.items():
        if value and _SECRET.search(name):
            text = text.replace(value, "…")
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"
