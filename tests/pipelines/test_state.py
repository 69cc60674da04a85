import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.state import StateError, StreamIdentity, load_state, save_state, shuffle_of
from tests.pipelines.streams import patches

IDENTITY = StreamIdentity(
    fingerprint="f" * 64,
    subset="all",
    samples=50_000,
    seed=2**64 - 1,
    global_batch_size=512,
    order="global",
    sampling="flip",
    versions="order 1",
)


def test_a_state_survives_json_and_a_safe_torch_checkpoint() -> None:
    state = save_state(IDENTITY, epoch=2**32 - 1, step=96)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    assert json.loads(json.dumps(state)) == state
    assert torch.load(buffer, weights_only=True) == state
    assert load_state(state, IDENTITY, steps=97) == (2**32 - 1, 96)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fingerprint", "e" * 64),
        ("subset", "d" * 64),
        ("samples", 49_999),
        ("seed", 3),
        ("global_batch_size", 256),
        ("order", "blocks of 4 shards"),
        ("sampling", "no flip"),
        ("versions", "order 2"),
    ],
)
def test_another_stream_is_refused_with_both_values(name: str, value: object) -> None:
    state = save_state(replace(IDENTITY, **{name: value}), epoch=0, step=0)
    with pytest.raises(StateError, match="another stream") as error:
        load_state(state, IDENTITY, steps=97)
    assert f"its {name} is {value!r}" in str(error.value)
    assert repr(getattr(IDENTITY, name)) in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        {"step": 97},
        {"step": -1},
        {"epoch": -1},
        {"epoch": 2**32},
        {"step": 1.0},
        {"step": "1"},
        {"epoch": True},
        {"surplus": 1},
    ],
    ids=str,
)
def test_a_damaged_state_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(StateError):
        load_state({**save_state(IDENTITY, epoch=0, step=0), **damage}, IDENTITY, steps=97)


@pytest.mark.parametrize("state", [{}, {"epoch": 0, "step": 0}, None, [1]])
def test_what_is_no_state_is_refused(state: object) -> None:
    with pytest.raises(StateError, match="has the entries"):
        load_state(state, IDENTITY, steps=97)


@pytest.mark.parametrize("options", [{"shuffle": "global"}, {"shuffle": 2}, {"shuffle": "lanes", "lanes": 4}], ids=str)
def test_a_state_gives_the_options_of_its_order(raw_shards: Path, options: dict[str, str | int]) -> None:
    with patches(raw_shards, **options) as loader:
        assert shuffle_of(loader.state_dict()) == options


def test_an_evaluation_has_no_order_of_a_training(raw_shards: Path) -> None:
    with patches(raw_shards, evaluation=True) as loader, pytest.raises(StateError, match="the state's is 'evaluation'"):
        shuffle_of(loader.state_dict())
