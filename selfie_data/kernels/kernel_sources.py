"""What compiled code depends on: the text of every file that holds kernels."""

import functools
import hashlib
from pathlib import Path

_HERE = Path(__file__).parent


@functools.cache
def stamp_of(package: Path) -> str:
    """Returns a digest of all files of a folder of kernels and of this folder, whose kernels others call."""
    digest = hashlib.sha256()
    for folder in sorted({_HERE, package}):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
