"""How kernels are compiled: by Numba, once a machine, without the interpreter's lock.

The compiled code is kept beside the sources, or in the user's cache folder where those are read-only, or not at all
where neither can be written. Numba takes a kept kernel for fresh as long as the file it stands in is unchanged; kernels
call each other across files, so here a change of any file that holds kernels makes all of them stale.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import cfunc, njit

from selfie_data.kernels.kernel_sources import stamp_of

_log = logging.getLogger(__name__)
_OPTIONS = {"nogil": True, "error_model": "numpy"}  # a division by zero gives what IEEE says: nothing can be raised


def kernel(function: Callable[..., Any]) -> Any:
    """Returns `function` compiled on its first call: IEEE arithmetic, no bounds checks, the lock released."""
    try:
        dispatcher = njit(**_OPTIONS, cache=True)(function)
    except RuntimeError as error:  # Numba's way to say that no folder can be written
        _log.warning("compiled kernels cannot be kept, so every process compiles them again (%s)", error)
        return njit(**_OPTIONS)(function)
    dispatcher._cache._cache_file._source_stamp = stamp_of(Path(function.__code__.co_filename).parent)
    return dispatcher


def exported(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """Returns a decorator for functions of C made of kernels: compiled where it stands, kept by `machine_code`.

    Args:
        signature: result and arguments as Numba writes them: "void(CPointer(uint8), int64)". The function must not
            allocate: what allocates needs Numba's runtime.
    """
    return cfunc(signature, nopython=True, error_model="numpy")  # type: ignore[no-any-return]


def announce(*kernels: Any) -> None:
    """Logs that compiling will take a while, if these kernels were never compiled here."""
    if not all(one.signatures or _kept(one) for one in kernels):
        _log.info("compiling kernels, once; this takes some seconds")


def _kept(dispatcher: Any) -> bool:
    file = getattr(dispatcher._cache, "_cache_file", None)
    return file is not None and bool(file._load_index())
