"""Finds what is wrong with a dataset: every hash, index, count, class histogram and row, and the splits.

`open_dataset` already refuses damage that a loader would meet at start-up. This reads every byte and goes on after the
first problem, so that the list is complete and names the samples.

A shard holds, for each of its rows and nothing else (512-byte blocks):

    offset - 512   header of KEY.raw | KEY.jpg | KEY.png
    offset         the image, `length` bytes, padded with zeros
    then           header and text of KEY.cls, where the sample has a label
"""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import google_crc32c
import numpy as np

from selfie_data.dataset.manifest import NAME as MANIFEST
from selfie_data.dataset.manifest import UPGRADED, Manifest, kept_roots, load_old, tree_digest
from selfie_data.dataset.names import BUILD, EXTENSION, SPLITS_FOLDER, SUFFIX, key_of, number_of
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.pages import FOLDER as PAGES
from selfie_data.dataset.rows import ShardRecord, count_classes
from selfie_data.dataset.shard import BLOCK, Member, format_index, padding
from selfie_data.dataset.splits import check_splits
from selfie_data.dataset.sums import Sums
from selfie_data.dataset.table import NAME as TABLE
from selfie_data.dataset.table import read_checked, read_table, table_files
from selfie_data.errors import DatasetError, ImageError
from selfie_data.images.decode import decode_stored
from selfie_data.images.jpeg_scan import marked_interval
from selfie_data.storage.place import Place, storage_of

_READ_BYTES = 1 << 22


def verify_dataset(
    path: Place, *, decode: bool = False, threads: int = 1, progress: Callable[[int], object] = lambda _: None
) -> list[str]:
    """Returns every problem of the dataset directory `path`, one line each; [] if it is sound.

    Args:
        path: the dataset directory or its URL; a shard of the latter lies in a temporary file while it is checked.
        decode: decode every image too, compare its size with the table, and count its restart markers.
        threads: shards checked at a time.
        progress: called with the number of samples just checked.

    Raises:
        DatasetError: there is no manifest that can be read; nothing else can be judged then.
    """
    manifest = Manifest.load(path)
    problems = [*_check_upgraded(path, manifest), *_changed_files(path, manifest)]
    try:
        shards = list(manifest.shards)
        table = read_table(path, samples=manifest.samples, files=manifest.files) if manifest.listed else None
    except DatasetError as error:
        return [*problems, *_unless_listed(str(error), problems), *check_splits(path)]
    roots = kept_roots(path, manifest)
    problems = [*_unlisted_files(path, manifest, roots), *map(str, _errors(roots)), *problems]
    dataset = Dataset(path=path, manifest=manifest, table=table)
    try:
        _ = dataset.excluded
    except DatasetError as error:
        return [*problems, str(error), *check_splits(path)]
    if table is not None and not np.array_equal(
        table.shard, np.repeat(np.arange(len(shards)), manifest.shards.samples)
    ):
        return [*problems, f"{path / TABLE}: column shard is not what the manifest says"]
    intervals: list[int] | None = [] if decode else None
    sums = Sums()
    check = partial(_check_shard, dataset, intervals=intervals, progress=progress)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for shard, (record, found) in zip(shards, pool.map(check, range(len(shards))), strict=True):
            problems += found
            if record is not None:
                sums.add(record, shard.rows_sha256)
    if sums.count == len(shards):
        problems += _check_sums(dataset, sums)
    return [*problems, *_check_restarts(path, manifest, sums, intervals), *check_splits(path)]


def _check_upgraded(path: Place, manifest: Manifest) -> Iterator[str]:
    if not manifest.upgraded:
        return
    try:
        old = load_old(path)
    except DatasetError as error:
        yield str(error)
        return
    if (old.digest, old.fingerprint) != (manifest.upgraded, manifest.fingerprint):
        yield f"{path / UPGRADED}: was written beside another {MANIFEST}; remove it and upgrade again"


def _errors(roots: Mapping[str, Manifest | DatasetError]) -> Iterator[DatasetError]:
    return (root for root in roots.values() if isinstance(root, DatasetError))


def _check_sums(dataset: Dataset, sums: Sums) -> Iterator[str]:
    """Compares what the root says of all samples with what their rows add up to."""
    path, manifest = dataset.path, dataset.manifest
    if manifest.listed is not None:
        return
    left_out = Counter(count_classes(dataset.rows(dataset.excluded).label))
    counts = {label: left for label, count in sums.class_counts.items() if (left := count - left_out[label])}
    found: dict[str, object] = {"class_counts": counts}
    if not manifest.excluded:  # others may have been the largest
        found["sizes"] = sums.sizes
    if sums.counted and not manifest.lineage:
        found |= {"mean": sums.pixels.mean, "std": sums.pixels.std, "pixels": sums.pixels.pixels}
    for name, value in found.items():
        if value != getattr(manifest, name):
            yield f"{path}: {name} of all samples are {value}, the manifest says {getattr(manifest, name)}"
    if sums.columns["first"] != manifest.shards.firsts.tolist():
        yield f"{path / PAGES}: the keys of the shards do not follow each other as their rows do"


def _check_restarts(path: Place, manifest: Manifest, sums: Sums, intervals: list[int] | None) -> Iterator[str]:
    """Compares the restart markers that were found with what the manifest says."""
    if manifest.restarts is None or intervals is None or len(intervals) < sums.stored:  # others are damaged
        return
    found = {str(interval): count for interval, count in Counter(intervals).items()}
    for interval in sorted(found.keys() | manifest.restarts.intervals.keys(), key=int):
        count, said = found.get(interval, 0), manifest.restarts.intervals.get(interval, 0)
        if count != said:
            what = f"a restart marker every {interval} MCUs" if interval != "0" else "no restart markers"
            yield f"{path}: {count} images have {what}, the manifest says {said}"


def _unless_listed(problem: str, problems: list[str]) -> list[str]:
    return [] if problem in problems else [problem]


def _unlisted_files(path: Place, manifest: Manifest, roots: Mapping[str, Manifest | DatasetError]) -> Iterator[str]:
    """Names what no root knows, empty folders too; a dataset directory holds nothing else.

    An extension that is not finished has more shards than any root, and a folder of its own.
    """
    files = [MANIFEST, *manifest.reached(), *roots, *([UPGRADED] if manifest.upgraded else ())]
    for root in roots.values():
        if isinstance(root, Manifest):
            files += root.reached()
    known = {*files, *(folder.as_posix() for name in files for folder in PurePosixPath(name).parents), SPLITS_FOLDER}
    under_way = (path / BUILD / EXTENSION).exists()
    for name in _names_below(path):
        if name in known or name.startswith(f"{SPLITS_FOLDER}/") or _has_entries(path / name):
            continue
        number = number_of(name)
        if under_way and (name.startswith(f"{BUILD}/") or (number is not None and number >= manifest.next_number)):
            continue
        yield f"{path / name}: not part of the dataset (the manifest does not list it); remove it"


def _names_below(path: Place) -> list[str]:
    """Returns the names of files, of a folder also those of folders, sorted; none of a web server: it has no list."""
    if isinstance(path, Path):
        return [entry.relative_to(path).as_posix() for entry in sorted(path.rglob("*"))]
    return sorted(found.name for found in storage_of(path).list()) if path.listable else []


def _has_entries(path: Place) -> bool:
    """Tells whether it is a folder, not a link to one, whose entries are judged by themselves."""
    try:
        return path.is_dir() and not path.is_symlink() and any(path.iterdir())
    except OSError:  # it may not be read: as good as empty
        return False


def _changed_files(path: Place, manifest: Manifest) -> Iterator[str]:
    for name, digest in sorted(manifest.files.items()):
        try:
            if name == TABLE:
                _check_table(path, manifest.samples, digest)
            else:
                read_checked(path, name, manifest.files)
        except DatasetError as error:
            yield str(error)


def _check_table(path: Place, samples: int, expected: str) -> None:
    """Compares the hash of all files of the table, which no loader reads.

    Raises:
        DatasetError: one is missing, or changed.
    """
    digests = {}
    for name in table_files(samples):
        try:
            digests[name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
        except FileNotFoundError:
            raise DatasetError(f"{path / name}: missing") from None
        except OSError as error:
            raise DatasetError(f"{path / name}: cannot be read ({error.strerror})") from error
    if (found := tree_digest(digests)) != expected:
        raise DatasetError(f"{path / TABLE}: changed, its SHA-256 is {found[:12]}…, the manifest says {expected[:12]}…")


def _check_shard(
    dataset: Dataset, position: int, *, intervals: list[int] | None, progress: Callable[[int], object]
) -> tuple[ShardRecord | None, list[str]]:
    """Returns what is known of one shard, and its problems; without rows nothing can be said of it."""
    shard = dataset.manifest.shards[position]
    try:
        record = dataset.record(position)
    except DatasetError as error:
        return None, [str(error)]
    problems = list(_check_classes(dataset, position, record))
    path = dataset.path / shard.name
    if not shard.bytes:
        lost = int(np.count_nonzero(record.rows["length"]))
        return record, [*problems, *([f"{path}: has no bytes, its rows say {lost} images"] if lost else [])]
    if isinstance(path, Path) and path.exists() and not path.is_file():  # a pipe or a device would be read for ever
        return record, [*problems, f"{path}: not a regular file"]
    try:
        with _opened(path) as file:
            digest = _sha256(file)
            size = os.fstat(file.fileno()).st_size
            found, index = _check_rows(dataset, file.fileno(), position, record, intervals)
    except OSError as error:
        return record, [*problems, f"{path}: cannot be read ({error.strerror})"]
    if size != shard.bytes:
        problems.append(f"{path}: {size} bytes, the manifest says {shard.bytes}")
    elif digest != shard.sha256:
        problems.append(f"{path}: changed, SHA-256 is {digest[:12]}…, the manifest says {shard.sha256[:12]}…")
    progress(shard.samples)
    return record, [*problems, *found, *_check_index(path.with_suffix(".idx"), index, record)]


@contextmanager
def _opened(path: Place) -> Iterator[BinaryIO]:
    """Opens a shard of this machine, or a copy of it that nobody sees and that is gone afterwards."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        path.copy_to(copy)
        copy.seek(0)
        yield copy


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_READ_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _check_classes(dataset: Dataset, position: int, record: ShardRecord) -> Iterator[str]:
    path, listed = dataset.path / dataset.manifest.shards[position].name, dataset.manifest.listed
    counts = count_classes(record.rows["label"])
    if listed is not None and counts != listed.shards[position].class_counts:
        yield f"{path}: the class histogram of the table differs from the manifest's"
    classes = len(dataset.class_names)
    if any(not -1 <= int(label) < classes for label in counts):
        yield f"{path}: its rows have labels outside -1 … {classes - 1}"


def _check_rows(
    dataset: Dataset, descriptor: int, position: int, record: ShardRecord, intervals: list[int] | None
) -> tuple[list[str], bytes]:
    """Returns the problems of the samples of a shard, and the index that belongs to it.

    Unless `intervals` is None, images are decoded too, and the restart intervals of sound JPEGs appended to it.
    """
    problems: list[str] = []
    listed: list[tuple[Member, ...]] = []
    suffix = SUFFIX[dataset.encoding]
    name, start = dataset.manifest.shards[position].name, dataset.manifest.shards.start(position)
    places = dataset.plan_positions(np.arange(start, start + record.samples))
    excluded = np.isin(np.arange(start, start + record.samples), dataset.excluded)
    expected_offset = BLOCK
    for row, place, left_out in zip(record.rows.tolist(), places.tolist(), excluded.tolist(), strict=True):
        key = key_of(place)
        label, offset, length, height, width, checksum = row
        if not length:
            if not left_out:
                problems.append(f"{dataset.path / name}: sample {key} has no bytes, and is not excluded")
            continue
        padded = length + padding(length)
        text = b"" if label < 0 else str(label).encode()
        extent = BLOCK + padded + (2 * BLOCK if text else 0)
        block = os.pread(descriptor, extent, max(offset - BLOCK, 0))
        payload = block[BLOCK : BLOCK + length]
        reason = (
            "stands at another offset in its row than in the shard" * (offset != expected_offset)
            or _check_member(block[:BLOCK], f"{key}.{suffix}", length)
            or "the checksum of its bytes differs from its row's" * (google_crc32c.value(payload) != checksum)
            or (_check_label(block[BLOCK + padded :], f"{key}.cls", text) if text else "")
            or ("" if intervals is None else _check_pixels(payload, dataset.encoding, height, width))
        )
        if reason:
            problems.append(f"{dataset.path / name}: sample {key} at offset {offset}: {reason}")
        elif intervals is not None and dataset.manifest.restarts is not None:
            intervals.append(marked_interval(payload))
        image = Member(name=f"{key}.{suffix}", offset=offset, length=length)
        label_member = Member(name=f"{key}.cls", offset=offset + padded + BLOCK, length=len(text))
        listed.append((image, label_member) if text else (image,))
        expected_offset += extent
    return problems, format_index(listed)


def _check_member(header: bytes, name: str, length: int) -> str:
    """Returns what is wrong with a member's header: its name, its size or its checksum."""
    if len(header) < BLOCK:
        return "the shard ends before it"
    if header[:100].rstrip(b"\0") != name.encode():
        return f"its header names {header[:100].rstrip(bytes(1))!r}, not {name}"
    stated, checksum = header[124:136].rstrip(b"\0 "), header[148:156].rstrip(b"\0 ")
    if stated != f"{length:011o}".encode():
        return f"its header states {stated!r} bytes (octal), its row {length}"
    if checksum != f"{sum(header) - sum(header[148:156]) + 8 * 32:06o}".encode():
        return "the checksum of its header is wrong"
    return ""


def _check_label(block: bytes, name: str, text: bytes) -> str:
    if reason := _check_member(block[:BLOCK], name, len(text)):
        return reason
    found = block[BLOCK : BLOCK + len(text)]
    return "" if found == text else f"its label is {found!r} in the shard, {text!r} in its row"


def _check_pixels(payload: bytes, encoding: str, height: int, width: int) -> str:
    """Decodes an image and returns what is wrong with it."""
    try:
        decode_stored(payload, encoding=encoding, height=height, width=width)
    except ImageError as error:
        return str(error)
    return ""


def _check_index(path: Place, expected: bytes, record: ShardRecord) -> Iterator[str]:
    try:
        found = path.read_bytes()
    except OSError as error:
        yield f"{path}: cannot be read ({error.strerror})"
        return
    if found != expected:
        different = next(
            (
                number
                for number, pair in enumerate(zip(found.split(b"\n"), expected.split(b"\n"), strict=False), 1)
                if pair[0] != pair[1]
            ),
            "the last",
        )
        yield f"{path}: differs from what the rows give, from line {different} on"
    elif hashlib.sha256(found).hexdigest() != record.index_sha256:
        yield f"{path}: is what the rows give, but they say another SHA-256"
