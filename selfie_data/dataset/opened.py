"""A built dataset, opened.

    dataset = open_dataset("shards")
    dataset.rows(np.array([7])).label, dataset.manifest.shards[0].name, dataset.subset("train")

Manifest and pages are checked; rows of shards are read when they are asked for, and their hashes compared then.
"""

import logging
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.manifest import Manifest, Sizes
from selfie_data.dataset.manifest_1 import OldManifest, survivors
from selfie_data.dataset.names import BUILD, SPLITS_FOLDER, index_name, key_of
from selfie_data.dataset.pages import PAGE_ENTRIES
from selfie_data.dataset.rows import ROW, Quarantined, RowCache, ShardRecord, read_rows
from selfie_data.dataset.splits_record import read_splits
from selfie_data.dataset.table import SampleTable, read_checked, read_table
from selfie_data.errors import BuildError, DatasetError
from selfie_data.id_lists import decode_ids
from selfie_data.storage.place import Place, RemotePath, place_of, storage_of

_THREADS, _REQUESTS = 4, 32  # that read rows, of a folder and at a URL: there one takes 30 ms, whatever it brings
_ROW_BYTES = 64 << 20  # of rows that are held: 2 million samples are held whole, beyond that the shards asked for last
_log = logging.getLogger(__name__)


class ShardOpener(Protocol):
    """Who opens the shards of a dataset at a URL.

    Attributes:
        few: whether it is asked for few shards at a time, which come and go.
    """

    @property
    def few(self) -> bool: ...

    def open(self, shard: int) -> int:
        """Returns a descriptor of a whole shard, the caller's to close."""

    def is_needed(self, shard: int) -> bool:
        """Says whether a batch that is under way may read of a shard."""


class Dataset:
    """A dataset directory, or a URL, with its manifest. Safe for threads and after a fork, and picklable.

    Attributes:
        path: the directory or URL.
        manifest: what it says.
        opener: of the shards, where a loader goes through them at a URL; pickling leaves it behind.
    """

    def __init__(
        self, *, path: Place, manifest: Manifest, table: SampleTable | None = None, opener: ShardOpener | None = None
    ) -> None:
        """`table`: of a dataset of schema 1, whose rows are in no other place."""
        self.path, self.manifest, self.opener = path, manifest, opener
        self._table = table
        self._excluded: NDArray[np.int64] | None = None
        self._cache = RowCache(manifest.shards, self._shard_rows, limit=_ROW_BYTES, threads=self._readers)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self.path, self.manifest, self._table if self.manifest.listed else None)

    def read_by(self, opener: ShardOpener) -> "Dataset":
        """Returns the dataset with somebody who opens its shards; both hold the same rows."""
        dataset = Dataset(path=self.path, manifest=self.manifest, table=self._table, opener=opener)
        dataset._cache = self._cache
        return dataset

    def __len__(self) -> int:
        return self.manifest.samples

    def refuse_inside(self, path: Path) -> None:
        """Refuses to have something else written among the dataset's own files: `verify` would find it; BuildError."""
        if isinstance(self.path, Path) and path.resolve().is_relative_to(self.path.resolve()):
            raise BuildError(f"{path}: is inside the dataset, which holds its own files only; choose a path beside it")

    @property
    def excluded(self) -> NDArray[np.int64]:
        """The ids that are left out everywhere, ascending, int64.

        Raises:
            DatasetError: their file is missing or damaged.
        """
        if self._excluded is None:
            self._excluded = self._read_excluded()
        return self._excluded

    def live(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns those of sample ids [B] that are not excluded, in their order."""
        return ids[np.isin(ids, self.excluded, invert=True)] if len(self.excluded) else ids

    @property
    def table(self) -> SampleTable:
        """All rows, 36 bytes a sample. Batches of any size go by `rows`, which needs less.

        Raises:
            DatasetError: a rows file is missing or changed.
        """
        if self._table is None:
            table = self._read_table()  # by two threads at worst: after a fork a lock may never be given back
            self._table = self._table or table
        return self._table

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class index of each sample, int32 [N]; -1 = none, or excluded."""
        if not len(self.excluded):
            return self.table.label
        labels = self.table.label.copy()
        labels[self.excluded] = -1
        return labels

    def rows(self, ids: NDArray[np.int64]) -> SampleTable:
        """Returns the rows of sample ids [B], a column each. Of a large dataset it holds those of the last shards only.

        Raises:
            DatasetError: a rows file is missing or changed.
        """
        return self._cache.gather(np.asarray(ids)) if self._is_large else self.table.take(ids)

    def bring_rows(self, position: int) -> None:
        """Reads the rows of a shard that a batch is going to ask for, if they are not held.

        Raises:
            DatasetError: its rows file is missing or changed.
        """
        if self._is_large:
            self._cache.bring(position)

    @property
    def _is_large(self) -> bool:
        return self._table is None and len(self) * ROW.itemsize > _ROW_BYTES

    def prepare_rows(self, *, scattered: bool) -> None:
        """Reads all rows now if they are few, or if samples of any shard are wanted at any time; says so where many.

        Raises:
            DatasetError: a rows file is missing or changed.
        """
        if self._is_large:
            if not scattered:
                return
            _log.warning(
                "a global shuffle of %d samples holds the rows of all shards, %.1f GB a process; shuffle='lanes', or a "
                "window of shards, holds those of its windows",
                len(self),
                len(self) * (ROW.itemsize + 4) / 1e9,
            )
        _ = self.table

    def shard_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the positions, in the manifest's shards, of the shards that hold sample ids [B], int64 [B]."""
        return self.manifest.shards.locate(np.asarray(ids))[0]

    @property
    def sizes(self) -> Sizes:
        """The smallest and the largest of all stored images."""
        return self.manifest.sizes or sizes_of(self.table)

    def record(self, position: int) -> ShardRecord:
        """Returns what is known of a shard, by its position.

        Raises:
            DatasetError: its rows file is missing or changed.
        """
        shard, listed = self.manifest.shards[position], self.manifest.listed
        if listed is None:
            return read_rows(self.path, shard)
        start = self.manifest.shards.start(position)
        rows = np.empty(shard.samples, ROW)
        for name in ROW.names or ():
            rows[name] = getattr(self.table, name)[start : start + shard.samples]
        ends = (key_of(shard.first), key_of(shard.first + shard.samples + shard.quarantined))
        first, last = (bisect_left(listed.quarantined, key, key=attrgetter("key")) for key in ends)
        return ShardRecord(
            number=shard.number,
            bytes=shard.bytes,
            sha256=shard.sha256,
            index_sha256=listed.files[index_name(shard.name)],
            sums=None,
            quarantined=listed.quarantined[first:last],
            rows=rows,
        )

    def quarantined(self) -> Iterator[Quarantined]:
        """Yields the inputs that could not be used, in order of key."""
        for position in np.flatnonzero(self.manifest.shards.column("quarantined")).tolist():
            yield from self.record(position).quarantined

    def __getitem__(self, index: object) -> NoReturn:
        """Answers `torch.utils.data.DataLoader(dataset)`, which asks for samples one by one.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a Dataset says where samples are and holds none: iterate pipelines.PatchLoader(dataset, …) or "
            "pipelines.ImageLoader(dataset, …) instead of a torch.utils.data.DataLoader"
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what identifies the stream of samples."""
        return self.manifest.fingerprint

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.class_names

    @property
    def image_size(self) -> int:
        """The model's input size in pixels."""
        return self.manifest.image_size

    @property
    def encoding(self) -> str:
        """What members hold: "raw", "jpeg" or "png"."""
        return self.manifest.encoding

    def shard_path(self, shard: int) -> Path:
        """Returns the path of shard number `shard`, a value of the table's column.

        Raises:
            DatasetError: the dataset is at a URL.
        """
        if isinstance(self.path, Path):
            return self.path / self.manifest.shards[shard].name
        raise DatasetError(f"{self.path}: is no folder of this machine, so that its shards have no path here")

    def key(self, sample_id: int) -> str:
        """Returns the member key of a sample: its plan position as 12 digits."""
        if not 0 <= sample_id < len(self):
            raise IndexError(f"sample ids are 0 to {len(self) - 1}, got {sample_id}")
        return key_of(int(self.plan_positions(np.array([sample_id]))[0]))

    def plan_positions(self, sample_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the plan positions [B] of sample ids [B]: the id counts the survivors of quarantine."""
        shard, place = self.manifest.shards.locate(sample_ids)
        entries = self.manifest.shards.entries(shard)
        positions = entries["first"] + place
        for number in np.unique(shard[entries["quarantined"] > 0]).tolist():
            inside = shard == number
            first, removed = self._removed(number)
            positions[inside] = first + survivors(removed - first, place[inside])
        return positions

    def sample_ids(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the sample ids [B] at plan positions [B] of samples: the inverse of `plan_positions`."""
        shards = self.manifest.shards
        found = shards.at(positions)
        ids = np.empty(len(positions), np.int64)
        for number in np.unique(found).tolist():
            inside = found == number
            first, removed = self._removed(number)
            before = np.searchsorted(removed, positions[inside])
            ids[inside] = shards.start(number) + positions[inside] - first - before
        return ids

    def sample_at(self, shard: str, offset: int) -> int:
        """Returns the id of the sample whose image begins at a byte of the shard of this name."""
        position = self.manifest.shards.find(shard)
        start = self.manifest.shards.start(position)
        ids = np.arange(start, start + self.manifest.shards[position].samples)
        return int(ids[np.flatnonzero(self.rows(ids).offset == offset)[0]])

    def _removed(self, position: int) -> tuple[int, NDArray[np.int64]]:
        """Returns of a shard the plan position of its first place, and those of what was quarantined."""
        shard = self.manifest.shards[position]
        return shard.first, self.record(position).removed if shard.quarantined else np.empty(0, np.int64)

    @property
    def _readers(self) -> int:
        return _THREADS if isinstance(self.path, Path) else _REQUESTS

    def _shard_rows(self, position: int) -> NDArray[np.void]:
        return self.record(position).rows

    def _read_table(self) -> SampleTable:
        columns = {name: np.empty(len(self), ROW[name]) for name in ROW.names or ()}
        shards = self.manifest.shards

        def fill(position: int) -> None:
            rows, start = self._shard_rows(position), shards.start(position)
            for name, column in columns.items():
                column[start : start + len(rows)] = rows[name]

        with ThreadPoolExecutor(self._readers) as pool:  # hashing leaves the interpreter free
            for _ in pool.map(fill, range(len(shards))):
                pass
        return SampleTable(shard=np.repeat(np.arange(len(shards), dtype=np.int32), shards.samples), **columns)

    def subset_names(self) -> tuple[str, ...]:
        """Returns the names of the stored subsets, sorted."""
        record = read_splits(self.path)
        return tuple(sorted(record.subsets)) if record else ()

    def subset(self, name: str) -> NDArray[np.int64]:
        """Returns the sample ids of a stored subset, sorted, without those excluded, after checking their hash.

        Of a dataset as it was before it grew: those of them that it had.

        Raises:
            DatasetError: no such subset (the message names those there are), or it is damaged, or it was made before
                samples were added, of which none would be in it.
        """
        record = read_splits(self.path)
        if record is None or name not in record.subsets:
            names = ", ".join(self.subset_names()) or "none; make them with `selfie-data split`"
            raise DatasetError(f"{self.path}: no subset {name!r}; there are: {names}")
        file, total = f"{SPLITS_FOLDER}/{name}.npy", record.samples
        ids = self._read_ids(file, record.subsets[name].sha256, total)
        if total < len(self):
            raise DatasetError(
                f"{self.path / SPLITS_FOLDER}: made before {len(self) - total:,} samples were added; `selfie-data "
                "split` gives these their places and leaves the others where they are"
            )
        return self.live(ids[: np.searchsorted(ids, len(self))])

    def _read_excluded(self) -> NDArray[np.int64]:
        excluded = self.manifest.excluded
        if excluded is None:
            return np.empty(0, np.int64)
        ids = self._read_ids(excluded.file, excluded.sha256, len(self))
        if len(ids) != excluded.samples:
            raise DatasetError(f"{self.path / excluded.file}: must be {excluded.samples} ids, got {len(ids)}")
        return ids

    def _read_ids(self, file: str, sha256: str, total: int) -> NDArray[np.int64]:
        try:
            return decode_ids(read_checked(self.path, file, {file: sha256}), total)
        except ValueError as error:
            raise DatasetError(f"{self.path / file}: {error}") from error


def open_dataset(path: Place | str, *, fingerprint: str = "") -> Dataset:
    """Opens a dataset directory or URL: manifest and pages are read and checked.

    With `fingerprint`, as it was when it had this one, before it grew or shrank.

    In a folder of this machine with at most 4,096 shards their sizes are checked, too; whoever reads a shard checks
    its own. Of a dataset of schema 1 everything is checked but the content of the shards and, at a URL, the indexes.

    Raises:
        DatasetError: something is missing, damaged, does not belong, or is of a newer schema.
    """
    directory = place_of(path)
    manifest = Manifest.load(directory, fingerprint=fingerprint)
    table = None
    if manifest.listed is not None:
        _check_old(directory, manifest, manifest.listed)
        table = read_table(directory, samples=manifest.samples, files=manifest.files)
    elif isinstance(directory, Path) and len(manifest.shards) <= PAGE_ENTRIES:
        _check_shards(directory, manifest)
        if not fingerprint and not (directory / BUILD).exists():  # else others belong to what it became, or becomes
            _refuse_other_shards(directory, {path.name for path in directory.glob("shard-*.tar")}, manifest)
    return Dataset(path=directory, manifest=manifest, table=table)


def sizes_of(table: SampleTable) -> Sizes:
    """Returns the extremes of stored images; at least one."""
    area = int((table.height.astype(np.int64) * table.width).max())
    ends = {name: (int(column.min()), int(column.max())) for name, column in (
        ("height", table.height), ("width", table.width), ("length", table.length)
    )}  # fmt: skip
    return Sizes(**ends, area=area)


def _restore(path: Place, manifest: Manifest, table: SampleTable | None) -> Dataset:
    return Dataset(path=path, manifest=manifest, table=table)


def _check_shards(directory: Path, manifest: Manifest) -> None:
    for shard in manifest.shards:
        if shard.bytes:
            _check_size(directory / shard.name, shard.bytes)


def _check_old(directory: Place, manifest: Manifest, listed: OldManifest) -> None:
    if isinstance(directory, RemotePath):
        _check_objects(directory, manifest)
        return
    _check_shards(directory, manifest)
    _refuse_other_shards(directory, {path.name for path in directory.glob("shard-*.tar")}, manifest)
    names = [index_name(shard.name) for shard in listed.shards]
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing leaves the interpreter free
        for _ in pool.map(lambda name: read_checked(directory, name, listed.files), names):
            pass


def _check_objects(directory: RemotePath, manifest: Manifest) -> None:
    """Compares sizes: those of a bucket's list, a request for a thousand objects; those of a web server one by one."""
    if directory.listable:
        sizes = {found.name: found.size for found in storage_of(directory).list()}
        shards = {name for name in sizes if name.startswith("shard-") and name.endswith(".tar")}
        _refuse_other_shards(directory, shards, manifest)
    else:
        names = [shard.name for shard in manifest.shards]
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(storage_of(directory).stat, names)
            sizes = {name: stat.size for name, stat in zip(names, found, strict=True) if stat}
    for shard in manifest.shards:
        if shard.name not in sizes:
            raise DatasetError(f"{directory / shard.name}: missing")
        _compare_size(directory / shard.name, sizes[shard.name], shard.bytes)


def _refuse_other_shards(directory: Place, names: set[str], manifest: Manifest) -> None:
    others = sorted(names - {shard.name for shard in manifest.shards})
    if others:
        raise DatasetError(
            f"{directory / others[0]}: a shard that the manifest does not list; remove it, or give `selfie-data drop "
            "--purge` again if one was cut short"
        )


def _check_size(path: Path, expected: int) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DatasetError(f"{path}: missing") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    _compare_size(path, size, expected)


def _compare_size(path: Place, size: int, expected: int) -> None:
    if size != expected:
        what = "truncated" if size < expected else "too long"
        raise DatasetError(f"{path}: {what}, {size} bytes where the manifest says {expected}")
