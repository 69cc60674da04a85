"""Folders: from the path a user gives to a layout's files, walking them, reading one, and a source of single files."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from numpy import int32, int64
from numpy.typing import NDArray

from selfie_data.errors import ImageError, SourceError
from selfie_data.images.formats import HEAD_BYTES
from selfie_data.notices import Notices
from selfie_data.source import Json, Progress, SourceImage
from selfie_data.sources.naming.file_names import NameTable, is_junk, printable
from selfie_data.sources.readers.byte_ranges import REMOTE_READS, check_length
from selfie_data.sources.readers.image_tree import FileFilter, is_label, is_wanted
from selfie_data.sources.readers.labels import Labelled
from selfie_data.storage.place import Place, RemotePath, entries, place_of, storage_of
from selfie_data.storage.protocol import Stat
from selfie_data.storage.remote import WEB


def existing(root: Place | str, kind: str) -> Place:
    """Returns the path; SourceError if nothing is there or it may not be read."""
    path = place_of(root)
    try:
        path.stat()
    except FileNotFoundError as error:
        web = isinstance(path, RemotePath) and path.base.startswith(WEB)
        hint = "; a web server has no list of its files, so no folder of one is read" * web
        raise SourceError(f"there is no {path}: --root must name what the source {kind} reads{hint}") from error
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    return path


def listed(folder: Place) -> list[Place]:
    """Returns what is in a folder, sorted."""
    try:
        return entries(folder)
    except OSError as error:
        raise SourceError(f"cannot read {folder}: {error.strerror}") from error


def below(folder: Place) -> list[Place]:
    """Returns the files below a folder, sorted. Links are followed; a folder that is met twice is refused."""
    if not isinstance(folder, Path):
        return sorted(folder / each.name for each in storage_of(folder).list())
    seen: set[tuple[int, int]] = set()
    found: list[Place] = []

    def refuse(error: OSError) -> None:
        raise SourceError(f"cannot read {error.filename}: {error.strerror}") from error

    for where, _, names in os.walk(folder, onerror=refuse, followlinks=True):
        facts = os.stat(where)
        if (facts.st_dev, facts.st_ino) in seen:
            raise SourceError(f"{where} links to a folder that is read already")
        seen.add((facts.st_dev, facts.st_ino))
        found += [Path(where) / name for name in names]
    return sorted(found)


def layout_root(
    root: Place | str, kind: str, *, wanted: Callable[[str], bool], archives: Callable[[str], bool]
) -> Place:
    """Finds a layout's files: `root` itself if it is a file or holds them, else one folder or archive in it.

    Args:
        root: what the user gave.
        kind: for the error.
        wanted: says by name whether a file is one of the layout's.
        archives: says by name whether a file is the layout's archive.
    """
    path = existing(root, kind)
    if not path.is_dir():
        return path
    inside = listed(path)
    if any(wanted(file.name) for file in inside):
        return path
    folders = [file for file in inside if file.is_dir() and any(wanted(inner.name) for inner in listed(file))]
    candidates = folders or [file for file in inside if file.is_file() and archives(file.name)]
    if not candidates:
        raise SourceError(f"{path} holds neither the files nor an archive of {kind}")
    if len(candidates) > 1:
        names = ", ".join(file.name for file in candidates[:5])
        raise SourceError(f"{path} holds several candidates for {kind} ({names}); --root must name one")
    return candidates[0]


class Found(NamedTuple):
    """A file: its path below the root, its size, its time of change in ns.

    `identity` is one number for device and inode: two names of one file have the same; 0 where it is not known.
    """

    name: str
    size: int
    changed: int
    identity: int = 0


def walk(root: Place, wanted: FileFilter) -> list[Found]:
    """Returns the files of a folder and those below it, sorted; what is neither image nor label has size 0.

    Links are followed; loops are refused. A system's folder that cannot be read is named itself.
    """
    if not isinstance(root, Path):
        return _walk_remote(root if wanted.subtree is None else root / wanted.subtree)
    found: list[Found] = []
    seen: dict[tuple[int, int], str] = {}
    pending = [(root if wanted.subtree is None else root / wanted.subtree, "", frozenset[tuple[int, int]]())]
    while pending:
        folder, prefix, above = pending.pop()
        try:
            here = folder.stat()
            if (here.st_dev, here.st_ino) in above:
                raise SourceError(
                    f"the folder {printable(prefix)} links to a folder that holds it: take the link out, or pick a "
                    f"part by --subtree"
                )
            if (first := seen.setdefault((here.st_dev, here.st_ino), prefix)) != prefix and not is_junk(prefix):
                raise SourceError(
                    f"{printable(prefix)} and {printable(first)} are one folder, by a link: images would come twice; "
                    f"take the link out, or pick a part by --subtree"
                )
            below = above | {(here.st_dev, here.st_ino)}
            for entry in os.scandir(folder):
                name = prefix + entry.name
                if entry.is_dir():
                    pending.append((folder / entry.name, name + "/", below))
                else:
                    found.append(_stat(entry, name))
        except OSError as error:
            if not is_junk(prefix):
                raise SourceError(f"cannot read {folder}: {error.strerror}") from error
            found.append(Found(prefix, 0, 0))
    return sorted(found)


def _walk_remote(folder: RemotePath) -> list[Found]:
    def kept(file: Stat) -> bool:
        return is_label(file.name) or is_wanted(file.name, file.size, lambda: head(file))

    def head(file: Stat) -> bytes:
        return (folder / file.name).read_range(0, min(file.size, HEAD_BYTES))

    files = storage_of(folder).list()
    return sorted(Found(file.name, file.size if kept(file) else 0, file.changed) for file in files)


def _stat(entry: "os.DirEntry[str]", name: str) -> Found:
    try:
        facts = entry.stat()
    except FileNotFoundError:  # a link to nothing: found out, and reported, when it is read
        return Found(name, 0, 0)
    kept = is_label(name) or is_wanted(name, facts.st_size, lambda: _head(entry))
    return Found(name, facts.st_size if kept else 0, facts.st_mtime_ns, identity_of(facts))


def identity_of(facts: os.stat_result) -> int:
    """Returns one number for device and inode."""
    return facts.st_dev << 64 | facts.st_ino


def _head(entry: "os.DirEntry[str]") -> bytes:
    try:
        return read_file(Path(entry.path), entry.name, limit=HEAD_BYTES)
    except ImageError:  # a pipe, a socket, or it may not be read: counted with what is no image
        return b""


def read_file(path: Place, name: str, *, limit: int | None = None) -> bytes:
    """Returns the bytes of a regular file.

    Args:
        path: the file.
        name: what errors call it.
        limit: bytes it may have; None for the limit of an image.

    Raises:
        ImageError: it is gone, may not be read, is no regular file, is empty or too large.
    """
    if not isinstance(path, Path):
        return _read_remote(path, name, limit)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe must not hold us up
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise ImageError(f"{name} is no regular file")
            if limit is None:
                check_length(facts.st_size, name)
            size = facts.st_size if limit is None else min(facts.st_size, limit)
            return _read_whole(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror}") from error


def _read_remote(path: RemotePath, name: str, limit: int | None) -> bytes:
    """As `read_file`; what a network or a store does to a read is no image's fault, and passes as it is."""
    try:
        if limit is not None:
            return path.read_range(0, min(path.stat().st_size, limit))
        data = path.read_bytes()
        check_length(len(data), name)
        return data
    except FileNotFoundError as error:
        raise ImageError(f"cannot read {name}: {error.strerror}") from error


def _read_whole(descriptor: int, size: int) -> bytes:
    pieces = list(_pieces(descriptor, size))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _pieces(descriptor: int, size: int) -> Iterator[bytes]:
    while size > 0 and (data := os.read(descriptor, size)):
        size -= len(data)
        yield data


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """An `ImageSource` of files. `names` are paths below `root`; `sizes` int64 [N] are known of remote ones."""

    kind: str
    description: Mapping[str, Json]
    fingerprint: str
    root: Place
    names: NameTable
    labelled: Labelled
    sizes: NDArray[int64] | None = None
    spool_bytes: int = 0
    notices: Notices = field(default_factory=Notices, compare=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labelled.class_names

    @property
    def labels(self) -> NDArray[int32]:
        return self.labelled.labels

    @property
    def at_once(self) -> int:
        """How many reads pay at a time."""
        return 1 if isinstance(self.root, Path) else REMOTE_READS

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> SourceImage:
        if not 0 <= index < len(self.names):
            raise IndexError(f"image {index} of {len(self.names)}")
        name = self.names[index]
        shown = printable(name)
        if self.sizes is not None and self.sizes[index]:  # what is missing or empty says so when it is read
            check_length(int(self.sizes[index]), shown)
        return SourceImage(shown, read_file(self.root / name, shown))

    def spool(self, directory: Place, progress: Progress | None = None) -> "FileSource":  # noqa: ARG002
        return self

    def take(self, indices: NDArray[int64]) -> "FileSource":
        """See `source.ImageSource`."""
        return replace(
            self,
            names=self.names.take(indices),
            labelled=self.labelled.take(indices),
            sizes=None if self.sizes is None else self.sizes[indices],
            description={},
            notices=Notices(),
        )
