"""Are pixels right that a busy stream reads late?

The hazard (pytorch/vision #9606): the hardware decoder writes its output before the stream it was given has come that
far, so that memory is overwritten which work already queued has still to read. A loop that waits for the device after
every batch cannot see it. Here each batch is handed to a side stream that is busy for tens of milliseconds, its
checksum is queued behind that work, and the next batches are decoded meanwhile; only then are the checksums fetched and
compared with those of a pass that waited for everything. The batches of every pass are the same: a difference is a
fault.

`freed` hands on the decoder's own memory and drops each tensor at once, so that it is free while still to be read: what
the decoder does then is the hazard itself. Otherwise tensors are held until they are read, and DALI resizes in between
as the loader's graph does: the decoder's memory is then freed inside DALI while the resize waits for the busy device.
The share of hand-overs at which the read before was still waiting says whether the run could see anything.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from benchmarks.gpu.data import task
from benchmarks.gpu.measure import attempt, emit, verdict
from benchmarks.gpu.setting import Setting
from benchmarks.work.material import load

CASE = "correctness: decoder stress"
BATCH = 256  # images, as in training: small batches do not reach the hardware engine
KINDS = 16  # different batches, each seen again and again
AHEAD = 8  # batches handed over before their checksums are fetched
_RESERVE_S = 10  # of the limit, for imports and the first pass
_PRODUCTS = 100  # of 4096 x 4096 in bf16: about 20 ms on an H100


class Reader(Protocol):
    """Something that reads batches late."""

    def read(self, batch: torch.Tensor) -> None:
        """Queues the checksum of the batch behind other work."""

    def waiting(self) -> bool:
        """True while the read queued last has not run."""

    def sums(self) -> list[int]:
        """Waits, and returns the checksums queued since the last call, in order."""


class Seen(NamedTuple):
    """What a run saw: batches, how many differ, at how many hand-overs the read before was still waiting."""

    batches: int
    changed: int
    waiting: int


def run(setting: Setting) -> None:
    """One setting of the hardware engine, tensors held or freed."""
    attempt(CASE, label(setting), lambda: stress(setting))


def label(setting: Setting) -> str:
    """The setting in words."""
    return f"hw load {setting.options['hw_decoder_load']}, {'freed' if setting.options['freed'] else 'held'}"


def stress(setting: Setting) -> None:
    """Decodes for as long as the limit allows, and watches the device's memory."""
    deadline = time.perf_counter() + max(setting.seconds - _RESERVE_S, 1)
    goal = setting.size(setting.batches, 3 * KINDS)
    on_gpu = setting.device == "cuda"
    stream: Any = torch.cuda.Stream() if on_gpu else None  # type: ignore[no-untyped-call]
    reader = StreamReader(stream, setting)
    used = [_used_mib(on_gpu)]
    batches = handed_over(setting, stream)
    keep = 0 if setting.options["freed"] else AHEAD
    seen = watch(batches, reader, kinds=KINDS, keep=keep, goal=goal, deadline=deadline)
    used.append(_used_mib(on_gpu))
    name = label(setting)
    note = "" if seen.batches >= goal else f"stopped by time, goal {goal}"
    emit(CASE, f"{name}: batches", [float(seen.batches)], "batches", note=note)
    emit(CASE, f"{name}: handed over while a read was waiting", [seen.waiting / seen.batches], "share")
    verdict(
        CASE,
        f"{name}: same as read at leisure",
        seen.changed == 0,
        f"{seen.changed} of {seen.batches} differ",
        stored="jpeg256",
    )
    emit(CASE, f"{name}: memory", used, "MiB", note="before and after")


def watch(
    batches: Iterator[torch.Tensor], reader: Reader, *, kinds: int, keep: int, goal: int, deadline: float
) -> Seen:
    """Reads batch after batch late and counts those that changed.

    Args:
        batches: batch i is of kind i % kinds; equal kinds have equal bytes.
        reader: queues reads.
        kinds: how many different batches there are.
        keep: how many tensors are held; 0 frees each as soon as its read is queued.
        goal: at least this many batches, if time allows.
        deadline: of `time.perf_counter`.
    """
    known = []
    for _ in range(kinds):
        reader.read(next(batches))
        known += reader.sums()
    held: deque[torch.Tensor] = deque(maxlen=keep)
    done = changed = waiting = 0
    while not done or (done < goal and time.perf_counter() < deadline):
        for number in range(AHEAD):
            batch = next(batches)
            waiting += number > 0 and reader.waiting()
            reader.read(batch)
            held.append(batch)
            del batch
        read = reader.sums()
        changed += sum(known[(done + number) % kinds] != one for number, one in enumerate(read))
        done += len(read)
    return Seen(done, changed, waiting)


class StreamReader:
    """Reads on a side stream behind matrix products; on a CPU, where nothing is ever late, at once."""

    def __init__(self, stream: Any, setting: Setting) -> None:
        self._stream = stream
        size = setting.size(4096, 16)
        self._matrix = torch.ones(size, size, device=setting.device, dtype=torch.bfloat16)
        self._products = setting.size(_PRODUCTS, 1)
        self._queued: list[torch.Tensor] = []
        self._read: Any = None

    def read(self, batch: torch.Tensor) -> None:
        with _on(self._stream):
            for _ in range(self._products):
                torch.matmul(self._matrix, self._matrix)
            self._queued.append(checksum(batch))
            self._read = self._stream.record_event() if self._stream else None

    def waiting(self) -> bool:
        return self._read is not None and not self._read.query()

    def sums(self) -> list[int]:
        if self._stream:
            self._stream.synchronize()
        found = [int(one) for one in self._queued]
        self._queued.clear()
        return found


def checksum(batch: torch.Tensor) -> torch.Tensor:
    """Position-dependent, exact: the sum of bytes times a repeating ramp, int64, not waited for."""
    flat = batch.flatten()
    ramp = torch.arange(1, 252, device=batch.device)
    usable = flat[: flat.numel() // 251 * 251].view(-1, 251)
    return (usable.sum(dim=0, dtype=torch.int64) * ramp).sum()


def handed_over(setting: Setting, stream: Any) -> Iterator[torch.Tensor]:
    """Decoded batches as the loader hands them on: outputs ordered on `stream`, the next batch under way already."""
    pipeline = graph(setting)
    pipeline.schedule_run()
    while True:
        pipeline.schedule_run()
        yield _handed_over(pipeline, stream)


def _handed_over(pipeline: Any, stream: Any) -> torch.Tensor:
    (images,) = pipeline.outputs(cuda_stream=stream)
    with _on(stream):
        tensor: torch.Tensor = from_dlpack(images.as_tensor())
    return tensor


def graph(setting: Setting) -> Any:
    """A DALI pipeline of images of one size: pixels as decoded, or resized to 224 x 224 where tensors are held."""
    from nvidia.dali import fn, pipeline_def, types

    batch = setting.size(BATCH, 8)
    packed = load(task("jpeg256", setting).source)
    sizes, counts = np.unique(np.stack([packed.height, packed.width], axis=1), axis=0, return_counts=True)
    height, width = sizes[counts.argmax()]
    (alike,) = np.nonzero((packed.height == height) & (packed.width == width))
    on_gpu = setting.device == "cuda"
    turn = 0

    def feed() -> list[np.ndarray[Any, Any]]:
        nonlocal turn
        start = turn % KINDS
        turn += 1
        return [np.array(packed.payload(alike[(start + 7 * row) % len(alike)])) for row in range(batch)]

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=batch,
        num_threads=setting.threads,
        device_id=0 if on_gpu else None,
        prefetch_queue_depth=2,
        exec_dynamic=True,
    )
    def decode() -> Any:
        stored = fn.external_source(feed, batch=True)
        extra = {"hw_decoder_load": setting.options["hw_decoder_load"]} if on_gpu else {}
        image = fn.decoders.image(stored, device="mixed" if on_gpu else "cpu", **extra)
        if setting.options["freed"]:
            return image
        return fn.resize(image, size=[224, 224], interp_type=types.INTERP_LINEAR, antialias=True)

    pipeline = decode()
    pipeline.build()
    return pipeline


def _on(stream: Any) -> Any:
    return torch.cuda.stream(stream) if stream else nullcontext()


def _used_mib(on_gpu: bool) -> float:
    if not on_gpu:
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20
