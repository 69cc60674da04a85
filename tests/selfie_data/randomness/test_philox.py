"""Philox and what is drawn with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.randomness.philox import Purpose, draw_words, philox4x32

# Random123's known-answer vectors (kat_vectors, philox4x32 with 10 rounds): counter, key, words.
VECTORS = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0_A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), VECTORS)
def test_known_answers(counter: tuple[int, int, int, int], key: int, words: tuple[int, ...]) -> None:
    assert philox4x32(counter, key).tolist() == list(words)


def slow_philox(counter: list[int], key: int) -> list[int]:
    """The definition, one word at a time in Python's integers."""
    x, (k0, k1) = list(counter), (key & 0xFFFFFFFF, key >> 32)
    for _ in range(10):
        first, second = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [second >> 32 ^ x[1] ^ k0, second & 0xFFFFFFFF, first >> 32 ^ x[3] ^ k1, first & 0xFFFFFFFF]
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return x


@given(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4), st.integers(0, 2**64 - 1))
def test_equals_the_definition(counter: list[int], key: int) -> None:
    one, two, three, four = counter
    assert philox4x32((one, two, three, four), key).tolist() == slow_philox(counter, key)


@given(
    ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=9),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
)
def test_draws_belong_to_the_sample_alone(ids: list[int], seed: int, epoch: int) -> None:
    together = draw_words(seed, epoch, np.array(ids), Purpose.PATCHES, blocks=3)
    assert together.shape == (len(ids), 12)
    for row, sample in zip(together, ids, strict=True):
        alone = [
            slow_philox([sample & 0xFFFFFFFF, sample >> 32, epoch, (Purpose.PATCHES << 16) + block], seed)
            for block in range(3)
        ]
        assert row.tolist() == np.concatenate(alone).tolist()


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\*\*64\), got -1"):
        philox4x32((0, 0, 0, 0), -1)


def test_purposes_have_numbers_of_their_own() -> None:
    assert len({int(purpose) for purpose in Purpose}) == len(Purpose.__members__)
