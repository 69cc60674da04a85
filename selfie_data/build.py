"""Builds a dataset: plan, shards in parallel, table, manifest. Killed at any moment and started again, it goes on.

OUT/.build/job.json     what is being built; another source or other options are refused
OUT/.build/lock         held while a build works
OUT/.build/spool/       images of sources that cannot be read at random
OUT/.build/records/     a record a finished shard
OUT/shard-*.tar, .idx   each written elsewhere, synced, renamed
OUT/samples.zarr        written when every shard is there
OUT/manifest.json       last; without it there is no dataset. Then `.build` is removed
"""

import fcntl
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from selfie_data.atomic import publish, write_atomic
from selfie_data.engines import run_tasks
from selfie_data.errors import BuildError, ImageError, SourceError
from selfie_data.manifest import NAME as MANIFEST
from selfie_data.manifest import Manifest
from selfie_data.options import BuildOptions
from selfie_data.permutation import VERSION as PERMUTATION_VERSION
from selfie_data.plan import Plan
from selfie_data.progress import Progress, Silent
from selfie_data.sample import Json, Source
from selfie_data.shard import extent, index_name
from selfie_data.table import NAME as TABLE
from selfie_data.table import SampleTable, write_table
from selfie_data.task import ShardResult, ShardTask, load_rows

Channels = tuple[float, float, float]

WORK = ".build"
_PROBES = 64  # images encoded to learn how large one is
_RESERVE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a build will write, from a few images of the source: `--dry-run`."""

    images: int
    shards: int
    shard_positions: int
    shard_bytes: int
    spool_bytes: int
    seconds: float


def build_shards(
    source: Source, out: Path, options: BuildOptions, *, workers: int = 1, progress: Progress | None = None
) -> Manifest:
    """Builds the dataset directory `out`, or goes on with it; returns its manifest.

    The same source, options and codec versions give the same bytes for any number of workers.

    Raises:
        BuildError: other contents in `out`, another build at work, no space, an I/O error, a worker that died.
        SourceError: the source is empty, cannot be read, or none of its images can be used.
        ImageError: with `on_error="fail"`, the first image that cannot be used.
    """
    report = progress or Silent()
    job = _job(source, options)
    if finished := _finished(out, source, options):
        return finished
    work = out / WORK
    try:
        (work / "records").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{out}: cannot be written ({error.strerror})") from error
    with _locked(work / "lock", out):
        _claim(work / "job.json", job, out)
        return _build(source, out, work, options, workers=workers, report=report)


def estimate_build(source: Source, options: BuildOptions) -> Estimate:
    """Returns what a build would write and about how long it takes on one core; writes nothing.

    Sources that must be spooled first are not read: their shards are estimated from the spool's size.
    """
    images = _images(source, options)
    if source.spool_bytes:
        mean = source.spool_bytes / len(source) if options.stored != "raw" else _raw_bytes(options)
        seconds = 0.0
    else:
        started = time.perf_counter()
        mean = _mean_extent(source, options)
        seconds = (time.perf_counter() - started) / min(_PROBES, images) * images
    positions = options.samples_per_shard or max(1, min(images, int(options.shard_bytes // mean)))
    return Estimate(
        images=images,
        shards=-(-images // positions),
        shard_positions=positions,
        shard_bytes=int(mean * images),
        spool_bytes=source.spool_bytes,
        seconds=seconds,
    )


def _build(source: Source, out: Path, work: Path, options: BuildOptions, *, workers: int, report: Progress) -> Manifest:
    _require_space(out, source.spool_bytes, "the spool")
    report.stage("spool", source.spool_bytes)
    source = source.spool(work / "spool", report.spooled)
    plan = _plan(source, options)
    _require_space(out, int(_mean_extent(source, options) * plan.positions) - _present_bytes(out), "the shards")
    task = ShardTask(
        source=source,
        labels=source.labels,
        plan=plan,
        encoder=options.encoder,
        out=out,
        work=work,
        fail=options.on_error == "fail",
    )
    report.stage("shards", plan.positions)
    results: dict[str, ShardResult] = {}
    for result in run_tasks(task.run, range(plan.shards), workers=min(workers, plan.shards)):
        results[result.record.name] = result
        report.shard(result)
    return _finish(source, out, work, options, [results[name] for name in sorted(results)])


def _finish(source: Source, out: Path, work: Path, options: BuildOptions, results: list[ShardResult]) -> Manifest:
    """Writes table and manifest, and removes what only the build needed."""
    filled = [result for result in results if result.record.samples]
    if not filled:
        first = results[0].quarantined[0]
        raise SourceError(f"none of the images can be used; the first, {first.name}: {first.reason}")
    files = {index_name(result.record.name): result.index_sha256 for result in filled}
    files |= _write_table(out, work, [load_rows(work, result.record.name) for result in filled])
    mean, std, pixels = _statistics(filled)
    manifest = Manifest(
        source=source.description,
        options=_recorded(options),
        seed=options.seed,
        class_names=source.class_names,
        image_size=options.size,
        encoding=options.stored,
        codecs=codec_versions(),
        permutation_version=PERMUTATION_VERSION,
        mean=mean,
        std=std,
        pixels=pixels,
        shards=tuple(result.record for result in filled),
        files=files,
        quarantined=tuple(entry for result in results for entry in result.quarantined),
    )
    manifest = replace(manifest, fingerprint=manifest.compute_fingerprint())
    manifest.save(out)
    shutil.rmtree(work)
    return manifest


def codec_versions() -> dict[str, str]:
    """Returns the versions of everything that the stored bytes depend on."""
    return {
        "pillow": PIL.__version__,
        "libjpeg-turbo": str(features.version("libjpeg_turbo")),
        "simplejpeg": version("simplejpeg"),
        "zlib": str(features.version("zlib")),
    }


def _job(source: Source, options: BuildOptions) -> dict[str, Json]:
    """What tells one build from another: it must be the same for a build to go on."""
    return {
        "source": dict(source.description),
        "source fingerprint": source.fingerprint,
        "options": _recorded(options),
        "codecs": dict(codec_versions()),
        "permutation": PERMUTATION_VERSION,
    }


def _recorded(options: BuildOptions) -> dict[str, Json]:
    resolved = asdict(options) | {"resize_shorter": options.encoder.resize_shorter}
    del resolved["seed"]
    return resolved | {"seed": options.seed}


def _finished(out: Path, source: Source, options: BuildOptions) -> Manifest | None:
    """Returns the manifest of a finished build of the same things; None if there is none."""
    if not (out / MANIFEST).exists():
        return None
    manifest = Manifest.load(out)
    there = {
        "source": manifest.source,
        "options": manifest.options,
        "codecs": manifest.codecs,
        "classes": manifest.class_names,
    }
    wanted = {
        "source": dict(source.description),
        "options": _recorded(options),
        "codecs": codec_versions(),
        "classes": source.class_names,
    }
    _refuse_difference(there, wanted, f"{out} holds a finished dataset")
    shutil.rmtree(out / WORK, ignore_errors=True)  # left by a build that was killed in its last moment
    return manifest


def _claim(path: Path, job: dict[str, Json], out: Path) -> None:
    """Writes down what is built, or compares it with what was begun here earlier."""
    if path.exists():
        try:
            begun = json.loads(path.read_bytes())
        except ValueError as error:
            raise BuildError(f"{path}: damaged ({error}); remove {path.parent} and start again") from error
        _refuse_difference(begun, job, f"{out} holds an unfinished build")
        return
    strangers = sorted(entry.name for entry in out.iterdir() if entry.name != WORK)
    if strangers:
        raise BuildError(f"{out}: must be empty or hold a build, but has {strangers[0]}; choose another folder")
    write_atomic(path, json.dumps(job, indent=1).encode())


def _refuse_difference(there: Mapping[str, object], wanted: Mapping[str, object], what: str) -> None:
    """Raises BuildError that names the first thing that differs, with both values."""
    left, right = _flat(there), _flat(wanted)
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            raise BuildError(
                f"{what} with {name} = {left.get(name)}, now it is {right.get(name)}; choose another folder"
            )


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, Mapping):
        return {
            name: entry
            for key, inner in value.items()
            for name, entry in _flat(inner, f"{prefix} {key}".strip()).items()
        }
    return {prefix: json.dumps(value)}


@contextmanager
def _locked(path: Path, out: Path) -> Iterator[None]:
    """Holds the folder; the kernel lets go of the lock when the process dies, however that happens."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BuildError(f"{out}: another build is at work here; wait for it or choose another folder") from error
        yield


def _images(source: Source, options: BuildOptions) -> int:
    if not len(source):
        raise SourceError(f"the source {source.kind} has no images")
    return min(len(source), options.limit or len(source))


def _plan(source: Source, options: BuildOptions) -> Plan:
    images = _images(source, options)
    positions = options.samples_per_shard or int(options.shard_bytes // _mean_extent(source, options))
    return Plan(
        source_images=len(source), positions=images, shard_positions=max(1, min(positions, images)), seed=options.seed
    )


def _mean_extent(source: Source, options: BuildOptions) -> float:
    """Returns the mean bytes a sample takes in a shard, from a fixed part of the source: the same on every run."""
    if options.stored == "raw":
        return _raw_bytes(options)
    images = _images(source, options)
    plan = Plan(source_images=len(source), positions=images, shard_positions=min(_PROBES, images), seed=options.seed)
    sizes = []
    for index in plan.shard(0)[1].tolist():
        try:
            sizes.append(extent(len(options.encoder.encode(source.read(index)).payload), 0))
        except ImageError:
            continue
    return float(np.mean(sizes)) if sizes else float(_RESERVE_BYTES)


def _raw_bytes(options: BuildOptions) -> float:
    return float(extent(3 * options.size * options.size, 0))


def _require_space(out: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(out).free
    if needed > 0 and free < needed + _RESERVE_BYTES:
        raise BuildError(
            f"{out}: {what} need about {needed:,} bytes, {free:,} are free; make room or choose another folder"
        )


def _present_bytes(out: Path) -> int:
    return sum(entry.stat().st_size for entry in out.glob("shard-*.tar"))


def _write_table(out: Path, work: Path, parts: list[NDArray[np.void]]) -> dict[str, str]:
    """Writes the sample table; the column `shard` is the position among the shards that have samples."""
    rows = np.concatenate(parts)
    rows["shard"] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    table = SampleTable(**{name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()})
    scratch = work / TABLE
    shutil.rmtree(scratch, ignore_errors=True)
    files = write_table(table, scratch)
    shutil.rmtree(out / TABLE, ignore_errors=True)
    publish(scratch, out / TABLE)
    return files


def _statistics(results: list[ShardResult]) -> tuple[Channels, Channels, int]:
    """Returns mean and standard deviation of each channel, from exact integers, and the number of pixels."""
    pixels = sum(result.pixels for result in results)
    sums = [sum(result.sums[0][channel] for result in results) for channel in range(3)]
    squares = [sum(result.sums[1][channel] for result in results) for channel in range(3)]
    mean = tuple(total / pixels for total in sums)
    variances = [
        Fraction(square, pixels) - Fraction(total, pixels) ** 2 for square, total in zip(squares, sums, strict=True)
    ]
    std = tuple(math.sqrt(variance) for variance in variances)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), pixels
