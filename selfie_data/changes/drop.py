"""Samples are excluded from a dataset: their ids stay, nobody goes through them any more.

    excluded/SHA256.npy    the ids, those excluded earlier too
    manifest.json          names it; last

With `purge`, the bytes of the images go too, see `purge`: a request to take an image down is one for its bytes.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfie_data.build.build_shards import check_space
from selfie_data.build.workspace import clear, locked
from selfie_data.changes.purge import Rewritten, finish_change, purge, stored_in, sweep
from selfie_data.changes.succession import load_parent, refuse_extension, succeed
from selfie_data.dataset.manifest import Excluded, Manifest
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.pages import write_pages
from selfie_data.dataset.rows import count_classes
from selfie_data.errors import BuildError, CorruptSampleError
from selfie_data.id_lists import Ids, encode_ids
from selfie_data.storage.place import Place, place_of, storage_of


class Dropped(NamedTuple):
    """What a drop does, or would do.

    Attributes:
        excluded: samples that were not excluded before.
        purged: images whose bytes were still there.
        shards: that are written again for it.
        bytes: of these shards.
        live: samples that are left.
        fingerprint: of the dataset afterwards; that of the present one for a dry run.
    """

    excluded: int
    purged: int
    shards: int
    bytes: int
    live: int
    fingerprint: str

    @property
    def anything(self) -> bool:
        """Whether the dataset becomes another."""
        return bool(self.excluded or self.purged)


def drop_samples(out: Place | str, ids: Ids, *, with_bytes: bool = False, dry_run: bool = False) -> Dropped:
    """Excludes samples; again is no change.

    Args:
        out: the dataset directory, or its URL in a bucket.
        ids: [B] int64, in any order.
        with_bytes: purge their images too; without any ids, those of all excluded samples. What was cut short ends the
            same when it is asked for again.
        dry_run: change nothing.

    Raises:
        BuildError: no ids of this dataset, none would be left, the dataset is of schema 1 or being extended, a damaged
            image would stay in a shard that is to be written again, or its files cannot be written.
        DatasetError: the dataset is damaged.
    """
    directory = place_of(out).absolute()
    parent = load_parent(directory)  # else the lock would make a folder
    with locked(directory):
        parent = load_parent(directory)
        refuse_extension(directory)
        dataset = Dataset(path=directory, manifest=parent)
        _check(directory, parent, ids)
        every = np.union1d(dataset.excluded, ids)
        if len(every) == len(dataset):
            raise BuildError(f"{directory}: no sample would be left; delete the folder instead")
        wanted = np.unique(ids) if len(ids) else dataset.excluded
        shards = stored_in(dataset, wanted) if with_bytes else {}
        facts = Dropped(
            excluded=len(every) - len(dataset.excluded),
            purged=sum(map(len, shards.values())),
            shards=len(shards),
            bytes=sum(parent.shards[position].bytes for position in shards),
            live=len(dataset) - len(every),
            fingerprint=parent.fingerprint,
        )
        if dry_run:
            return facts
        if with_bytes and isinstance(directory, Path):
            check_space(directory, facts.bytes)
        try:
            rewritten = _purge(dataset, shards) if shards else None
            child = _write(dataset, every, rewritten) if facts.anything else parent
            if with_bytes:
                sweep(directory, child)
                clear(directory)
        except OSError as error:
            raise BuildError(
                f"{directory}: cannot be written ({error.strerror}); give the same command again"
            ) from error
        return facts._replace(fingerprint=child.fingerprint)


def _check(directory: Place, manifest: Manifest, ids: Ids) -> None:
    if len(ids) and not 0 <= ids.min() <= ids.max() < manifest.samples:
        raise BuildError(
            f"{directory}: sample ids are 0 to {manifest.samples - 1}, got {ids.min()} to {ids.max()}; "
            "`selfie-data preview` shows which image has which id"
        )


def _purge(dataset: Dataset, shards: Mapping[int, Ids]) -> Rewritten:
    try:
        return purge(dataset, shards)
    except CorruptSampleError as error:  # of those that stay
        finish_change(dataset.path, dataset.manifest)
        raise BuildError(
            f"{error.shard}: sample {dataset.sample_at(error.shard, error.offset)} of it, which stays, is damaged; "
            "restore the shard, or purge that one too"
        ) from error


def _write(dataset: Dataset, every: Ids, rewritten: Rewritten | None) -> Manifest:
    """Writes the child without the samples `every`, and with other shards where some were written again."""
    parent = dataset.manifest
    new = np.setdiff1d(every, dataset.excluded)
    counts = Counter(parent.class_counts)
    counts.subtract(count_classes(dataset.rows(new).label))
    content = encode_ids(every)
    excluded = Excluded(samples=len(every), sha256=hashlib.sha256(content).hexdigest())
    storage_of(dataset.path).write(excluded.file, content)
    changes = {"excluded": excluded, "class_counts": {label: count for label, count in counts.items() if count}}
    if rewritten is not None:
        shards, restarts, files = rewritten
        changes |= {"shards": write_pages(dataset.path, shards), "restarts": restarts, "files": files}
    return succeed(dataset.path, parent, added={}, keep=rewritten is None, **changes)
