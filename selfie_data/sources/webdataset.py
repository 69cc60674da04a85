"""WebDataset shards: brace lists of tars, local or in a bucket, read in place; other URLs, fetched once.

    data/train-{000000..000009}.tar     a::b::c     https://host/train-{00..15}.tar     s3://bucket/train-{00..15}.tar

Local files and objects of buckets are opened by ourselves, in place. Others come as byte streams from `webdataset`, in
its secure mode (no `pipe:`, no rewriting of URLs by the environment); the tar is listed by our own reader and none of
its decoders runs. Labels come from `KEY.cls`. A key may stand once a shard.
"""

import os
import re
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import islice, takewhile
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from selfie_data.errors import OptionError, SourceError
from selfie_data.source import ImageSource, Json
from selfie_data.sources.naming.file_names import printable
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.archives import checked_stream, is_gzip
from selfie_data.sources.readers.folders import existing
from selfie_data.sources.readers.image_tree import FileFilter, refuse_mixed_splits, refuse_twice, resolve_tree
from selfie_data.sources.readers.spool import Part, Rows
from selfie_data.sources.readers.spooled_source import Resolved, SpooledSource, fingerprint_of
from selfie_data.sources.readers.tar_listing import Choice, open_gzipped, open_in_place, parts_of_stream
from selfie_data.sources.readers.tarball import ForwardWindow
from selfie_data.storage.place import Place
from selfie_data.storage.remote import BUCKETS

# Schemes of `webdataset.gopen` that name a file elsewhere; those that run a command (pipe:) are not here.
_REMOTE = ("http", "https", "ftps", "sftp", "scp", "htgs", "ais", "hf")
_BUCKETS = tuple(f"{scheme}://" for scheme in BUCKETS)
_MAX_SHARDS = 1_000_000  # a brace list of a few letters could name 10**18
_CURL = {  # its exit statuses, from `man curl`; it repeats what may pass by itself
    6: "there is no such host",
    7: "nothing answers at that address",
    22: "the server does not have it, or refuses it",
    28: "it took too long",
    60: "the server's certificate is not trusted",
}
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")


def open_images(kind: str, root: str, options: SourceOptions) -> ImageSource:
    """Opens shards; `root` is a brace list, several of them joined by `::`, or URLs."""
    if options.split != "train":
        raise OptionError(f"shards have no splits: --root names those to read, got --split {options.split}")
    shards = [_strip_file_scheme(shard) for shard in expand(root)]
    refuse_twice(shards, "the list of shards")
    if options.class_level is not None:
        raise OptionError("folders of shards are no classes: --class-level is for a folder or one tar, leave it out")
    if not FileFilter(options.subtree).asked:
        refuse_mixed_splits(_own_parts(shards), "the list of shards", remedy="--root names those of one")
    remote = [shard for shard in shards if "://" in shard]
    if not remote or all(shard.lower().startswith(_BUCKETS) for shard in shards):
        return _open_local(kind, [existing(shard, kind) for shard in shards], options)
    if len(remote) < len(shards):
        raise SourceError("the list of shards mixes local files and URLs; read them one after the other")
    names: list[Json] = [{"name": _base(url)} for url in shards]
    chosen: dict[str, Json] = {"subtree": FileFilter(options.subtree).subtree}
    return SpooledSource(
        kind=kind,
        description={"kind": kind, **{key: value for key, value in chosen.items() if value}, "files": names},
        fingerprint=fingerprint_of(kind, chosen, [(url, 0, 0) for url in shards], options.classes),
        layout=_RemoteShards(urls=tuple(shards), subtree=options.subtree, classes=options.classes),
        spool_bytes=1,  # not known before all is fetched
    )


def expand(root: str) -> list[str]:
    """Expands `::` and braces into shard names; nothing is opened.

    Raises:
        SourceError: a scheme that is not read, `pipe:` above all; a list beyond 10**6 shards.
    """
    shards: list[str] = []
    for pattern in root.split("::"):
        count = 1
        for first, last in _RANGE.findall(pattern):
            count *= abs(int(last) - int(first)) + 1
        names = list(islice(_braces(pattern), _MAX_SHARDS + 1)) if count <= _MAX_SHARDS else []
        if not 0 < len(names) <= _MAX_SHARDS:
            raise SourceError(f"the list {printable(pattern)[:80]} names more than {_MAX_SHARDS} shards")
        shards += names
    for shard in shards:
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", shard)
        if scheme is not None and scheme[1].lower() not in (*BUCKETS, *_REMOTE, "file"):
            allowed = ", ".join((*BUCKETS, *_REMOTE))
            raise SourceError(f"shards by {scheme[1]}: are refused; local files and the schemes {allowed} are read")
        if not shard:
            raise SourceError("the list of shards has an empty name")
    return shards


def _braces(pattern: str) -> Iterator[str]:
    library = import_module("braceexpand")
    try:
        yield from library.braceexpand(pattern)
    except library.UnbalancedBracesError as error:
        raise SourceError(f"the list {printable(pattern)[:80]} has unbalanced braces") from error


def _strip_file_scheme(shard: str) -> str:
    if not shard.lower().startswith("file:"):
        return shard
    parts = urlsplit(shard)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(f"{printable(shard)[:80]} names another host; file: is for this one")
    return unquote(parts.path)


def _own_parts(shards: list[str]) -> list[str]:
    """Returns the names without the folders that all of them share."""
    parts = [shard.split("/") for shard in shards]
    folders = zip(*(part[:-1] for part in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, folders))
    return ["/".join(part[shared:]) for part in parts]


def _base(url: str) -> str:
    return printable(unquote(urlsplit(url).path).rpartition("/")[2])


def _open_local(kind: str, paths: list[Place], options: SourceOptions) -> ImageSource:
    zipped = [path for path in paths if not path.is_dir() and is_gzip(path)]
    if folder := next((path for path in paths if path.is_dir()), None):
        raise SourceError(f"{folder} is a folder, not a shard")
    refuse_twice([path.name for path in paths], "the list of shards")
    choice = Choice(options.subtree, options.classes, None)
    if not zipped:
        return open_in_place(kind, paths, choice, parted=True, listings=options.listings)
    if len(paths) > 1:
        raise SourceError(f"{zipped[0].name} is gzipped: of several shards, all must be plain tars; unpack it first")
    return open_gzipped(kind, paths[0], choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RemoteShards:
    """The `Layout` of shards that are fetched."""

    urls: tuple[str, ...]
    subtree: str | None
    classes: tuple[str, ...] | None
    pixels: bool = False

    def parts(self, done: Container[str]) -> Iterator[Part]:
        refuse_twice([_base(url) for url in self.urls], "the list of shards")
        for number, url in enumerate(self.urls):
            name = _base(url)
            with _remote(url, name) as stream:
                window = ForwardWindow(checked_stream(stream, name), label=name)
                yield from parts_of_stream(
                    window, FileFilter(self.subtree), done, key=f"shard-{number:06d}", prefix=f"{name}/"
                )

    def resolve(self, rows: Rows) -> Resolved:
        label = FileFilter(self.subtree).part_of(f"the set of {len(self.urls)} shards")
        return resolve_tree(rows, classes=self.classes, label=label, folders=False, parted=True)


@contextmanager
def _remote(url: str, name: str) -> Iterator[BinaryIO]:
    """Opens a URL as a byte stream, through `webdataset` with its secure mode on; a transfer that fails is an error."""
    gopen: Any = import_module("webdataset.gopen")
    gopen.utils.enforce_security = True
    if "GOPEN_REWRITE" in os.environ:
        raise SourceError("GOPEN_REWRITE is set in the environment: URLs are read as they are given, unset it")
    try:
        stream = gopen.gopen(url, "rb")
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"cannot open {name}: {printable(str(error))[:200]}") from error
    finished = False
    try:
        yield stream
        while stream.read(1 << 20):  # to the end, so that the status of the transfer is known
            pass
        finished = True
    except SourceError as error:
        raise _failed(stream, name) or error from error
    except OSError as error:
        raise _failure(stream, name) from error
    finally:
        if not finished:
            _close_quietly(stream)
    if failure := _failed(stream, name):
        raise failure


def _failed(stream: Any, name: str) -> SourceError | None:
    """Closes a stream; returns what to say if the transfer failed: a shard that looks cut may not have arrived."""
    try:
        stream.close()
    except OSError as error:
        failure = _failure(stream, name)
        failure.__cause__ = error
        return failure
    return None


def _failure(stream: Any, name: str) -> SourceError:
    """Says why by the exit status alone: what the program itself says holds the URL, which may hold a password."""
    status: Any = getattr(stream, "status", None)
    return SourceError(f"cannot read {name}: the transfer failed ({_CURL.get(status, f'exit status {status}')})")


def _close_quietly(stream: Any) -> None:
    with suppress(OSError):
        stream.close()
