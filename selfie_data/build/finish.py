"""The last step of a build: the rows of all shards become pages, manifest and, where they are few, the sample table."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.build.shard_task import scratch_folder
from selfie_data.dataset import table as sample_table
from selfie_data.dataset.manifest import Manifest, tree_digest
from selfie_data.dataset.names import rows_name, shard_name
from selfie_data.dataset.pages import entries_of, write_pages
from selfie_data.dataset.rows import ShardRecord, decode_rows
from selfie_data.dataset.sums import Sums
from selfie_data.dataset.table import SampleTable, write_table
from selfie_data.errors import BuildError
from selfie_data.files import publish_tree
from selfie_data.images.encode import STORED_AS
from selfie_data.notices import NAME as NOTICES
from selfie_data.notices import Notices
from selfie_data.storage.place import Place, storage_of

TABLE_SAMPLES = 10_000_000  # up to so many a table of all samples is written, for other tools
_REQUESTS = 16  # at a time
_AT_ONCE = 256  # rows files


class Earlier(NamedTuple):
    """What was found out by an earlier build, whose dataset is the source of this one.

    Attributes:
        mean, std: of the channels, 0..255.
        pixels: how many pixels these are of.
        notices: of its source and its images.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pixels: int
    notices: Notices


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
    earlier: Earlier | None = None,
) -> Manifest:
    """Writes table, notices, pages and manifest of a dataset whose shards are all there.

    Args:
        out: the dataset.
        shards: how many tasks there were; one without a usable image left no file.
        identity: the manifest's entries that were known before the build.
        class_names: of the labels.
        notices: what of the source was not used.
        earlier: of a build whose dataset is the source of this one, instead of statistics and notices of this one.

    Raises:
        BuildError: no image could be used, or the files cannot be written.
    """
    sums, held = Sums(), list[NDArray[np.void]]()
    for record, digest in read_records(out, range(shards)):
        sums.add(record, digest)
        held.append(record.rows)
        if sums.samples > TABLE_SAMPLES:
            held.clear()
    if not sums.samples:
        raise BuildError(f"none of {sums.places} images can be used; the first, {sums.first}")
    statistics = earlier or Earlier(
        mean=sums.pixels.mean, std=sums.pixels.std, pixels=sums.pixels.pixels, notices=Notices(notices, sums.notices)
    )
    try:
        files = _write_table(out, held) | _write_notices(out, statistics.notices)
        manifest = Manifest(
            **{**identity, "codecs": identity["codecs"] | dict(sorted(sums.decoders.items()))},
            class_names=tuple(class_names),
            image_size=identity["options"]["size"],
            encoding=STORED_AS[identity["options"]["encoding"]],
            **{name: getattr(statistics, name) for name in ("mean", "std", "pixels")},
            samples=sums.samples,
            class_counts=sums.class_counts,
            sizes=sums.sizes,
            shards=write_pages(out, entries_of(sums.columns)),
            files=files,
            notices=statistics.notices.summary(),
            restarts=sums.restarts,
        ).sealed()
        manifest.save(out)
    except OSError as error:
        raise BuildError(f"{out}: cannot write table and manifest ({error.strerror}); shards are kept") from error
    return Manifest.load(out)


def read_records(out: Place, shards: range) -> Iterator[tuple[ShardRecord, str]]:
    """Yields what is known of shards, by number, and the SHA-256 of each one's rows; few at a time are in memory.

    Raises:
        BuildError: one is gone, or damaged.
    """
    with ThreadPoolExecutor(1 if isinstance(out, Path) else _REQUESTS) as pool:
        for start in range(0, len(shards), _AT_ONCE):
            yield from pool.map(partial(_load, out), shards[start : start + _AT_ONCE])


def _load(out: Place, number: int) -> tuple[ShardRecord, str]:
    path = out / rows_name(shard_name(number))
    try:
        data = path.read_bytes()
        return decode_rows(data), hashlib.sha256(data).hexdigest()
    except (FileNotFoundError, ValueError):
        raise BuildError(f"{path}: gone or damaged while building; give the same command again") from None


def _write_notices(out: Place, notices: Notices) -> dict[str, str]:
    if not notices:
        storage_of(out).delete([NOTICES])  # of a build that was cut short, when the source was another
        return {}
    content = notices.to_json()
    storage_of(out).write(NOTICES, content)
    return {NOTICES: hashlib.sha256(content).hexdigest()}


def _write_table(out: Place, held: Sequence[NDArray[np.void]]) -> dict[str, str]:
    """Writes `samples.zarr` of the rows of all shards; without any there is none."""
    if not held:
        return {}
    rows = np.concatenate(held)
    columns = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}
    shard = np.repeat(np.arange(len(held), dtype=np.int32), [len(part) for part in held])
    scratch, final = scratch_folder(out) / sample_table.NAME, out / sample_table.NAME
    shutil.rmtree(scratch, ignore_errors=True)
    files = write_table(SampleTable(shard=shard, **columns), scratch)
    if isinstance(final, Path):
        shutil.rmtree(final, ignore_errors=True)
        publish_tree(scratch, final)
    else:
        storage = storage_of(out)
        stale = {found.name for found in storage.list(sample_table.NAME)} - files.keys()
        storage.publish({name: scratch.parent / name for name in files})
        storage.delete(sorted(stale))
    return {sample_table.NAME: tree_digest(files)}
