"""Philox4x32-10: the one random-number generator of the project, as a pure function.

Counter-based: the same (counter, key) gives the same four words on every machine and in any order, so a draw
can be keyed by what it belongs to (seed, epoch, sample id, purpose) rather than by when it was asked for.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9  # golden ratio
_WEYL_1 = 0xBB67AE85  # sqrt(3) - 1
_ROUNDS = 10
_MIXED_AFTER = 3  # rounds after which words 0 and 2 depend on all four words of the counter
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class Purpose(IntEnum):
    """What a draw is for. Every use of randomness has a number of its own; a published number is never reused."""

    PLAN = 1  # which source image goes to which place of the shards
    EPOCH_ORDER = 2  # order of the samples in an epoch
    SHARD_ORDER = 3  # block shuffle: order of the shards
    WINDOW_ORDER = 4  # block shuffle: order inside a window of shards
    SPLIT = 5  # validation and labelled subsets
    SYNTHETIC = 6  # the generated pictures
    PLAN_BLOCKS = 7  # order of a source's blocks in the shards
    PLAN_WINDOW = 8  # order of the images that are read at once
    PLAN_SHARE = 9  # which images of a block are used, when not all are
    LANE_ROW = 10  # lanes: the row of shards, the same in every epoch
    LANE_SHARDS = 11  # lanes: order of a lane's shards
    LANE_WINDOW = 12  # lanes: order inside a window of a lane
    EXTENSION = 13  # seeds of what is added to a dataset
    PATCHES = 16  # which patches are context, which are targets
    CROP = 17  # crop window
    FLIP = 18  # horizontal flip
    BLOCKS = 19  # hidden blocks of cells
    SQUARES = 20  # hidden squares of cells
    MULTIBLOCK = 21  # a block of context and several of targets


def philox4x32(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: int) -> NDArray[np.uint32]:
    """Returns the four output words of every counter.

    Args:
        counter: four 32-bit words, each an integer or an array; they are broadcast against each other.
        key: 64-bit integer, 0 <= key < 2**64; its low half is the first key word.

    Returns:
        uint32 [..., 4], `...` being the broadcast shape of the counter words.
    """
    if not 0 <= key < 1 << 64:
        raise ValueError(f"a seed must be in [0, 2**64), got {key}")
    shape = np.broadcast_shapes(*(np.shape(word) for word in counter))
    # Not broadcast beforehand: a word that many counters share costs little until the rounds have mixed it in.
    x0, x1, x2, x3 = (np.atleast_1d(np.asarray(word).astype(np.uint64) & _LOW) for word in counter)
    key0, key1 = key & 0xFFFFFFFF, key >> 32
    for number in range(_ROUNDS):
        product0 = x0 * _MULTIPLIER_0
        product1 = x2 * _MULTIPLIER_1
        if number < _MIXED_AFTER:
            x0 = (product1 >> _HALF) ^ x1 ^ np.uint64(key0)
            x2 = (product0 >> _HALF) ^ x3 ^ np.uint64(key1)
        else:  # in place: three times as fast on large batches
            np.right_shift(product1, _HALF, out=x0)
            np.right_shift(product0, _HALF, out=x2)
            x0 ^= x1
            x0 ^= np.uint64(key0)
            x2 ^= x3
            x2 ^= np.uint64(key1)
        product1 &= _LOW
        product0 &= _LOW
        x1, x3 = product1, product0
        key0 = (key0 + _WEYL_0) & 0xFFFFFFFF
        key1 = (key1 + _WEYL_1) & 0xFFFFFFFF
    words = np.empty((*shape, 4), dtype=np.uint32)
    for lane, word in enumerate((x0, x1, x2, x3)):
        words[..., lane] = word
    return words


def draw_words(seed: int, epoch: int, sample_id: ArrayLike, purpose: Purpose, blocks: int = 1) -> NDArray[np.uint32]:
    """Returns `4 * blocks` random words for every sample: a pure function of its arguments.

    The counter is (id mod 2**32, id div 2**32, epoch, purpose * 2**16 + block).

    Args:
        seed: 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        sample_id: non-negative integers [B].
        purpose: what the words are for.
        blocks: number of Philox calls a sample, at most 2**16.

    Returns:
        uint32 [B, 4 * blocks].
    """
    ids = np.asarray(sample_id, dtype=np.uint64)[..., None]
    last = np.arange(blocks, dtype=np.uint64) + np.uint64(int(purpose) << 16)
    words = philox4x32((ids & _LOW, ids >> _HALF, epoch, last), seed)
    return words.reshape(*words.shape[:-2], 4 * blocks)
