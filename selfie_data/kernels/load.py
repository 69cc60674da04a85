"""When kernels are worth loading: Numba's import and reading what it keeps take as long as resizing 200 photographs."""

import itertools
import sys

MIN_CALLS = 64  # of a process without Numba that are done without kernels: small builds end without waiting for them
_calls = itertools.count()


def kernels_pay() -> bool:
    """Says whether to use compiled kernels: Numba is loaded anyway, or this process has asked so often that it pays."""
    return "numba" in sys.modules or next(_calls) >= MIN_CALLS
