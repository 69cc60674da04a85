"""Does every system do the same work? What came out of it, and how that compares with the others.

At 32 px nothing is resized, so each batch can be held against the stored images exactly: an image counts as equal when
its patches, in any order, are those of one stored image or of its mirror image. At 224 px the crops are random and
differ between systems, so shape, dtype, range, mean and spread are compared. Of `Masked` batches what is visible must
be those patches of the whole that are said to be, as many as asked for, others for each image; and the patches, put
where they are said to belong, must make pictures: seams as smooth as what lies between them.
"""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.work.material import load
from benchmarks.work.task import MEAN, STD, Masked, Task

MEAN_TOLERANCE = 12.0  # of 255, between batches of 64 random crops
SPREAD_TOLERANCE = 9.0
ROUGHEST_SEAM = 2.0  # times the difference of neighbouring rows elsewhere
_IMAGES = 64  # compared exactly


def observe(batch: Any, task: Task) -> dict[str, Any]:
    """The check values of one batch [B, N, p, p, 3] (a NumPy array or a CPU tensor), or `Masked`."""
    if task.visible:
        return observe(batch.visible, replace(task, visible=0)) | _masked(batch, task)
    array = np.asarray(batch)
    pixels = to_pixels(array, task)
    values: dict[str, Any] = {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "low": int(pixels.min()),
        "high": int(pixels.max()),
        "mean": round(float(pixels.mean()), 3),
        "spread": round(float(pixels.std()), 3),
        "digest": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16],
    }
    if not task.crops:
        values["equal_to_stored"] = round(share_equal(pixels[:_IMAGES], task), 4)
    return values


def _masked(batch: Masked, task: Task) -> dict[str, Any]:
    """Whether the parts of a batch belong together, see above."""
    patches, position, seen = map(np.asarray, (batch.patches, batch.position, batch.visible_position))
    rows, hidden = np.empty_like(patches), np.ones(position.shape, bool)
    np.put_along_axis(rows, position[:, :, None, None, None], patches, 1)
    np.put_along_axis(hidden, seen, False, 1)
    together = (
        (np.sort(position, axis=1) == np.arange(task.cells)).all()
        and (hidden.sum(axis=1) == task.cells - task.visible).all()
        and (hidden[1:] != hidden[:-1]).any(axis=1).all()
        and np.array_equal(np.asarray(batch.mask).astype(bool), hidden)
        and np.array_equal(np.asarray(batch.visible), np.take_along_axis(rows, seen[:, :, None, None, None], 1))
    )
    side, size = task.image_size // task.patch_size, task.image_size
    grid = to_pixels(rows, task).reshape(-1, side, side, *patches.shape[2:])
    images = grid.swapaxes(2, 3).reshape(-1, size, size, 3).astype(np.int64)
    steps = np.abs(np.diff(images, axis=1)).mean(axis=(0, 2, 3))
    seams = np.arange(size - 1) % task.patch_size == task.patch_size - 1
    return {"masked": bool(together), "seam": round(float(steps[seams].mean() / steps[~seams].mean()), 2)}


def to_pixels(patches: NDArray[Any], task: Task) -> NDArray[np.uint8]:
    """Undoes the normalisation; uint8 passes through."""
    if task.dtype == "uint8":
        return patches
    restored = patches.astype(np.float32) * np.array(STD, np.float32) + np.array(MEAN, np.float32)
    return np.rint(restored).clip(0, 255).astype(np.uint8)


def share_equal(patches: NDArray[np.uint8], task: Task) -> float:
    """The share of the images [B, N, p, p, 3] whose patches are those of a stored image or of its mirror."""
    known = _known(task)
    return float(np.mean([_signature(image) in known for image in patches]))


def disagreements(checks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What differs between systems that were given one task, a line each; empty when all agree.

    A system's check may say `other_pixels`: why its images cannot equal the stored ones.
    """
    if not checks:
        return []
    means = np.median([check["mean"] for check in checks.values()])
    spreads = np.median([check["spread"] for check in checks.values()])
    shape, dtype = _most_common(checks, "shape"), _most_common(checks, "dtype")
    found = []
    for system, check in checks.items():
        if str(check["shape"]) != shape or check["dtype"] != dtype:
            found.append(f"{system}: {check['shape']} {check['dtype']}, others {shape} {dtype}")
        if abs(check["mean"] - means) > MEAN_TOLERANCE or abs(check["spread"] - spreads) > SPREAD_TOLERANCE:
            found.append(f"{system}: mean {check['mean']} spread {check['spread']}, others {means:.1f} {spreads:.1f}")
        if check["high"] - check["low"] < 128:
            found.append(f"{system}: values only from {check['low']} to {check['high']}")
        if not check.get("masked", True):
            found.append(f"{system}: what is visible is not what is said to be visible of the whole")
        if check.get("seam", 0.0) > ROUGHEST_SEAM:
            found.append(f"{system}: the patches make no pictures, their seams are {check['seam']} times as rough")
        if check.get("equal_to_stored", 1.0) < 1.0 and "other_pixels" not in check:
            found.append(f"{system}: {check['equal_to_stored']:.0%} of the images equal the stored ones")
    return found


def _most_common(checks: Mapping[str, Mapping[str, Any]], key: str) -> str:
    values: Sequence[str] = [str(check[key]) for check in checks.values()]
    return max(set(values), key=values.count)


def _known(task: Task) -> set[bytes]:
    """Signatures of all stored images and of their mirror images; computed once, kept beside the material."""
    kept = task.source / f"signatures-{task.patch_size}.bin"
    if not kept.exists():
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(b"".join(_signatures(task)))
        temporary.replace(kept)
    together = kept.read_bytes()
    return {together[start : start + 32] for start in range(0, len(together), 32)}


def _signatures(task: Task) -> set[bytes]:
    packed = load(task.source)
    size, patch = task.image_size, task.patch_size
    side = size // patch
    known = set()
    for index in range(len(packed)):
        image = _decode(packed.payload(index), task)
        for one in (image, image[:, ::-1]):
            grid = one.reshape(side, patch, side, patch, 3).swapaxes(1, 2).reshape(-1, patch, patch, 3)
            known.add(_signature(grid))
    return known


def _decode(payload: NDArray[np.uint8], task: Task) -> NDArray[np.uint8]:
    if not task.encoded:
        return np.asarray(payload).reshape(task.image_size, task.image_size, 3)
    from PIL import Image

    with Image.open(io.BytesIO(payload.tobytes())) as image:
        return np.asarray(image.convert("RGB"))


def _signature(patches: NDArray[np.uint8]) -> bytes:
    """The same for any order of the patches [N, p, p, 3]."""
    rows = np.ascontiguousarray(patches).reshape(len(patches), -1)
    return hashlib.sha256(b"".join(sorted(row.tobytes() for row in rows))).digest()
