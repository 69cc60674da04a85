"""Where a node's cache lies, and how much it may hold.

SELFIE_CACHE         the folder; without it $XDG_CACHE_HOME/selfie, or selfie-UID in the folder for temporaries
SELFIE_CACHE_BYTES   its limit, `500GB` or `400GiB`; without it nine tenths of what it holds and what is free there
"""

import ctypes
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from selfie_data.errors import CacheError

_SHARE = 0.9  # of a disk that others use too
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
# `f_type` of statfs(2), as linux/magic.h and the file systems' own sources have it: what is shared by machines, or may
# be. Their locks and renames reach other nodes or nobody, and every byte would go over the network twice.
_NETWORK = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB",
    0xFF534D42: "CIFS",
    0x0BD00BD0: "Lustre",
    0x65735546: "FUSE",
    0x00C36400: "Ceph",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0xAAD7AAEA: "PanFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
}


@dataclass(frozen=True, slots=True)
class CacheHome:
    """A folder of this machine for shards, and its limit.

    Attributes:
        folder: there, the user's own, and on a disk of this machine.
        limit: bytes; None = nine tenths of what the cache holds and what is free there.
    """

    folder: Path
    limit: int | None = None

    def allowed(self, held: int) -> int:
        """Returns the limit in bytes for a cache that holds `held` bytes now."""
        if self.limit is not None:
            return self.limit
        disk = os.statvfs(self.folder)
        return int(_SHARE * (held + disk.f_bavail * disk.f_frsize))


def cache_home() -> CacheHome:
    """Returns the cache that the environment names, its folder made if it is not there.

    Raises:
        CacheError: the folder cannot be made, is another user's or on a network file system; or the limit is no size.
    """
    folder, limit = _folder(), os.environ.get("SELFIE_CACHE_BYTES")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError as error:
        raise CacheError(f"{folder}: cannot be the cache of shards ({error.strerror}); {_ELSEWHERE}") from error
    if facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise CacheError(f"{folder}: must be the user's own, and writable by nobody else, to hold shards; {_ELSEWHERE}")
    if kind := _NETWORK.get(file_system(folder)):
        raise CacheError(f"{folder}: a cache of shards must be on a disk of this machine, this is {kind}; {_ELSEWHERE}")
    return CacheHome(folder, None if limit is None else _bytes(limit))


_ELSEWHERE = "name a folder of a local disk by SELFIE_CACHE"


def file_system(folder: Path) -> int:
    """Returns the number of the kind of file system that a folder is on, `f_type` of statfs(2).

    Raises:
        OSError: there is no such folder.
    """
    library = ctypes.CDLL(None, use_errno=True)
    facts = (ctypes.c_long * 64)()  # `f_type` is its first word; the rest is larger than any kernel's
    if library.statfs(os.fsencode(folder), facts):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
    return int(facts[0]) & 0xFFFFFFFF


def _folder() -> Path:
    if named := os.environ.get("SELFIE_CACHE"):
        return Path(named).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "selfie"
    return Path(tempfile.gettempdir()).absolute() / f"selfie-{os.getuid()}"


def _bytes(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in _UNITS:
        raise CacheError(f"SELFIE_CACHE_BYTES must be a size such as 500GB or 400GiB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])
