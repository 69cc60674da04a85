"""How kernels are compiled: by Numba, once a machine, without the interpreter's lock.

Numba keeps the compiled code beside the sources, or in the user's cache folder where those are read-only. It takes a
kept kernel for fresh as long as the file it stands in is unchanged, so a kernel may only use what stands in its own
file: other kernels and constants alike (a test holds it).
"""

import logging
from collections.abc import Callable
from typing import Any

from numba import njit

_log = logging.getLogger(__name__)


def kernel(function: Callable[..., Any]) -> Any:
    """Returns `function` compiled on its first call: IEEE arithmetic, no bounds checks, the lock released."""
    options = {"nogil": True, "error_model": "numpy"}  # a division by zero gives what IEEE says: nothing can be raised
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError as error:  # Numba's way to say that no folder can be written
        _log.warning("compiled kernels cannot be kept, so every process compiles them again (%s)", error)
        return njit(**options)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """As `kernel`, but for a part that is compiled anew into each caller, with the constants that it is given there."""
    return njit(nogil=True, error_model="numpy", inline="always")(function)
