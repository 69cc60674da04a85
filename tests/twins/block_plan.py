"""A plan by blocks, image by image: what `selfie_data.build.plan.BlockPlan` does with arrays."""

from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose, draw_words


def lay_out(
    counts: list[int], sizes: list[int], *, samples: int, per_shard: int, seed: int, window_bytes: int
) -> list[list[int]]:
    """Returns the images of each shard in order; `counts` and `sizes` are those of the blocks, `sizes` in bytes."""
    blocks, images = len(counts), sum(counts)
    rounding = (int(draw_words(seed, 0, [blocks], Purpose.PLAN_SHARE)[0, 0]) * images) >> 32
    used = []
    before = 0
    for block, count in enumerate(counts):
        share = (samples * (before + count) + rounding) // images - (samples * before + rounding) // images
        first = (int(draw_words(seed, 0, [block], Purpose.PLAN_SHARE)[0, 0]) * count) >> 32 if samples < images else 0
        used.append([before + (first + number) % count for number in range(share)])
        before += count
    order = Permutation(size=blocks, seed=seed, purpose=Purpose.PLAN_BLOCKS)(range(blocks)).tolist()
    laid = [(image, block) for block in order for image in used[block]]
    shards = []
    for shard, start in enumerate(range(0, samples, per_shard)):
        windows: dict[int, list[int]] = {}
        read = {}  # bytes before each block
        total = 0
        there = [block for _, block in laid[start : start + per_shard]]
        for block in order[order.index(there[0]) : order.index(there[-1]) + 1]:
            read[block] = total
            total += sizes[block] * samples // images
        for image, block in laid[start : start + per_shard]:
            windows.setdefault(read[block] // window_bytes, []).append(image)
        shuffled = []
        for number, window in enumerate(windows.values()):
            shuffle = Permutation(size=len(window), seed=seed, purpose=Purpose.PLAN_WINDOW, epoch=shard, stream=number)(
                range(len(window))
            )
            shuffled += [window[place] for place in shuffle.tolist()]
        shards.append(shuffled)
    return shards
