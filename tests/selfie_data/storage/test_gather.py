"""Ranges that lie close come by one request, and each is found again."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.storage import gather as gathering
from selfie_data.storage.gather import gather, join_ranges
from selfie_data.storage.place import RemotePath, place_of, storage_of
from tests.servers.fault_proxy import Fault, FaultProxy

RANGES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5000), st.integers(0, 700)), min_size=1, max_size=40)


@given(ranges=RANGES, gap=st.integers(0, 1000))
def test_runs_hold_every_range_and_are_as_few_as_the_gap_allows(ranges: list[tuple[int, int, int]], gap: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gathering, "_GAP", gap)
        file, offset, length = (np.array(column, np.int64) for column in zip(*ranges, strict=True))
        runs, where = join_ranges(file, offset, length)
    files = [np.random.default_rng(number).bytes(6000) for number in range(4)]
    held = b"".join(files[run.file][run.start : run.stop] for run in runs)
    for (number, start, size), at in zip(ranges, where.tolist(), strict=True):
        assert held[at : at + size] == files[number][start : start + size]
    assert [run.at for run in runs] == [
        sum(before.stop - before.start for before in runs[:n]) for n in range(len(runs))
    ]
    assert all(
        after.start - before.stop > gap for before, after in itertools.pairwise(runs) if before.file == after.file
    )


def test_neighbours_are_fetched_by_one_request_and_lost_replies_are_made_up_for(
    bucket: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    folder = place_of(bucket)
    assert isinstance(folder, RemotePath)
    data = np.random.default_rng(0).bytes(3 << 20)
    storage_of(folder).write("a", data)
    sizes = (100, 1000, 2000)  # whichever request comes first, the reply that is closed after 1,000 bytes is cut short
    runs, where = join_ranges(np.array([0, 0, 0]), np.array([500, 90_000, 2 << 20]), np.array(sizes))
    proxy.reset_counts()
    proxy.faults = [Fault("close", after=1000, method="GET"), Fault("status", status=503, method="GET")]
    with gather([folder / "a"], runs, tmp_path) as descriptor:
        assert os.listdir(tmp_path) == []
        for start, size, at in zip((500, 90_000, 2 << 20), sizes, where.tolist(), strict=True):
            assert os.pread(descriptor, size, at) == data[start : start + size]
    assert len(runs) == 2
    assert proxy.requests["GET"] == 2 + 2
    with pytest.raises(FileNotFoundError), gather([folder / "b"], runs, tmp_path):
        pytest.fail("it is not there")
