"""The last step of a build: the records of all shards become the sample table and the manifest."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfie_data.build.plan import Plan, index_name, shard_name
from selfie_data.build.shard_record import ShardResult, load_result
from selfie_data.build.shard_task import BUILD, record_path
from selfie_data.dataset import table as sample_table
from selfie_data.dataset.manifest import Manifest, ShardRecord
from selfie_data.dataset.table import SampleTable, write_table
from selfie_data.errors import BuildError
from selfie_data.files import publish
from selfie_data.images.encode import STORED_AS
from selfie_data.images.statistics import add_up


def prepare_assembling() -> None:
    """Imports what writes the table: 0.15 s that a process can spend while others build shards."""
    import zarr  # noqa: F401


def assemble(out: Path, plan: Plan, *, identity: Mapping[str, Any], class_names: Sequence[str]) -> Manifest:
    """Writes table and manifest of a dataset whose shards are all there.

    Raises:
        BuildError: no image could be used, or the files cannot be written.
    """
    results = [_result(out, number) for number in range(plan.shards)]
    kept = [result for result in results if result.samples]
    quarantined = tuple(entry for result in results for entry in result.quarantined)
    if not kept:
        first = quarantined[0]
        raise BuildError(f"none of {len(quarantined)} images can be used; the first, {first.text}")
    try:
        files = _write_table(out, kept)
        sums = add_up(result.sums for result in results)
        encoding = STORED_AS[identity["options"]["encoding"]]
        manifest = Manifest(
            **identity,
            class_names=tuple(class_names),
            image_size=identity["options"]["size"],
            encoding=encoding,
            mean=sums.mean,
            std=sums.std,
            pixels=sums.pixels,
            shards=tuple(_shard_record(result) for result in kept),
            files=files | {index_name(shard_name(result.number)): result.index_sha256 for result in kept},
            quarantined=quarantined,
        ).sealed()
        manifest.save(out)
    except OSError as error:
        raise BuildError(f"{out}: cannot write table and manifest ({error.strerror}); shards are kept") from error
    return Manifest.load(out)


def _result(out: Path, number: int) -> ShardResult:
    result = load_result(record_path(out, number))
    if result is None:
        raise BuildError(f"{record_path(out, number)}: gone or damaged while building; give the same command again")
    return result


def _shard_record(result: ShardResult) -> ShardRecord:
    return ShardRecord(
        name=shard_name(result.number),
        samples=result.samples,
        bytes=result.bytes,
        sha256=result.sha256,
        class_counts=count_classes(result.rows["label"]),
    )


def count_classes(labels: NDArray[np.int32]) -> dict[str, int]:
    """Returns class index, as text, -> number of samples, in order of index; -1: no label."""
    values, counts = np.unique(labels, return_counts=True)
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def _write_table(out: Path, kept: list[ShardResult]) -> dict[str, str]:
    counts = [result.samples for result in kept]
    columns = {name: np.concatenate([result.rows[name] for result in kept]) for name in kept[0].rows.dtype.names or ()}
    table = SampleTable(shard=np.repeat(np.arange(len(kept), dtype=np.int32), counts), **columns)
    scratch, final = out / BUILD / sample_table.NAME, out / sample_table.NAME
    for stale in (scratch, final):
        shutil.rmtree(stale, ignore_errors=True)
    files = write_table(table, scratch)
    publish(scratch, final)
    return files
