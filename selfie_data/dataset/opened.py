"""A built dataset, opened.

    dataset = open_dataset("shards")
    dataset.table.label[7], dataset.shard_path(dataset.table.shard[7]), dataset.subset("train")

Manifest and table are checked, shards known to be there; nothing of them is read yet.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from selfie_data.dataset.manifest import Manifest, ShardEntry
from selfie_data.dataset.names import SPLITS_FOLDER, index_name, key_of
from selfie_data.dataset.splits_record import read_splits
from selfie_data.dataset.table import SampleTable, read_checked, read_table
from selfie_data.errors import DatasetError
from selfie_data.storage.place import Place, RemotePath, place_of, storage_of

_THREADS = 4


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A dataset directory, or a URL, with its manifest and its sample table.

    Attributes:
        path: the directory or URL.
        manifest: what it consists of.
        table: a row a sample.
        opener: of the shards, where a loader goes through them at a URL.
    """

    path: Place
    manifest: Manifest
    table: SampleTable
    opener: ShardOpener | None = None

    def __len__(self) -> int:
        return len(self.table)

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
        removed = np.array([int(entry.key) for entry in self.manifest.quarantined], dtype=np.int64)
        # Removed positions with at most `id` survivors before them come first.
        before = np.searchsorted(removed - np.arange(len(removed)), sample_ids, side="right")
        return sample_ids + before

    def subset_names(self) -> tuple[str, ...]:
        """Returns the names of the stored subsets, sorted."""
        record = read_splits(self.path)
        return tuple(sorted(record.subsets)) if record else ()

    def subset(self, name: str) -> NDArray[np.int64]:
        """Returns the sample ids of a stored subset, sorted, after checking their hash.

        Raises:
            DatasetError: no such subset (the message names those there are), or it is damaged.
        """
        record = read_splits(self.path)
        if record is None or name not in record.subsets:
            names = ", ".join(self.subset_names()) or "none; make them with `selfie-data split`"
            raise DatasetError(f"{self.path}: no subset {name!r}; there are: {names}")
        file = f"{SPLITS_FOLDER}/{name}.npy"
        data = read_checked(self.path, file, {file: record.subsets[name].sha256})
        ids: NDArray[np.int64] = np.load(io.BytesIO(data), allow_pickle=False)
        if ids.dtype != np.int64 or ids.ndim != 1 or (len(ids) and not 0 <= ids[0] <= ids[-1] < len(self)):
            raise DatasetError(f"{self.path / file}: must be int64 ids in [0, {len(self)}), sorted")
        return ids


def open_dataset(path: Place | str) -> Dataset:
    """Opens a dataset directory or URL; checks every hash but those of the shards, whose sizes it checks.

    At a URL, indexes are not read: no reader of ours needs them, `verify` compares them, and each is a request.

    Raises:
        DatasetError: something is missing, damaged, does not belong, or is of a newer schema.
    """
    directory = place_of(path)
    manifest = Manifest.load(directory)
    if isinstance(directory, Path):
        _check_shards(directory, manifest)
    else:
        _check_objects(directory, manifest)
    table = read_table(directory, samples=manifest.samples, files=manifest.files)
    return Dataset(path=directory, manifest=manifest, table=table)


def _check_shards(directory: Path, manifest: Manifest) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing leaves the interpreter free
        for _ in pool.map(lambda shard: _check_shard(directory, shard, manifest), manifest.shards):
            pass
    _refuse_other_shards(directory, {path.name for path in directory.glob("shard-*.tar")}, manifest)


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


def _check_shard(directory: Path, shard: ShardEntry, manifest: Manifest) -> None:
    _check_size(directory / shard.name, shard.bytes)
    read_checked(directory, index_name(shard.name), manifest.files)


def _refuse_other_shards(directory: Place, names: set[str], manifest: Manifest) -> None:
    others = sorted(names - {shard.name for shard in manifest.shards})
    if others:
        raise DatasetError(f"{directory / others[0]}: a shard that the manifest does not list; remove it")


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
