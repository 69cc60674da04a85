"""The inverse of `selfie_data.randomness.permutation`, round by round backwards: what proves it a bijection."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import philox4x32

_ROUNDS = 16


def inverse(permutation: Permutation, elements: ArrayLike) -> NDArray[np.int64]:
    """Returns the positions of elements (integers in [0, size), any shape) as int64 of the same shape."""
    size = permutation.size
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    counter = (np.arange(_ROUNDS), permutation.stream, permutation.epoch, int(permutation.purpose) << 16)
    keys = philox4x32(counter, permutation.seed)

    def step(values: NDArray[np.int64]) -> NDArray[np.int64]:
        left, right = np.divmod(values, b)
        for number in reversed(range(0, _ROUNDS, 2)):
            right = (right - _hash(left, keys[number + 1], b)) % b
            left = (left - _hash(right, keys[number], a)) % a
        return left * b + right

    positions = step(np.asarray(elements, np.int64))
    while (positions >= size).any():
        positions = np.where(positions >= size, step(positions), positions)
    return positions


def _hash(half: NDArray[np.int64], key: NDArray[np.uint32], modulus: int) -> NDArray[np.int64]:
    word = half.astype(np.uint32) ^ key[0]
    word ^= word >> np.uint32(16)
    word *= key[1] | np.uint32(1)
    word ^= word >> np.uint32(13)
    word += key[2]
    word *= np.uint32(0xC2B2AE35)
    word ^= word >> np.uint32(16)
    return (word.astype(np.uint64) * np.uint64(modulus) >> np.uint64(32)).astype(np.int64)
