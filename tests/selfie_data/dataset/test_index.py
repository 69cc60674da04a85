"""The index of a shard, as we write and read it, and as DALI's own tool makes it."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.dataset.names import index_name
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.shard import Member, format_index
from selfie_data.errors import DatasetError
from tests.twins.parse_index import parse_index

_MEMBERS = st.builds(
    lambda key, suffix, offset, length: Member(name=f"{key:012d}.{suffix}", offset=512 * offset, length=length),
    st.integers(0, 10**12 - 1),
    st.sampled_from(["raw", "jpg", "cls"]),
    st.integers(1, 2**30),
    st.integers(0, 2**33),
)


@given(st.lists(st.lists(_MEMBERS, min_size=1, max_size=3).map(tuple), max_size=20))
def test_parsing_undoes_formatting(samples: list[tuple[Member, ...]]) -> None:
    assert parse_index(format_index(samples), name="x.idx") == samples


@pytest.mark.parametrize(
    "data",
    [b"", b"v1.1 1\nraw 512 3 a.raw\n", b"v1.2 2\nraw 512 3 a.raw\n", b"v1.2 1\nraw 512 3\n", b"v1.2 x\n", b"\xff\n"],
    ids=["empty", "version", "count", "short line", "no number", "not text"],
)
def test_damage_is_named(data: bytes) -> None:
    with pytest.raises(DatasetError, match=r"x\.idx: damaged"):
        parse_index(data, name="x.idx")


@pytest.mark.parametrize("fixture", ["raw_dataset", "jpeg_dataset", "unlabelled_dataset"])
def test_dalis_tool_makes_the_same_index(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    dataset = open_dataset(request.getfixturevalue(fixture))
    for shard in dataset.manifest.shards:
        theirs = tmp_path / index_name(shard.name)
        tool = "import sys, wds2idx; sys.exit(wds2idx.main())"
        command = [sys.executable, "-c", tool, str(dataset.path / shard.name), str(theirs)]
        subprocess.run(command, check=True, capture_output=True)
        assert theirs.read_bytes() == (dataset.path / index_name(shard.name)).read_bytes()
