"""Does every system do the same work? What came out of it, and how that compares with the others.

At 32 px nothing is resized, so each batch can be held against the stored images exactly: an image counts as equal when
its patches, in any order, are those of one stored image or of its mirror image. At 224 px the crops are random and
differ between systems, so shape, dtype, range, mean and spread are compared.
"""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.work.material import load
from benchmarks.work.task import MEAN, STD, Task

MEAN_TOLERANCE = 12.0  # of 255, between batches of 64 random crops
SPREAD_TOLERANCE = 9.0
_IMAGES = 64  # compared exactly


def observe(batch: Any, task: Task) -> dict[str, Any]:
    """The check values of one batch [B, N, p, p, 3] (a NumPy array or a CPU tensor)."""
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
