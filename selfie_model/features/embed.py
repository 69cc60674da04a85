"""Features of every sample of a dataset → one zarr array, row = sample id.

    OUT.zarr/            zarr v3 group; attributes say which dataset, run and source they come from
    OUT.zarr/features    float32 [samples, D], chunks of 4,096 rows; NaN where a sample is excluded

Written beside its place and renamed at the end: what stands at OUT.zarr is complete.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from selfie_data.errors import RunError
from selfie_data.files import make_output_folder, publish
from selfie_model.features.encoder import Features

CHUNK_ROWS = 4096
_ENTRIES = {"zarr.json", "features"}


def write_embeddings(
    path: Path, parts: Iterable[Features], *, samples: int, attributes: Mapping[str, str], overwrite: bool = False
) -> tuple[int, int]:
    """Writes the features of samples 0 … samples-1.

    Args:
        path: of the zarr group.
        parts: features of batches, by rising sample id, as an evaluation loader gives them.
        samples: how many there must be.
        attributes: what is said about them.
        overwrite: replace the embeddings at `path`; nothing else is ever replaced.

    Returns:
        Shape of the array.

    Raises:
        RunError: `path` cannot be written, exists already, or is to be replaced and holds something else; a sample is
            missing or out of order.
    """
    if path.exists() and not overwrite:
        raise RunError(f"{path} exists already; give another place, or --overwrite")
    if path.exists() and not _holds_embeddings(path):
        raise RunError(f"{path} holds something else than embeddings, which --overwrite does not replace; give another")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    make_output_folder(path.parent)
    try:
        width = _write(temporary, parts, samples, attributes)
        if path.exists():
            shutil.rmtree(path)
        publish(temporary, path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); give another place, or make room") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return samples, width


def with_gaps(parts: Iterable[Features], gaps: NDArray[np.int64]) -> Iterator[Features]:
    """Yields features by rising sample id, with vectors of NaN for the samples of `gaps` [G], ascending."""
    done, part = 0, None
    for part in parts:
        stop = int(np.searchsorted(gaps, part.sample_id[-1]))
        yield _with(part, gaps[done:stop])
        done = stop
    if part is not None and done < len(gaps):
        yield _with(Features(part.vector[:0], part.label[:0], part.sample_id[:0]), gaps[done:])


def _with(part: Features, gaps: NDArray[np.int64]) -> Features:
    order = np.argsort(np.concatenate((part.sample_id, gaps)))
    nothing = np.full((len(gaps), part.vector.shape[1]), np.nan, np.float32)
    return Features(
        np.concatenate((part.vector, nothing))[order],
        np.concatenate((part.label, np.full(len(gaps), -1)))[order],
        np.concatenate((part.sample_id, gaps))[order],
    )


def _holds_embeddings(path: Path) -> bool:
    """Tells whether a folder has the entries that are written here and no others."""
    return path.is_dir() and not path.is_symlink() and {entry.name for entry in path.iterdir()} <= _ENTRIES


def _write(path: Path, parts: Iterable[Features], samples: int, attributes: Mapping[str, str]) -> int:
    """Writes whole chunks, so that memory holds one chunk and a batch however large the dataset is."""
    group = zarr.create_group(store=str(path), attributes=dict(attributes))
    array: zarr.Array[Any] | None = None
    waiting: list[NDArray[np.float32]] = []
    given = written = width = 0
    for part in parts:
        expected = np.arange(given, given + len(part.sample_id))
        if not np.array_equal(part.sample_id, expected) or given + len(expected) > samples:
            raise RunError(f"samples must come once each, 0..{samples - 1} in order; after {given} came another")
        given += len(expected)
        waiting.append(part.vector)
        if array is None:
            width, rows = part.vector.shape[1], min(CHUNK_ROWS, samples)
            array = group.create_array("features", shape=(samples, width), chunks=(rows, width), dtype="float32")
        while given - written >= CHUNK_ROWS or (given == samples and written < given):
            table = np.concatenate(waiting)
            array[written : written + CHUNK_ROWS] = table[:CHUNK_ROWS]
            waiting = [table[CHUNK_ROWS:]]
            written += min(CHUNK_ROWS, len(table))
    if given < samples:
        raise RunError(f"{samples - given} of {samples} samples have no features: the loader left them out")
    return width
