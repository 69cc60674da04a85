"""The lanes of an epoch, sample by sample: the row laid out, cut, shuffled and dealt to the batches."""

from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose


def lane_epoch(
    counts: list[int], *, batch: int, lanes: int, window: int, seed: int, epoch: int
) -> tuple[list[list[int]], list[int]]:
    """Returns the batches of an epoch, each as indices, and what it leaves out, lane by lane."""
    firsts = [sum(counts[:shard]) for shard in range(len(counts))]
    filled = [shard for shard, count in enumerate(counts) if count]
    order = Permutation(size=len(filled), seed=seed, purpose=Purpose.LANE_ROW)(range(len(filled)))
    row = [
        (place, firsts[filled[shard]] + inside)  # place of its shard, index
        for place, shard in enumerate(order.tolist())
        for inside in range(counts[filled[shard]])
    ]
    laid = [
        _shuffled(row[lane * len(row) // lanes : (lane + 1) * len(row) // lanes], lane, window, seed, epoch)
        for lane in range(lanes)
    ]
    steps, rows = len(row) // batch, batch // lanes
    batches = [[index for lane in laid for index in lane[step * rows : (step + 1) * rows]] for step in range(steps)]
    return batches, [index for lane in laid for index in lane[steps * rows :]]


def _shuffled(lane: list[tuple[int, int]], number: int, window: int, seed: int, epoch: int) -> list[int]:
    places = sorted({place for place, _ in lane})
    pieces = [[index for place, index in lane if place == wanted] for wanted in places]
    order = Permutation(size=len(pieces), seed=seed, purpose=Purpose.LANE_SHARDS, epoch=epoch, stream=number)
    row = [pieces[piece] for piece in order(range(len(pieces))).tolist()]
    result = []
    windows = -(-len(row) // window)
    for number_of_window in range(windows):
        start, stop = (bound * len(row) // windows for bound in (number_of_window, number_of_window + 1))
        together = [index for piece in row[start:stop] for index in piece]
        stream = places[0] + number + start
        inside = Permutation(size=len(together), seed=seed, purpose=Purpose.LANE_WINDOW, epoch=epoch, stream=stream)
        result += [together[place] for place in inside(range(len(together))).tolist()]
    return result
