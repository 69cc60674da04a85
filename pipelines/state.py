"""Where a loader stands, as a small dict of numbers and texts: goes through JSON and `torch.load(weights_only=True)`.

A state says which stream it belongs to and where in it; nothing of ranks, threads, devices or batches in flight. It is
therefore O(1) to make and to resume from, at any step, by any number of ranks.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

State = dict[str, int | str]

_PLACE = ("epoch", "step")
_OF_THE_DATASET = ("fingerprint", "subset", "samples")
_MAX_EPOCH = (1 << 32) - 1
_ORDER = re.compile(r"blocks of (?P<blocks>\d+) shards|(?P<lanes>\d+) lanes, windows of \d+ shards|global")


class StateError(ValueError):
    """A state does not belong to this loader, or is no state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """What makes two streams of global batches the same; each part is compared when a state is loaded.

    Attributes:
        fingerprint: of the dataset.
        subset: digest of the ids.
        samples: how many there are.
        seed: of order and draws.
        global_batch_size: over all ranks; steps are counted in it.
        order: `global`, `blocks of 8 shards`, `64 lanes, windows of 2 shards` or `evaluation`.
        sampling: augmentation, patches and masking in words.
        versions: of the definitions of order and draws.
    """

    fingerprint: str
    subset: str
    samples: int
    seed: int
    global_batch_size: int
    order: str
    sampling: str
    versions: str


def shuffle_of(state: Mapping[str, object]) -> dict[str, str | int]:
    """Returns the options `shuffle` and, of lanes, `lanes` of the loader that gave a state.

    Raises:
        StateError: it names no order of a training.
    """
    found = _ORDER.fullmatch(str(state.get("order")))
    if found is None:
        raise StateError(f"a training's order is global, blocks or lanes, the state's is {state.get('order')!r}")
    if found["lanes"]:
        return {"shuffle": "lanes", "lanes": int(found["lanes"])}
    return {"shuffle": int(found["blocks"]) if found["blocks"] else "global"}


def save_state(identity: StreamIdentity, *, epoch: int, step: int) -> State:
    """Returns the state before `step` of `epoch`."""
    return {**asdict(identity), "epoch": epoch, "step": step}


def load_state(
    state: Mapping[str, object], identity: StreamIdentity, *, steps: int, ancestors: Collection[str] = ()
) -> tuple[int, int]:
    """Returns (epoch, step) of a state that belongs to this stream.

    Args:
        state: what `save_state` returned, here or in another process.
        identity: of the stream that is to go on.
        steps: of an epoch.
        ancestors: fingerprints of what the dataset was; states of these are taken at the start of an epoch, which then
            goes through what the dataset is.

    Raises:
        StateError: it belongs to another stream (the first difference is named, with both values), or is damaged.
    """
    mine = asdict(identity)
    if not isinstance(state, Mapping) or set(state) != {*mine, *_PLACE}:
        got = sorted(state) if isinstance(state, Mapping) else type(state).__name__
        raise StateError(f"a loader state has the entries {sorted((*mine, *_PLACE))}, got {got}")
    follows = state["fingerprint"] in ancestors
    if follows and state["step"] != 0:
        raise StateError(
            f"the state is inside an epoch of what the dataset was: finish epoch {state['epoch']} with "
            f"open_dataset(…, fingerprint={state['fingerprint']!r}) first"
        )
    for name, value in mine.items():
        if state[name] != value and not (follows and name in _OF_THE_DATASET):
            raise StateError(
                f"the state belongs to another stream: its {name} is {state[name]!r}, this loader's is {value!r}; "
                "make the loader as it was, or begin at an epoch with set_epoch"
            )
    epoch, step = (state[name] for name in _PLACE)
    if type(epoch) is not int or type(step) is not int or not (0 <= epoch <= _MAX_EPOCH and 0 <= step < steps):
        raise StateError(f"a state's epoch is in [0, 2**32) and its step in [0, {steps}), got {epoch!r} and {step!r}")
    return epoch, step
