"""A folder of pictures, that are none, for tests of what reads trees."""

from pathlib import Path

from selfie_data.source import ImageSource

FILES = {
    "train/dog/b.png": b"dog b",
    "train/dog/a.jpg": b"dog a",
    "train/cat/c.JPEG": b"cat c",
    "train/stray.jpg": b"stray",
    "train/notes.txt": b"no image",
    "train/cat/._c.JPEG": b"junk",
    "val/cat/d.jpg": b"cat d",
}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read_all(source: ImageSource) -> dict[str, object]:
    return {image.name: image.data for image in map(source.read, range(len(source)))}
