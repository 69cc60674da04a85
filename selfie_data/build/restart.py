"""A dataset built before there were restart markers gets them, without loss: the same ids, order, labels and pixels.

A build like any other, whose source is a dataset and whose plan is the one that was: a task a shard, the same names and
keys, resumable, the same bytes for any number of workers. Every image is decoded before and after and compared. What
cannot take markers stays as it is, and is counted; what stands behind the end of an image goes, as in such a build.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfie_data.build.build_shards import already_finished, check_space, default_workers, run_job
from selfie_data.build.finish import Earlier, finish_dataset
from selfie_data.build.progress import Reporter, Silent
from selfie_data.build.shard_task import Carried, Job, scratch_folder
from selfie_data.build.workers import refuse_in_worker, start_server
from selfie_data.build.workspace import claim_folder, clear, is_finished, locked, remove_if_empty
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.read import decode_payload, read_payloads
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.dataset.splits_record import read_splits
from selfie_data.dataset.table import read_checked
from selfie_data.errors import BuildError, SelfieDataError
from selfie_data.images.codecs import codec_versions
from selfie_data.images.encode import BEHIND_CUT_OFF, BEHIND_KEPT, Stored
from selfie_data.images.jpeg_header import read_jpeg_header
from selfie_data.images.jpeg_restarts import MAX_GROWTH, insert_restarts
from selfie_data.images.jpeg_scan import marked_interval
from selfie_data.notices import NAME as NOTICES
from selfie_data.notices import Notices
from selfie_data.source import Json, Progress, SourceImage
from selfie_data.storage.place import Place, place_of

_log = logging.getLogger(__name__)


def restart_dataset(
    old: Place | str,
    new: Place | str,
    *,
    restart_blocks: int | Literal["auto"] = "auto",
    workers: int | None = None,
    progress: Reporter | None = None,
) -> Manifest:
    """Builds `new`, the dataset `old` with restart markers in its JPEGs, or goes on with it, or finds it finished.

    The manifest names the old fingerprint as its parent; statistics, notices and splits are the old ones.

    Args:
        old: a dataset of JPEGs without restart markers.
        new: a folder, or a URL in a bucket; must be empty or hold this very build.
        restart_blocks: as in `BuildOptions`; not 0.
        workers: processes; 1 builds in this one. None: as many as there are processors. Does not change any byte.
        progress: told what happens.

    Raises:
        BuildError: nothing to do, another build in the folder, no space, an I/O error.
        DatasetError: `old` is damaged.
    """
    refuse_in_worker()
    place, directory = place_of(old).absolute(), place_of(new).absolute()
    if place == directory:
        raise BuildError(f"{old}: a dataset with markers is another one; give a folder that is not its own")
    dataset = open_dataset(place)
    _check(dataset, restart_blocks)
    reporter, count = progress or Silent(), workers or default_workers()
    with locked(directory), closing(reporter):
        identity = _identity(dataset, restart_blocks)
        if is_finished(directory):
            manifest = already_finished(directory, identity)
        else:
            claim_folder(directory, identity)
            try:
                manifest = _build(dataset, directory, restart_blocks, count, reporter, identity)
            except SelfieDataError:
                remove_if_empty(directory)
                raise
            clear(directory)
        _copy_splits(dataset, directory)
        return manifest


@dataclass(frozen=True, slots=True, eq=False)
class StoredImages:
    """A dataset as the source of a build: its samples by id. See `source.ImageSource`."""

    dataset: Dataset

    kind = "dataset"
    spool_bytes = 0

    @property
    def description(self) -> Mapping[str, Json]:
        return self.dataset.manifest.source

    @property
    def fingerprint(self) -> str:
        return self.dataset.fingerprint

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.dataset.class_names

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.dataset.table.label

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> SourceImage:
        return next(self.read_many([index]))

    def read_many(self, indices: list[int]) -> Iterator[SourceImage]:
        """Yields samples by rising id, their checksums compared."""
        ids = np.array(indices)
        for sample, payload in zip(indices, read_payloads(self.dataset, ids), strict=True):
            yield SourceImage(str(sample), payload)

    def spool(self, directory: Place, progress: Progress | None = None) -> "StoredImages":  # noqa: ARG002
        return self


@dataclass(frozen=True, slots=True, eq=False)
class StoredPlan:
    """The plan of a dataset that is there: the shards, positions and keys that its samples have. See `plan.Plan`."""

    dataset: Dataset

    @property
    def samples(self) -> int:
        return len(self.dataset)

    @property
    def shards(self) -> int:
        """One more than the highest number; of those whose images were all quarantined there is none."""
        return 1 + self.dataset.manifest.shards[-1].number

    @property
    def by_blocks(self) -> bool:
        return False

    def positions(self, shard: int) -> NDArray[np.int64]:
        """Returns the plan positions of the samples that shard number `shard` holds, rising."""
        shards, position = self.dataset.manifest.shards, self._position(shard)
        if position is None:
            return np.empty(0, np.int64)
        start = shards.start(position)
        return self.dataset.plan_positions(np.arange(start, start + shards[position].samples))

    def windows(self, shard: int) -> Sequence[NDArray[np.int64]]:
        """Returns all of them at once."""
        return [self.positions(shard)]

    def sources(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Returns the ids of the samples at plan positions."""
        return self.dataset.sample_ids(np.asarray(positions))

    def carried(self, shard: int) -> Carried:
        """Returns what was quarantined, and noticed, among the places of shard number `shard`."""
        if (position := self._position(shard)) is None:
            return Carried()
        record = self.dataset.record(position)
        notices = ((BEHIND_CUT_OFF if reason == BEHIND_KEPT else reason, name) for reason, name in record.notices)
        return Carried(record.sums, record.quarantined, tuple(notices))

    def _position(self, shard: int) -> int | None:
        found = np.flatnonzero(self.dataset.manifest.shards.column("number") == shard)
        return int(found[0]) if len(found) else None


@dataclass(frozen=True, slots=True, eq=False)
class Restarter:
    """Puts markers into stored JPEGs. Takes the place of an `Encoder`."""

    dataset: Dataset
    restart_blocks: int | Literal["auto"]

    encoding = "keep"

    def __call__(self, image: SourceImage) -> Stored:
        """Returns the image with markers, or as it is with the reason.

        Raises:
            CorruptSampleError: it is no image of the size that the table says.
            BuildError: its pixels would change: a defect.
        """
        assert isinstance(image.data, bytes)
        sample = int(image.name)
        pixels = decode_payload(self.dataset, sample, image.data)
        header = read_jpeg_header(image.data)
        end = header.end if header else len(image.data)  # a build with markers leaves out what stands behind, too
        data, interval, reason = insert_restarts(image.data[:end], self.restart_blocks)
        if data is not image.data and not np.array_equal(decode_payload(self.dataset, sample, data), pixels):
            raise BuildError(f"sample {sample}: its pixels would change; please report this image")
        return Stored(data, pixels, marked_interval(data) if reason else interval, reason)


def _build(
    dataset: Dataset,
    directory: Place,
    restart_blocks: int | Literal["auto"],
    workers: int,
    reporter: Reporter,
    identity: Mapping[str, Any],
) -> Manifest:
    if workers > 1:
        start_server(kernels=True)
    manifest, plan = dataset.manifest, StoredPlan(dataset)
    sizes = manifest.shards.column("bytes")
    needed = int(sizes.sum()) if isinstance(directory, Path) else workers * int(sizes.max())
    disk = directory if isinstance(directory, Path) else scratch_folder(directory)
    check_space(disk, round(needed * (1 + MAX_GROWTH)))
    job = Job(
        source=StoredImages(dataset),
        plan=plan,
        encoder=Restarter(dataset, restart_blocks),
        out=directory,
        fail_on_error=True,
        carried=plan.carried,
    )
    run_job(job, workers, reporter)
    return finish_dataset(
        directory,
        plan.shards,
        identity=identity,
        class_names=dataset.class_names,
        notices=Notices(),
        earlier=Earlier(manifest.mean, manifest.std, manifest.pixels, _notices(dataset)),
    )


def _identity(dataset: Dataset, restart_blocks: int | Literal["auto"]) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        "parent": manifest.fingerprint,
        "source": manifest.source,
        "options": {**manifest.options, "restart_blocks": restart_blocks},
        "seed": manifest.seed,
        "codecs": {**manifest.codecs, **codec_versions()},
        "permutation_version": manifest.permutation_version,
    }


def _check(dataset: Dataset, restart_blocks: int | Literal["auto"]) -> None:
    if restart_blocks == 0:
        raise BuildError("--restart-blocks 0 means no markers: there is nothing to do")
    if dataset.encoding != "jpeg":
        raise BuildError(f"{dataset.path}: stored as {dataset.encoding}; restart markers are a matter of JPEGs")
    if dataset.manifest.lineage:
        raise BuildError(f"{dataset.path}: has grown or shrunk; a dataset gets its markers before that")
    if found := dataset.manifest.options.get("restart_blocks"):
        raise BuildError(f"{dataset.path}: has its restart markers already (restart_blocks {found})")


def _notices(dataset: Dataset) -> Notices:
    """Returns what the old build noticed: of a source that is not here any more."""
    if NOTICES not in dataset.manifest.files:
        return Notices()
    notices = Notices.from_json(read_checked(dataset.path, NOTICES, dataset.manifest.files))
    notices.rename(BEHIND_KEPT, BEHIND_CUT_OFF)
    return notices


def _copy_splits(dataset: Dataset, directory: Place) -> None:
    """Makes the subsets anew that the old dataset has: labels and ids are the same, and so are they."""
    if (record := read_splits(dataset.path)) is not None:
        options = record.options
        write_splits(
            open_dataset(directory),
            SplitOptions(validation=options.validation, labelled=options.labelled, seed=options.seed),
        )
