"""The benchmark of engines: datasets that differ are no result."""

from pathlib import Path

import pytest

from benchmarks.engines import compare


def test_other_bytes_end_the_run(tmp_path: Path) -> None:
    digests: dict[str, str] = {}
    for name, content in (("one", b"a"), ("same", b"a"), ("other", b"b")):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "file").write_bytes(content)
    compare(tmp_path / "one", digests, "row")
    compare(tmp_path / "same", digests, "row")
    with pytest.raises(SystemExit, match="row: other has other bytes than the first dataset"):
        compare(tmp_path / "other", digests, "row")
