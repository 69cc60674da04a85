"""What the pages say is there: files, links, commands, options, decisions; and their Python runs as it stands."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from selfie_data.cli.__main__ import main as selfie_data_main
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_model.cli import main as selfie_model_main

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
PROGRAMS = {"selfie-data": selfie_data_main, "selfie-model": selfie_model_main}
LAYERS = ("selfie_data", "pipelines", "selfie_model", "benchmarks")
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
DATED = [path for path in PAGES if path.parent in (DECISIONS, DECISIONS / "logs")]  # they name files of their time

FILE = re.compile(rf"(?<![\w/.-])((?:{'|'.join(LAYERS)}|tests|examples|docs)/[\w./-]*\w|[\w/]+\.py)(?![\w*])")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(path.read_text()) if found == language]


@pytest.mark.parametrize("page", [page for page in PAGES if page not in DATED], ids=identify)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = {name for name in FILE.findall(page.read_text()) if "NNN" not in name and "_build" not in name}
    # docs/_build is what `make docs` makes
    places = (ROOT, page.parent, *(ROOT / layer for layer in LAYERS))
    assert sorted(name for name in named if not any((place / name).exists() for place in places)) == []


def test_readme_lists_the_rooms() -> None:
    tree = next(text for text in blocks(README, "") if "selfie_data/ " in text)
    path: list[str] = []
    named = set()
    for indent, name in re.findall(r"^( *)(\w+)/ ", tree, re.MULTILINE):
        path[len(indent) // 2 :] = [name]
        named.add("/".join(path))
    rooms = {str(init.parent.relative_to(ROOT)) for layer in LAYERS[:3] for init in (ROOT / layer).rglob("__init__.py")}
    assert named - {"benchmarks", "tests", "docs"} == rooms


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def commands(page: Path) -> list[list[str]]:
    """Returns every command line of our programs in a page's shell blocks, in words, from the program's name on."""
    lines = [line for text in blocks(page, "sh") for line in text.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        words = ["selfie-model" if word == "selfie_model.cli" else word for word in shlex.split(line, comments=True)]
        starts = [position for position, word in enumerate(words) if word in PROGRAMS]
        found += [words[starts[0] :]] if starts else []
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=identify)
def test_commands_of_a_page_have_the_options_they_are_given(page: Path) -> None:
    for program, name, *words in commands(page):
        group = PROGRAMS[program]
        command = group.get_command(click.Context(group), name)
        assert command is not None, name
        options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        assert {word for word in words if word.startswith("-")} <= options, (name, words)


@pytest.mark.parametrize("name", ["README.md", "docs/guides/own-loop.md"])
def test_python_of_a_page_runs(name: str, raw_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shards").mkdir()
    for file in raw_dataset.iterdir():
        (tmp_path / "shards" / file.name).symlink_to(file)
    write_splits(open_dataset(tmp_path / "shards"), SplitOptions())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for text in blocks(ROOT / name, "python"):
        exec(text, names)


def test_every_decision_is_in_the_index_with_date_and_status() -> None:
    row = re.compile(r"^\| (\d{3}) \| \[(.+)\]\((.+)\) \| \d{4}-\d{2}-\d{2} \| .+ \|$", re.MULTILINE)
    rows = row.findall((DECISIONS / "README.md").read_text())
    files = {path.name: path.read_text().partition("\n")[0] for path in DECISIONS.glob("[0-9]*.md")}
    assert {file: f"# {number}: {title}" for number, title, file in rows} == files
    assert [number for number, _, _ in rows] == sorted(number for number, _, _ in rows)


def test_every_log_belongs_to_a_decision() -> None:
    for log in (DECISIONS / "logs").glob("*.md"):
        assert f"logs/{log.name}" in (DECISIONS / log.name).read_text()
