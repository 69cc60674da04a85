"""The published checksums of official archives: a truncated or doctored download is noticed before hours of work.

Sources: the CIFAR page of the University of Toronto; the download pages of ILSVRC 2012 and torchvision's table of them.
The downsampled-ImageNet archives have no published checksum that could be confirmed, so they are not here.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any, NamedTuple, cast

from selfie_data.errors import SourceError
from selfie_data.sources.naming.file_names import printable
from selfie_data.storage.place import Place

_log = logging.getLogger(__name__)
_FREE_BYTES = 1 << 30  # hashed without being asked: 2 s; the ILSVRC training archive takes five minutes or more


class Official(NamedTuple):
    bytes: int
    md5: str


OFFICIAL = {
    "cifar-10-python.tar.gz": Official(170_498_071, "c58f30108f718f92721af3b95e74349a"),
    "cifar-10-binary.tar.gz": Official(170_052_171, "c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar-100-python.tar.gz": Official(169_001_437, "eb9058c3a382ffc7106e4002c42a8d85"),
    "cifar-100-binary.tar.gz": Official(168_513_733, "03b5dce01913d631647c71ecec9e9cb8"),
    "ILSVRC2012_img_train.tar": Official(147_897_477_120, "1d675b47d978889d74fa0da5fadfb00e"),
    "ILSVRC2012_img_val.tar": Official(6_744_924_160, "29b22e2961454d5413ddabcf34fc5622"),
}


def check_official(path: Place, *, checksum: bool | None = None) -> None:
    """Warns if a file has an official archive's name but not its size or checksum. Never refuses.

    Args:
        path: the archive.
        checksum: None: hash up to 1 GiB, nothing at a URL; True: hash whatever its size; False: compare the size only.
    """
    official = OFFICIAL.get(path.name)
    if official is None:
        return
    size = path.stat().st_size
    if size != official.bytes:
        _log.warning(
            "%s has %d bytes, the official archive %d: used as it is; is the download complete?",
            path.name, size, official.bytes,
        )  # fmt: skip
    elif checksum is False or (checksum is None and (size > _FREE_BYTES or not isinstance(path, Path))):
        _log.info("%s has the official size; its checksum was not computed", printable(path.name))
    elif (found := _md5(path)) != official.md5:
        _log.warning(
            "%s has the official size, but MD5 %s where the official archive has %s: used as it is",
            path.name, found, official.md5,
        )  # fmt: skip
    else:
        _log.info("%s is the official archive (MD5 %s)", path.name, official.md5)


def has_official_size(path: Place) -> bool:
    """Says whether a file has an official archive's name and size."""
    official = OFFICIAL.get(path.name)
    return official is not None and path.stat().st_size == official.bytes


def _md5(path: Place) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(cast(Any, file), lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
