"""Which class each ImageNet validation image has: from a file of WNIDs, or from the official ids.

The official ground truth numbers the classes by `ILSVRC2012_ID`, which is **not** the order of the sorted WNIDs. What
the ids stand for never changes, so it is kept as data: line i of `imagenet_wnids.txt` is the WNID of id i.
Source: `meta.mat` of the official development kit (MD5 fa75699e90414af021442c21a62c3abf).
"""

import re
from importlib.resources import files

from selfie_data.errors import ImageError, OptionError, SourceError
from selfie_data.sources.naming.file_names import printable
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.archives import is_gzip, list_entries
from selfie_data.sources.readers.folders import listed, read_file
from selfie_data.storage.place import Place

WNID = re.compile(r"n\d{8}")  # how WordNet names a class
_SYNSETS = re.compile(r"(ILSVRC2012_val_synsets.*|imagenet_2012_validation_synset_labels)\.txt")
_KIT = re.compile(r"ILSVRC2012_devkit_t12(\.tar\.gz)?")
_MAX_BYTES = 64 << 20  # of a text: 50,000 lines have 0.5 MB
_TRUTH_NAME = "ILSVRC2012_validation_ground_truth.txt"


def validation_wnids(folders: list[Place], options: SourceOptions) -> list[str]:
    """Returns a WNID an image: from the options, or from files beside the images.

    Args:
        folders: where such files are looked for, in this order.
        options: what was said about them.
    """
    if options.synsets is not None:
        return read_synsets(options.synsets)
    if options.ground_truth is None and options.devkit is None:
        beside = [file for folder in folders for file in listed(folder)]
        synsets = sorted({file for file in beside if _SYNSETS.fullmatch(file.name) and file.is_file()})
        if len({file.name for file in synsets}) > 1:
            raise SourceError(
                f"several lists of WNIDs ({', '.join(file.name for file in synsets)}): --synsets names one"
            )
        if synsets:
            return read_synsets(synsets[0])
    devkit = options.devkit or _beside(folders, _KIT)
    truth = options.ground_truth or _beside(folders, re.compile(re.escape(_TRUTH_NAME)))
    if devkit is None and truth is None:
        raise OptionError("validation labels are missing: --synsets FILE (one WNID a line, in name order), or --devkit")
    return read_ground_truth(truth, devkit)


def _beside(folders: list[Place], pattern: re.Pattern[str]) -> Place | None:
    found = (file for folder in folders for file in listed(folder) if pattern.fullmatch(file.name))
    return next(found, None)


def official_wnids() -> dict[int, str]:
    """Returns {ILSVRC2012_ID: WNID}, 1 to 1000."""
    text = files("selfie_data.sources").joinpath("imagenet_wnids.txt").read_text(encoding="ascii")
    return dict(enumerate(text.split(), 1))


def read_synsets(path: Place) -> list[str]:
    """Returns the WNIDs of a file of one a line, in the order of the images' names."""
    lines = _lines(_read(path))
    for number, line in enumerate(lines, 1):
        if not WNID.fullmatch(line):
            raise SourceError(
                f"{path.name}, line {number}: a WNID such as n01440764 was expected, got {printable(line)[:40]!r}"
            )
    return lines


def read_ground_truth(truth: Place | None, devkit: Place | None) -> list[str]:
    """Returns the WNIDs that the ids of the validation images stand for.

    Args:
        truth: the file of one id a line; None for the development kit's own.
        devkit: the kit's folder or archive; or a text of lines "id WNID" that replaces the official numbering; None if
            there is a `truth`.
    """
    mapping = official_wnids() if devkit is None or _is_kit(devkit) else _read_mapping(devkit)
    if truth is not None:
        data, label = _read(truth), truth.name
    else:
        assert devkit is not None
        data, label = _find_truth(devkit), _TRUTH_NAME
    ids = _lines(data)
    for number, line in enumerate(ids, 1):
        if not line.isascii() or not line.isdigit() or int(line[:9]) not in mapping:
            raise SourceError(f"{label}, line {number}: {printable(line)[:40]!r} is no ILSVRC2012 id of the mapping")
    return [mapping[int(line)] for line in ids]


def _is_kit(path: Place) -> bool:
    """Says whether a path is the kit, packed or not, or its `meta.mat`, which holds the official numbering."""
    return path.is_dir() or _is_archive(path) or _read(path).startswith(b"MATLAB")


def _is_archive(path: Place) -> bool:
    return path.is_file() and (is_gzip(path) or path.suffix in (".tar", ".zip"))


def _read_mapping(path: Place) -> dict[int, str]:
    """Reads lines of "id WNID"."""
    mapping: dict[int, str] = {}
    for position, line in enumerate(_lines(_read(path)), 1):
        number, *rest = re.split(r"[\s,]+", line)
        if not rest or not re.fullmatch(r"\d{1,9}", number, re.ASCII):
            raise SourceError(
                f"{path.name}, line {position}: the form is 'id WNID', or the kit itself, got {printable(line)[:40]!r}"
            )
        if not WNID.fullmatch(rest[0]) or mapping.setdefault(int(number), rest[0]) != rest[0]:
            raise SourceError(
                f"{path.name}: id {number} stands for {printable(rest[0])[:40]!r}, which is no WNID or a second one"
            )
    if not mapping:
        raise SourceError(f"{path.name} maps no ids to WNIDs")
    return mapping


def _find_truth(devkit: Place) -> bytes:
    """Returns the kit's ground truth: from its folder, the `data` folder in it, or its archive."""
    if devkit.is_dir():
        folders = [devkit, devkit / "data", *(each / "data" for each in listed(devkit))]
        inside = [folder / _TRUTH_NAME for folder in folders]
        found = next((path for path in inside if path.is_file()), None)
        if found is not None:
            return _read(found)
    elif _is_archive(devkit):
        for entry in list_entries(devkit, lambda base: base == _TRUTH_NAME):
            if entry.size > _MAX_BYTES:
                raise SourceError(f"{devkit.name}: {_TRUTH_NAME} has {entry.size} bytes, which is far too many")
            return entry.stream.read()
    raise SourceError(f"{devkit.name} holds no {_TRUTH_NAME}")


def _read(path: Place) -> bytes:
    try:
        return read_file(path, path.name, limit=_MAX_BYTES)
    except ImageError as error:
        raise SourceError(f"{error}: {path}") from error


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8-sig", "backslashreplace").split("\n")
    return [line.strip() for line in lines if line.strip()]
