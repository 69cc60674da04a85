"""The DALI backend: the graph of `dali_graph.py`, fed from plans; its output becomes torch tensors without a copy.

    plan -> read + check payloads -> feed -> graph, one batch ahead of the trainer -> DLPack -> normalise, hide (torch)

The default on a GPU. On a CPU the same graph runs, so that it can be tested where there is no GPU; `cpu` is faster
there. Raw images are exact to the bit; what DALI decodes and resizes differs a little from the reference (the tests
state the bound), since its resampling works in floats.
"""

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipelines.backends.dali_graph import CELLS, CROP, ENCODED, FLIP, RESIZE, WINDOW, GraphInputs, build_graph
from pipelines.backends.shard_reader import Payloads, ShardReader
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec, Verify
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import corrupt_sample, decode_payload
from selfie_data.errors import CorruptSampleError, DatasetError

Stored = NDArray[np.uint8] | list[NDArray[np.uint8]]


class _Running(NamedTuple):
    plan: BatchPlan
    graph: Any
    payloads: Payloads


class DaliBackend:
    """See `plan.Backend`. DALI's threads work on one plan while the trainer looks at the one before."""

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
        del prefetch  # plans wait here; DALI holds the pixels of two batches
        self._dataset = dataset
        self._spec = spec
        self._device = device
        self._threads = threads
        self._reader = ShardReader(dataset, verify=verify, compiled=True)
        self._graphs: dict[GraphInputs, Any] = {}
        self._waiting: deque[BatchPlan] = deque()
        self._running: _Running | Exception | None = None
        self._scale, self._bias = (torch.from_numpy(factor).to(device) for factor in (spec.scale, spec.bias))

    def submit(self, plan: BatchPlan) -> None:
        self._waiting.append(plan)
        self._start_next()

    def result(self) -> BackendOutput:
        running, self._running = self._running, None
        if running is None:
            raise IndexError("no plan is outstanding")
        if isinstance(running, Exception):
            self._start_next()
            raise running
        outputs = self._outputs(running)
        self._start_next()
        return self._finished(running.plan, outputs)

    def close(self) -> None:
        self._waiting.clear()
        self._running = None
        self._graphs.clear()  # the last references: DALI ends its threads
        self._reader.close()

    def _start_next(self) -> None:
        """Reads and feeds the next plan if none is under way. What goes wrong is kept for its `result`."""
        if self._running is not None or not self._waiting:
            return
        plan = self._waiting.popleft()
        try:
            payloads = self._reader.read(plan.sample_id)
            stored = self._stored(plan, payloads)
        except DatasetError as error:
            self._running = error
            return
        graph = self._graph(plan)
        graph.feed_input(ENCODED, stored)
        for name, values in _integers(plan).items():
            graph.feed_input(name, np.ascontiguousarray(values, dtype=np.int32))
        graph.schedule_run()
        self._running = _Running(plan, graph, payloads)

    def _stored(self, plan: BatchPlan, payloads: Payloads) -> Stored:
        """Returns what is fed: pixels of raw images, else encoded bytes."""
        rows, ids, table = range(len(plan)), plan.sample_id, self._dataset.table
        if self._dataset.encoding != "raw":
            return [payloads[row] for row in rows]
        height, width = int(table.height[ids[0]]), int(table.width[ids[0]])
        alike = (table.height[ids] == height) & (table.width[ids] == width) & (payloads.length == 3 * height * width)
        if alike.all():
            return payloads.buffer[: len(ids) * 3 * height * width].reshape(len(ids), height, width, 3)
        return [decode_payload(self._dataset, int(ids[row]), payloads[row]) for row in rows]

    def _graph(self, plan: BatchPlan) -> Any:
        inputs = GraphInputs.of(plan)
        if inputs not in self._graphs:
            self._graphs[inputs] = build_graph(
                self._spec,
                inputs,
                raw=self._dataset.encoding == "raw",
                device_id=None if self._device.type == "cpu" else (self._device.index or 0),
                threads=self._threads,
            )
        return self._graphs[inputs]

    def _outputs(self, running: _Running) -> list[Tensor]:
        stream = None if self._device.type == "cpu" else torch.cuda.current_stream(self._device)
        try:
            lists = running.graph.outputs(cuda_stream=stream)
            return [from_dlpack(one.as_tensor()) for one in lists]
        except RuntimeError as error:  # DALI's for everything; its pipeline is of no use after one
            self._graphs.clear()
            raise self._explained(running, error) from error

    def _explained(self, running: _Running, error: RuntimeError) -> DatasetError:
        """Returns the error of the sample that cannot be decoded: DALI does not say which it is."""
        plan = running.plan
        for row, sample in enumerate(plan.sample_id.tolist()):
            try:
                decode_payload(self._dataset, sample, running.payloads[row])
            except CorruptSampleError as found:
                return found
        what = str(error).strip().splitlines()[0]
        if len(plan) == 1:
            return corrupt_sample(self._dataset, int(plan.sample_id[0]), f"DALI cannot decode it ({what})")
        return DatasetError(f"DALI failed at epoch {plan.epoch}, step {plan.step} ({what}); try backend='cpu'")

    def _finished(self, plan: BatchPlan, outputs: list[Tensor]) -> BackendOutput:
        spec = self._spec
        patches = self._normalised(outputs.pop(0)) if plan.position is not None else None
        image = self._normalised(outputs.pop(0)) if spec.whole_image else None
        if patches is not None and plan.hidden is not None:
            patches[torch.from_numpy(plan.hidden).to(self._device)] = 0
        if image is not None and plan.mask is not None and spec.patch_size is not None:
            side, p = spec.image_size // spec.patch_size, spec.patch_size
            mask = torch.from_numpy(plan.mask).to(self._device).view(len(plan), side, 1, side, 1)
            image[mask.expand(-1, -1, p, -1, p).reshape(image.shape[:3])] = 0
        return BackendOutput(patches=patches, image=image)

    def _normalised(self, pixels: Tensor) -> Tensor:
        if self._spec.dtype == "uint8":
            return pixels
        return pixels.to(torch.float32).mul_(self._scale).add_(self._bias).to(self._spec.torch_dtype)


def _integers(plan: BatchPlan) -> dict[str, NDArray[Any]]:
    named = {CROP: plan.crop, RESIZE: plan.resize, WINDOW: plan.window, FLIP: plan.flip, CELLS: plan.position}
    return {name: values for name, values in named.items() if values is not None}
