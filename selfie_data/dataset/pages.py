"""`pages/`: the shards of a dataset in fixed-width entries, 4,096 a page, so that opening reads what it needs of them.

    manifest.json -> index: a line a page -> pages: an entry a shard -> shard-NNNNNN.rows: a row a sample

Index and pages are named by their SHA-256: a dataset that grows shares its full pages with what it was.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.names import rows_name, shard_name
from selfie_data.dataset.table import read_checked
from selfie_data.errors import DatasetError
from selfie_data.storage.place import Place, storage_of
from selfie_data.storage.protocol import Storage

FOLDER = "pages"
PAGE_ENTRIES = 4_096
ENTRY = np.dtype(
    [
        ("number", "<u4"),
        ("samples", "<u4"),
        ("first", "<i8"),
        ("quarantined", "<u4"),
        ("generation", "<u4"),
        ("bytes", "<i8"),
        ("sha256", "u1", (32,)),
        ("rows_sha256", "u1", (32,)),
    ]
)
PAGE = np.dtype([("sha256", "u1", (32,)), ("samples", "<i8"), ("shards", "<i8")])
_AT_ONCE = 16  # pages that are read, and so checked, when a dataset is opened: 65,536 shards, 6 MB
_HELD = 128  # pages: 50 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard.

    Attributes:
        number: in its name; rises from shard to shard.
        samples: that it holds. Without any (all of its images were quarantined) there is no tar.
        first: plan position of its first place; it has as many places as samples and quarantined images together.
        quarantined: images that could not be used.
        generation: how often its tar was written again under another name.
        bytes: of the tar.
        sha256: of the tar, in hexadecimal; zeros where there is none.
        rows_sha256: of the rows file; zeros in a dataset of schema 1, which has none.
    """

    number: int
    samples: int
    first: int
    quarantined: int
    generation: int
    bytes: int
    sha256: str
    rows_sha256: str

    @property
    def name(self) -> str:
        """Name of the tar."""
        return shard_name(self.number, generation=self.generation)

    @property
    def rows_name(self) -> str:
        """Name of the rows file."""
        return rows_name(self.name)


class Totals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a root says of all shards.

    Attributes:
        count: how many there are, those without samples included.
        bytes: of all tars.
        quarantined: images that could not be used.
        largest: samples of the largest shard.
        pages: SHA-256 of the index of the pages, in hexadecimal; "" where there are none.
    """

    count: int
    bytes: int
    quarantined: int
    largest: int
    pages: str


class Pages(Protocol):
    """Where pages come from."""

    @property
    def index(self) -> NDArray[np.void]:
        """A line of `PAGE` a page."""

    @property
    def totals(self) -> Totals:
        """What is said of all of them."""

    def read(self, page: int) -> NDArray[np.void]:
        """Returns the entries of a page, `ENTRY`."""


class _Page(NamedTuple):
    entries: NDArray[np.void]
    starts: NDArray[np.int64]  # first sample id of each shard, and the id after the last


class Shards(Sequence[Shard]):
    """The shards of a dataset by sample id, read page by page. Safe for threads and after a fork, and picklable.

    Attributes:
        pages: where they come from.
        totals: of all shards.
        starts: [pages + 1] int64, the first sample id of each page, and the number of samples.
    """

    def __init__(self, pages: Pages) -> None:
        self.pages, self.totals = pages, pages.totals
        index = pages.index
        self.starts: NDArray[np.int64] = np.concatenate(([0], np.cumsum(index["samples"], dtype=np.int64)))
        self._count = self.totals.count
        self._held: OrderedDict[int, _Page] = OrderedDict()
        self._lock, self._process = threading.Lock(), os.getpid()
        for page in range(len(index) if len(index) <= _AT_ONCE else 0):
            self._page(page)

    def __reduce__(self) -> tuple[object, ...]:
        return Shards, (self.pages,)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shards):
            return NotImplemented
        return self.totals == other.totals and np.array_equal(self.pages.index, other.pages.index)

    def __hash__(self) -> int:
        return hash(self.totals)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Shard]: ...
    def __getitem__(self, index: int | slice) -> Shard | Sequence[Shard]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError(f"shards are 0 to {self._count - 1}, got {index}")
        return _shard(self._page(place // PAGE_ENTRIES).entries[place % PAGE_ENTRIES])

    def __iter__(self) -> Iterator[Shard]:
        for entries in self._entries():
            yield from map(_shard, entries)

    def column(self, name: str) -> NDArray[Any]:
        """Returns an attribute of all shards, [shards]; from 10^10 images on that reads hundreds of megabytes."""
        return np.concatenate([np.empty(0, ENTRY[name]), *(entries[name] for entries in self._entries())])

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the pages and, if they are stored, of their index, relative to the dataset."""
        pages = tuple(page_name(line["sha256"].tobytes().hex()) for line in self.pages.index)
        return (*pages, page_name(self.totals.pages)) if self.totals.pages else ()

    @property
    def samples(self) -> NDArray[np.int64]:
        """Samples of each shard, [shards] int64."""
        return self.column("samples").astype(np.int64)

    @property
    def firsts(self) -> NDArray[np.int64]:
        """Plan position of each shard's first place, [shards] int64."""
        return self.column("first")

    def locate(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns for sample ids [B] the positions of their shards and their places in them, int64 [B] each."""
        if len(self.starts) == 2:
            return _locate(self._page(0).starts, ids)
        shard, place = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
        pages = np.searchsorted(self.starts, ids, side="right") - 1
        for page in np.unique(pages).tolist():
            inside = pages == page
            shard[inside], place[inside] = _locate(self._page(page).starts, ids[inside] - self.starts[page])
            shard[inside] += page * PAGE_ENTRIES
        return shard, place

    def start(self, shard: int) -> int:
        """Returns the first sample id of a shard, by its position."""
        page = shard // PAGE_ENTRIES
        return int(self.starts[page] + self._page(page).starts[shard % PAGE_ENTRIES])

    def find(self, name: str) -> int:
        """Returns the position of the shard whose tar has this name.

        Raises:
            KeyError: there is none.
        """
        for position, shard in enumerate(self):
            if shard.name == name:
                return position
        raise KeyError(name)

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the positions of the shards that hold plan positions [B], int64 [B]."""
        return np.searchsorted(self.firsts, positions, side="right") - 1

    def entries(self, shards: NDArray[np.int64]) -> NDArray[np.void]:
        """Returns the entries `ENTRY` [B] of shards by their positions [B]."""
        found = np.empty(len(shards), ENTRY)
        for page in np.unique(shards // PAGE_ENTRIES).tolist():
            inside = shards // PAGE_ENTRIES == page
            found[inside] = self._page(page).entries[shards[inside] % PAGE_ENTRIES]
        return found

    def _entries(self) -> Iterator[NDArray[np.void]]:
        return (self._page(page).entries for page in range(len(self.pages.index)))

    def _page(self, page: int) -> _Page:
        found = self._held.get(page)
        if found is not None and len(self.starts) - 1 <= _HELD:  # nothing is ever given up
            return found
        if os.getpid() != self._process:  # forked: the lock may have been held by a thread that does not exist here
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            if page in self._held:
                self._held.move_to_end(page)
                return self._held[page]
            entries = self.pages.read(page)
            starts = np.concatenate(([0], np.cumsum(entries["samples"], dtype=np.int64)))
            self._held[page] = found = _Page(entries, starts)
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
            return found


@dataclass(frozen=True, slots=True, eq=False)
class HeldPages:
    """The entries of a dataset that has no pages on disk."""

    entries: NDArray[np.void]

    @property
    def index(self) -> NDArray[np.void]:
        return index_of(self.entries)

    @property
    def totals(self) -> Totals:
        return totals_of(self.entries, pages="")

    def read(self, page: int) -> NDArray[np.void]:
        return self.entries[page * PAGE_ENTRIES : (page + 1) * PAGE_ENTRIES]


@dataclass(frozen=True, slots=True, eq=False)
class StoredPages:
    """The pages of a dataset directory or URL."""

    dataset: Place
    totals: Totals
    index: NDArray[np.void]

    def read(self, page: int) -> NDArray[np.void]:
        """Returns the entries of a page.

        Raises:
            DatasetError: it is missing, changed, or not what the index says.
        """
        line = self.index[page]
        name = page_name(line["sha256"].tobytes().hex())
        entries = _read(self.dataset, name, ENTRY)
        if (len(entries), int(entries["samples"].sum(dtype=np.int64))) != (line["shards"], line["samples"]):
            raise DatasetError(f"{self.dataset / name}: does not hold the shards and samples that the index says")
        return entries


def open_pages(dataset: Place, totals: Totals) -> Shards:
    """Reads the index of a dataset's pages and, if they are few, the pages.

    Raises:
        DatasetError: something is missing, changed, or not what the root says.
    """
    name = page_name(totals.pages)
    index = _read(dataset, name, PAGE)
    counts = index["shards"]
    if counts.sum() != totals.count or (counts[:-1] != PAGE_ENTRIES).any() or (counts < 1).any():
        raise DatasetError(f"{dataset / name}: its pages must be full but the last, and have {totals.count} shards")
    return Shards(StoredPages(dataset, totals, index))


def write_pages(dataset: Place, entries: NDArray[np.void]) -> Shards:
    """Writes pages, then their index, to a dataset.

    Full pages are there already where a dataset has grown, with the same bytes.
    """
    storage = storage_of(dataset)
    for start in range(0, len(entries), PAGE_ENTRIES):
        _write(storage, entries[start : start + PAGE_ENTRIES].tobytes())
    index = index_of(entries)
    return Shards(StoredPages(dataset, totals_of(entries, pages=_write(storage, index.tobytes())), index))


def entries_of(columns: Mapping[str, Sequence[Any] | NDArray[np.int64]]) -> NDArray[np.void]:
    """Returns entries `ENTRY` of the attributes of shards, a sequence each, hashes in hexadecimal; the others are 0."""
    entries = np.zeros(len(columns["number"]), ENTRY)
    for name, values in columns.items():
        if name.endswith("sha256"):
            entries[name] = np.frombuffer(bytes.fromhex("".join(map(str, values))), np.uint8).reshape(-1, 32)
        else:
            entries[name] = values
    return entries


def totals_of(entries: NDArray[np.void], *, pages: str) -> Totals:
    """Returns the totals of all shards' entries; `pages`: SHA-256 of the index of their pages."""
    return Totals(
        count=len(entries),
        bytes=int(entries["bytes"].sum()),
        quarantined=int(entries["quarantined"].sum(dtype=np.int64)),
        largest=int(entries["samples"].max(initial=0)),
        pages=pages,
    )


def index_of(entries: NDArray[np.void]) -> NDArray[np.void]:
    """Returns the lines `PAGE` of the index that belongs to the entries of all shards."""
    pages = [entries[start : start + PAGE_ENTRIES] for start in range(0, len(entries), PAGE_ENTRIES)]
    index = np.zeros(len(pages), PAGE)
    for line, page in zip(index, pages, strict=True):
        line["sha256"] = np.frombuffer(hashlib.sha256(page.tobytes()).digest(), np.uint8)
        line["samples"], line["shards"] = page["samples"].sum(dtype=np.int64), len(page)
    return index


def page_name(digest: str) -> str:
    """Returns the path, in the dataset, of the page or index with this SHA-256."""
    return f"{FOLDER}/{digest}"


def _shard(entry: Any) -> Shard:
    values: dict[str, Any] = {
        name: entry[name].tobytes().hex() if name.endswith("sha256") else int(entry[name]) for name in ENTRY.names or ()
    }
    return Shard(**values)


def _locate(starts: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    shard = np.searchsorted(starts, ids, side="right") - 1
    return shard, ids - starts[shard]


def _read(dataset: Place, name: str, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    data = read_checked(dataset, name, {name: name.rpartition("/")[2]})
    if len(data) % dtype.itemsize:
        raise DatasetError(f"{dataset / name}: {len(data)} bytes are no whole number of entries")
    return np.frombuffer(data, dtype)


def _write(storage: Storage, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    storage.write(page_name(digest), data)
    return digest
