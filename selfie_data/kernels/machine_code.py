"""Kernels without Numba: it compiles a function once a machine, llvmlite links the kept machine code in every process.

Importing Numba and reading what it keeps takes 0.4 s of processor time, as long as 200 photographs; importing llvmlite
and linking two functions takes 0.035 s.

    resize_kernel.resize_image -> Numba, some seconds, once -> KEPT.o -> llvmlite, each process -> a function of C

A file is kept beside the sources, or in the user's cache folder where those are read-only. Its name holds a digest of
all kernels' sources, the versions and the processor, so no other code is ever found under it.
"""

import ctypes
import functools
import hashlib
import importlib
import importlib.metadata
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from selfie_data.kernels.kernel_sources import stamp_of

POINTER = ctypes.c_void_p
INT = ctypes.c_int64

_log = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_DIGEST_BYTES = 32
_PATIENCE = 64  # calls of a process that wait for nothing: a small build on a new machine ends without compiling
_asked = itertools.count()
_engines: list[Any] = []  # code lives as long as its engine


@functools.cache
def link(module: str, function: str, *arguments: Any) -> Callable[..., None]:
    """Returns an `exported` function of a module of this package, as C calls it. The lock is released during calls.

    Args:
        module: its name without the package's, such as "resize_kernel".
        function: its name there.
        arguments: POINTER or INT each.
    """
    name = f"{module}.{function}"
    code = _read(name)
    if code is None:
        _log.info("compiling %s, once; this takes some seconds", name)
        code = _compile(module, function)
        _keep(name, code)
    return ctypes.CFUNCTYPE(None, *arguments)(_link(code, function))


def is_worthwhile(module: str, function: str) -> bool:
    """Says whether to link a function now: it was compiled earlier, or this process has asked so often that it pays."""
    return _is_kept(f"{module}.{function}") or next(_asked) >= _PATIENCE


@functools.cache
def _is_kept(name: str) -> bool:
    return _read(name) is not None


def _compile(module: str, function: str) -> bytes:
    """Returns an object file with one symbol, `function`, that needs nothing but the C library."""
    compiled = getattr(importlib.import_module(f"selfie_data.kernels.{module}"), function)
    code = llvm.parse_assembly(compiled.inspect_llvm())
    for one in code.functions:
        if not one.is_declaration and one.name != compiled.native_name:
            one.linkage = "internal"  # what it calls is inlined, and Numba's ways into and out of Python go
    machine = _machine()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(code, builder)
    code.get_function(compiled.native_name).name = function
    missing = [one.name for one in code.functions if one.is_declaration and not one.name.startswith("llvm.")]
    if missing:
        raise AssertionError(f"{module}.{function} needs Numba's runtime: {', '.join(missing)}")
    return bytes(machine.emit_object(code))


def _link(code: bytes, function: str) -> int:
    """Returns the address of a function of an object file."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(function))


def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True
    )


def _read(name: str) -> bytes | None:
    for folder in _folders():
        try:
            kept = (folder / _file_name(name)).read_bytes()
        except OSError:
            continue
        code = kept[_DIGEST_BYTES:]
        if hashlib.sha256(code).digest() == kept[:_DIGEST_BYTES]:
            return code
    return None


def _keep(name: str, code: bytes) -> None:
    for folder in _folders():
        scratch = folder / f".{name}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(hashlib.sha256(code).digest() + code)
            scratch.replace(folder / _file_name(name))
        except OSError:
            continue
        return
    _log.warning("no folder for compiled kernels can be written, so every process compiles them again")


def _folders() -> Iterator[Path]:
    yield _HERE / "__pycache__"
    cache = os.environ.get("XDG_CACHE_HOME")
    yield (Path(cache) if cache else Path("~/.cache").expanduser()) / "selfie"


def _file_name(name: str) -> str:
    return f"{name}-{_circumstances()}.o"


@functools.cache
def _circumstances() -> str:
    """Returns a digest of all that machine code depends on."""
    versions = [importlib.metadata.version(package) for package in ("numba", "llvmlite")]
    processor = [llvm.get_default_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return hashlib.sha256("\n".join((stamp_of(_HERE), *versions, *processor)).encode()).hexdigest()[:16]
