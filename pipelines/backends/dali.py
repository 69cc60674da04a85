"""The DALI backend: the graph of `dali_graph.py`, fed from plans; its output becomes torch tensors without a copy.

    plan -> read + check payloads -> cut -> feed -> run         the feeder, a thread of its own, two batches ahead
         -> take outputs -> DLPack -> normalise, hide    the trainer's thread; torch, on the device

The default on a GPU. On a CPU the same graph runs, so that it can be tested where there is no GPU; `cpu` is faster
there. Raw images are exact to the bit; what DALI decodes and resizes differs a little from the reference (the tests
state the bound), since its resampling works in floats.
"""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali.tensors import TensorListCPU
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipelines.backends.dali_error import DaliError, read_error
from pipelines.backends.dali_graph import CELLS, CROP, ENCODED, FLIP, RESIZE, WINDOW, GraphInputs, build_graph
from pipelines.backends.jpeg_windows import Misfits, Windows, cut_for_plan
from pipelines.backends.shard_reader import Payloads, ShardReader
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec, Verify
from pipelines.staging import Staging, hide
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import corrupt_sample, decode_payload, stored_at_size
from selfie_data.errors import CorruptSampleError, DatasetError

# Batches in DALI at a time: one more would hold the pixels of another batch, which no speed was seen from.
_DEPTH = 2

Stored = NDArray[np.uint8] | list[NDArray[np.uint8]] | TensorListCPU


class _Running(NamedTuple):
    graph: Any
    payloads: Payloads


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
        del prefetch  # plans wait here; DALI holds the pixels of `_DEPTH` batches
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
        # DALI's queue of outputs has no lock of its own: `schedule_run` adds to it, `outputs` takes from it.
        self._queue = threading.Lock()
        self._waiting: deque[BatchPlan] = deque()
        self._running: deque[tuple[BatchPlan, Future[_Running]]] = deque()
        self._memory: deque[NDArray[np.uint8]] = deque(maxlen=_DEPTH + 1)  # of payloads that nobody needs any more
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="selfie-dali")
        self._scale, self._bias = (torch.from_numpy(factor).to(device) for factor in (spec.scale, spec.bias))

    def submit(self, plan: BatchPlan) -> None:
        self._waiting.append(plan)
        self._start_next()

    def result(self) -> BackendOutput:
        if not self._running:
            raise IndexError("no plan is outstanding")
        plan, fed = self._running.popleft()
        try:
            outputs = self._outputs(plan, fed)
        finally:
            self._start_next()
        return self._finished(plan, outputs)

    def close(self) -> None:
        self._waiting.clear()
        self._feeder.shutdown(wait=True, cancel_futures=True)
        self._running.clear()
        self._memory.clear()
        self._graphs.clear()  # the last references: DALI ends its threads
        self._reader.close()
        self._misfits.close()

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < _DEPTH:
            plan = self._waiting.popleft()
            self._running.append((plan, self._feeder.submit(self._feed, plan)))

    def _feed(self, plan: BatchPlan) -> _Running:
        """Reads a plan's images and sets DALI to work on them; in the feeder's thread. Errors are the plan's."""
        payloads = self._reader.read(plan.sample_id, self._free_memory(plan))
        stored, plan = self._stored(plan, payloads)
        graph = self._graph(plan)
        graph.feed_input(ENCODED, stored)
        for name, values in _integers(plan).items():
            graph.feed_input(name, np.ascontiguousarray(values, dtype=np.int32))
        with self._queue:
            graph.schedule_run()
        return _Running(graph, payloads)

    def _stored(self, plan: BatchPlan, payloads: Payloads) -> tuple[Stored, BatchPlan]:
        """Returns what is fed, pixels of raw images, else encoded bytes, and what is to be done to it."""
        rows, ids, table = range(len(plan)), plan.sample_id, self._dataset.table
        if self._dataset.encoding == "jpeg":
            stored = np.stack((table.height[ids], table.width[ids]), axis=1).astype(np.int64)
            if self._windows.size < payloads.buffer.size:
                self._windows = np.empty(payloads.buffer.size, np.uint8)
            windows = Windows(ids, payloads, stored, self._misfits)
            return cut_for_plan(plan, self._spec.image_size, windows, stored, self._windows)
        if self._dataset.encoding != "raw":
            return [payloads[row] for row in rows], plan
        height, width = int(table.height[ids[0]]), int(table.width[ids[0]])
        alike = (table.height[ids] == height) & (table.width[ids] == width) & (payloads.length == 3 * height * width)
        if not alike.all():
            return [decode_payload(self._dataset, int(ids[row]), payloads[row]) for row in rows], plan
        pixels = payloads.buffer[: len(ids) * 3 * height * width].reshape(len(ids), height, width, 3)
        # DALI's own copy is of pinned memory, which the GPU fetches by itself, only if it is told that this is too.
        return (pixels if self._gpu is None else TensorListCPU(pixels, layout="HWC", is_pinned=True)), plan

    def _free_memory(self, plan: BatchPlan) -> NDArray[np.uint8] | None:
        """Returns memory for the payloads: of a batch that was taken, else new; pinned, where pixels go to a GPU.

        None: what there is does not suffice, and the reader may take what it likes.
        """
        size = int(self._dataset.table.length[plan.sample_id].sum(dtype=np.int64))
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

    def _outputs(self, plan: BatchPlan, fed: Future[_Running]) -> list[Tensor]:
        """Returns the tensors of a plan; after an error of DALI's all that is under way begins anew."""
        stream = None if self._gpu is None else torch.cuda.current_stream(self._gpu)
        try:
            running = fed.result()
            with self._queue:
                lists = running.graph.outputs(cuda_stream=stream)
        except DatasetError:  # found before anything was fed
            raise
        except RuntimeError as error:  # DALI's for everything; its pipeline is of no use after one
            self._start_over()
            if fed.exception() is not None:
                raise
            raise self._explained(plan, running.payloads, read_error(str(error))) from error
        self._memory.append(running.payloads.buffer)
        return [from_dlpack(one.as_tensor()) for one in lists]

    def _start_over(self) -> None:
        wait(fed for _, fed in self._running)
        self._waiting.extendleft(plan for plan, _ in reversed(self._running))
        self._running.clear()
        self._graphs.clear()

    def _explained(self, plan: BatchPlan, payloads: Payloads, found: DaliError) -> DatasetError:
        """Returns the error of the sample that cannot be decoded, or what else went wrong and where."""
        rows = range(len(plan)) if found.row is None else range(found.row, found.row + 1)
        for row in rows if found.decoding else ():  # the plain decoder says what is wrong with a sample, and with which
            try:
                decode_payload(self._dataset, int(plan.sample_id[row]), payloads[row])
            except CorruptSampleError as error:
                return error
        if found.decoding and len(rows) == 1:
            return corrupt_sample(self._dataset, int(plan.sample_id[rows[0]]), f"DALI cannot decode it ({found.cause})")
        sample = "" if found.row is None else f", sample {self._dataset.key(int(plan.sample_id[found.row]))}"
        where = f"epoch {plan.epoch}, step {plan.step}{sample}"
        return DatasetError(f"DALI failed at {where}, in {found.operator} ({found.cause}); try backend='cpu'")

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
