"""A tar of images, read in place by offset; a gzipped one is spooled. Brace lists, and URLs of servers, are shards.

Labels: `KEY.cls` files if there are any, else the images' folders (see `readers.labels.classes_of_paths`).
"""

import re
from pathlib import Path

from selfie_data.errors import OptionError, SourceError
from selfie_data.source import ImageSource
from selfie_data.sources import webdataset
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.archives import is_gzip
from selfie_data.sources.readers.checksums import check_official
from selfie_data.sources.readers.folders import existing
from selfie_data.sources.readers.tar_listing import Choice, open_gzipped, open_in_place
from selfie_data.storage.place import Place
from selfie_data.storage.remote import BUCKETS

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def _names_shards(root: str) -> bool:
    """Says whether it is a list, or the URL of a server; an object of a bucket is one tar."""
    scheme = _URL.match(root)
    if "::" in root or (scheme and scheme[1].lower() not in BUCKETS):
        return True
    return "{" in root and (scheme is not None or not Path(root).exists())


def open_images(kind: str, root: Place | str, options: SourceOptions) -> ImageSource:
    """Opens one tar, or shards; see `selfie_data.sources.open_source`."""
    if isinstance(root, str) and _names_shards(root):
        return webdataset.open_images(kind, root, options)
    if options.split != "train":
        raise OptionError(f"a tar has no splits: --subtree picks a part of it, got --split {options.split}")
    path = existing(root, kind)
    if path.is_dir() and not path.is_file():
        raise SourceError(
            f"{path} is a folder: --root must name a tar file, or several by a brace list such as "
            f"{path}/shard-{{000..099}}.tar; a folder of images is read by the source folder"
        )
    check_official(path, checksum=options.checksum)
    choice = Choice(options.subtree, options.classes, options.class_level)
    if is_gzip(path):
        return open_gzipped(kind, path, choice)
    return open_in_place(kind, [path], choice, listings=options.listings)
