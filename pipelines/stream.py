"""Epochs of batches: order, draws and a backend put together, with resume, look-ahead and clean endings.

An iteration is one epoch. `prefetch` plans are under way in the backend while the trainer works on a batch; there is no
other thread, queue or hidden state: everything that must survive a restart is (epoch, step).

    begun where          set_epoch(e) or load_state_dict(state), else at the epoch after the one last begun
    state_dict()         the step after the last batch handed out; after the last of an epoch: the next epoch's start
    iter, no batch yet   counts for nothing: trainers make an iterator to see whether there is one, and another to use
    break, exception     leave the iteration; the next one begins the next epoch, or where it is told to
    told meanwhile       set_epoch and load_state_dict end the iteration that is under way: asked for another batch, it
                         raises, since it and the loader's state would speak of different places
"""

import logging
import weakref
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Generic, NamedTuple, NoReturn, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.arguments import whole_number
from pipelines.batch_plan import BackendOutput, BatchPlan, OutputSpec
from pipelines.normalise import Normalisation
from pipelines.parts import LoaderParts
from pipelines.readahead import Readahead
from pipelines.sampling.order import StepOrder
from pipelines.sampling.subset import record_exclusion
from pipelines.state import State, load_state, save_state
from pipelines.under_way import PlansUnderWay
from selfie_data.dataset.manifest import root_name
from selfie_data.dataset.opened import Dataset
from selfie_data.errors import CorruptSampleError

_log = logging.getLogger(__name__)

Batch = TypeVar("Batch")
Made = TypeVar("Made", covariant=True)


class Recipe(Protocol[Made]):
    """Makes plans of ids and batches of plans; see `sampling.patches` and `sampling.images`."""

    @property
    def spec(self) -> OutputSpec: ...

    def describe(self) -> str: ...

    def plan(self, epoch: int, step: int, ids: NDArray[np.int64]) -> BatchPlan: ...

    def batch(self, plan: BatchPlan | None, output: BackendOutput | None, rows: int) -> Made: ...


def _is_beyond(state: Mapping[str, object], dataset: Dataset, ancestors: Collection[str]) -> bool:
    """Says whether a state is inside an epoch of what the dataset was, and cannot be opened as any more."""
    was = state.get("fingerprint") if isinstance(state, Mapping) else None
    inside = was in ancestors and type(state.get("epoch")) is int and state.get("step") != 0
    return inside and not (dataset.path / root_name(str(was))).exists()


class _Work(NamedTuple):
    plan: BatchPlan | None  # None: nothing but padding
    rows: int


class EpochStream(Generic[Batch]):
    """An iterable of batches, one epoch an iteration."""

    def __init__(self, parts: LoaderParts, recipe: Recipe[Batch]) -> None:
        self._parts = parts
        self._recipe = recipe
        self._identity = parts.identity(recipe.describe())
        self._next = (0, 0)  # where the next iteration begins
        self._at: tuple[int, int] | None = None  # where the last iteration is; None before it begins
        self._start: tuple[int, int] | None = None  # where that one began
        self._turn: object = None  # the iteration that may go on; an older one may not
        self._closed = False
        self._under_way = PlansUnderWay(partial(parts.make_backend, recipe.spec))
        self._finalizer = weakref.finalize(self, _close, parts.readahead, self._under_way)

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return self._parts.partition.steps

    def __iter__(self) -> Iterator[Batch]:
        self._turn = turn = object()
        if self._at is None or self._at != self._start:  # else no batch was taken since: the same place again
            self._at = self._start = self._next  # in this order: Ctrl-C in between must not lose an epoch
        epoch, first = self._at
        self._next = (epoch + 1, 0)
        return self._batches(epoch, first, turn)

    def __getitem__(self, index: object) -> NoReturn:
        """Answers `torch.utils.data.DataLoader(loader)`, which asks for samples one by one.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"a {type(self).__name__} gives whole batches, on their device: iterate it, or hand it to the trainer, as "
            "it is, without a torch.utils.data.DataLoader around it"
        )

    @property
    def epoch(self) -> int:
        """The epoch last begun, or the one that the next iteration begins with if that was set or loaded since."""
        return self._next[0] if self._at is None else self._at[0]

    @property
    def steps(self) -> int:
        """Steps of an epoch, as `len`."""
        return len(self)

    @property
    def remainder(self) -> NDArray[np.int64]:
        """Ids that `epoch` leaves out: its last N mod B positions, other ones each epoch; none in an evaluation."""
        partition = self._parts.partition
        left_out = np.arange(partition.used, partition.samples)
        return self._parts.subset.sample_ids(self._parts.order(self.epoch)(left_out))

    @property
    def order(self) -> str:
        """Of its stream, in words."""
        return self._identity.order

    @property
    def normalisation(self) -> Normalisation:
        """(scale, bias), float32 [3] each: what float output went through, or uint8 output should."""
        return self._parts.normalisation

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the dataset; empty where it has no labels."""
        return self._parts.dataset.class_names

    @property
    def fingerprint(self) -> str:
        """Of the dataset."""
        return self._parts.dataset.fingerprint

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration go through `epoch`, from its start or from the step that was loaded for it.

        One that is under way may not go on: its next batch is a RuntimeError. Call this between two loops.

        Raises:
            ValueError: `epoch` is no whole number in [0, 2**32).
        """
        epoch = whole_number("an epoch", epoch)
        if not 0 <= epoch < 1 << 32:
            raise ValueError(f"an epoch must be in [0, 2**32), got {epoch}")
        if self._at is not None or self._next[0] != epoch:
            self._next = (epoch, 0)
            self._at = self._turn = None  # an old iteration going on would make the next state one of its own place

    def state_dict(self) -> State:
        """Returns the place after the last batch handed out: numbers and texts, fit for JSON and `weights_only`."""
        epoch, step = self._next if self._at is None else self._at
        if step == len(self):
            epoch, step = epoch + 1, 0
        return save_state(self._identity, epoch=epoch, step=step)

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Makes the next iteration go on where `state` was taken, by any number of ranks.

        One that is under way may not go on, as with `set_epoch`.

        With the option `follow`, a state of what the dataset was is taken at the start of an epoch; inside one where
        images were purged since, so that nobody can finish it: then the next one begins.

        Raises:
            StateError: the state is of another dataset, subset, seed, batch size, order, sampling or version.
        """
        dataset = self._parts.dataset
        ancestors = [each.fingerprint for each in dataset.manifest.lineage] if self._parts.options.follow else []
        if ancestors and _is_beyond(state, dataset, ancestors):
            _log.warning("images were purged: the rest of epoch %s is left out, the next one begins", state["epoch"])
            state = {**state, "epoch": int(str(state["epoch"])) + 1, "step": 0}
        self._next = load_state(state, self._identity, steps=len(self), ancestors=ancestors)
        self._at = self._turn = None  # as in `set_epoch`

    def close(self) -> None:
        """Ends threads and closes files. May be called twice; a closed loader cannot be iterated."""
        self._closed = True
        self._turn = None
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, epoch: int, first: int, turn: object) -> Iterator[Batch]:
        order, readahead = StepOrder(self._parts.order(epoch), self._parts.partition), self._parts.readahead
        works = (self._submit(order, epoch, step) for step in range(first, len(self)))
        ahead: deque[_Work] = deque()
        for step in range(first, len(self)):
            self._check_turn(turn)
            if step == first:
                self._under_way.drop()  # what an abandoned iteration left
                if readahead is not None:
                    readahead.begin(epoch, first)
                ahead.extend(islice(works, self._parts.options.prefetch))
            batch = self._take(ahead.popleft())
            if readahead is not None:
                readahead.advance(epoch, step + 1)
            ahead.extend(islice(works, 1))  # the backend works on while the trainer does
            self._at = (epoch, step + 1)
            yield batch

    def _check_turn(self, turn: object) -> None:
        if self._closed:
            raise ValueError("the loader is closed")
        if self._turn is not turn:
            raise RuntimeError(
                "this iteration may not go on: since then a newer iteration has begun, an epoch was set or a state was "
                "loaded; do that between two loops, or make a loader for each"
            )

    def _submit(self, order: StepOrder, epoch: int, step: int) -> _Work:
        start, stop = self._parts.partition.bounds(step)
        ids = self._parts.subset.sample_ids(order.step(step))
        if not len(ids):
            return _Work(None, stop - start)
        plan = self._recipe.plan(epoch, step, ids)
        self._under_way.submit(plan)
        return _Work(plan, stop - start)

    def _take(self, work: _Work) -> Batch:
        try:
            output = None if work.plan is None else self._under_way.result()
        except CorruptSampleError as error:
            self._note(error)
            raise
        return self._recipe.batch(work.plan, output, work.rows)

    def _note(self, error: CorruptSampleError) -> None:
        record, dataset = self._parts.options.record, self._parts.dataset
        if record is None:
            return
        record_exclusion(record, dataset.sample_at(error.shard, error.offset), str(error))


def _close(readahead: Readahead | None, under_way: PlansUnderWay) -> None:
    """Ends a stream; what is being fetched first, since the backend's threads may wait for it."""
    if readahead is not None:
        readahead.close()
    under_way.close()
