"""The official numbering of ImageNet's classes, which is data: it must never change by accident."""

import hashlib
import re
from importlib.resources import files

from selfie_data.sources.imagenet_labels import official_wnids


def test_the_table_is_the_official_one() -> None:
    data = files("selfie_data.sources").joinpath("imagenet_wnids.txt").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "e85e4969a881deb8a8ba329357d033f7a664de8f1e099f593ad723bcf79bbfe5"


def test_it_has_1000_distinct_wnids_and_is_not_sorted() -> None:
    wnids = official_wnids()
    assert list(wnids) == list(range(1, 1001))
    assert len(set(wnids.values())) == 1000
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids.values())
    assert list(wnids.values()) != sorted(wnids.values())


def test_known_ids_stand_for_known_classes() -> None:
    wnids = official_wnids()
    known = {1: "n02119789", 2: "n02100735", 449: "n01440764", 490: "n01751748", 1000: "n03255030"}
    assert {number: wnids[number] for number in known} == known
