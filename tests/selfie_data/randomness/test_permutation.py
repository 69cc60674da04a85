"""The keyed permutation."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose, philox4x32
from tests.twins.inverse_permutation import inverse

GOLDEN = [7, 13, 12, 4, 1, 0, 2, 9, 17, 18, 5, 8, 15, 3, 14, 19, 6, 10, 16, 11]


def permutation(size: int, *, seed: int = 0, epoch: int = 0, stream: int = 0) -> Permutation:
    return Permutation(size=size, seed=seed, purpose=Purpose.PLAN, epoch=epoch, stream=stream)


def slow_permutation(position: int, size: int, seed: int) -> int:
    """The definition, in Python's integers."""
    a = next(side for side in itertools.count(1) if side * side >= size)
    b = -(-size // a)
    keys = [philox4x32((number, 0, 0, Purpose.PLAN << 16), seed).tolist() for number in range(16)]

    def mix(half: int, key: list[int], modulus: int) -> int:
        word = half ^ key[0]
        word ^= word >> 16
        word = word * (key[1] | 1) & 0xFFFFFFFF
        word ^= word >> 13
        word = (word + key[2]) * 0xC2B2AE35 & 0xFFFFFFFF
        word ^= word >> 16
        return word * modulus >> 32

    while True:
        left, right = divmod(position, b)
        for number in range(0, 16, 2):
            left = (left + mix(right, keys[number], a)) % a
            right = (right + mix(left, keys[number + 1], b)) % b
        position = left * b + right
        if position < size:
            return position


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**64 - 1))
def test_is_a_permutation_and_has_its_inverse(size: int, seed: int) -> None:
    shuffle = permutation(size, seed=seed)
    elements = shuffle(np.arange(size))
    assert np.array_equal(np.sort(elements), np.arange(size))
    assert np.array_equal(inverse(shuffle, elements), np.arange(size))


@given(size=st.integers(1, 10**9), position=st.integers(0, 10**9), seed=st.integers(0, 2**64 - 1))
def test_equals_the_definition(size: int, position: int, seed: int) -> None:
    position %= size
    expected = slow_permutation(position, size, seed)
    assert permutation(size, seed=seed)(np.array([position])).tolist() == [expected]


@pytest.mark.parametrize("size", [10**9, 2**40 + 7, 2**62])
def test_huge_sizes_need_no_memory(size: int) -> None:
    shuffle = permutation(size, seed=9)
    positions = np.array([0, 1, size // 2, size - 1])
    elements = shuffle(positions)
    assert ((elements >= 0) & (elements < size)).all()
    assert np.array_equal(inverse(shuffle, elements), positions)


@pytest.mark.parametrize("size", [5, 10, 16, 50])
def test_every_element_is_as_likely_at_every_position(size: int) -> None:
    seeds = 1500
    counts = np.zeros((size, size))
    for seed in range(seeds):
        counts[np.arange(size), permutation(size, seed=seed)(np.arange(size))] += 1
    expected = seeds / size
    degrees = (size - 1) ** 2
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - degrees) / np.sqrt(2 * degrees) < 4


def test_every_order_of_four_is_as_likely() -> None:
    orders = Counter(tuple(permutation(4, seed=seed)(np.arange(4)).tolist()) for seed in range(6000))
    assert len(orders) == 24
    assert sum((count - 250) ** 2 / 250 for count in orders.values()) < 23 + 4 * np.sqrt(2 * 23)


def test_seeds_epochs_and_streams_give_other_orders() -> None:
    orders = [
        permutation(1000, seed=seed, epoch=epoch, stream=stream)(np.arange(1000))
        for seed, epoch, stream in itertools.product(range(3), repeat=3)
    ]
    for left, right in itertools.combinations(orders, 2):
        assert (left == right).mean() < 0.02
        assert abs(np.corrcoef(left, right)[0, 1]) < 0.2


def test_golden_order() -> None:
    """Published: shards and epochs of every user depend on it. A change needs a new `permutation.VERSION`."""
    assert permutation(20, seed=7)(np.arange(20)).tolist() == GOLDEN


@pytest.mark.parametrize("size", [0, -1, 2**62 + 1])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="a permutation needs a size"):
        permutation(size)


@pytest.mark.parametrize("position", [-1, 10])
def test_positions_out_of_range_are_refused(position: int) -> None:
    with pytest.raises(IndexError, match=r"positions must be in \[0, 10\)"):
        permutation(10)(np.array([position]))
