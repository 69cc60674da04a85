"""The lists of a GPU host agree with the pins, and a file is cut into parts without loss."""

from pathlib import Path

from benchmarks.gpu.pack import listed, missing, normal, split
from benchmarks.harness.record import ROOT


def test_the_pack_has_the_versions_that_are_tested() -> None:
    pins = set((ROOT / "constraints.txt").read_text().splitlines())
    assert [one for one in listed("requirements.txt") if one not in pins] == []


def test_names_are_compared_as_registries_do() -> None:
    assert normal("typing_extensions>=4 ; python_version > '3'") == normal("Typing-Extensions") == "typing-extensions"


def test_parts_joined_are_the_file(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.write_bytes(bytes(range(256)) * 5)
    (tmp_path / "part-9").write_bytes(b"of an earlier pack")
    parts = split(whole, tmp_path, 500)
    assert (
        [part.name for part in parts]
        == ["part-0", "part-1", "part-2"]
        == sorted(p.name for p in tmp_path.glob("part-*"))
    )
    assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()


def test_a_requirement_that_nobody_meets_is_told(tmp_path: Path) -> None:
    meta = tmp_path / "thing-1.0.dist-info" / "METADATA"
    meta.parent.mkdir()
    meta.write_text("Name: thing\nRequires-Dist: numpy>=2\nRequires-Dist: rare (>=1)\nRequires-Dist: x; extra == 'y'\n")
    assert list(missing(tmp_path)) == ["thing needs rare (>=1)"]
