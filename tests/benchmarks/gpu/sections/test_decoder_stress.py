"""The stress sees memory that is overwritten before a queued read has run; a loop that waits does not."""

import time
from collections.abc import Iterator

import pytest
import torch

from benchmarks.gpu.sections.decoder_stress import AHEAD, KINDS, checksum, watch


class LateReader:
    """Reads when it is asked for the sums, as a busy stream does."""

    def __init__(self) -> None:
        self._queued: list[torch.Tensor] = []

    def read(self, batch: torch.Tensor) -> None:
        self._queued.append(batch)

    def waiting(self) -> bool:
        return bool(self._queued)

    def sums(self) -> list[int]:
        found = [int(checksum(one)) for one in self._queued]
        self._queued.clear()
        return found


class PromptReader(LateReader):
    """Waits after every batch."""

    def __init__(self) -> None:
        super().__init__()
        self._sums: list[int] = []

    def read(self, batch: torch.Tensor) -> None:
        self._sums.append(int(checksum(batch)))

    def sums(self) -> list[int]:
        found, self._sums = self._sums, []
        return found


def decoded(*, buffers: int) -> Iterator[torch.Tensor]:
    """A decoder with so many buffers, each written again whether or not it was read."""
    memory = torch.empty(buffers, 4, 16, 16, 3, dtype=torch.uint8)
    number = 0
    while True:
        memory[number % buffers].copy_(torch.full((4, 16, 16, 3), number % KINDS + 1, dtype=torch.uint8))
        yield memory[number % buffers]
        number += 1


def seen(reader: LateReader, buffers: int) -> tuple[int, int, int]:
    deadline = time.perf_counter() + 60
    return watch(decoded(buffers=buffers), reader, kinds=KINDS, keep=0, goal=3 * KINDS, deadline=deadline)


@pytest.mark.parametrize("buffers", [1, 2, AHEAD - 1])
def test_memory_that_is_written_too_early_is_seen_by_late_reads(buffers: int) -> None:
    batches, changed, waiting = seen(LateReader(), buffers)
    assert batches == 3 * KINDS
    assert changed >= batches // AHEAD
    assert waiting == batches - batches // AHEAD


def test_memory_that_lives_until_it_is_read_is_right() -> None:
    assert seen(LateReader(), AHEAD).changed == 0  # type: ignore[attr-defined]


def test_a_loop_that_waits_for_every_batch_cannot_see_it() -> None:
    _, changed, waiting = seen(PromptReader(), 1)
    assert (changed, waiting) == (0, 0)


def test_the_checksum_sees_a_changed_and_a_moved_byte() -> None:
    image = torch.randint(0, 255, (4, 8, 8, 3), dtype=torch.uint8)
    changed, moved = image.clone(), image.clone()
    changed[0, 0, 0, 0] += 1
    moved.view(-1)[:2] = torch.tensor([1, 2], dtype=torch.uint8)
    swapped = moved.clone()
    swapped.view(-1)[:2] = torch.tensor([2, 1], dtype=torch.uint8)
    assert checksum(image) != checksum(changed)
    assert checksum(moved) != checksum(swapped)
