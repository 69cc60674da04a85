"""Payloads cut down to what will be looked at of each image, where JPEGs have restart markers.

    payload -> the intervals of the rectangle that a crop needs, a smaller JPEG -> decoded instead of the whole

`selfie_data.images.jpeg_window` cuts, to the bit the same pixels. JPEGs without markers, and those of which everything
is needed, are decoded whole. So is what is not as expected: that is counted, and said once.
"""

import logging
import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.backends.shard_reader import Payloads
from pipelines.batch_plan import BatchPlan
from selfie_data.dataset.opened import Dataset
from selfie_data.images.jpeg_window import UNEXPECTED, cut_windows
from selfie_data.kernels.resample import needed_pixels

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]

_NOT_AS_EXPECTED = "it is no JPEG of one sequential scan and of its size whose markers are where they should be"
_log = logging.getLogger(__name__)


class Misfits:
    """Counts JPEGs that are decoded whole since something about them is not as expected; may be shared by threads.

    Attributes:
        count: how many there were so far.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.count = 0
        self._dataset = dataset
        self._lock = threading.Lock()

    def add(self, sample: int, reason: str, *, count: int = 1) -> None:
        """Counts `count` more, of which `sample` is the first; only the very first is told of at once."""
        with self._lock:
            first = self.count == 0
            self.count += count
        if first:
            key = self._dataset.key(sample)
            _log.warning("sample %s is decoded whole, which takes longer, as all like it will be: %s", key, reason)

    def close(self) -> None:
        """Says how many there were, if any; once."""
        with self._lock:
            count, self.count = self.count, 0
        if count:
            _log.warning("%d times a JPEG was decoded whole since it was not as expected", count)


class Windows:
    """Windows of k payloads, cut when they are asked for.

    Attributes:
        placed: [k, 4] int64, top, left, height, width in the image of what is to be decoded: the window, once it is
            cut, or the whole image.
    """

    def __init__(self, ids: Numbers, payloads: Payloads, stored: Numbers, misfits: Misfits) -> None:
        """Nothing is cut yet: ids [k] int64; stored [k, 2] int64, heights and widths of the images."""
        self.placed = np.zeros((len(ids), 4), np.int64)
        self.placed[:, 2:] = stored
        self._status = np.zeros(len(ids), np.int64)
        self._cut: Bytes = np.empty(0, np.uint8)
        self._ids, self._payloads, self._stored, self._misfits = ids, payloads, stored, misfits

    def cut(self, needed: Numbers, memory: Bytes) -> None:
        """Cuts them all.

        Args:
            needed: [k, 4] int64, top, left, height, width of what will be looked at.
            memory: where windows go, as many bytes as the payloads' buffer has.
        """
        payloads, self._cut = self._payloads, memory
        found = cut_windows(
            payloads.buffer, payloads.offset, payloads.length, self._stored, needed, memory, self._status, self.placed
        )
        if found:
            row = int(np.flatnonzero(self._status == UNEXPECTED)[0])
            self._misfits.add(int(self._ids[row]), _NOT_AS_EXPECTED, count=int(found))

    def jpeg(self, row: int) -> Bytes:
        """Returns what is to be decoded of a row, uint8: the window's bytes, or the payload."""
        size = int(self._status[row])
        if size <= 0:
            return self._payloads[row]
        start = int(self._payloads.offset[row])
        return self._cut[start : start + size]

    def give_up(self, row: int) -> None:
        """Goes back to the whole image of a row whose window, if it has one, cannot be decoded."""
        if self._status[row] > 0:
            self._status[row] = UNEXPECTED
            self.placed[row] = (0, 0, *self._stored[row])
            self._misfits.add(int(self._ids[row]), "what was cut out of it cannot be decoded")


def cut_for_plan(
    plan: BatchPlan, size: int, windows: Windows, stored: Numbers, memory: Bytes
) -> tuple[list[Bytes], BatchPlan]:
    """Cuts all JPEGs of a plan, for a backend that decodes, crops and resizes whole crops by itself.

    Args:
        plan: what is asked of the stored images.
        size: S.
        windows: of the plan's payloads, not cut yet.
        stored: [b, 2] int64, heights and widths.
        memory: see `Windows.cut`.

    Returns:
        What is to be decoded of each, uint8, and what is to be asked of that. Where an image is resized and then only
        its middle is looked at, all of it is needed: the backend's filter knows nothing of what lies outside.
    """
    rows = range(len(plan))
    if plan.crop is not None:
        windows.cut(plan.crop, memory)
        moved = plan.crop - np.hstack((windows.placed[:, :2], np.zeros((len(plan), 2), np.int64)))
        return [windows.jpeg(row) for row in rows], replace(plan, crop=moved)
    if plan.window is None:
        return [windows.jpeg(row) for row in rows], plan
    whole = np.hstack((np.zeros((len(plan), 2), np.int64), stored))
    needed = np.empty_like(whole)
    needed_pixels(whole, np.zeros((0, 2), np.int64), plan.window, size, True, needed)
    resized = np.zeros(len(plan), np.bool_) if plan.resize is None else (plan.resize != stored).any(axis=1)
    needed[resized] = whole[resized]
    windows.cut(needed, memory)
    resize = None if plan.resize is None else np.where(resized[:, None], plan.resize, windows.placed[:, 2:])
    jpegs = [windows.jpeg(row) for row in rows]
    return jpegs, replace(plan, resize=resize, window=plan.window - windows.placed[:, :2])
