"""From a source to a dataset directory: spool, plan, shards, table, manifest. Killed at any moment, it goes on.

    OUT/.build/            while building only: identity, plan, spool
    OUT/shard-000000.tar   each renamed into place when it is whole, its index after it, then its rows
    OUT/samples.zarr       from the rows, when all shards are there
    OUT/notices.json       what of the source is not used, if anything
    OUT/pages/             an entry a shard
    OUT/manifest.json      last; then .build goes

OUT may be the URL of a bucket's folder: files are written into one for temporaries of this machine, then published.

The bytes depend on source, options, seed and library versions; not on workers, time, host or interruptions.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from selfie_data.build.estimate import Estimate, count_samples, estimate_build, samples_per_shard
from selfie_data.build.finish import finish_dataset, prepare_finishing
from selfie_data.build.options import BuildOptions
from selfie_data.build.plan import WINDOW_BYTES, BlockPlan, Plan
from selfie_data.build.progress import Reporter, Silent, human_bytes
from selfie_data.build.shard_task import Job, scratch_folder
from selfie_data.build.workers import Engine, refuse_in_worker, run_inline, run_processes, start_server
from selfie_data.build.workspace import (
    SOURCE_FINGERPRINT,
    claim_folder,
    clear,
    is_finished,
    locked,
    refuse_other,
    remove_if_empty,
)
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.names import BUILD, EXTENSION
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import BuildError, DatasetError, SelfieDataError
from selfie_data.images.codecs import codec_versions
from selfie_data.images.formats import current_versions
from selfie_data.notices import notices_of
from selfie_data.randomness import permutation
from selfie_data.source import BlockSource, ImageSource
from selfie_data.storage.place import Place, place_of

__all__ = ["BuildOptions", "build_shards", "default_workers"]

_log = logging.getLogger(__name__)
_OVERHEAD_BYTES = 4 << 20  # table and manifest of a small dataset
_ROW_BYTES = 100  # table and index, a sample


def default_workers() -> int:
    """Returns the number of processors this process may use."""
    return len(os.sched_getaffinity(0))


def build_shards(
    source: ImageSource,
    out: Place | str,
    options: BuildOptions,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    progress: Reporter | None = None,
) -> Manifest:
    """Builds a dataset, goes on with one that was cut short, or finds it finished.

    Args:
        source: where images come from.
        out: the dataset directory, or its URL in a bucket; made if need be, must be empty or a build of the same kind.
        options: how to store them.
        workers: processes; 1 builds in this one. None: as many as there are processors. Does not change any byte.
        engine: what builds the shards instead, such as `ray_engine.run_ray`; workers is then 1.
        progress: told what happens.

    Raises:
        BuildError: other options or another build in the folder, no space, an I/O error, nothing usable in the source.
        SourceError: the source cannot be read.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if engine is not None and workers not in (None, 1):
        raise ValueError(f"an engine has workers of its own, got workers={workers}")
    refuse_in_worker()
    directory = place_of(out).absolute()
    reporter = progress or Silent()
    count = 1 if engine is not None else workers or default_workers()
    with locked(directory), closing(reporter):
        identity = describe_build(source, options)
        if is_finished(directory):
            return already_finished(directory, identity)
        claim_folder(directory, {**identity, SOURCE_FINGERPRINT: source.fingerprint})
        try:
            manifest = _build(source, directory, options, count, reporter, identity, engine)
        except SelfieDataError:
            remove_if_empty(directory)
            raise
        clear(directory)
        return manifest


def _build(
    source: ImageSource,
    directory: Place,
    options: BuildOptions,
    workers: int,
    reporter: Reporter,
    identity: Mapping[str, Any],
    engine: Engine | None,
) -> Manifest:
    for stale in scratch_folder(directory).glob("*.tmp"):  # of tasks that were killed
        stale.unlink(missing_ok=True)
    job = prepare_job(source, directory, options, workers, reporter)
    run_job(job, workers, reporter, engine=engine)
    try:
        return finish_dataset(
            directory,
            job.plan.shards,
            identity=identity,
            class_names=job.source.class_names,
            notices=notices_of(job.source),
        )
    except BuildError:
        if isinstance(directory, Path) or not is_finished(directory):
            raise
        return already_finished(directory, identity)  # the same build on another machine was faster, and cleared up


def describe_build(source: ImageSource, options: BuildOptions) -> dict[str, Any]:
    """Returns what the bytes of a dataset depend on: two builds with equal descriptions may share a folder."""
    block_bytes = options.block_bytes_for(source)  # not said where it is 0, as before there was such an option
    return {
        "source": dict(source.description),
        "options": {**options.describe(), **({"block_bytes": block_bytes} if block_bytes else {})},
        "seed": options.seed,
        "codecs": codec_versions(),
        "permutation_version": permutation.VERSION,
    }


def already_finished(directory: Place, identity: Mapping[str, Any]) -> Manifest:
    """Returns the manifest of a finished dataset of this identity; clears up after its build.

    Raises:
        BuildError: it is another one, or damaged.
    """
    manifest = Manifest.load(directory)
    recorded = {name: getattr(manifest, name) for name in identity}
    identity = {**identity, "codecs": identity["codecs"] | current_versions(manifest.codecs)}
    refuse_other(directory, recorded, identity, what="a dataset")
    build = directory / BUILD
    if build.exists() and not (build / EXTENSION).exists():  # ended between the manifest and the removal
        clear(directory)
    try:
        open_dataset(directory)
    except DatasetError as error:
        again = "" if manifest.lineage else "; the finished dataset is damaged: delete the folder and build again"
        raise BuildError(f"{error}{again}") from error
    _log.info("%s: already built", directory)
    return manifest


def prepare_job(
    source: ImageSource,
    directory: Place,
    options: BuildOptions,
    workers: int,
    reporter: Reporter,
    *,
    after: Manifest | None = None,
) -> Job:
    """Spools the source if need be and plans the shards: the same job whoever prepares it.

    `after`: of a dataset that is there, and is to grow; its shards are no smaller.
    """
    if workers > 1:
        start_server(kernels=options.encoder.encoding != "raw")
    disk = directory if isinstance(directory, Path) else scratch_folder(directory)
    block_bytes = options.block_bytes_for(source)
    spooled, blocks = source, None
    if not (block_bytes and isinstance(source, BlockSource)):  # a spool is read by few requests if by blocks
        place = directory / BUILD if block_bytes else scratch_folder(directory)
        spooled = _spool(source, disk, place / "spool", reporter)
    if block_bytes and isinstance(spooled, BlockSource):
        spooled, blocks = spooled.in_blocks(block_bytes)
    if len(spooled) == 0:
        raise BuildError(f"the source {source.kind} holds no images")
    estimate = estimate_build(spooled, options)
    per_shard, samples = samples_per_shard(options, estimate), count_samples(spooled, options)
    there = after.shards.totals if after else None
    if there and options.samples_per_shard is None:
        per_shard = max(per_shard, there.largest)
    plan: Plan | BlockPlan
    if blocks is None:
        plan = Plan(size=len(spooled), samples=samples, samples_per_shard=per_shard, seed=options.seed)
    else:
        plan = BlockPlan(blocks=blocks, samples=samples, samples_per_shard=per_shard, seed=options.seed)
    described = {"samples": plan.samples, "samples_per_shard": plan.samples_per_shard, "of": plan.size}
    claim_folder(directory, {**described, "class_names": list(spooled.class_names)}, file="plan.json")
    if isinstance(directory, Path):
        built = _bytes_below(directory, pattern="shard-*.tar") - (there.bytes if there else 0)
        needed = _needed(estimate) - max(0, built)
    else:  # each goes away when it is published
        needed = min(workers, plan.shards) * plan.samples_per_shard * estimate.sample_bytes
    if blocks is not None and getattr(spooled, "far", False):
        needed += min(workers, plan.shards) * (WINDOW_BYTES + block_bytes)  # of the source, at a time
    check_space(disk, needed)
    return Job(
        source=spooled,
        plan=plan,
        encoder=options.encoder,
        out=directory,
        fail_on_error=options.on_error == "fail",
    )


def _spool(source: ImageSource, disk: Path, place: Place, reporter: Reporter) -> ImageSource:
    needed = source.spool_bytes
    if isinstance(place, Path):
        needed -= _bytes_below(place)
        check_space(disk, needed, what="the spool")
    if needed > 0:
        size = "its images" if source.spool_bytes == 1 else f"about {human_bytes(needed)}"
        _log.info("%s is read from front to back: %s go to %s first", source.kind, size, place)
    return source.spool(place, reporter.spool)


def _needed(estimate: Estimate) -> int:
    return estimate.bytes + estimate.samples * _ROW_BYTES + _OVERHEAD_BYTES


def check_space(directory: Path, needed: int, *, what: str = "the shards") -> None:
    """Raises a BuildError where fewer than `needed` bytes are free."""
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise BuildError(
            f"{directory}: not enough space for {what}: about {human_bytes(needed)} needed, {human_bytes(free)} free; "
            "make room or choose another disk"
        )


def _bytes_below(directory: Path, *, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern)) if directory.exists() else 0


def run_job(
    job: Job, workers: int, reporter: Reporter, *, engine: Engine | None = None, shards: range | None = None
) -> None:
    """Builds every shard of a job, or those of `shards`, by `engine` or as many processes of this machine."""
    if shards is None:
        shards, samples = range(job.plan.shards), job.plan.samples
    else:
        samples = sum(len(job.plan.positions(number)) for number in shards)
    if not shards:
        return
    reporter.start(samples)
    count = min(workers, len(shards))
    if engine is None:
        engine = run_inline if count == 1 else partial(run_processes, workers=count, meanwhile=prepare_finishing)
    with closing(engine(job, shards, reporter.tick)) as finished:
        for done in finished:
            _log.debug("shard %d %s", done.shard, "found finished" if done.reused else "built")
