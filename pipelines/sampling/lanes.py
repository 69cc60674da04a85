"""An epoch as L lanes, so that ranks read shards of their own: who has some of a batch's rows has some of the lanes.

    row      the shards that hold samples, in one random order that no epoch changes (LANE_ROW)
    lane l   samples [l*N // L, (l+1)*N // L) of the row: whole shards, and parts of those at its ends
    epoch    the shards of each lane are shuffled (LANE_SHARDS, stream = lane) and cut into windows of `window` at most,
             equal but for one; inside each window the samples are shuffled (LANE_WINDOW, stream = place in the row)
    batch    rows [l * B/L, (l+1) * B/L) of step s are samples [s * B/L, (s+1) * B/L) of lane l, in the epoch's order

Lanes differ in length by one sample at most, so an epoch leaves out N mod B samples, as in every other order: the last
of each lane, which are others in every epoch. Rows of a batch are ordered by lane and ranks have neighbouring rows
(`partition`): W ranks that divide L read whole lanes, and together every shard once, but for those that lanes share at
their ends. Nothing here depends on ranks.

Memory: of the row one sum in 4,096 shards, and the shards of those lanes that are asked for.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.partition import Partition
from pipelines.sampling.reads import ShardUse, uses_from
from selfie_data.randomness.permutation import Permutation
from selfie_data.randomness.philox import Purpose

MOST_LANES = 64  # by default; of them the ranks of 1, 2, 4, ... 64 nodes read whole ones
WINDOW = 2  # shards of a lane that are mixed with each other; 64 lanes mix 128, and read as many before a first batch
_PAGE = 4_096  # shards between two sums that are kept

Integers = NDArray[np.int64]


def default_lanes(global_batch_size: int) -> int:
    """Returns the most lanes, up to 64, that a batch divides into."""
    return max(count for count in range(1, MOST_LANES + 1) if global_batch_size % count == 0)


def check_lanes(lanes: int, global_batch_size: int) -> None:
    """Raises a ValueError, which names lanes that do, where a batch does not divide into `lanes`."""
    if lanes >= 1 and global_batch_size % lanes == 0:
        return
    usable = [count for count in range(1, global_batch_size + 1) if global_batch_size % count == 0]
    near = sorted(sorted(usable, key=lambda count: abs(count - lanes))[:3])
    raise ValueError(
        f"lanes must divide global_batch_size, got {lanes} lanes for batches of {global_batch_size}; "
        f"near it do {', '.join(map(str, near))}"
    )


class _Lane(NamedTuple):
    """The pieces of shards that a lane is made of, in the order of the row, and a number that no other piece has."""

    shard: Integers
    first: Integers  # of the piece's first sample, in the (sub)set
    length: Integers
    number: int


class _EpochLane(NamedTuple):
    """A lane in the order of an epoch; `starts` and `windows` have one entry more than there are of them."""

    lane: _Lane
    pieces: Integers
    starts: Integers  # of the pieces, in samples
    windows: Integers  # where each begins, in pieces


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaneShuffle:
    """The lanes of a (sub)set, for all epochs.

    Attributes:
        shard_samples: [shards] int64, samples of the (sub)set in each shard; shards without any are skipped.
        global_batch_size: B.
        lanes: L, divides B.
        window: how many shards of a lane are mixed with each other, at most.
        seed: of all orders.
    """

    shard_samples: Integers
    global_batch_size: int
    lanes: int
    seed: int
    window: int = WINDOW
    _filled: Integers | None = field(init=False, repr=False)  # shards that hold samples; None = all
    _row: Permutation = field(init=False, repr=False)
    _in_row: "_Sums" = field(init=False, repr=False)
    _in_set: "_Sums" = field(init=False, repr=False)
    _kept: dict[int, _Lane] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        check_lanes(self.lanes, self.global_batch_size)
        if self.window < 1:
            raise ValueError(f"a lane needs a window of at least one shard, got {self.window}")
        filled = None if self.shard_samples.all() else np.flatnonzero(self.shard_samples)
        shards = len(self.shard_samples) if filled is None else len(filled)
        if not shards:
            raise ValueError("the set has no samples")
        object.__setattr__(self, "_filled", filled)
        object.__setattr__(self, "_row", Permutation(size=shards, seed=self.seed, purpose=Purpose.LANE_ROW))
        in_row = _Sums(lambda start, stop: self._samples(np.arange(start, stop)), shards)
        in_set = _Sums(lambda start, stop: self.shard_samples[start:stop], len(self.shard_samples))
        object.__setattr__(self, "_in_row", in_row)
        object.__setattr__(self, "_in_set", in_set)

    @property
    def samples(self) -> int:
        """N, of the (sub)set."""
        return self._in_row.total

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.samples // self.global_batch_size

    @property
    def lane_rows(self) -> int:
        """Rows of a batch that are one lane's, B / L."""
        return self.global_batch_size // self.lanes

    def order(self, epoch: int) -> "LaneOrder":
        """Returns which sample stands at which position of `epoch`."""
        return LaneOrder(self, epoch)

    def reads(self, rank: int, world_size: int, epoch: int, from_step: int = 0) -> Iterator[ShardUse]:
        """Yields what a rank reads of `epoch` from a step on, rising by first step; a window is read as a whole.

        A shard of which several lanes have pieces comes once for each. A node of g ranks reads what one rank of
        world_size / g would.

        Raises:
            ValueError: there is no such rank, or an epoch has no step.
        """
        partition = Partition(
            samples=self.samples, global_batch_size=self.global_batch_size, rank=rank, world_size=world_size
        )
        start, stop = partition.bounds(0)
        lanes = range(start // self.lane_rows, (stop - 1) // self.lane_rows + 1)
        uses = (self._reads_of_lane(lane, epoch, from_step) for lane in lanes)
        return heapq.merge(*uses, key=lambda use: use.first)

    def _reads_of_lane(self, number: int, epoch: int, from_step: int) -> Iterator[ShardUse]:
        lane, pieces, starts, windows = self.in_epoch(number, epoch)
        for begin, end in itertools.pairwise(windows.tolist()):
            first = int(starts[begin]) // self.lane_rows
            last = min((int(starts[end]) - 1) // self.lane_rows, self.steps - 1)
            yield from uses_from(from_step, lane.shard[pieces[begin:end]].tolist(), first, last)

    def in_epoch(self, number: int, epoch: int) -> _EpochLane:
        """Returns a lane in the order of an epoch."""
        lane = self._lane(number)
        count = len(lane.shard)
        shuffled = Permutation(size=count, seed=self.seed, purpose=Purpose.LANE_SHARDS, epoch=epoch, stream=number)
        pieces = shuffled(np.arange(count))
        starts = np.concatenate(([0], np.cumsum(lane.length[pieces])))
        windows = -(-count // self.window)  # equal ones: samples of a short last one would be left out most often
        return _EpochLane(lane, pieces, starts, np.arange(windows + 1) * count // windows)

    def _lane(self, number: int) -> _Lane:
        if number not in self._kept:
            self._kept[number] = self._cut(number)
        return self._kept[number]

    def _cut(self, number: int) -> _Lane:
        start, stop = (bound * self.samples // self.lanes for bound in (number, number + 1))
        first, last = self._in_row.place(start), self._in_row.place(stop - 1)
        places = np.arange(first, last + 1)
        shards, counts = self._shards(places), self._samples(places)
        begins = self._in_row.before(places[:1]) + np.cumsum(counts) - counts
        from_, to = np.maximum(begins, start), np.minimum(begins + counts, stop)
        # Neighbouring lanes share a place at most, so place + lane is a piece's own number.
        return _Lane(shards, self._in_set.before(shards) + from_ - begins, to - from_, first + number)

    def _shards(self, places: Integers) -> Integers:
        shards = self._row(places)
        return shards if self._filled is None else self._filled[shards]

    def _samples(self, places: Integers) -> Integers:
        return self.shard_samples[self._shards(places)]


class LaneOrder:
    """Which sample stands at which position of one epoch: an `order.EpochOrder`."""

    def __init__(self, shuffle: LaneShuffle, epoch: int) -> None:
        self._shuffle = shuffle
        self._epoch = epoch
        self._kept: dict[int, _EpochLane] = {}

    def __call__(self, positions: Integers) -> Integers:
        """Returns the indices at `positions`."""
        lanes, places = self._places(positions)
        result = np.empty(len(positions), np.int64)
        for lane, chosen in _groups(lanes):
            in_epoch = self._lane(lane)
            starts = in_epoch.starts[in_epoch.windows[:-1]]
            for window, among in _groups(np.searchsorted(starts, places[chosen], side="right") - 1):
                rows = chosen[among]
                result[rows] = self._in_window(in_epoch, window, places[rows])
        return result

    def _places(self, positions: Integers) -> tuple[Integers, Integers]:
        """Returns lanes, and places in them; what is beyond the last step stands lane by lane too."""
        shuffle = self._shuffle
        steps, rows = np.divmod(positions, shuffle.global_batch_size)
        lanes, inside = np.divmod(rows, shuffle.lane_rows)
        places = steps * shuffle.lane_rows + inside
        left_out = shuffle.samples - shuffle.steps * shuffle.global_batch_size
        beyond = steps == shuffle.steps
        if beyond.any():  # lane l leaves out samples [l*R // L, (l+1)*R // L) of the R
            rest = rows[beyond]
            lanes[beyond] = ((rest + 1) * shuffle.lanes - 1) // left_out
            places[beyond] = shuffle.steps * shuffle.lane_rows + rest - lanes[beyond] * left_out // shuffle.lanes
        return lanes, places

    def _in_window(self, in_epoch: _EpochLane, window: int, places: Integers) -> Integers:
        lane, pieces, starts, windows = in_epoch
        start, stop = starts[windows[window]], starts[windows[window + 1]]
        shuffled = Permutation(
            size=int(stop - start),
            seed=self._shuffle.seed,
            purpose=Purpose.LANE_WINDOW,
            epoch=self._epoch,
            stream=lane.number + int(windows[window]),
        )
        place = start + shuffled(places - start)
        at = np.searchsorted(starts, place, side="right") - 1
        indices: Integers = lane.first[pieces[at]] + place - starts[at]
        return indices

    def _lane(self, number: int) -> _EpochLane:
        if number not in self._kept:
            self._kept[number] = self._shuffle.in_epoch(number, self._epoch)
        return self._kept[number]


class _Sums:
    """Sums of a long row of numbers > -1 up to any place: one a page is kept, those inside are made when asked for."""

    def __init__(self, values: Callable[[int, int], Integers], size: int) -> None:
        self._values = values
        self._size = size
        pages = [int(values(start, min(start + _PAGE, size)).sum()) for start in range(0, size, _PAGE)]
        self._pages = np.cumsum([0, *pages])
        self.total = int(self._pages[-1])

    def before(self, places: Integers) -> Integers:
        """Returns the sums of all that stands before each place."""
        result = np.empty(len(places), np.int64)
        for page, chosen in _groups(places // _PAGE):
            result[chosen] = self._page(page)[places[chosen] - page * _PAGE]
        return result

    def place(self, value: int) -> int:
        """Returns the place whose number takes the sum beyond `value`, 0 <= value < total."""
        page = int(np.searchsorted(self._pages, value, side="right")) - 1
        return page * _PAGE + int(np.searchsorted(self._page(page), value, side="right")) - 1

    def _page(self, page: int) -> Integers:
        """Returns the sums before each place of a page."""
        values = self._values(page * _PAGE, min((page + 1) * _PAGE, self._size))
        sums: Integers = self._pages[page] + np.cumsum(values) - values
        return sums


def _groups(keys: Integers) -> Iterator[tuple[int, Integers]]:
    """Yields each key that there is, rising, and where it stands."""
    order = np.argsort(keys, kind="stable")
    found, firsts = np.unique(keys[order], return_index=True)
    bounds = [*firsts.tolist(), len(keys)]
    yield from (
        (key, order[slice(*bound)]) for key, bound in zip(found.tolist(), itertools.pairwise(bounds), strict=True)
    )
