"""The chart shows every measured system with its number, the fastest on top."""

from xml.etree import ElementTree

from benchmarks.harness.plot import chart, kind
from benchmarks.harness.record import Record, record


def records() -> list[Record]:
    found = [
        record("loader", "raw32", "selfie", [900.0, 1000.0, 1100.0], unit="images/s"),
        record("loader", "raw32", "peer <fast> & co", [700.0], unit="images/s"),
        record("loader", "raw32", "cached", [90_000.0], unit="images/s"),
        record("loader", "raw32", "absent", [], unit="images/s", note="not installed"),
        record("loader", "raw32", "selfie / peer", [1.4], unit="ratio"),
        record("loader", "jpeg256", "selfie", [50.0], unit="images/s"),
    ]
    return found


def test_every_measured_system_is_named_with_its_number() -> None:
    words = [element.text for element in ElementTree.fromstring(chart(records())).iter() if element.text]
    for word in (
        "raw32, images/s",
        "jpeg256, images/s",
        "selfie",
        "peer <fast> & co",
        "cached",
        "1,000",
        "90,000",
        "50",
    ):
        assert word in words
    assert "absent" not in words
    assert "selfie / peer" not in words


def test_the_same_records_give_the_same_file() -> None:
    assert chart(records()) == chart(records())


def test_no_records_give_an_empty_chart() -> None:
    assert chart([]).rstrip().endswith("</svg>")


def test_kinds_are_told_by_the_name() -> None:
    assert [kind(name) for name in ("selfie-dali", "dali-decode", "ceiling: copy", "dali")] == [
        "selfie",
        "floor",
        "floor",
        "peer",
    ]
