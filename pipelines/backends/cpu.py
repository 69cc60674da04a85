"""The fused backend, the default on a CPU: everything after decoding is one compiled pass over each image.

    a few rows of a plan: read, check (compiled) -> [decode JPEG] -> resample, flip, cut, normalise (compiled)

Threads, pieces and output are those of `rendering.py`; here is how shards become pixels.
"""

from collections.abc import Iterator

import numpy as np
import simplejpeg
import torch

from pipelines.backends.compiled_reader import CompiledReader
from pipelines.backends.reference import decode
from pipelines.backends.rendering import Bytes, Numbers, RenderingBackend, Scratch, Stored
from pipelines.backends.shard_reader import Payloads
from pipelines.batch_plan import OutputSpec, Verify
from pipelines.kernels.read import read_payloads
from selfie_data.dataset.opened import Dataset
from selfie_data.kernels.compiled import announce
from selfie_data.kernels.passes_kernel import SLACK

_RAW_PIECE = 256  # samples: 0.8 MB at 32 px, which a core's second cache holds
_ENCODED_PIECE = 16  # photographs: some milliseconds, so that cores finish a batch together
_CACHED_BYTES = 256 << 10  # pixels that are decoded before any is rendered: a quarter of a core's second cache


class FusedBackend(RenderingBackend):
    """See `plan.Backend`."""

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
        source = ShardSource(dataset, verify=verify)
        super().__init__(spec, source, device=device, threads=threads, prefetch=prefetch, name="fused")


class ShardSource:
    """See `rendering.Source`: payloads of the shards, decoded where they are encoded."""

    def __init__(self, dataset: Dataset, *, verify: Verify) -> None:
        self._together = max(1, _CACHED_BYTES // _largest_image(dataset))  # images decoded before any is rendered
        self.piece = _RAW_PIECE if dataset.encoding == "raw" else max(_ENCODED_PIECE, self._together)
        self._dataset = dataset
        self._reader = CompiledReader(dataset, verify=verify)
        self._scratch = Scratch()
        announce(read_payloads)

    def sizes(self, ids: Numbers) -> tuple[Numbers, Numbers]:
        table = self._dataset.table
        return table.height[ids].astype(np.int64), table.width[ids].astype(np.int64)

    def read(self, ids: Numbers) -> Iterator[Stored]:
        payloads = self._reader.read(ids, self._scratch.take("payloads", 0))
        self._scratch.keep("payloads", payloads.buffer)
        if self._dataset.encoding == "raw":
            self._check_raw(ids, payloads)
            yield Stored(payloads.buffer, payloads.offset)
            return
        yield from self._decode_all(ids, payloads)

    def close(self) -> None:
        self._reader.close()

    def _check_raw(self, ids: Numbers, payloads: Payloads) -> None:
        """Raises CorruptSampleError where the length of a payload is not that of its image."""
        table = self._dataset.table
        wrong = payloads.length != 3 * table.height[ids].astype(np.int64) * table.width[ids]
        for row in np.flatnonzero(wrong)[:1]:
            decode(self._dataset, int(ids[row]), payloads[row])

    def _decode_all(self, ids: Numbers, payloads: Payloads) -> Iterator[Stored]:
        heights, widths = self.sizes(ids)
        ends = np.cumsum(3 * heights * widths)
        starts = ends - 3 * heights * widths
        shapes = list(zip(ids.tolist(), heights.tolist(), widths.tolist(), strict=True))
        for first in range(0, len(ids), self._together):
            places = starts[first : first + self._together] - starts[first]
            last = first + len(places)
            pixels = self._scratch.take("pixels", int(ends[last - 1] - starts[first]) + SLACK)
            for row, place in zip(range(first, last), places.tolist(), strict=True):
                self._decode(*shapes[row], payloads[row], pixels[place:])
            yield Stored(pixels, places)

    def _decode(self, sample: int, height: int, width: int, payload: Bytes, pixels: Bytes) -> None:
        """Writes the pixels of a payload to the beginning of `pixels`; see `reference.decode`."""
        pixels = pixels[: 3 * height * width]
        if self._dataset.encoding == "jpeg":
            try:
                image = simplejpeg.decode_jpeg(payload, "RGB", fastdct=False, fastupsample=False, buffer=pixels)
            except ValueError:  # larger than the table says, or damaged: the reference has the last word
                pass
            else:
                if image.shape == (height, width, 3):
                    return
        pixels[:] = decode(self._dataset, sample, payload).reshape(-1)


def _largest_image(dataset: Dataset) -> int:
    """Returns the bytes of the largest stored image, RGB, at least 1."""
    heights, widths = (side.astype(np.int64) for side in (dataset.table.height, dataset.table.width))
    return max(1, 3 * int((heights * widths).max(initial=0)))
