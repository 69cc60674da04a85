"""The backend `dali-operators`: patches made by DALI's own operators; they become torch tensors without a copy.

    plan -> read + check payloads -> cut -> feed -> run         the queue's thread, two batches ahead
         -> take outputs -> DLPack -> normalise, hide    the trainer's thread; torch, on the device

What to take on a GPU where Triton cannot be had, or where its kernels differ from the reference. On a CPU the same
graph runs, so that it can be tested where there is no GPU; `cpu` is faster there. Raw images are exact to the bit;
what DALI decodes and resizes differs a little from the reference (the tests state the bound): it resamples in floats.
"""

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.tensors import TensorListCPU
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipelines.backends.jpeg_windows import Misfits, Windows, cut_for_plan
from pipelines.backends.shard_reader import Payloads, ShardReader
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec, Verify
from pipelines.dali.decoder import ENCODED
from pipelines.dali.error import explained
from pipelines.dali.operators import CELLS, CROP, FLIP, RESIZE, WINDOW, GraphInputs, build_graph
from pipelines.dali.queue import DEPTH, DaliFailedError, DaliQueue
from pipelines.staging import Staging, hide
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import decode_payload, stored_at_size

Stored = NDArray[np.uint8] | list[NDArray[np.uint8]] | TensorListCPU


class DaliBackend:
    """See `batch_plan.Backend`. DALI works on the next two plans while the trainer looks at the one before."""

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
        del prefetch  # plans wait in the queue, which says how many DALI holds the pixels of
        self._dataset = dataset
        self._spec = spec
        self._staging = Staging(device)
        self._gpu = (device.index or 0) if device.type == "cuda" else None
        self._threads = threads
        self._at_size = stored_at_size(dataset)
        self._reader = ShardReader(dataset, verify=verify, compiled=True)
        self._misfits = Misfits(dataset)
        self._windows = np.empty(0, np.uint8)  # DALI copies what it is fed, so the next plan may overwrite it
        self._graphs: dict[GraphInputs, Any] = {}
        self._queue: DaliQueue[BatchPlan, Payloads] = DaliQueue(self._feed, self._graphs.clear)
        self._memory: deque[NDArray[np.uint8]] = deque(maxlen=DEPTH + 1)  # of payloads that nobody needs any more
        self._scale, self._bias = (torch.from_numpy(factor).to(device) for factor in (spec.scale, spec.bias))

    def submit(self, plan: BatchPlan) -> None:
        self._queue.submit(plan)

    def result(self) -> BackendOutput:
        stream = None if self._gpu is None else torch.cuda.current_stream(self._gpu)
        try:
            plan, payloads, lists = self._queue.take(stream)
        except DaliFailedError as failed:
            raise explained(failed.found, self._dataset, failed.work, failed.kept.__getitem__) from failed
        self._memory.append(payloads.buffer)
        return self._finished(plan, [from_dlpack(one.as_tensor()) for one in lists])

    def close(self) -> None:
        self._queue.close()
        self._memory.clear()
        self._reader.close()
        self._misfits.close()

    def _feed(self, plan: BatchPlan) -> tuple[Any, Payloads]:
        """Reads a plan's images and feeds a graph with them; in the queue's thread. Errors are the plan's."""
        payloads = self._reader.read(plan.sample_id, self._free_memory(plan))
        stored, plan = self._stored(plan, payloads)
        graph = self._graph(plan)
        graph.feed_input(ENCODED, stored)
        for name, values in _integers(plan).items():
            graph.feed_input(name, np.ascontiguousarray(values, dtype=np.int32))
        return graph, payloads

    def _stored(self, plan: BatchPlan, payloads: Payloads) -> tuple[Stored, BatchPlan]:
        """Returns what is fed, pixels of raw images, else encoded bytes, and what is to be done to it."""
        rows, ids, table = range(len(plan)), plan.sample_id, payloads.rows
        if self._dataset.encoding == "jpeg":
            stored = np.stack((table.height, table.width), axis=1).astype(np.int64)
            if self._windows.size < payloads.buffer.size:
                self._windows = np.empty(payloads.buffer.size, np.uint8)
            windows = Windows(ids, payloads, stored, self._misfits)
            return cut_for_plan(plan, self._spec.image_size, windows, stored, self._windows)
        if self._dataset.encoding != "raw":
            return [payloads[row] for row in rows], plan
        height, width = int(table.height[0]), int(table.width[0])
        alike = (table.height == height) & (table.width == width) & (payloads.length == 3 * height * width)
        if not alike.all():
            return [decode_payload(self._dataset, int(ids[row]), payloads[row]) for row in rows], plan
        pixels = payloads.buffer[: len(ids) * 3 * height * width].reshape(len(ids), height, width, 3)
        # DALI's own copy is of pinned memory, which the GPU fetches by itself, only if it is told that this is too.
        return (pixels if self._gpu is None else TensorListCPU(pixels, layout="HWC", is_pinned=True)), plan

    def _free_memory(self, plan: BatchPlan) -> NDArray[np.uint8] | None:
        """Returns memory for the payloads: of a batch that was taken, else new; pinned, where pixels go to a GPU.

        None: what there is does not suffice, and the reader may take what it likes.
        """
        size = int(self._dataset.rows(plan.sample_id).length.sum(dtype=np.int64))
        if self._memory and (used := self._memory.popleft()).size >= size:
            return used
        if self._gpu is None or self._dataset.encoding != "raw":
            return None
        pinned: NDArray[np.uint8] = self._staging.lane.allocate(size).numpy()
        return pinned

    def _graph(self, plan: BatchPlan) -> Any:
        inputs = GraphInputs.of(plan)
        if inputs not in self._graphs:
            self._graphs[inputs] = build_graph(
                self._spec,
                inputs,
                raw=self._dataset.encoding == "raw",
                at_size=self._at_size,
                device_id=self._gpu,
                threads=self._threads,
            )
        return self._graphs[inputs]

    def _finished(self, plan: BatchPlan, outputs: list[Tensor]) -> BackendOutput:
        spec = self._spec
        patches = self._normalised(outputs.pop(0)) if plan.position is not None else None
        image = self._normalised(outputs.pop(0)) if spec.whole_image else None
        if patches is not None and plan.hidden is not None:
            hide(patches, *self._staging.send(plan.hidden))
        if image is not None and plan.mask is not None and spec.patch_size is not None:
            side, p = spec.image_size // spec.patch_size, spec.patch_size
            (mask,) = self._staging.send(plan.mask)
            cells = mask.view(len(plan), side, 1, side, 1).expand(-1, -1, p, -1, p)
            hide(image, cells.reshape(image.shape[:3]))
        return BackendOutput(patches=patches, image=image)

    def _normalised(self, pixels: Tensor) -> Tensor:
        if self._spec.dtype == "uint8":
            return pixels
        return pixels.to(torch.float32).mul_(self._scale).add_(self._bias).to(self._spec.torch_dtype)


def _integers(plan: BatchPlan) -> dict[str, NDArray[Any]]:
    named = {CROP: plan.crop, RESIZE: plan.resize, WINDOW: plan.window, FLIP: plan.flip, CELLS: plan.position}
    return {name: values for name, values in named.items() if values is not None}
