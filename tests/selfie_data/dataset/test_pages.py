"""Pages: what is written is read, a place is found as by counting, damage is one line."""

import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from selfie_data.dataset import pages
from selfie_data.dataset.pages import ENTRY, HeldPages, Shards, entries_of, open_pages, write_pages
from selfie_data.errors import DatasetError

_COUNTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=20)
_ANYWHERE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards a page, two of which are read at once and kept."""
    for name, value in (("PAGE_ENTRIES", 3), ("_AT_ONCE", 2), ("_HELD", 2)):
        monkeypatch.setattr(pages, name, value)


def entries(counts: list[tuple[int, int]]) -> NDArray[np.void]:
    samples, quarantined = (np.array(column, np.int64) for column in zip(*counts, strict=True))
    numbers = np.arange(len(counts))
    return entries_of(
        {
            "number": 2 * numbers,
            "samples": samples,
            "first": np.cumsum(samples + quarantined) - samples - quarantined,
            "quarantined": quarantined,
            "generation": numbers % 2,
            "bytes": 100 * samples,
            "sha256": [f"{number:064x}" for number in numbers],
            "rows_sha256": [f"{number + 1:064x}" for number in numbers],
        }
    )


@_ANYWHERE
@given(counts=_COUNTS, data=st.data())
def test_places_are_found_as_by_counting(tmp_path: Path, counts: list[tuple[int, int]], data: st.DataObject) -> None:
    written = write_pages(tmp_path, entries(counts))
    samples = np.array([count for count, _ in counts])
    shard = np.repeat(np.arange(len(counts)), samples)  # of each sample, the slow way
    place = np.concatenate([np.arange(count) for count in samples])
    ids = np.array(data.draw(st.lists(st.integers(0, len(shard) - 1), max_size=10)) if len(shard) else [], np.int64)
    opened = open_pages(tmp_path, written.totals)
    for shards in (written, opened, Shards(HeldPages(entries(counts))), pickle.loads(pickle.dumps(opened))):  # noqa: S301
        assert len(shards) == len(counts)
        assert [one.samples for one in shards] == samples.tolist() == shards.samples.tolist()
        assert list(shards) == [shards[number] for number in range(len(counts))] == list(shards[:])
        assert shards[-1] == shards[len(counts) - 1]
        found, within = shards.locate(ids)
        assert (found.tolist(), within.tolist()) == (shard[ids].tolist(), place[ids].tolist())
        assert [shards.start(number) for number in range(len(counts))] == (np.cumsum(samples) - samples).tolist()
        assert shards.entries(np.arange(len(counts))).tobytes() == entries(counts).tobytes()
        assert [shards.find(one.name) for one in shards] == list(range(len(counts)))
        for number in np.flatnonzero(samples).tolist():
            assert shards.at(np.array([shards[number].first])).tolist() == [number]
    assert opened == written
    with pytest.raises(IndexError, match="shards are 0 to"):
        _ = opened[len(counts)]


@_ANYWHERE
@given(counts=_COUNTS, more=_COUNTS)
def test_what_grows_shares_its_full_pages(
    tmp_path_factory: pytest.TempPathFactory, counts: list[tuple[int, int]], more: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("grows")
    before = write_pages(folder, entries(counts))
    there = set(folder.glob("pages/*"))
    assert {path.relative_to(folder).as_posix() for path in there} == set(before.files)
    after = write_pages(folder, entries(counts + more))
    full = len(counts) // 3
    assert after.files[:full] == before.files[:full]
    assert len(set(folder.glob("pages/*")) - there) <= len(after.files) - full
    assert open_pages(folder, before.totals) == before != after


@_ANYWHERE
@given(counts=_COUNTS, data=st.data())
def test_any_damage_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, counts: list[tuple[int, int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    totals = write_pages(folder, entries(counts)).totals
    file = data.draw(st.sampled_from(sorted(folder.glob("pages/*"))))
    content = bytearray(file.read_bytes())
    kind = data.draw(st.sampled_from(["flipped", "cut", "longer", "missing"]))
    if kind == "flipped":
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    elif kind == "longer":
        content += bytes(len(content))
    file.write_bytes(content)
    if kind == "missing":
        file.unlink()
    with pytest.raises(DatasetError, match="missing" if kind == "missing" else "changed") as error:
        list(open_pages(folder, totals))
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_index_of_other_pages_than_the_root_says_is_refused(tmp_path: Path) -> None:
    totals = write_pages(tmp_path, entries([(2, 0)] * 7)).totals
    with pytest.raises(DatasetError, match="must be full but the last, and have 8 shards"):
        open_pages(tmp_path, msgspec.structs.replace(totals, count=8))
    page = write_pages(tmp_path, entries([(2, 0)] * 3)).files[0].removeprefix("pages/")
    with pytest.raises(DatasetError, match="must be full"):
        open_pages(tmp_path, msgspec.structs.replace(totals, pages=page))


def test_entries_are_as_wide_as_the_page_on_the_format_says() -> None:
    assert (ENTRY.itemsize, pages.PAGE.itemsize) == (96, 48)
