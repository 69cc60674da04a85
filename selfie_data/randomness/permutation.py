"""A keyed bijection over [0, size): shuffles any number of things in O(1) memory.

A position is written as two digits (left, right) and sent through a Feistel network that adds modulo `a` and `b`, where
a·b >= size. What lands outside [0, size) is sent through again ("cycle walking"); a·b exceeds `size` by less than `a`,
so almost nothing does.

    position = left * b + right        left in [0, a), right in [0, b)
    even round:  left  = (left  + F(right)) mod a
    odd  round:  right = (right + F(left))  mod b

Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (generalised Feistel, cycle walking).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selfie_data.randomness.philox import Purpose, philox4x32

VERSION = 1  # of the bijection's definition; stands in manifests and loader states
_ROUNDS = 16  # 8 rounds fail a chi-square test on tiny sizes (5 and 10 elements), 16 pass
_MAX_SIZE = 1 << 62

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """The permutation of [0, size) that belongs to (seed, epoch, purpose, stream).

    Attributes:
        size: number of elements, 1 <= size <= 2**62.
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        purpose: what is shuffled.
        stream: tells permutations of one purpose apart (a window of shards, a class), 0 <= stream < 2**32.
    """

    size: int
    seed: int
    purpose: Purpose
    epoch: int = 0
    stream: int = 0
    _moduli: tuple[int, int] = field(init=False, repr=False)
    _keys: NDArray[np.uint32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _MAX_SIZE:
            raise ValueError(f"a permutation needs a size in [1, 2**62], got {self.size}")
        a = math.isqrt(self.size - 1) + 1
        b = -(-self.size // a)
        object.__setattr__(self, "_moduli", (a, b))
        rounds = np.arange(_ROUNDS)
        keys = philox4x32((rounds, self.stream, self.epoch, int(self.purpose) << 16), self.seed)
        object.__setattr__(self, "_keys", keys)

    def __call__(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Returns the elements at `positions` (integers in [0, size), any shape) as int64 of the same shape."""
        start = np.asarray(positions)
        if start.size and (start.min() < 0 or start.max() >= self.size):
            raise IndexError(f"positions must be in [0, {self.size}), got {start.min()} to {start.max()}")
        flat = self._encrypt(start.reshape(-1).astype(np.uint64))
        while (outside := np.flatnonzero(flat >= np.uint64(self.size))).size:
            flat[outside] = self._encrypt(flat[outside])
        return flat.astype(np.int64).reshape(start.shape)

    def _encrypt(self, values: Words) -> Words:
        a, b = (np.uint64(modulus) for modulus in self._moduli)
        left, right = np.divmod(values, b)
        for number in range(0, _ROUNDS, 2):
            left = _add(left, _round_function(right, self._keys[number], a), a)
            right = _add(right, _round_function(left, self._keys[number + 1], b), b)
        return left * b + right


def _round_function(half: Words, key: NDArray[np.uint32], modulus: np.uint64) -> Words:
    """Hashes 32-bit halves to [0, modulus): MurmurHash3's finaliser, keyed, then a multiply and a shift."""
    word = half.astype(np.uint32) ^ key[0]
    word ^= word >> np.uint32(16)
    word *= key[1] | np.uint32(1)
    word ^= word >> np.uint32(13)
    word += key[2]
    word *= np.uint32(0xC2B2AE35)
    word ^= word >> np.uint32(16)
    product: Words = word.astype(np.uint64) * modulus
    return product >> np.uint64(32)


def _add(left: Words, right: Words, modulus: np.uint64) -> Words:
    total: Words = left + right
    total -= modulus * (total >= modulus)
    return total
