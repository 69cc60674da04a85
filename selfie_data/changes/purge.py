"""The bytes of images leave a dataset: their shards are written again under names of another generation.

    shard-000007.tar          the tar that was, its index and rows: deleted, last
    shard-000007.1.tar        without the images; the others have the bytes and keys that they had
    shard-000007.1.rows       as many rows as before: those of the images have no bytes, so that every id stays

Nothing of what a dataset was can be opened afterwards that named the old shards: those manifests go too, with the table
of all samples. A purge that was cut short ends the same when it is asked for again; until the new manifest is there,
nothing has happened. An extension ends one first.
"""

import contextlib
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfie_data.build.shard_task import scratch_folder
from selfie_data.build.workspace import clear
from selfie_data.dataset.manifest import EXCLUDED, ROOTS, UPGRADED, Manifest, kept_roots
from selfie_data.dataset.names import BUILD, SUFFIX, index_name, key_of, number_of, rows_name, shard_name
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.pages import FOLDER
from selfie_data.dataset.read import decode_payload, read_payloads
from selfie_data.dataset.rows import Restarts, ShardRecord, add_restarts, encode_rows
from selfie_data.dataset.shard import Member, ShardWriter, format_index
from selfie_data.dataset.table import NAME as TABLE
from selfie_data.files import write_file
from selfie_data.images.jpeg_scan import marked_interval
from selfie_data.images.statistics import PixelSums, add_up, sum_pixels
from selfie_data.storage.place import Place, storage_of

_log = logging.getLogger(__name__)
Ids = NDArray[np.int64]
_AT_ONCE = 256  # images


class Rewritten(NamedTuple):
    """What a manifest says otherwise once shards were written again: their entries, restart markers, other files."""

    entries: NDArray[np.void]
    restarts: Restarts | None
    files: dict[str, str]


def stored_in(dataset: Dataset, ids: Ids) -> dict[int, Ids]:
    """Returns the ids [B] whose images have bytes, by the positions of their shards."""
    stored = ids[dataset.rows(ids).length > 0]
    shards = dataset.shard_of(stored)
    return {position: stored[shards == position] for position in np.unique(shards).tolist()}


def purge(dataset: Dataset, shards: Mapping[int, Ids]) -> Rewritten:
    """Writes shards again without the images of some ids, under new names; the manifest is left to the caller.

    Args:
        dataset: whose.
        shards: position of a shard -> ids in it.
    """
    manifest = dataset.manifest
    entries = manifest.shards.entries(np.arange(len(manifest.shards)))
    restarts = manifest.restarts
    for position, ids in shards.items():
        generation = int(entries["generation"][position]) + 1
        before, (record, digest) = dataset.record(position), _write_again(dataset, position, ids, generation)
        restarts = _less(restarts, before.restarts, record.restarts)
        facts = {"sha256": _hash(record.sha256 or "0" * 64), "rows_sha256": _hash(digest)}
        for name, value in {**facts, "generation": generation, "bytes": record.bytes}.items():
            entries[name][position] = value
    return Rewritten(entries, restarts, {name: digest for name, digest in manifest.files.items() if name != TABLE})


def finish_change(directory: Place, manifest: Manifest) -> None:
    """Ends a change that was cut short, if one was: done or not begun, as the manifest that is there says."""
    names = [found.name for found in storage_of(directory).list()]
    if not manifest.upgraded and UPGRADED in names:
        storage_of(directory).delete([UPGRADED])
    if (directory / BUILD).exists() or _replaced(names, manifest):
        _log.info("%s: a change was cut short; what it left is deleted first", directory)
        sweep(directory, manifest)
        clear(directory)


def sweep(directory: Place, manifest: Manifest) -> None:
    """Deletes whatever may hold bytes of purged images: shards of other generations, and what names nothing else.

    Args:
        directory: of the dataset.
        manifest: that is there.
    """
    storage = storage_of(directory)
    here = [found.name for found in storage.list()]
    old = _replaced(here, manifest)
    roots = kept_roots(directory, manifest)
    kept = {name: root for name, root in roots.items() if isinstance(root, Manifest) and not old & {*root.reached()}}
    known = {*manifest.reached(), *(name for root in kept.values() for name in root.reached())}
    folders = (f"{FOLDER}/", f"{EXCLUDED}/", f"{TABLE}/")
    unknown = {name for name in here if name.startswith(folders) and name not in known}
    # Roots first: at no time is one there whose files are not.
    storage.delete(sorted(name for name in here if name.startswith(f"{ROOTS}/") and name not in kept))
    storage.delete(sorted(old | unknown))
    if isinstance(directory, Path):
        for below in [
            each for folder in (ROOTS, TABLE, EXCLUDED) for each in os.walk(directory / folder, topdown=False)
        ]:
            with contextlib.suppress(OSError):  # not empty
                Path(below[0]).rmdir()


def _hash(digest: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(digest), np.uint8)


def _replaced(names: Sequence[str], manifest: Manifest) -> set[str]:
    """Returns those of the names of files that are of a shard of the manifest, but of another generation."""
    current = {name for shard in manifest.shards for name in (shard.name, index_name(shard.name), shard.rows_name)}
    numbers = ((number_of(name), name) for name in names)
    return {name for number, name in numbers if number is not None and number < manifest.next_number} - current


def _write_again(dataset: Dataset, position: int, ids: Ids, generation: int) -> tuple[ShardRecord, str]:
    """Writes a shard without the images of some ids; returns what is known of it then, and the SHA-256 of its rows."""
    before, start = dataset.record(position), dataset.manifest.shards.start(position)
    rows, every = before.rows.copy(), np.arange(start, start + before.samples)
    gone = np.isin(every, ids) | (rows["length"] == 0)
    for column in ("offset", "length", "height", "width", "crc32c"):
        rows[column][gone] = 0
    left = every[~gone]
    name = shard_name(before.number, generation=generation)
    scratch = scratch_folder(dataset.path) / f"{name}.tmp"
    scratch.parent.mkdir(exist_ok=True)
    members, intervals, sums = list[tuple[Member, ...]](), Counter[str](), list[PixelSums]()
    with ShardWriter(scratch) as shard:
        for piece in np.split(left, range(_AT_ONCE, len(left), _AT_ONCE)):
            keys = dataset.plan_positions(piece).tolist()
            for sample, place, payload in zip(piece.tolist(), keys, read_payloads(dataset, piece), strict=True):
                row = rows[sample - start]
                member = f"{key_of(place)}.{SUFFIX[dataset.encoding]}"
                row["offset"] = shard.add(member, payload)
                members.append((Member(name=member, offset=int(row["offset"]), length=len(payload)),))
                if row["label"] >= 0:
                    label, text = f"{key_of(place)}.cls", b"%d" % row["label"]
                    members[-1] += (Member(name=label, offset=shard.add(label, text), length=len(text)),)
                if before.sums is not None:  # now of decoded pixels: those that the encoder had are gone
                    sums = [add_up([*sums, sum_pixels(decode_payload(dataset, sample, payload))])]
                if before.restarts is not None:
                    intervals[str(marked_interval(payload))] += 1
    files, index = {name: scratch}, format_index(members)
    if members:
        files[index_name(name)] = scratch.with_name(f"{index_name(name)}.tmp")
        write_file(files[index_name(name)], index, durable=True)
    else:
        files.pop(name).unlink()
    record = replace(
        before,
        bytes=shard.bytes if members else 0,
        sha256=shard.sha256 if members else "",
        index_sha256=hashlib.sha256(index).hexdigest() if members else "",
        sums=None if before.sums is None else add_up(sums),
        rows=rows,
        restarts=before.restarts and Restarts(intervals=dict(intervals), reasons=before.restarts.reasons),
    )
    content = encode_rows(record)
    files[rows_name(name)] = scratch.with_name(f"{rows_name(name)}.tmp")
    write_file(files[rows_name(name)], content, durable=True)
    storage_of(dataset.path).publish(files)
    return record, hashlib.sha256(content).hexdigest()


def _less(total: Restarts | None, before: Restarts | None, after: Restarts | None) -> Restarts | None:
    """Returns a sum over shards with another addend in the place of one; why images have no markers stays as it was."""
    if total is None or before is None or after is None:
        return total
    intervals = Counter(total.intervals)
    intervals.subtract(before.intervals)
    intervals.update(after.intervals)
    return add_restarts([Restarts(intervals={name: n for name, n in intervals.items() if n}, reasons=total.reasons)])
