"""Sphinx: the pages of this folder and, made anew at every build, a page of reference for each room of the packages."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from sphinx.application import Sphinx

from selfie_data import __version__

ROOT = Path(__file__).parents[1]
REFERENCE = Path(__file__).parent / "reference"
PACKAGES = ("selfie_data", "pipelines", "selfie_model")
PROGRAMS = {"selfie-data": "selfie_data.cli.__main__", "selfie-model": "selfie_model.cli"}

project = "Selfie"
author = "The authors of Selfie"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Selfie {version}"
html_copy_source = False
myst_heading_anchors = 3
default_role = "code"  # docstrings write code in single backticks
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_use_ivar = True  # attributes are listed in their class, not documented a second time
suppress_warnings = ["config.cache"]

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
COLON = "\0"
MARKUP = re.compile(r"(`[^`]*`)(?=(\w?))|[*|]|(?<=\w)_(?!\w)")


def escape(found: re.Match[str]) -> str:
    """Code in backticks stays, also before an `s`; any other markup is a character."""
    return found[1] + ("\\ " if found[2] else "") if found[1] else f"\\{found[0]}"


def show_as_written(_app: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: an indented block is a diagram or an example, and a star is a star.

    Indented blocks outside of Google's sections become literal blocks; characters that reStructuredText would take for
    markup are escaped outside of backticks and literal blocks.
    """
    shown: list[str] = []
    section = literal = False
    for line in lines:
        if line and not line.startswith(" "):
            section, literal = bool(SECTION.match(line)), False
        elif line.startswith("    ") and not section and not literal and (not shown or not shown[-1]):
            shown += ["::", ""]
            literal = True
        shown.append(line if literal else MARKUP.sub(escape, line))
    # Of a variable, napoleon would take what stands before a colon for its type.
    lines[:] = [line.replace(":", COLON) for line in shown] if what in ("attribute", "data", "property") else shown


def bring_colons_back(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]


def skip_aliases(_app: Sphinx, _what: str, _name: str, member: Any, _skip: bool, _options: Any) -> bool | None:
    """Leaves out what Python itself writes about the fields of a named tuple."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def room_page(folder: Path) -> str:
    """The reference of a folder: what it is for, then a section a file, in order of name."""
    room = ".".join(folder.relative_to(ROOT).parts)
    parts = [heading(room, "="), f".. automodule:: {room}\n\n"]
    for file in sorted(folder.glob("[!_]*.py")):
        parts.append(heading(file.name, "-") + f".. automodule:: {room}.{file.stem}\n\n")
    return "".join(parts)


def commands_page(program: str, main: click.Group) -> str:
    """What `--help` says, of every command of a program."""
    parts = [heading(program, "=")]
    context = click.Context(main, info_name=program, max_content_width=120)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        text = command.get_help(click.Context(command, info_name=name, parent=context, max_content_width=120))
        indented = "\n".join(f"   {line}".rstrip() for line in text.splitlines())
        parts.append(heading(f"{program} {name}", "-") + f".. code-block:: text\n\n{indented}\n\n")
    return "".join(parts)


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yields name and text of every page."""
    for program, module in PROGRAMS.items():
        yield program, commands_page(program, importlib.import_module(module).main)
    for package in PACKAGES:
        for init in sorted((ROOT / package).rglob("__init__.py")):
            yield ".".join(init.parent.relative_to(ROOT).parts), room_page(init.parent)


def write_reference(_app: Sphinx) -> None:
    """Writes the pages; those that have not changed keep their time, so that Sphinx need not read them again."""
    REFERENCE.mkdir(exist_ok=True)
    pages = dict(reference_pages())
    pages["index"] = (
        heading("Reference", "=") + ".. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {name}\n" for name in pages)
    )
    for stale in set(REFERENCE.glob("*.rst")) - {REFERENCE / f"{name}.rst" for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        file = REFERENCE / f"{name}.rst"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", show_as_written, priority=100)  # before napoleon reads the sections
    app.connect("autodoc-process-docstring", bring_colons_back, priority=900)  # after it
    app.connect("autodoc-skip-member", skip_aliases)
