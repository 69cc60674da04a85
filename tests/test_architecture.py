"""Rules that hold the packages together: who imports whom, what an import costs, how functions are called."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("selfie_data", "pipelines", "selfie_model")
MODULES = {package: sorted((ROOT / package).rglob("*.py")) for package in PACKAGES}
ALL = [path for paths in MODULES.values() for path in paths]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields every imported module of a file, and whether it is imported when the file is."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            yield name, id(node) not in inside


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


LAYERS = ("selfie_data", "pipelines", "selfie_model", "benchmarks")  # each imports only those before it
NEVER = {"selfie_data": ("torch", "nvidia"), "pipelines": (), "selfie_model": ("nvidia",)}
FULLEST_FOLDER = 14  # files, `__init__.py` not counted


@pytest.mark.parametrize("path", ALL, ids=identify)
def test_imports_run_down_the_layers(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    above = LAYERS[LAYERS.index(package) + 1 :]
    for name, _ in imports(path):
        assert name.split(".")[0] not in (*above, *NEVER[package]), name


def test_no_folder_is_a_drawer() -> None:
    folders = {path.parent for path in ALL}
    full = {str(folder.relative_to(ROOT)): len(list(folder.glob("[!_]*.py"))) for folder in folders}
    assert {folder: files for folder, files in full.items() if files > FULLEST_FOLDER} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_neither_torch_nor_dali(package: str) -> None:
    heavy = "('torch', 'nvidia.dali', 'numba')"
    code = f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = "('torch', 'nvidia.dali', 'numba', 'zarr', 'webdataset', 'pyarrow')"
    code = "import sys, selfie_data.build.build_shards, selfie_data.cli.__main__ as _; "
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("path", ALL, ids=identify)
def test_no_drawers_for_everything(path: Path) -> None:
    assert path.stem not in ("utils", "common", "helpers", "misc", "registry")


@pytest.mark.parametrize("path", ALL, ids=identify)
def test_optional_arguments_are_keyword_only(path: Path) -> None:
    """Booleans, and all options of public functions beyond the first, are named by the caller."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or "kernel" in path.stem:
            continue
        positional = node.args.args
        defaults = node.args.defaults
        for argument, default in zip(positional[len(positional) - len(defaults) :], defaults, strict=True):
            boolean = isinstance(default, ast.Constant) and isinstance(default.value, bool)
            assert not boolean, f"{node.name}({argument.arg})"
        assert len(defaults) <= 1, f"{node.name}: {[argument.arg for argument in positional[-len(defaults) :]]}"


@pytest.mark.parametrize("path", ALL, ids=identify)
def test_modules_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a module docstring is missing"


OPTIONS = {
    "build-shards": (
        "root split labels subtree table synsets ground_truth devkit checksum classes_from size encoding quality "
        "resize_shorter shard_bytes samples_per_shard workers seed limit on_error dry_run as_json"
    ),
    "verify": "decode threads",
    "info": "as_json",
    "stats": "as_json",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_no_new_options_by_accident(name: str) -> None:
    from selfie_data.cli.__main__ import main

    command = main.get_command(click.Context(main), name)
    assert command is not None
    found = [parameter.name for parameter in command.params if isinstance(parameter, click.Option)]
    assert sorted(str(option) for option in found) == sorted(OPTIONS[name].split())
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    assert inspect.getdoc(command.callback)
