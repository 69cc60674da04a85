"""Which class each ImageNet validation image has: from a list of WNIDs, or from the official ids and their mapping.

The official ground truth numbers the classes by `ILSVRC2012_id`, which is **not** the order of the sorted WNIDs:
without the development kit's mapping the numbers mean nothing, and are refused.
"""

import re
from pathlib import Path

from selfie_data.errors import ImageError, SourceError
from selfie_data.sources.readers.archives import is_gzip, list_entries
from selfie_data.sources.readers.file_names import printable
from selfie_data.sources.readers.image_files import read_file
from selfie_data.sources.readers.matlab import read_struct_array

_WNID = re.compile(r"n\d{8}")
_MAX_BYTES = 64 << 20
TRUTH_NAME = "ILSVRC2012_validation_ground_truth.txt"


def read_synsets(path: Path) -> list[str]:
    """Returns the WNIDs of a file of one a line, in the order of the images' names."""
    lines = _lines(_read(path))
    for number, line in enumerate(lines, 1):
        if not _WNID.fullmatch(line):
            raise SourceError(
                f"{path.name}, line {number}: a WNID such as n01440764 was expected, got {printable(line)[:40]!r}"
            )
    return lines


def read_ground_truth(truth: Path | None, devkit: Path) -> list[str]:
    """Returns the WNIDs that the official ids of the validation images stand for.

    Args:
        truth: the file of one id a line; None to take the development kit's own.
        devkit: the kit's folder or archive, its `meta.mat`, or a text of lines "id WNID".
    """
    mapping = read_mapping(devkit)
    if truth is not None:
        data, label = _read(truth), truth.name
    else:
        data, label = _find(devkit, TRUTH_NAME)[0], TRUTH_NAME
    ids = _lines(data)
    for number, line in enumerate(ids, 1):
        if not line.isascii() or not line.isdigit() or int(line[:9]) not in mapping:
            raise SourceError(f"{label}, line {number}: {printable(line)[:40]!r} is no ILSVRC2012 id of the mapping")
    return [mapping[int(line)] for line in ids]


def read_mapping(devkit: Path) -> dict[int, str]:
    """Returns {ILSVRC2012 id: WNID}."""
    data, label = _find(devkit, "meta.mat") if devkit.is_dir() or _is_archive(devkit) else (_read(devkit), devkit.name)
    if data[:6] == b"MATLAB":
        records = read_struct_array(data, "synsets", ("ILSVRC2012_ID", "WNID"), label=label)
        pairs = [(str(record["ILSVRC2012_ID"]), str(record["WNID"])) for record in records]
    else:
        pairs = [_pair(line, number, label) for number, line in enumerate(_lines(data), 1)]
    mapping: dict[int, str] = {}
    for number, wnid in pairs:
        if not _WNID.fullmatch(wnid) or mapping.setdefault(int(number), wnid) != wnid:
            raise SourceError(
                f"{label}: id {number} stands for {printable(wnid)[:40]!r}, which is no WNID or a second one"
            )
    if not mapping:
        raise SourceError(f"{label} maps no ids to WNIDs")
    return mapping


def _pair(line: str, number: int, label: str) -> tuple[str, str]:
    fields = re.split(r"[\s,]+", line)
    if len(fields) < 2 or not re.fullmatch(r"\d{1,9}", fields[0], re.ASCII):
        raise SourceError(
            f"{label}, line {number}: the form is 'id WNID', or the kit's meta.mat, got {printable(line)[:40]!r}"
        )
    return fields[0], fields[1]


def _is_archive(path: Path) -> bool:
    return path.is_file() and (is_gzip(path) or path.suffix in (".tar", ".zip"))


def _find(devkit: Path, name: str) -> tuple[bytes, str]:
    """Returns a file of the kit, by name, from its folder, the `data` folder in it, or its archive."""
    if devkit.is_dir():
        inside = [devkit / name, devkit / "data" / name, *sorted(devkit.glob(f"*/data/{name}"))]
        found = next((path for path in inside if path.is_file()), None)
        if found is not None:
            return _read(found), name
    elif _is_archive(devkit):
        for entry in list_entries(devkit, lambda base: base == name):
            if entry.size > _MAX_BYTES:
                raise SourceError(f"{devkit.name}: {name} has {entry.size} bytes, which is far too many")
            return entry.stream.read(), name
    raise SourceError(f"{devkit.name} holds no {name}")


def _read(path: Path) -> bytes:
    try:
        return read_file(path, path.name, limit=_MAX_BYTES)
    except ImageError as error:
        raise SourceError(f"{error}: {path}") from error


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8-sig", "backslashreplace").split("\n")
    return [line.strip() for line in lines if line.strip()]
