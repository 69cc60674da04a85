"""The last step of a build: the records of all shards become the sample table and the manifest."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.build.shard_record import ShardRecord, load_record
from selfie_data.build.shard_task import record_path, scratch_folder
from selfie_data.dataset import table as sample_table
from selfie_data.dataset.manifest import Manifest, Quarantined, ShardEntry, add_restarts
from selfie_data.dataset.names import index_name, shard_name
from selfie_data.dataset.table import SampleTable, write_table
from selfie_data.errors import BuildError
from selfie_data.files import publish_tree
from selfie_data.images.encode import STORED_AS
from selfie_data.images.statistics import add_up
from selfie_data.notices import NAME as NOTICES
from selfie_data.notices import Notices
from selfie_data.storage.place import Place, storage_of

_REQUESTS = 16  # at a time


class Statistics(NamedTuple):
    """Channel means and deviations, 0..255, and how many pixels they are of."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixels: int


def prepare_finishing() -> None:
    """Imports what writes the table: 0.15 s that a process can spend while others build shards."""
    import zarr  # noqa: F401


def finish_dataset(
    out: Place,
    shards: int,
    *,
    identity: Mapping[str, Any],
    class_names: Sequence[str],
    notices: Notices,
    quarantined: Sequence[Quarantined] = (),
    statistics: Statistics | None = None,
) -> Manifest:
    """Writes table, notices (the source's and the shards') and manifest of a dataset whose shards are all there.

    Args:
        out: the dataset.
        shards: how many tasks there were; one without a usable image left no file.
        identity: the manifest's entries that were known before the build.
        class_names: of the labels.
        notices: what of the source was not used.
        quarantined: by an earlier build, whose dataset is the source of this one.
        statistics: of an earlier build; None: of the pixels of this one.

    Raises:
        BuildError: no image could be used, or the files cannot be written.
    """
    with ThreadPoolExecutor(1 if isinstance(out, Path) else _REQUESTS) as pool:
        records = list(pool.map(partial(_load, out), range(shards)))
    kept = [record for record in records if record.samples]
    quarantined = (*quarantined, *(entry for record in records for entry in record.quarantined))
    if not kept:
        first = quarantined[0]
        raise BuildError(f"none of {len(quarantined)} images can be used; the first, {first.text}")
    notices = Notices(notices, _notices(kept))
    try:
        files = _write_table(out, kept) | _write_notices(out, notices)
        if statistics is None:
            sums = add_up(record.sums for record in records)
            statistics = Statistics(mean=sums.mean, std=sums.std, pixels=sums.pixels)
        encoding = STORED_AS[identity["options"]["encoding"]]
        decoders = {name: version for record in records for name, version in record.decoders.items()}
        manifest = Manifest(
            **{**identity, "codecs": identity["codecs"] | dict(sorted(decoders.items()))},
            class_names=tuple(class_names),
            image_size=identity["options"]["size"],
            encoding=encoding,
            **statistics._asdict(),
            shards=tuple(_entry(record) for record in kept),
            files=files | {index_name(shard_name(record.number)): record.index_sha256 for record in kept},
            quarantined=quarantined,
            notices=notices.summary(),
            restarts=add_restarts(record.restarts for record in kept),
        ).sealed()
        manifest.save(out)
    except OSError as error:
        raise BuildError(f"{out}: cannot write table and manifest ({error.strerror}); shards are kept") from error
    return Manifest.load(out)


def _load(out: Place, number: int) -> ShardRecord:
    record = load_record(record_path(out, number))
    if record is None:
        raise BuildError(f"{record_path(out, number)}: gone or damaged while building; give the same command again")
    return record


def _notices(records: Sequence[ShardRecord]) -> Notices:
    found = Notices()
    for record in records:
        for reason, name in record.notices:
            found.add(reason, name)
    return found


def _entry(record: ShardRecord) -> ShardEntry:
    return ShardEntry(
        name=shard_name(record.number),
        samples=record.samples,
        bytes=record.bytes,
        sha256=record.sha256,
        class_counts=count_classes(record.rows["label"]),
    )


def count_classes(labels: NDArray[np.int32]) -> dict[str, int]:
    """Returns class index, as text, -> number of samples, in order of index; -1: no label."""
    values, counts = np.unique(labels, return_counts=True)
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def _write_notices(out: Place, notices: Notices) -> dict[str, str]:
    if not notices:
        storage_of(out).delete([NOTICES])  # of a build that was cut short, when the source was another
        return {}
    content = notices.to_json()
    storage_of(out).write(NOTICES, content)
    return {NOTICES: hashlib.sha256(content).hexdigest()}


def _write_table(out: Place, kept: list[ShardRecord]) -> dict[str, str]:
    counts = [record.samples for record in kept]
    columns = {name: np.concatenate([record.rows[name] for record in kept]) for name in kept[0].rows.dtype.names or ()}
    table = SampleTable(shard=np.repeat(np.arange(len(kept), dtype=np.int32), counts), **columns)
    scratch, final = scratch_folder(out) / sample_table.NAME, out / sample_table.NAME
    shutil.rmtree(scratch, ignore_errors=True)
    files = write_table(table, scratch)
    if isinstance(final, Path):
        shutil.rmtree(final, ignore_errors=True)
        publish_tree(scratch, final)
    else:
        storage = storage_of(out)
        stale = {found.name for found in storage.list(sample_table.NAME)} - files.keys()
        storage.publish({name: scratch.parent / name for name in files})
        storage.delete(sorted(stale))
    return files
