"""A folder of this machine as storage: temporary names, fsync, renames; see `selfie_data.files`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident

from selfie_data.files import sync_directory, write_atomic, write_file
from selfie_data.storage.protocol import PART_BYTES, Stat, StorageError


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """The `Storage` of a folder."""

    root: Path

    @property
    def url(self) -> str:
        return str(self.root)

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        pieces = list(self.pieces(name, start=start, length=length))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, name: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        with (self.root / name).open("rb", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size if length is None else start + length
            while start < end and (piece := os.pread(file.fileno(), min(end - start, PART_BYTES), start)):
                yield piece
                start += len(piece)
        if start < end:
            raise StorageError(str(self.root / name), f"truncated, {start} bytes where {end} are wanted")

    def stat(self, name: str) -> Stat | None:
        try:
            facts = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stat(name, facts.st_size, facts.st_mtime_ns)

    def list(self, folder: str = "") -> Iterator[Stat]:
        for path in (self.root / folder).rglob("*"):
            if path.is_file() and (found := self.stat(path.relative_to(self.root).as_posix())):
                yield found

    def publish(self, files: Mapping[str, Path]) -> None:
        """As promised; the files must be on disk already and on the folder's file system: they are renamed."""
        folders = dict[Path, None]()
        for name, file in files.items():
            target = self.root / name
            for missing in _missing(target.parent):
                missing.mkdir(exist_ok=True)
                folders[missing.parent] = None
            os.replace(file, target)
            folders[target.parent] = None
        for folder in folders:
            sync_directory(folder)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            write_atomic(target, data)
            return
        scratch = target.with_name(f".{target.name}.{os.getpid()}.{get_ident()}.tmp")  # two may write the same
        write_file(scratch, data, durable=False)
        os.replace(scratch, target)

    def create(self, name: str, data: bytes) -> bool:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.{os.getpid()}.{get_ident()}.tmp")
        write_file(scratch, data, durable=True)
        try:
            os.link(scratch, target)  # unlike a rename it replaces nothing
        except FileExistsError:
            return False
        finally:
            scratch.unlink()
        sync_directory(target.parent)
        return True

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)


def _missing(folder: Path) -> list[Path]:
    """Returns the folders to make, the outermost first."""
    found = []
    while not folder.exists():
        found.append(folder)
        folder = folder.parent
    return found[::-1]
