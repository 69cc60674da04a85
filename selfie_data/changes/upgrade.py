"""A dataset of schema 1 gets a root, pages and rows beside its manifest: it opens at once and is the same dataset.

Shards, table, splits and fingerprint stay, and so do runs of it; versions from before read it as they did. What is
written follows from what is there, so that a second call, or two at once, change nothing.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from selfie_data.dataset.manifest import SCHEMA, Manifest, tree_digest
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.pages import entries_of, write_pages
from selfie_data.dataset.rows import ShardRecord, encode_rows
from selfie_data.dataset.sums import Sums
from selfie_data.dataset.table import NAME as TABLE
from selfie_data.errors import DatasetError
from selfie_data.notices import NAME as NOTICES
from selfie_data.storage.place import Place, place_of, storage_of

_REQUESTS = 16  # at a time


def upgrade_dataset(path: Place | str, *, progress: Callable[[int], object] = lambda _: None) -> Manifest:
    """Writes rows, pages and, last, `manifest-2.json`; returns what opening reads then. The shards are not read.

    Args:
        path: of a dataset, a folder or the URL of one in a bucket. Of the present schema it is left alone.
        progress: called with the number of samples whose rows were just written.

    Raises:
        DatasetError: the dataset is damaged, or cannot be written.
    """
    dataset = open_dataset(place_of(path))
    manifest, old = dataset.manifest, dataset.manifest.listed
    if old is None:
        return manifest
    sums = Sums()
    try:
        for record, digest in _write_rows(dataset):
            sums.add(record, digest)
            progress(record.samples)
        table = {name: digest for name, digest in old.files.items() if name.startswith(f"{TABLE}/")}
        files = {TABLE: tree_digest(table)} | {name: old.files[name] for name in old.files if name == NOTICES}
        msgspec.structs.replace(
            manifest,
            schema=SCHEMA,
            upgraded=old.digest,
            sizes=sums.sizes,
            shards=write_pages(dataset.path, entries_of(sums.columns)),
            files=files,
            listed=None,
        ).save(dataset.path)
    except OSError as error:
        raise DatasetError(f"{dataset.path}: cannot be written ({error.strerror}); give the command again") from error
    return Manifest.load(dataset.path)


def _write_rows(dataset: Dataset) -> Iterator[tuple[ShardRecord, str]]:
    """Writes the rows of all shards; yields them in order, with the SHA-256 of their files."""
    storage = storage_of(dataset.path)

    def write(position: int) -> tuple[ShardRecord, str]:
        record = dataset.record(position)
        data = encode_rows(record)
        storage.write(dataset.manifest.shards[position].rows_name, data)
        return record, hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(_REQUESTS) as pool:
        yield from pool.map(write, range(len(dataset.manifest.shards)))
