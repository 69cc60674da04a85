"""The table: means before rounding, the sample deviation, pairs by seed, plain words."""

import json
import statistics
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_model.study.grid import Arm
from selfie_model.study.results import as_json, chart, difference_sentences, markdown
from selfie_model.study.table import FinalResult, differences_of, rows_of


def result(arm: Arm, seed: int, accuracy: float, percent: float = 5) -> FinalResult:
    return FinalResult(arm=arm, percent=percent, seed=seed, accuracy=accuracy, labelled=2500, rate=0.1)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_mean_and_deviation_are_those_of_a_sample(values: list[float]) -> None:
    (row,) = rows_of([result("scratch", seed, value) for seed, value in enumerate(values)], preset="cifar10")
    assert row.mean == pytest.approx(statistics.fmean(values))
    assert row.deviation == pytest.approx(statistics.stdev(values))


def test_differences_pair_the_arms_by_seed_only() -> None:
    results = [result("scratch", seed, value) for seed, value in ((2, 0.5), (0, 0.6), (1, 0.4))]
    results += [result("selfie", seed, value) for seed, value in ((0, 0.61), (1, 0.39), (7, 0.99))]
    (difference,) = differences_of(rows_of(results, preset="cifar10"))
    assert difference.pairs == 2
    assert difference.ahead == 1
    assert difference.mean == pytest.approx(0.0)
    assert difference.deviation == pytest.approx(statistics.stdev([0.01, -0.01]))
    assert difference.interval == pytest.approx((-12.706 * 0.01, 12.706 * 0.01), rel=1e-3)


def test_selfie_is_held_against_every_supervised_arm() -> None:
    results = [result(arm, seed, 0.5) for arm, seed in (("scratch", 0), ("scratch", 1), ("long", 0), ("long", 1))]
    results += [result("selfie", seed, value) for seed, value in enumerate((0.6, 0.62))]
    rows = rows_of(results, preset="cifar10")
    assert [row.arm for row in rows] == ["scratch", "long", "selfie"]
    assert [row.paper is None for row in rows] == [False, True, False]
    assert [difference.arm for difference in differences_of(rows)] == ["scratch", "long"]
    assert "Selfie minus supervised for as long as both phases: +11.00 points" in markdown(rows)


def test_a_tie_is_not_ahead() -> None:
    results = [result("scratch", seed, 0.5) for seed in range(3)]
    results += [result("selfie", seed, value) for seed, value in enumerate((0.5, 0.6, 0.4))]
    (difference,) = differences_of(rows_of(results, preset="cifar10"))
    assert (difference.pairs, difference.ahead) == (3, 1)


def test_table_shows_every_seed_and_the_paper() -> None:
    results = [
        result("scratch", 0, 0.5),
        result("scratch", 1, 0.52),
        result("selfie", 0, 0.55),
        result("selfie", 1, 0.58),
    ]
    text = markdown(rows_of(results, preset="cifar10"), notes=["a note"])
    assert "| 5 % (2,500) | supervised from scratch | 51.00 ± 1.41 (2) | 50.00 52.00 | 0.1 | 75.9 ± 0.7 |" in text
    assert "| 5 % (2,500) | Selfie, finetuned | 56.50 ± 2.12 (2) | 55.00 58.00 | 0.1 | 75.9 ± 0.4 |" in text
    assert "At 5 % labelled, Selfie minus supervised: +5.50 points ± 0.71 over 2 paired seeds (ahead in 2)" in text
    assert text.endswith("- a note\n")


def test_the_words_follow_the_interval() -> None:
    def sentence(selfie: list[float]) -> str:
        results = [result("scratch", seed, 0.5) for seed in range(len(selfie))]
        results += [result("selfie", seed, value) for seed, value in enumerate(selfie)]
        return difference_sentences(rows_of(results, preset="tiny"))[0]

    assert "cannot be told apart" in sentence([0.49, 0.5, 0.52])
    assert "Selfie is ahead" in sentence([0.6, 0.61, 0.62])
    assert "supervised is ahead" in sentence([0.4, 0.41, 0.42])
    assert "no spread is known" in sentence([0.9])


def test_one_seed_has_no_spread_and_no_paper_is_said() -> None:
    text = markdown(rows_of([result("scratch", 0, 0.5, 7)], preset="tiny"))
    assert "| 7 % (2,500) | supervised from scratch | 50.00 (1) | 50.00 | 0.1 | none |" in text


def test_a_table_without_results_says_so() -> None:
    assert markdown([], notes=["a note"]) == "No final cell is finished yet.\n"


def test_json_and_chart_hold_the_same_rows() -> None:
    rows = rows_of([result("scratch", 0, 0.5), result("selfie", 0, 0.6), result("selfie", 0, 0.7, 8)], preset="cifar10")
    plain = json.loads(json.dumps(as_json(rows)))
    assert [row["mean"] for row in plain["rows"]] == [0.5, 0.6, 0.7]
    assert plain["rows"][0]["paper"] == {"mean": 75.9, "deviation": 0.7}
    tree = ElementTree.fromstring(chart(rows))
    words = " ".join(tree.itertext())
    assert "supervised" in words
    assert "the paper" in words
    assert "60.00" in words
