"""A dataset grows: new shards behind those that are there, whose files, ids and keys stay as they are.

    OUT/.build/extension.json    while extending only: what by, and what of
    OUT/shard-000117.tar …       numbers, plan positions and ids go on after the last
    OUT/notices-000117.json      what of the source is not used, if anything
    OUT/manifest.json            that of the child, last; then the splits' new members, and .build goes

An extension is a build by the dataset's own options with a plan of its own: its seed is drawn from the dataset's seed
and the number of places before, so that the same command gives the same bytes, on any machine, however often killed.
Mean and deviation stay: they are part of what a network has learned from. An image that is there already is not looked
for; the same source again is, see `extend_dataset`.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfie_data.build.build_shards import default_workers, prepare_job, run_job
from selfie_data.build.finish import read_records
from selfie_data.build.options import SHARD_BYTES, BuildOptions
from selfie_data.build.plan import ShardPlan
from selfie_data.build.progress import Reporter, Silent
from selfie_data.build.workers import refuse_in_worker
from selfie_data.build.workspace import SOURCE_FINGERPRINT, claim_folder, clear, locked
from selfie_data.changes.purge import finish_change
from selfie_data.changes.succession import load_parent, succeed
from selfie_data.dataset.manifest import Manifest, Sizes
from selfie_data.dataset.names import BUILD, EXTENSION, SPLITS_FOLDER, number_of
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pages import entries_of, write_pages
from selfie_data.dataset.rows import add_restarts
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.dataset.splits_record import NAME as SPLITS
from selfie_data.dataset.splits_record import read_splits
from selfie_data.dataset.sums import Sums
from selfie_data.dataset.table import NAME as TABLE
from selfie_data.dataset.table import read_checked
from selfie_data.errors import BuildError, SelfieDataError
from selfie_data.files import read_json
from selfie_data.images.codecs import codec_versions
from selfie_data.images.decode import MAX_PIXELS
from selfie_data.images.formats import current_versions
from selfie_data.notices import Notices, notices_of
from selfie_data.randomness import permutation
from selfie_data.randomness.philox import Purpose, draw_words
from selfie_data.source import ImageSource
from selfie_data.storage.place import Place, place_of, storage_of

_log = logging.getLogger(__name__)
_NOTICES = "notices"  # what files of them begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterPlan:
    """A plan whose shards and positions come after those of a dataset. See `plan.ShardPlan`.

    Attributes:
        plan: of the images that are added, by themselves.
        shard: number of its first shard.
        place: first position.
    """

    plan: ShardPlan
    shard: int
    place: int

    @property
    def samples(self) -> int:
        return self.plan.samples

    @property
    def shards(self) -> int:
        """One more than the highest number."""
        return self.shard + self.plan.shards

    @property
    def by_blocks(self) -> bool:
        return self.plan.by_blocks

    def positions(self, shard: int) -> NDArray[np.int64]:
        return self.place + np.asarray(self.plan.positions(shard - self.shard))

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]:
        return self.plan.sources(np.asarray(positions) - self.place)

    def windows(self, shard: int) -> Sequence[NDArray[np.int64]]:
        return [self.place + window for window in self.plan.windows(shard - self.shard)]


def extend_dataset(
    source: ImageSource,
    out: Place | str,
    *,
    new_classes: bool = False,
    again: bool = False,
    limit: int | None = None,
    max_pixels: int | None = None,
    block_bytes: int | None = None,
    on_error: str = "quarantine",
    workers: int | None = None,
    progress: Reporter | None = None,
) -> Manifest:
    """Adds the images of a source to a dataset, or goes on with that, or finds it done.

    Args:
        source: where images come from, its labels numbered by the dataset's classes (`open_source(classes=…)`), with
            others behind them.
        out: the dataset directory, or its URL in a bucket.
        new_classes: the source may have classes that the dataset has not.
        again: add a source that was the last to be added once more; else that is no change.
        limit, max_pixels, block_bytes, on_error: as in `BuildOptions`; the other options are the dataset's.
        workers: processes; 1 builds in this one. None: as many as there are processors. Does not change any byte.
        progress: told what happens.

    Returns:
        The manifest of the child.

    Raises:
        BuildError: the dataset is of schema 1, or built with other libraries; another extension is not finished;
            classes that it has not; no space, an I/O error, nothing usable in the source.
        SourceError: the source cannot be read.
        DatasetError: the dataset is damaged.
    """
    refuse_in_worker()
    directory, reporter = place_of(out).absolute(), progress or Silent()
    load_parent(directory)  # else the lock would make a folder
    count = workers or default_workers()
    with locked(directory), closing(reporter):
        present = load_parent(directory)
        options = options_of(present, limit=limit, max_pixels=max_pixels, block_bytes=block_bytes, on_error=on_error)
        added = _describe(source, options, present)
        claimed = read_json(directory / BUILD / EXTENSION, remedy=f"delete {BUILD} there", error=BuildError)
        ended = claimed is not None and claimed["parent"] == present.parent  # killed before the end of `_end`
        if ended:
            _end(directory)
        elif claimed is None:
            finish_change(directory, present)
        last = present.lineage[-1].added if present.lineage else {}
        if (ended or (claimed is None and not again)) and last == added:
            _log.info("%s: is extended by this source already; --again adds it once more", directory)
            return present
        _check_codecs(directory, present)
        if claimed is None:
            _delete_leftovers(directory, present)
        identity = {"parent": present.fingerprint, "added": added, SOURCE_FINGERPRINT: source.fingerprint}
        instead = f"delete {BUILD} there to give it up"
        claim_folder(directory, identity, file=EXTENSION, holds="an unfinished extension", instead=instead, beside=True)
        try:
            job = prepare_job(source, directory, options, count, reporter, after=present)
            class_names = _classes(directory, present, job.source, new_classes=new_classes)
            plan = LaterPlan(plan=job.plan, shard=present.next_number, place=present.places)
            job, shards = replace(job, plan=plan), range(plan.shard, plan.shards)
            run_job(job, count, reporter, shards=shards)
        except SelfieDataError:
            if not any(_later(directory, present)):  # nothing was achieved: another command may come
                clear(directory)
            raise
        try:
            child = _finish(directory, present, plan, notices_of(job.source), class_names=class_names, added=added)
            _end(directory)
        except OSError as error:
            raise BuildError(f"{directory}: cannot be written ({error.strerror}); give the command again") from error
        return child


def options_of(manifest: Manifest, **changes: Any) -> BuildOptions:
    """Returns the options of an extension of a dataset: those that it was built with, and some of its own.

    Args:
        manifest: of the dataset.
        changes: options of the extension; None is the dataset's value of `max_pixels`, else the default.
    """
    own = dict(manifest.options)
    del own["limit"]
    own.pop("block_bytes", None)
    marked = "restart_blocks" in own
    given = {name: value for name, value in changes.items() if value is not None}
    size = own["shard_bytes"] or SHARD_BYTES
    # Images that may be kept as they are have markers where they were not asked to be kept.
    encoding = "auto" if own["encoding"] == "keep" and marked else own["encoding"]
    options = BuildOptions(
        **{"restart_blocks": 0, "max_pixels": MAX_PIXELS, **own, "encoding": encoding, "shard_bytes": size, **given},
        seed=extension_seed(manifest),
    )
    said = {name: value for name, value in options.describe().items() if name not in ("limit", "max_pixels")}
    if said != {name: value for name, value in own.items() if name != "max_pixels"}:
        raise BuildError(f"a build has no options that give {own}: such a dataset cannot be extended")
    return options


def extension_seed(manifest: Manifest) -> int:
    """Returns the seed of the next extension of a dataset, 0 <= seed < 2**64."""
    low, high = draw_words(manifest.seed, 0, [manifest.places], Purpose.EXTENSION)[0, :2].tolist()
    return int(low) | int(high) << 32


def _describe(source: ImageSource, options: BuildOptions, parent: Manifest) -> dict[str, Any]:
    """Returns what the bytes of an extension depend on besides its parent."""
    own = {"limit": options.limit, "block_bytes": options.block_bytes_for(source)}
    if options.max_pixels != parent.options.get("max_pixels", MAX_PIXELS):
        own["max_pixels"] = options.max_pixels
    described: dict[str, Any] = json.loads(json.dumps({**source.description, **own}))  # as it is read again
    return {name: value for name, value in described.items() if name not in own or value}


def _check_codecs(directory: Place, parent: Manifest) -> None:
    here = {**codec_versions(), **current_versions(parent.codecs), "permutation": permutation.VERSION}
    for name, then in {**parent.codecs, "permutation": parent.permutation_version}.items():
        if here.get(name, then) != then:
            raise BuildError(
                f"{directory}: was built with {name} {then}, here is {here[name]}: install that version, or "
                "build these images as a dataset of their own"
            )


def _delete_leftovers(directory: Place, parent: Manifest) -> None:
    """Deletes shards of an extension that was given up, which could be taken for those of this one."""
    storage_of(directory).delete(list(_later(directory, parent)))


def _later(directory: Place, parent: Manifest) -> Iterator[str]:
    """Yields the names of files of shards after the last."""
    numbers = ((number_of(found.name), found.name) for found in storage_of(directory).list())
    return (name for number, name in numbers if number is not None and number >= parent.next_number)


def _classes(directory: Place, parent: Manifest, source: ImageSource, *, new_classes: bool) -> tuple[str, ...]:
    """Returns the classes of the child."""
    known, found = parent.class_names, tuple(source.class_names)
    if found[: len(known)] != known[: len(found)]:
        raise BuildError(
            f"{directory}: the source numbers its classes otherwise; open it with the classes of the dataset"
        )
    if len(found) > len(known) and not new_classes:
        names = ", ".join(found[len(known) :][:5])
        raise BuildError(
            f"{directory}: has {len(known)} classes and not {names}; --new-classes adds them behind the others"
        )
    return max(known, found, key=len)


def _finish(
    directory: Place,
    parent: Manifest,
    plan: LaterPlan,
    notices: Notices,
    *,
    class_names: tuple[str, ...],
    added: Mapping[str, Any],
) -> Manifest:
    sums = Sums(places=parent.places)
    for record, digest in read_records(directory, range(plan.shard, plan.shards)):
        sums.add(record, digest)
    if not sums.samples:
        _delete_leftovers(directory, parent)
        clear(directory)
        raise BuildError(f"none of {plan.samples} images can be used; the first, {sums.first}")
    counts = dict.fromkeys(sorted(parent.class_counts | sums.class_counts, key=int), 0)
    for part in (parent.class_counts, sums.class_counts):
        counts |= {label: counts[label] + count for label, count in part.items()}
    entries = parent.shards.entries(np.arange(len(parent.shards)))
    new = Notices(notices, sums.notices)
    every = Notices(*_notices(directory, parent), new)
    return succeed(
        directory,
        parent,
        added=added,
        class_names=class_names,
        codecs=parent.codecs | dict(sorted(sums.decoders.items())),
        samples=parent.samples + sums.samples,
        class_counts=counts,
        sizes=_larger(parent.sizes, sums.sizes),
        shards=write_pages(directory, np.concatenate((entries, entries_of(sums.columns)))),
        files=_other_files(parent) | _write_notices(directory, plan.shard, new),
        notices=every.summary(),
        restarts=add_restarts([parent.restarts, sums.restarts]),
    )


def _larger(sizes: Sizes | None, others: Sizes) -> Sizes:
    assert sizes is not None  # of schema 2
    ends = {name: (getattr(sizes, name), getattr(others, name)) for name in ("height", "width", "length")}
    return Sizes(
        **{name: (min(a[0], b[0]), max(a[1], b[1])) for name, (a, b) in ends.items()},
        area=max(sizes.area, others.area),
    )


def _other_files(parent: Manifest) -> dict[str, str]:
    """Returns the files that a child has of its parent: not the table of all samples, which is of fewer."""
    return {name: digest for name, digest in parent.files.items() if name != TABLE}


def _notices(directory: Place, parent: Manifest) -> list[Notices]:
    names = [name for name in parent.files if name.startswith(_NOTICES)]
    return [Notices.from_json(read_checked(directory, name, parent.files)) for name in sorted(names)]


def _write_notices(directory: Place, shard: int, notices: Notices) -> dict[str, str]:
    if not notices:
        return {}
    name, content = f"{_NOTICES}-{shard:06d}.json", notices.to_json()
    storage_of(directory).write(name, content)
    return {name: hashlib.sha256(content).hexdigest()}


def _end(directory: Place) -> None:
    """Gives the new samples their places in the splits, if there are any; removes what only the extension needed."""
    if (record := read_splits(directory / BUILD) or read_splits(directory)) is not None:
        storage_of(directory).create(f"{BUILD}/{SPLITS_FOLDER}/{SPLITS}", record.encode())  # while it is replaced
        options = record.options
        write_splits(
            open_dataset(directory),
            SplitOptions(validation=options.validation, labelled=options.labelled, seed=options.seed),
        )
    clear(directory)
