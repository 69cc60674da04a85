"""How arrays of the host reach the device: neither waits for the other.

    small arrays   -> packed into one staging buffer of pinned memory -> one copy -> views of one tensor on the device
    large tensors  of memory that is pinned already                   -> one copy -> a tensor on the device

A copy from ordinary memory makes the host wait for all that is queued before it, which is the whole training step. Of
pinned memory it is queued too, so that its memory must not be written before it has run: a mark behind it tells.

Copies run in a lane, a CUDA stream beside the trainer's, so that they overlap with the step that the trainer has
queued; what comes out is handed to the trainer's stream, which waits for it on the device. On a CPU nothing is copied.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Copies under way before the host waits for the oldest. They wait for no step, so that it has ended long before.
_SLOTS = 8
_ALIGNMENT = 64  # bytes: vector loads of the device want 16


class Mark(Protocol):
    """A point in the work of a lane; what torch.cuda.Event has of it."""

    def query(self) -> bool:
        """Says whether the work before it is done."""
        ...

    def synchronize(self) -> None:
        """Waits for the work before it."""
        ...


class Lane(Protocol):
    """Work on a device beside the trainer's."""

    def allocate(self, size: int) -> Tensor:
        """Returns `size` bytes of the host, uint8, that the device copies without the host's help."""
        ...

    def working(self) -> AbstractContextManager[Any]:
        """What is queued inside, from any thread, is this lane's."""
        ...

    def mark(self) -> Mark:
        """Returns a mark behind all that this lane was given so far."""
        ...

    def join(self, mark: Mark, *tensors: Tensor) -> None:
        """Makes the caller's stream wait, on the device, for `mark`; `tensors` of the lane are then its to use."""
        ...


class CudaLane:
    """A CUDA stream of one GPU, made when it is first needed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def allocate(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def working(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)  # switches to its device too: a new thread's is GPU 0

    def mark(self) -> Mark:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def join(self, mark: Mark, *tensors: Tensor) -> None:
        current = torch.cuda.current_stream(self._device)
        current.wait_event(mark)  # type: ignore[arg-type]  # marks of this lane are events
        for tensor in tensors:  # else its memory could go to the lane's next tensor while the trainer reads it
            tensor.record_stream(current)


class HostLane:
    """The same where nothing is queued: a CPU."""

    def allocate(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def working(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def mark(self) -> Mark:
        return _Done()

    def join(self, mark: Mark, *tensors: Tensor) -> None:
        pass


class _Done:
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


def lane_of(device: torch.device) -> Lane:
    """Returns a new lane of a device."""
    return CudaLane(device) if device.type == "cuda" else HostLane()


class _Slot:
    def __init__(self) -> None:
        self.memory = torch.empty(0, dtype=torch.uint8)
        self.mark: Mark = _Done()


class Staging:
    """Sends arrays to one device. Of one thread at a time.

    Args:
        device: with its index.
        lane: what copies; None = a new one of the device.
    """

    def __init__(self, device: torch.device, *, lane: Lane | None = None) -> None:
        self.device = device
        self.lane = lane_of(device) if lane is None else lane
        self._slots = [_Slot() for _ in range(_SLOTS)]
        self._turn = 0
        self._held: list[tuple[Mark, Tensor]] = []  # sources of copies that may be under way

    def send(self, *arrays: NDArray[Any] | Tensor) -> tuple[Tensor, ...]:
        """Returns arrays of the host as tensors on the device, sent with one copy; on a CPU they share their memory."""
        tensors = [
            array if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array)) for array in arrays
        ]
        if self.device.type == "cpu":
            return tuple(tensors)
        ends = np.cumsum([-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]).tolist()
        starts = [0, *ends[:-1]]
        slot = self._free_slot(ends[-1])
        for tensor, part in zip(tensors, _parts(slot.memory, tensors, starts), strict=True):
            part.copy_(tensor)
        sent, slot.mark = self._copy(slot.memory[: ends[-1]])
        return tuple(_parts(sent, tensors, starts))

    def move(self, tensor: Tensor) -> Tensor:
        """Returns a tensor, of memory that the lane allocated or of the device, on the device."""
        if tensor.device == self.device:
            return tensor
        moved, mark = self._copy(tensor)
        self._held = [held for held in self._held if not held[0].query()]
        self._held.append((mark, tensor))
        return moved

    def _free_slot(self, size: int) -> _Slot:
        """Returns the slot whose turn it is, its last copy done, with at least `size` bytes."""
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % len(self._slots)
        slot.mark.synchronize()
        if slot.memory.numel() < size:
            with torch.inference_mode(False):  # a slot that an evaluation made must serve outside of it too
                slot.memory = self.lane.allocate(size)
        return slot

    def _copy(self, source: Tensor) -> tuple[Tensor, Mark]:
        with self.lane.working():
            copied = source.to(self.device, non_blocking=True)
            mark = self.lane.mark()
        self.lane.join(mark, copied)
        return copied, mark


def _parts(memory: Tensor, tensors: Sequence[Tensor], starts: Sequence[int]) -> list[Tensor]:
    """Returns views of bytes with the dtypes and shapes of `tensors`, one from each of `starts` on."""
    return [
        memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for tensor, start in zip(tensors, starts, strict=True)
    ]


def hide(pixels: Tensor, hidden: Tensor) -> None:
    """Makes pixels zero where `hidden`, a mask over their leading axes of the same device: no count is fetched."""
    pixels.masked_fill_(hidden.reshape(*hidden.shape, *[1] * (pixels.ndim - hidden.ndim)), 0)
