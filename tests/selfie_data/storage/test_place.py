import io
import sys
import zipfile
from pathlib import Path

import pytest

from selfie_data.storage.place import RemotePath, entries, name_below, place_of, storage_of
from selfie_data.storage.protocol import StorageError


def test_paths_stay_paths() -> None:
    assert place_of("a/b") == Path("a/b")
    assert place_of(Path("a")) == Path("a")
    assert place_of(place_of("s3://bucket/a")) == place_of("s3://bucket/a")


@pytest.mark.parametrize(
    ("url", "base", "key"),
    [
        ("s3://bucket", "s3://bucket", ""),
        ("S3://bucket/a/b/", "s3://bucket", "a/b"),
        ("gs://bucket/a.tar", "gs://bucket", "a.tar"),
        ("az://container/x", "az://container", "x"),
        ("https://host:8080/a%20b/c", "https://host:8080", "a b/c"),
    ],
)
def test_urls_are_bucket_and_key(url: str, base: str, key: str) -> None:
    assert place_of(url) == RemotePath(base, key)


@pytest.mark.parametrize(
    "url", ["s3://KEY:hidden@bucket/a", "https://host/a?sig=hidden", "ftp://host/hidden", "s3:///hidden", "pipe://x"]
)
def test_urls_with_credentials_or_without_a_bucket_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        place_of(url)
    assert "KEY" not in str(caught.value)
    assert "sig=" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/a#1", "s3://bucket/a#", "https://host/a/#x"])
def test_what_a_url_would_lose_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="write it as %23"):
        place_of(url)


@pytest.mark.parametrize("url", ["s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/a/.", "https://host/a/./b"])
def test_urls_whose_parts_mean_something_else_are_refused(url: str) -> None:
    with pytest.raises(StorageError, match=r"no part of a URL's path may be empty"):
        place_of(url)


@pytest.mark.parametrize("name", ["a b", "a%20b", "100%", "a#1", "what?", "a+b&c=d", "\u00fc \u65e5\u672c"])
def test_a_folder_of_any_name_is_one_and_the_same_however_it_is_come_to(bucket: str, name: str) -> None:
    place = place_of(bucket) / name
    assert place_of(str(place)) == place
    storage_of(place).write("x", b"1")
    assert (place / "x").read_bytes() == b"1"
    assert [each.name for each in storage_of(place_of(bucket)).list()] == [f"{name}/x"]
    assert entries(place_of(bucket)) == [place]
    assert name_below(place / "x", place_of(bucket)) == f"{name}/x"


def test_without_obstore_the_extra_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    place, storage = place_of(f"{bucket}/x"), storage_of(place_of(bucket))
    operations = (
        place.read_bytes,
        place.exists,
        lambda: list(storage.list()),
        lambda: storage.create("x", b""),
        lambda: storage.delete(["x"]),
    )
    for operation in operations:
        with pytest.raises(StorageError, match=r"remote storage needs obstore: pip install 'selfie\[remote\]'"):
            operation()


def test_a_remote_path_answers_as_a_path_does(bucket: str, tmp_path: Path) -> None:
    files = {"a/one.txt": b"1", "a/b/two.txt": b"22", "three.txt": b"333"}
    places = (tmp_path, place_of(bucket))
    for place in places:
        for name, data in files.items():
            storage_of(place).write(name, data)

    def ask(place: Path | RemotePath) -> list[object]:
        inner = place / "a"
        return [
            sorted(each.name for each in place.iterdir()),
            sorted(name_below(each, place) for each in entries(place)),
            (inner.exists(), inner.is_dir(), inner.is_file(), inner.name),
            (place / "three.txt").stat().st_size,
            (place / "three.txt").read_bytes(),
            ((place / "none").exists(), (place / "none").is_dir(), (place / "none").is_file()),
            (place / "three.txt").with_suffix(".idx").name,
            (inner / "one.txt").parent.name,
        ]

    assert ask(places[0]) == ask(places[1])
    for place in places:
        with pytest.raises(FileNotFoundError):
            (place / "none").stat()


def test_a_remote_file_can_be_sought_in(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfie_data.storage.place.PART_BYTES", 1000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.bin", bytes([number]) * 700)
    place = place_of(bucket) / "some.zip"
    storage_of(place_of(bucket)).write("some.zip", packed.getvalue())
    with place.open("rb") as file, zipfile.ZipFile(file) as archive:
        assert archive.read("17.bin") == bytes([17]) * 700
        assert archive.testzip() is None
