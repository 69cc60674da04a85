"""The default on a CPU: images of the shards, read, checked and decoded piece by piece."""

from collections.abc import Iterator

import numpy as np
import simplejpeg
import torch

from pipelines.backends.cpu import Bytes, CpuBackend, Numbers, Scratch, StoredPixels
from pipelines.backends.jpeg_windows import Misfits, Windows
from pipelines.backends.shard_reader import Payloads, ShardReader, check_raw
from pipelines.batch_plan import OutputSpec, Verify
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import decode_payload, stored_at_size

_RAW_PIECE = 256  # samples: 0.8 MB at 32 px, which a core's second cache holds
_ENCODED_PIECE = 16  # photographs: some milliseconds, so that cores finish a batch together
_CACHED_BYTES = 256 << 10  # pixels that are decoded before any is cut: a quarter of a core's second cache


class ShardBackend(CpuBackend):
    """The backend of names `cpu` and `fused`: see `batch_plan.Backend`."""

    def __init__(
        self,
        dataset: Dataset,
        spec: OutputSpec,
        *,
        device: torch.device,
        verify: Verify = "first",
        threads: int = 2,
        prefetch: int = 2,
    ) -> None:
        stored = ShardImages(dataset, verify=verify)
        super().__init__(spec, stored, device=device, threads=threads, prefetch=prefetch, name="cpu")


class ShardImages:
    """See `cpu.StoredImages`: payloads of the shards, decoded where they are encoded."""

    def __init__(self, dataset: Dataset, *, verify: Verify) -> None:
        self._together = max(1, _CACHED_BYTES // max(1, 3 * dataset.sizes.area))  # images decoded before any is cut
        self.piece = _RAW_PIECE if dataset.encoding == "raw" else max(_ENCODED_PIECE, self._together)
        self._dataset, self._at_size = dataset, stored_at_size(dataset)
        self._reader = ShardReader(dataset, verify=verify, compiled=True)
        self._scratch = Scratch()
        self._misfits = Misfits(dataset)

    def sizes(self, ids: Numbers) -> tuple[Numbers, Numbers]:
        if self._at_size:
            sides = np.full(len(ids), self._dataset.image_size)
            return sides, sides
        rows = self._dataset.rows(ids)
        return rows.height.astype(np.int64), rows.width.astype(np.int64)

    def read(self, ids: Numbers, needed: Numbers | None) -> Iterator[StoredPixels]:
        payloads = self._reader.read(ids, self._scratch.take("payloads", 0))
        self._scratch.keep("payloads", payloads.buffer)
        if self._dataset.encoding == "raw":
            check_raw(self._dataset, ids, payloads)
            yield StoredPixels(payloads.buffer, payloads.offset)
            return
        yield from self._decode_all(ids, payloads, needed if self._dataset.encoding == "jpeg" else None)

    def close(self) -> None:
        self._misfits.close()
        self._reader.close()

    def _decode_all(self, ids: Numbers, payloads: Payloads, needed: Numbers | None) -> Iterator[StoredPixels]:
        stored = np.stack((payloads.rows.height, payloads.rows.width), axis=1).astype(np.int64)
        room = 3 * stored[:, 0] * stored[:, 1]
        windows = Windows(ids, payloads, stored, self._misfits)
        if needed is not None:
            windows.cut(needed, self._scratch.take("windows", payloads.buffer.size))
        for first in range(0, len(ids), self._together):
            last = min(first + self._together, len(ids))
            pixels = self._scratch.take("pixels", int(room[first:last].sum()))
            places, end = [], 0
            for row in range(first, last):
                places.append(end)
                end += self._decode(windows, row, int(ids[row]), payloads, pixels[end:])
            yield StoredPixels(pixels, np.array(places), windows.placed[first:last])

    def _decode(self, windows: Windows, row: int, sample: int, payloads: Payloads, pixels: Bytes) -> int:
        """Writes the pixels of a row to the beginning of `pixels`, returns their bytes; see `decode_payload`."""
        if self._dataset.encoding == "jpeg":
            _, _, height, width = windows.placed[row].tolist()
            size: int = 3 * height * width
            if _decode_jpeg(windows.jpeg(row), height, width, pixels[:size]):
                return size
            windows.give_up(row)
        # Larger than the table says, or damaged, if it is a JPEG: the plain decoder tries, and says what is wrong.
        whole = decode_payload(self._dataset, sample, payloads[row]).reshape(-1)
        pixels[: whole.size] = whole
        return whole.size


def _decode_jpeg(jpeg: Bytes, height: int, width: int, pixels: Bytes) -> bool:
    """Writes height x width pixels; False if it is not a JPEG of these or is damaged."""
    try:
        image = simplejpeg.decode_jpeg(jpeg, "RGB", fastdct=False, fastupsample=False, buffer=pixels)
    except ValueError:
        return False
    return bool(image.shape == (height, width, 3))
