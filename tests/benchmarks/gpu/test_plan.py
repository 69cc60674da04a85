"""Sections have limits, names choose them, and the calls of a lent host fit."""

import pytest

from benchmarks.gpu.calls import ALL_S, SHORT_S, START_S, calls, describe, fitting
from benchmarks.gpu.plan import CALLS, SECTIONS, USUAL_LIMIT_S, choose

CALL_LIMIT_S = 600  # of the shortest call that hosts allow
COMMAND_CHARACTERS = 2000


def test_no_section_is_long_without_a_reason() -> None:
    assert [one.name for one in SECTIONS if one.limit_s > USUAL_LIMIT_S and not one.why_long] == []


def test_the_order_is_that_of_value() -> None:
    names = [one.name for one in SECTIONS]
    assert names[:6] == ["data", "parity", "kernels", "tests", "throughput_224", "training_224"]
    assert names.index("training_32") < names.index("throughput_decoding") < names.index("throughput_hardware")
    risky = [name for name in names if name.startswith(("decoder_stress", "throughput_hardware", "training_graphs"))]
    assert names[-len(risky) :] == risky


def test_every_section_is_in_one_call_in_the_order_of_the_plan() -> None:
    assert [name for names in CALLS for name in names] == [one.name for one in SECTIONS]


def test_the_calls_fit() -> None:
    found = calls()
    assert sum(call.limit_s for call in found) < ALL_S
    assert all(call.limit_s <= CALL_LIMIT_S for call in found)
    assert all(len(call.command) <= COMMAND_CHARACTERS for call in found)


def test_a_quarter_of_an_hour_is_enough_for_correctness_and_224_pixels() -> None:
    first = calls()[: fitting(SHORT_S)]
    assert START_S + sum(call.limit_s for call in first) <= SHORT_S
    commands = " ".join(call.command for call in first)
    assert all(name in commands for name in ("parity", "kernels", "tests", "throughput_224", "training_224"))


def test_the_calls_are_told_with_their_limits() -> None:
    text = describe()
    for call in calls():
        assert f"limit {call.limit_s} s" in text
        assert call.command in text
    assert "requirements.txt" in text


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("parity", ["parity"]),
        ("tests,parity", ["parity", "tests"]),
        ("throughput_224", ["throughput_224"]),
        ("decoder_stress_busy_hardware", ["decoder_stress_busy_hardware"]),
        ("training", ["training_224", "training_32", "training_finetune", "training_options", "training_graphs"]),
        ("", [one.name for one in SECTIONS]),
    ],
)
def test_names_and_groups_choose_sections(only: str, names: list[str]) -> None:
    assert [one.name for one in choose(only)] == names


def test_an_unknown_section_is_told() -> None:
    with pytest.raises(ValueError, match=r"sections are data, parity, .*; got thruput"):
        choose("parity,thruput")
