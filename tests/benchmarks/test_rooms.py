"""Benchmarks are the top layer, in rooms: what is lower knows nothing of what is higher, and no circle joins files."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from benchmarks.harness.record import ROOT

FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "benchmarks").rglob("*.py")}
ROOMS = ("work", "harness", "peers", "floors", "ours")  # each imports only those before it; the questions import all
FULLEST_FOLDER = 14  # files, `__init__.py` not counted
LONGEST_FILE = 250  # lines


def imported(path: Path) -> set[str]:
    """The benchmark files that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names & set(FILES)


def test_no_circle_joins_files() -> None:
    order = list(TopologicalSorter({name: imported(path) for name, path in FILES.items()}).static_order())
    assert len(order) == len(FILES)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_those_below_them(room: str) -> None:
    below = ROOMS[: ROOMS.index(room) + 1]
    for name, path in FILES.items():
        if name.startswith(f"benchmarks.{room}."):
            assert {one.split(".")[1] for one in imported(path)} <= set(below), name


def test_no_folder_is_a_drawer_and_no_file_is_long() -> None:
    folders = {path.parent for path in FILES.values()}
    full = {folder.name: len(list(folder.glob("[!_]*.py"))) for folder in folders}
    assert {name: count for name, count in full.items() if count > FULLEST_FOLDER} == {}
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}
