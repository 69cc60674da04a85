"""`verify` finds every kind of damage, names it, and finds nothing in a sound dataset."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import google_crc32c
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfie_data.cli.__main__ import main
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pages import write_pages
from selfie_data.dataset.rows import Quarantined, encode_rows
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import DatasetError


@pytest.fixture
def dataset(tmp_path: Path, raw_dataset: Path) -> Path:
    return Path(shutil.copytree(raw_dataset, tmp_path / "dataset"))


@pytest.mark.parametrize("fixture", ["raw_dataset", "jpeg_dataset", "unlabelled_dataset"])
@pytest.mark.parametrize("decode", [False, True])
def test_a_sound_dataset_has_no_problems(fixture: str, decode: bool, request: pytest.FixtureRequest) -> None:
    assert verify_dataset(request.getfixturevalue(fixture), decode=decode, threads=2) == []


def flip(path: Path, place: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def swap_indices(folder: Path) -> None:
    first, second = folder / "shard-000000.idx", folder / "shard-000001.idx"
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def extra_folder_in_splits(folder: Path) -> None:
    write_splits(open_dataset(folder), SplitOptions())
    (folder / "splits" / "old").mkdir()


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pixel": (
        lambda folder: flip(folder / "shard-000001.tar", 1000),
        "shard-000001.tar: sample 000000000300 at offset 512",
    ),
    "header": (lambda folder: flip(folder / "shard-000001.tar", 3), "its header names"),
    "header size": (lambda folder: flip(folder / "shard-000001.tar", 130), "its header states"),
    "header mode": (lambda folder: flip(folder / "shard-000001.tar", 101), "the checksum of its header is wrong"),
    "label": (lambda folder: flip(folder / "shard-000001.tar", 8 * 512), "its label is"),
    "padding": (lambda folder: flip(folder / "shard-000001.tar", 8 * 512 + 100), "shard-000001.tar: changed, SHA-256"),
    "end": (lambda folder: flip(folder / "shard-000003.tar", -1), "shard-000003.tar: changed, SHA-256"),
    "truncated": (
        lambda folder: cut(folder / "shard-000002.tar", 100_000),
        "shard-000002.tar: 100000 bytes, the manifest",
    ),
    "empty shard": (lambda folder: cut(folder / "shard-000002.tar", 0), "shard-000002.tar: 0 bytes, the manifest"),
    "missing shard": (lambda folder: (folder / "shard-000002.tar").unlink(), "shard-000002.tar: cannot be read"),
    "extra shard": (
        lambda folder: (folder / "shard-000009.tar").write_bytes(b"x"),
        "shard-000009.tar: not part of the",
    ),
    "extra file": (lambda folder: (folder / "notes.txt").write_bytes(b"x"), "notes.txt: not part of the dataset"),
    "extra folder": (lambda folder: (folder / "old").mkdir(), "old: not part of the dataset"),
    "extra folders": (lambda folder: (folder / "old" / "er").mkdir(parents=True), "old/er: not part of the dataset"),
    "folder in the table": (lambda folder: (folder / "samples.zarr" / "x").mkdir(), "x: not part of the dataset"),
    "link to a folder": (lambda folder: (folder / "old").symlink_to("samples.zarr"), "old: not part of the dataset"),
    "dead link": (lambda folder: (folder / "old").symlink_to("nowhere"), "old: not part of the dataset"),
    "empty splits": (lambda folder: (folder / "splits").mkdir(), "splits/splits.json: missing"),
    "folder in the splits": (extra_folder_in_splits, "splits/old: not listed in splits.json"),
    "index": (lambda folder: flip(folder / "shard-000000.idx", 20), "shard-000000.idx: differs from what the rows"),
    "swapped indices": (swap_indices, "shard-000001.idx: differs from what the rows give, from line 2"),
    "missing index": (lambda folder: (folder / "shard-000000.idx").unlink(), "shard-000000.idx: cannot be read"),
    "rows": (lambda folder: flip(folder / "shard-000001.rows", -5), "shard-000001.rows: changed, SHA-256"),
    "missing rows": (lambda folder: (folder / "shard-000001.rows").unlink(), "shard-000001.rows: missing"),
    "page": (lambda folder: [flip(page, 40) for page in (folder / "pages").iterdir()], ": changed, SHA-256"),
    "missing pages": (lambda folder: shutil.rmtree(folder / "pages"), ": missing"),
    "extra page": (lambda folder: (folder / "pages" / "x").touch(), "pages/x: not part of the dataset"),
    "table": (lambda folder: flip(folder / "samples.zarr/label/c/0", 8), "samples.zarr: changed, its SHA-256"),
    "missing chunk": (lambda folder: (folder / "samples.zarr/crc32c/c/0").unlink(), "samples.zarr/crc32c/c/0: missing"),
    "missing table": (lambda folder: shutil.rmtree(folder / "samples.zarr"), "samples.zarr/zarr.json: missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_exits_1(dataset: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    damage(dataset)
    result = CliRunner().invoke(main, ["verify", str(dataset)])
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_that_lost_its_files_is_not_called_a_stranger(dataset: Path) -> None:
    (dataset / "samples.zarr/crc32c/c/0").unlink()
    assert [line for line in verify_dataset(dataset) if "not part of" in line] == []


def test_every_problem_is_listed(dataset: Path) -> None:
    write_splits(open_dataset(dataset), SplitOptions())
    flip(dataset / "shard-000000.tar", 1000)
    flip(dataset / "shard-000001.idx", 20)
    flip(dataset / "shard-000002.rows", -5)
    flip(dataset / "splits/train.npy", -5)
    (dataset / "notes.txt").touch()
    found = "\n".join(verify_dataset(dataset))
    names = ("shard-000000.tar: sample", "shard-000001.idx", "shard-000002.rows", "splits/train.npy", "notes.txt")
    assert all(name in found for name in names)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "flipped", "newer", "folder"])
def test_a_damaged_manifest_exits_1_in_one_line(dataset: Path, damage: str) -> None:
    manifest = dataset / "manifest.json"
    text = manifest.read_text()
    if damage in ("missing", "folder"):
        manifest.unlink()
    if damage == "folder":
        manifest.mkdir()
    if damage == "empty":
        manifest.write_text("")
    if damage == "text":
        manifest.write_text("hello")
    if damage == "flipped":
        manifest.write_text(text.replace('"image_size": 32', '"image_size": 33'))
    if damage == "newer":
        manifest.write_text(text.replace('"schema": 2', '"schema": 7'))
    for command in (["verify", str(dataset)], ["info", str(dataset)], ["stats", str(dataset)]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert "manifest.json" in result.stderr


def test_wrong_usage_exits_2() -> None:
    for command in (["verify"], ["verify", "a", "b"], ["verify", "--frobnicate", "a"]):
        assert CliRunner().invoke(main, command).exit_code == 2
    assert CliRunner().invoke(main, ["verify", "nowhere"]).exit_code == 1


def reseal(folder: Path, position: int, **changes: object) -> None:
    """Replaces what is known of a shard and makes pages and manifest agree: damage that no hash can tell."""
    dataset = open_dataset(folder)
    record = replace(dataset.record(position), **changes)
    manifest, data = dataset.manifest, encode_rows(record)
    entries = manifest.shards.entries(np.arange(len(manifest.shards)))
    (folder / manifest.shards[position].rows_name).write_bytes(data)
    for name, digest in (("rows_sha256", hashlib.sha256(data).hexdigest()), ("sha256", record.sha256)):
        entries[position][name] = np.frombuffer(bytes.fromhex(digest), np.uint8)
    shutil.rmtree(folder / "pages")
    parts = msgspec.structs.asdict(manifest)
    Manifest(**{**parts, "shards": write_pages(folder, entries)}).sealed().save(folder)


@pytest.mark.parametrize(
    ("column", "messages"),
    [
        ("label", ["its label is", "class_counts of all samples are"]),
        ("offset", ["stands at another offset"]),
        ("length", ["its header states", "sizes of all samples are"]),
        ("crc32c", ["the checksum of its bytes differs"]),
        ("height", ["bytes are no", "sizes of all samples are"]),
    ],
)
def test_rows_that_disagree_with_the_shard_are_named(dataset: Path, column: str, messages: list[str]) -> None:
    rows = open_dataset(dataset).record(1).rows.copy()
    rows[column][7] = rows[column][7] - 1 if column != "label" else (rows[column][7] + 1) % 10
    reseal(dataset, 1, rows=rows)
    problems = verify_dataset(dataset, decode=True)
    assert all(any(message in problem for problem in problems) for message in messages)
    assert any("shard-000001.tar: sample 000000000307 at offset" in problem for problem in problems)


def test_rows_of_another_place_in_the_plan_are_named(dataset: Path) -> None:
    reseal(dataset, 1, quarantined=(Quarantined(key="000000000300", name="", reason="bad"),))
    with pytest.raises(DatasetError, match=r"shard-000001\.rows: of another shard than the page says"):
        open_dataset(dataset).rows(np.array([300]))
    reseal(dataset, 2, number=3)
    found = "\n".join(verify_dataset(dataset))
    assert all(f"shard-00000{number}.rows: of another shard" in found for number in (1, 2))


def test_an_image_that_does_not_decode_is_found_by_decode_only(tmp_path: Path, jpeg_dataset: Path) -> None:
    """Bytes that were already bad when their hash was taken."""
    folder = Path(shutil.copytree(jpeg_dataset, tmp_path / "dataset"))
    rows = open_dataset(folder).record(0).rows.copy()
    offset, length = int(rows["offset"][3]), int(rows["length"][3])
    shard = folder / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[offset : offset + length] = bytes(length)
    shard.write_bytes(data)
    rows["crc32c"][3] = google_crc32c.value(bytes(length))
    reseal(folder, 0, rows=rows, sha256=hashlib.sha256(data).hexdigest())
    assert verify_dataset(folder) == []
    problems = verify_dataset(folder, decode=True)
    assert len(problems) == 1
    assert "sample 000000000003" in problems[0]
    assert "cannot be decoded" in problems[0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_anywhere_is_found(tmp_path: Path, unlabelled_dataset: Path, data: st.DataObject) -> None:
    files = sorted(path for path in unlabelled_dataset.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    place = data.draw(st.integers(0, file.stat().st_size - 1))
    folder = tmp_path / "flipped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(unlabelled_dataset, folder)
    target = folder / file.relative_to(unlabelled_dataset)
    flip(target, place)
    try:
        problems = verify_dataset(folder)
    except DatasetError as error:
        problems = [str(error)]
    assert problems
    named = folder / "samples.zarr" if "samples.zarr" in target.parts else target  # whose files have one hash together
    assert any(str(named) in problem for problem in problems)
