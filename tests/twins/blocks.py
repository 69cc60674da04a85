"""What `pipelines.sampling.draws` compiles for blocks, squares and multiblock, a sample at a time in plain Python."""

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS
from selfie_data.randomness.philox import Purpose, philox4x32

_ATTEMPTS = 10


def words(seed: int, epoch: int, sample: int, purpose: Purpose, block: int) -> list[int]:
    """Returns the four words of one block of a sample."""
    counter = (sample % 2**32, sample // 2**32, epoch, int(purpose) * 2**16 + block)
    return [int(word) for word in philox4x32(counter, seed).reshape(-1)]


def below(word: int, bound: int) -> int:
    """Scales a 32-bit word to 0 … bound - 1."""
    return word * bound // 2**32


def blocks(seed: int, epoch: int, sample: int, *, side: int, count: int, smallest: int) -> NDArray[np.bool_]:
    """Returns the hidden cells of one sample, bool [side, side]."""
    hidden = np.zeros((side, side), np.bool_)
    block = failed = 0
    while (left_to_hide := count - int(hidden.sum())) > 0:
        area_word, ratio_word, top_word, left_word = words(seed, epoch, sample, Purpose.BLOCKS, block)
        block += 1
        if failed == _ATTEMPTS:
            start = below(top_word, side**2)
            cell = next(c % side**2 for c in range(start, start + side**2) if not hidden.flat[c % side**2])
            hidden.flat[cell] = True
            continue
        failed += 1
        area = smallest + (left_to_hide - smallest) * (area_word / 2**32)
        root = ASPECT_RATIOS[below(ratio_word, len(ASPECT_RATIOS))]
        ratio = (root * root) * (root * root)
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if min(height, width) < 1 or max(height, width) >= side:
            continue
        top, left = below(top_word, side - height + 1), below(left_word, side - width + 1)
        tried = hidden.copy()
        tried[top : top + height, left : left + width] = True
        if 0 < int(tried.sum()) - int(hidden.sum()) <= left_to_hide:
            hidden, failed = tried, 0
    return hidden


def squares(seed: int, epoch: int, sample: int, *, side: int, count: int, square: int) -> NDArray[np.bool_]:
    """Returns the hidden cells of one sample, bool [side, side]."""
    coarse = side // square
    drawn = [words(seed, epoch, sample, Purpose.SQUARES, block) for block in range(-(-(coarse**2) // 4))]
    keys = [word for block in drawn for word in block][: coarse**2]
    order = sorted(range(coarse**2), key=lambda place: (keys[place], place))
    hidden = np.zeros((side, side), np.bool_)
    for place in order[coarse**2 - count // square**2 :]:
        top, left = divmod(place, coarse)
        hidden[top * square : (top + 1) * square, left * square : (left + 1) * square] = True
    return hidden


def multiblock(
    seed: int,
    epoch: int,
    sample: int,
    *,
    side: int,
    targets: int,
    context_area: tuple[float, float],
    target_area: tuple[float, float],
    target_ratio: tuple[float, float],
    least: int,
    most_context: int,
) -> tuple[list[int], list[list[int]]]:
    """Returns (cells of the context, cells of each target block) of one sample."""

    def within(low_high: tuple[float, float], word: int) -> float:
        low, high = low_high
        return low + (high - low) * (word / 2**32)

    def sides(area: float, ratio: float) -> tuple[int, int]:
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        return max(1, min(tall, side - 1)), max(1, min(wide, side - 1))

    def cells(top: int, left: int, height: int, width: int) -> list[int]:
        return [row * side + column for row in range(top, top + height) for column in range(left, left + width)]

    context: list[int] = []
    blocks: list[list[int]] = []
    for attempt in range(1000):
        first = attempt * (targets + 2)
        drawn = [words(seed, epoch, sample, Purpose.MULTIBLOCK, first + number) for number in range(targets + 2)]
        sizes, place, *places = drawn
        height, width = sides(within(target_area, sizes[0]) * side**2, within(target_ratio, sizes[1]))
        blocks = [cells(below(p[0], side - height + 1), below(p[1], side - width + 1), height, width) for p in places]
        tall, wide = sides(within(context_area, sizes[2]) * side**2, 1.0)
        square = cells(below(place[0], side - tall + 1), below(place[1], side - wide + 1), tall, wide)
        if attempt >= _ATTEMPTS - 1:
            square, least = cells(0, 0, side, side), 1
        context = [cell for cell in square if not any(cell in block for block in blocks)]
        if len(context) >= least:
            break
    return context[:most_context], blocks
