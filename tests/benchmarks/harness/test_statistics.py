"""Medians, intervals and ratios of pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import interval, median, pair_ratios

VALUES = st.lists(st.floats(min_value=0.1, max_value=1e6), min_size=1, max_size=12)


@given(VALUES)
def test_the_interval_lies_within_the_values_and_holds_the_median(values: list[float]) -> None:
    low, high = interval(values)
    assert min(values) <= low <= high <= max(values)
    assert low <= median(values) <= high or len(set(values)) > 1


def test_the_interval_is_the_same_every_time() -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    assert interval(values) == interval(values)


def test_one_value_is_its_own_interval() -> None:
    assert interval([2.5]) == (2.5, 2.5)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        median([])
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_ratios_pair_by_round() -> None:
    assert pair_ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="equally many rounds, got 1 and 2"):
        pair_ratios([1.0], [1.0, 2.0])


def test_rounds_interleave_and_rotate() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    values = interleaved({name: lambda name=name: measure(name) for name in "abc"}, 3, title="test")  # type: ignore[misc]
    assert "".join(calls) == "abcbcacab"
    assert values == {"a": [1.0, 6.0, 8.0], "b": [2.0, 4.0, 9.0], "c": [3.0, 5.0, 7.0]}
