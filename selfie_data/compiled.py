"""How kernels are compiled: by Numba, once a machine, without the interpreter's lock.

The compiled code is kept beside the sources, or in the user's cache folder where those are read-only, or not at all
where neither can be written. Numba takes a kept kernel for fresh as long as the file it stands in is unchanged; kernels
call each other across files, so here a change of any file that holds kernels makes all of them stale.
"""

import functools
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

_log = logging.getLogger(__name__)
_HERE = Path(__file__).parent


def kernel(function: Callable[..., Any]) -> Any:
    """Returns `function` compiled on its first call: IEEE arithmetic, no bounds checks, the lock released."""
    try:
        dispatcher = njit(nogil=True, cache=True)(function)
    except RuntimeError as error:  # Numba's way to say that no folder can be written
        _log.warning("compiled kernels cannot be kept, so every process compiles them again (%s)", error)
        return njit(nogil=True)(function)
    dispatcher._cache._cache_file._source_stamp = _stamp(Path(function.__code__.co_filename).parent)
    return dispatcher


def announce(*kernels: Any) -> None:
    """Logs that compiling will take a while, if these kernels were never compiled here."""
    if not all(one.signatures or _kept(one) for one in kernels):
        _log.info("compiling kernels, once; this takes some seconds")


def _kept(dispatcher: Any) -> bool:
    file = getattr(dispatcher._cache, "_cache_file", None)
    return file is not None and bool(file._load_index())


@functools.cache
def _stamp(package: Path) -> str:
    digest = hashlib.sha256()
    for folder in sorted({_HERE, package}):
        for path in sorted(folder.glob("*_kernel.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
