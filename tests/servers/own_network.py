"""A network namespace of one's own: loopback and nothing else, so that nothing that runs there reaches out."""

import ctypes
import os
import subprocess

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_UP = ("ip", "link", "set", "lo", "up")


def own_network() -> bool:
    """Moves this process, and what it starts from now on, into one; False where the machine does not allow it.

    Raises:
        OSError, subprocess.CalledProcessError: it is refused after all, though a trial a moment ago was not.
    """
    try:
        trial = subprocess.run(("unshare", "--net", *_UP), capture_output=True, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    if trial.returncode:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")
    subprocess.run(_UP, check=True, timeout=10)
    return True
