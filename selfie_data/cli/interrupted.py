"""How a command ends on Ctrl-C: one line and exit 130, the shell's number for it, wherever the command was.

Builds and trainings say more: they catch the interrupt themselves and tell how to go on.
"""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def interrupted_in_one_line() -> Iterator[None]:
    """Turns a KeyboardInterrupt inside the block into one line on stderr.

    Raises:
        SystemExit: with status 130, instead of a KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("stopped by SIGINT\n")
        raise SystemExit(130) from None
