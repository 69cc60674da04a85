"""Rules that hold the packages together: who imports whom, what an import costs, how functions are called."""

import ast
import configparser
import graphlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {  # a layer imports those before it, never one after it; inside a layer a room does the same
    "selfie_data": (
        "storage cache randomness kernels images sources.naming sources.readers sources dataset build changes "
        "commands commands.changing cli"
    ),
    "pipelines": "sampling kernels dali backends preview",
    "selfie_model": "network training features study report commands",
    "benchmarks": "work harness peers floors ours evidence gpu gpu.sections",
}
LAYERS = tuple(ROOMS)
PACKAGES = LAYERS[:3]  # what is installed
FULLEST_FOLDER = 14  # files, `__init__.py` not counted
NEVER = {"selfie_data": ("torch", "nvidia"), "selfie_model": ("nvidia",)}  # not even inside a function
WHERE_USED = ("jinja2", "matplotlib", "sphinx")  # imported inside functions only

ALL = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if path.stem == "__init__" else parts)


FILES = {module_of(path): path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields every imported module of a file, and whether it is imported when the file is."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.If)  # `if TYPE_CHECKING:`
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


def files_imported(path: Path) -> set[str]:
    """Returns the modules of ours that a file imports, at its top or inside its functions."""
    found = {name for name, _ in imports(path)} & FILES.keys() - {module_of(path)}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def room_of(module: str) -> str:
    """Returns `images` for `selfie_data.images.decode`, and nothing for files that lie in no room."""
    inner = module if FILES[module].stem == "__init__" else module.rpartition(".")[0]
    return inner.partition(".")[2]


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES.values(), ids=identify)
def test_imports_run_down_the_layers_and_rooms(path: Path) -> None:
    layer, room = path.relative_to(ROOT).parts[0], room_of(module_of(path))
    above = LAYERS[LAYERS.index(layer) + 1 :]
    for name, _ in imports(path):
        assert name.split(".")[0] not in (*above, *NEVER.get(layer, ())), name
    if room:
        rooms = ROOMS[layer].split()
        rooms_above = rooms[rooms.index(room) + 1 :]
        for name in files_imported(path):
            assert not name.startswith(f"{layer}.") or room_of(name) not in rooms_above, name


def test_no_file_imports_itself_through_others() -> None:
    try:
        graphlib.TopologicalSorter({name: files_imported(path) for name, path in FILES.items()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


MODEL_STANDS_ON = {"selfie_data.errors", "selfie_data.files"}
MODEL_STANDS_ON |= {"pipelines.batch", "pipelines.digest", "pipelines.sampling.grid"}
JOINING = ("selfie_model.cli", "selfie_model.commands.", "selfie_model.data", "selfie_model.study.shards")


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("selfie_model.")])
def test_the_model_knows_neither_datasets_nor_loaders(module: str) -> None:
    """Files that join it with them apart: what is trained may come from anywhere that gives batches."""
    below = {name for name in files_imported(FILES[module]) if not name.startswith("selfie_model")}
    assert module.startswith(JOINING) or below <= MODEL_STANDS_ON


def test_the_rooms_are_the_folders_there_are() -> None:
    for layer, rooms in ROOMS.items():
        folders = {path.parent.relative_to(ROOT / layer) for path in (ROOT / layer).rglob("*.py")}
        assert {".".join(folder.parts) for folder in folders} == {"", *rooms.split()}
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    installed = [*PACKAGES, *(f"{layer}.{room}" for layer in PACKAGES for room in ROOMS[layer].split())]
    assert config["options"]["packages"].split() == sorted(installed)


def test_tests_lie_in_the_rooms_of_what_they_test() -> None:
    tests = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    folders = {path.parent.relative_to(ROOT) for path in FILES.values()}
    assert {str(folder) for folder in tests - folders} == {".", "end_to_end", "examples"}


def test_no_folder_is_a_drawer() -> None:
    folders = {path.parent for path in FILES.values()}
    full = {str(folder.relative_to(ROOT)): len(list(folder.glob("[!_]*.py"))) for folder in folders}
    assert {folder: files for folder, files in full.items() if files > FULLEST_FOLDER} == {}


@pytest.mark.parametrize("path", ALL, ids=identify)
def test_rarely_used_packages_are_imported_where_they_are_used(path: Path) -> None:
    assert [name for name, at_once in imports(path) if at_once and name.split(".")[0] in WHERE_USED] == []


LOADERS = """
import sys, {packages}
before = {{name.partition(".")[0] for name in sys.modules}}
from pipelines import ImageLoader, PatchLoader
for loader in (PatchLoader, ImageLoader):
    with loader(sys.argv[1], global_batch_size=16, seed=0, dtype="float32", backend="{backend}") as opened:
        next(iter(opened))
after = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(after - before - set(sys.stdlib_module_names) - {{"pipelines", "selfie_data"}}))
"""


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_loaders_import_few_packages(raw_dataset: Path, backend: str) -> None:
    packages = "google_crc32c, msgspec, numba, numpy, simplejpeg, torch, PIL.Image"
    code = LOADERS.format(packages=packages, backend=backend)
    command = [sys.executable, "-c", code, str(raw_dataset)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_neither_torch_nor_dali(package: str) -> None:
    heavy = "('torch', 'nvidia.dali', 'numba', 'obstore')"
    code = f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = "('torch', 'nvidia.dali', 'numba', 'zarr', 'webdataset', 'pyarrow', 'obstore')"
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


@pytest.mark.parametrize("path", FILES.values(), ids=identify)
def test_nothing_asks_and_waits_for_an_answer(path: Path) -> None:
    asking = {"input", "prompt", "confirm", "getpass", "prompt_for_value", "confirmation_option", "password_option"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in asking, called
            assert not {keyword.arg for keyword in node.keywords} & {"prompt", "confirmation_prompt"}, called


OPTIONS = {
    "build-shards": (
        "root split labels label_column image_column split_column config class_level subtree table synsets "
        "ground_truth devkit checksum classes_from size encoding restart_blocks quality resize_shorter shard_bytes "
        "samples_per_shard block_bytes workers engine ray_address seed limit max_pixels on_error part dry_run "
        "as_json"
    ),
    "extend": (
        "root split labels label_column image_column split_column config class_level subtree table synsets "
        "ground_truth devkit checksum block_bytes workers limit max_pixels on_error dry_run as_json new_classes again"
    ),
    "drop": "purge dry_run as_json",
    "verify": "decode threads",
    "info": "as_json quarantined",
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


def test_no_room_of_tests_is_passed_over(request: pytest.FixtureRequest) -> None:
    """pytest's own list of folders to leave out has the name `build`."""
    patterns = request.config.getini("norecursedirs")
    rooms = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert [room for room in sorted(rooms) if any(fnmatch(room, pattern) for pattern in patterns)] == []
