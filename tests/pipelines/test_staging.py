"""What is sent arrives as it was, in one copy, and staging memory is never written while a copy of it may be read."""

import numpy as np
import pytest
import torch

from pipelines.staging import HostLane, Staging, hide
from tests.waits import PretendedLane, Waits

META = torch.device("meta")
ARRAYS = (
    np.arange(6, dtype=np.int64).reshape(2, 3),
    np.array([[True, False, True]]),
    np.arange(70, dtype=np.float32),
    np.arange(5, dtype=np.int64)[::2],
)


class LaterLane(PretendedLane):
    """Copies are read only when they are waited for, as late as can be: what was overwritten by then is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[int] = []
        self.marks = 0
        self.joined: list[tuple[object, int]] = []

    def mark(self) -> "LaterMark":  # type: ignore[override]
        self.marks += 1
        return LaterMark(self, self.marks)

    def join(self, mark: object, *tensors: torch.Tensor) -> None:
        self.joined.append((mark, len(tensors)))


class LaterMark:
    def __init__(self, lane: LaterLane, number: int) -> None:
        self.lane, self.number, self.done = lane, number, False

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        self.done = True
        self.lane.waits.append(self.number)


def test_on_a_cpu_arrays_are_taken_as_they_are() -> None:
    sent = Staging(torch.device("cpu")).send(*ARRAYS)
    for tensor, array in zip(sent, ARRAYS, strict=True):
        assert np.array_equal(tensor.numpy(), array)
        assert tensor.numpy().dtype == array.dtype
    assert sent[0].data_ptr() == ARRAYS[0].ctypes.data


class Copies(torch.utils._python_dispatch.TorchDispatchMode):
    """Keeps what is copied to the device, of which nothing could be read there."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[torch.Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.overloadpacket.__name__ == "_to_copy" and (kwargs or {}).get("device") == META:
            self.bytes.append(args[0].clone())
        return func(*args, **(kwargs or {}))


def test_arrays_of_all_kinds_travel_in_one_copy_of_pinned_memory() -> None:
    lane = PretendedLane()
    staging = Staging(META, lane=lane)
    with Waits([lane]) as waits:
        sent = staging.send(*ARRAYS, torch.ones(3, dtype=torch.bfloat16))
    assert (waits.found, waits.copies) == ([], 1)
    assert [(tuple(one.shape), one.dtype) for one in sent] == [
        ((2, 3), torch.int64),
        ((1, 3), torch.bool),
        ((70,), torch.float32),
        ((3,), torch.int64),
        ((3,), torch.bfloat16),
    ]
    with Copies() as copies:
        sent = staging.send(*ARRAYS)
    (memory,) = copies.bytes
    for tensor, array in zip(sent, ARRAYS, strict=True):
        start = tensor.storage_offset() * tensor.element_size()
        assert start % 64 == 0
        assert memory[start : start + array.nbytes].numpy().tobytes() == array.tobytes()


def test_a_slot_is_written_again_only_after_its_last_copy_was_done() -> None:
    lane = LaterLane()
    staging = Staging(META, lane=lane)
    for _ in range(20):
        staging.send(np.arange(100))
    assert lane.waits == list(range(1, 13))  # eight slots: the ninth array waits for the first copy, and so on
    assert len(lane.pinned) == 8
    assert [count for _, count in lane.joined] == [1] * 20


def test_a_slot_grows_with_what_is_sent() -> None:
    lane = LaterLane()
    staging = Staging(META, lane=lane)
    for size in (10, 1000, 10):
        for _ in range(8):
            staging.send(np.zeros(size))
    assert len(lane.pinned) == 16


def test_memory_that_is_moved_is_held_until_its_copy_is_done() -> None:
    lane = LaterLane()
    staging = Staging(META, lane=lane)
    sources = [lane.allocate(8) for _ in range(3)]
    for source in sources:
        assert staging.move(source).device == META
    marks = [mark for mark, _ in lane.joined]
    assert [source for _, source in staging._held] == sources
    marks[0].synchronize()  # type: ignore[attr-defined]
    staging.move(lane.allocate(8))
    assert [id(source) for _, source in staging._held[:2]] == [id(sources[1]), id(sources[2])]
    on_device = torch.empty(3, device=META)
    assert staging.move(on_device) is on_device


def test_slots_made_in_inference_mode_serve_outside_of_it() -> None:
    staging = Staging(META, lane=HostLane())
    with torch.inference_mode():
        staging.send(np.zeros(3))
    for _ in range(9):
        staging.send(np.zeros(3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_hidden_is_zero_and_nothing_else(dtype: torch.dtype) -> None:
    pixels = torch.ones(2, 3, 4, 4, 3).to(dtype)
    hide(pixels, torch.tensor([[True, False, False], [False, False, True]]))
    assert pixels.flatten(2).float().mean(2).tolist() == [[0, 1, 1], [1, 1, 0]]
