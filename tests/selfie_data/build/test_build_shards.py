"""Building: what is written, what is refused, what is left out, and that it can go on."""

import datetime
import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.build.plan import Plan
from selfie_data.build.shard_task import BUILD, Tick
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import decode_payload, read_payloads
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, DatasetError, ImageError, SourceError
from selfie_data.images.statistics import sum_pixels
from selfie_data.sources.synthetic import SyntheticSource
from tests.material import jpeg, memory_source, photographs, picture
from tests.selfie_data.build.test_plan import positions_of

SMALL = BuildOptions(size=32, samples_per_shard=16)


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pictures(count: int, *, seed: int = 0) -> SyntheticSource:
    return SyntheticSource(split="train", count=count, size=32, seed=seed)


def test_every_image_is_stored_with_its_label(tmp_path: Path) -> None:
    source = pictures(70)
    manifest = build_shards(source, tmp_path / "out", SMALL, workers=1)
    dataset = open_dataset(tmp_path / "out")
    plan = Plan(size=70, samples=70, samples_per_shard=16, seed=0)
    indices = plan.sources(np.arange(70))
    stored = read_payloads(dataset, range(70))
    assert stored == [source.read(index).data.tobytes() for index in indices.tolist()]
    assert np.array_equal(dataset.table.label, source.labels[indices])
    assert [shard.samples for shard in manifest.shards] == [16, 16, 16, 16, 6]
    assert manifest.class_counts == {str(label): 7 for label in range(10)}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["manifest.json", "samples.zarr", *(f"shard-{n:06d}.{kind}" for n in range(5) for kind in ("tar", "idx"))]
    )
    assert verify_dataset(tmp_path / "out", decode=True) == []


def test_statistics_are_those_of_the_stored_pixels(tmp_path: Path) -> None:
    manifest = build_shards(pictures(50), tmp_path / "raw", SMALL, workers=1)
    pixels = np.frombuffer(b"".join(read_payloads(open_dataset(tmp_path / "raw"), range(50))), np.uint8).reshape(-1, 3)
    assert manifest.pixels == len(pixels)
    assert np.allclose(manifest.mean, pixels.mean(axis=0), rtol=1e-12)
    assert np.allclose(manifest.std, pixels.std(axis=0), rtol=1e-12)
    options = BuildOptions(size=224, samples_per_shard=16, resize_shorter=0)
    manifest = build_shards(memory_source(photographs(20)), tmp_path / "jpeg", options, workers=1)
    dataset = open_dataset(tmp_path / "jpeg")
    images = [
        decode_payload(dataset, number, payload) for number, payload in enumerate(read_payloads(dataset, range(20)))
    ]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    assert manifest.pixels == len(pixels)
    assert np.allclose(manifest.mean, pixels.mean(axis=0), rtol=1e-12)
    assert np.allclose(manifest.std, pixels.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (3, 70_000, 1, 3), (2, 5, 7, 3)], ids=str)
def test_pixel_sums_do_not_overflow(shape: tuple[int, ...]) -> None:
    sums = sum_pixels(np.full(shape, 255, np.uint8))
    count = int(np.prod(shape[:-1]))
    assert sums == (count, (255 * count,) * 3, (65_025 * count,) * 3)


def test_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    source = memory_source(photographs(40), [n % 3 for n in range(40)])
    options = BuildOptions(size=224, samples_per_shard=7)
    manifest = build_shards(source, tmp_path / "one", options, workers=1)
    assert len(manifest.shards) == 6
    for workers in (2, 3):
        build_shards(source, tmp_path / str(workers), options, workers=workers)
        assert contents(tmp_path / str(workers)) == contents(tmp_path / "one")


def test_nothing_of_this_machine_is_in_a_dataset(raw_dataset: Path) -> None:
    today = datetime.datetime.now(tz=datetime.UTC).strftime("%Y-")
    for name, data in contents(raw_dataset).items():
        if name.endswith((".json", ".idx")):
            for secret in (f'"{os.uname().nodename}', str(raw_dataset.parent), str(Path.home()), today):
                assert secret.encode() not in data, (name, secret)


def test_another_seed_is_another_order_of_the_same_images(tmp_path: Path) -> None:
    stored = []
    for seed in (0, 1):
        options = BuildOptions(size=32, samples_per_shard=16, seed=seed)
        build_shards(pictures(48), tmp_path / str(seed), options, workers=1)
        stored.append(read_payloads(open_dataset(tmp_path / str(seed)), range(48)))
    assert stored[0] != stored[1]
    assert sorted(stored[0]) == sorted(stored[1])


def test_a_limit_takes_a_random_part(tmp_path: Path) -> None:
    options = BuildOptions(size=32, samples_per_shard=16, limit=20)
    assert build_shards(pictures(100), tmp_path / "out", options, workers=1).samples == 20


def test_shard_bytes_are_met_about(tmp_path: Path) -> None:
    options = BuildOptions(size=224, shard_bytes=400_000)
    manifest = build_shards(memory_source(photographs(60)), tmp_path / "out", options, workers=1)
    full = [shard.bytes for shard in manifest.shards[:-1]]
    assert len(full) >= 2
    assert all(200_000 < size < 800_000 for size in full)


def test_bad_images_are_listed_and_ids_close_the_gaps(tmp_path: Path) -> None:
    images: list[bytes | np.ndarray | Exception] = [picture(32, 32, seed=n) for n in range(40)]
    bad = {3: b"no image", 17: jpeg(picture(64, 64, seed=1))[:700], 30: ImageError("is empty")}
    for index, data in bad.items():
        images[index] = data
    source = memory_source(images, [n % 2 for n in range(40)])
    manifest = build_shards(source, tmp_path / "out", SMALL, workers=1)
    dataset = open_dataset(tmp_path / "out")
    plan = Plan(size=40, samples=40, samples_per_shard=16, seed=0)
    removed = sorted(int(position) for position in positions_of(plan, list(bad)))
    assert [int(entry.key) for entry in manifest.quarantined] == removed
    assert {entry.name or entry.reason.split(":")[0] for entry in manifest.quarantined} == {
        "memory/000003",
        "memory/000017",
        "memory/000030",
    }
    reasons = " | ".join(entry.reason for entry in manifest.quarantined)
    assert "not an image of a known format" in reasons
    assert "cannot be decoded" in reasons
    assert "0x" not in reasons
    assert len(dataset) == 37
    survivors = [position for position in range(40) if position not in removed]
    assert [dataset.key(number) for number in range(37)] == [f"{position:012d}" for position in survivors]
    expected = [images[index].tobytes() for index in plan.sources(survivors).tolist()]  # type: ignore[union-attr]
    assert read_payloads(dataset, range(37)) == expected
    assert verify_dataset(tmp_path / "out", decode=True) == []


def test_a_shard_of_bad_images_only_is_left_out(tmp_path: Path) -> None:
    plan = Plan(size=12, samples=12, samples_per_shard=4, seed=0)
    bad = set(plan.sources(np.arange(4, 8)).tolist())
    images = [b"bad" if n in bad else picture(32, 32, seed=n) for n in range(12)]
    options = BuildOptions(size=32, samples_per_shard=4)
    manifest = build_shards(memory_source(images), tmp_path / "out", options, workers=1)
    assert [shard.name for shard in manifest.shards] == ["shard-000000.tar", "shard-000002.tar"]
    dataset = open_dataset(tmp_path / "out")
    assert dataset.table.shard.tolist() == [0] * 4 + [1] * 4
    assert dataset.key(4) == "000000000008"
    assert verify_dataset(tmp_path / "out", decode=True) == []


def test_on_error_fail_ends_at_the_first_bad_image(tmp_path: Path) -> None:
    source = memory_source([picture(32, 32, seed=1), b"bad"])
    options = BuildOptions(size=32, on_error="fail")
    with pytest.raises(BuildError, match="memory/000001: not an image of a known format"):
        build_shards(source, tmp_path / "out", options, workers=1)
    assert build_shards(source, tmp_path / "out", BuildOptions(size=32), workers=1).samples == 1


def test_a_source_without_usable_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"none of 2 images can be used; the first, memory/00000.: not an image"):
        build_shards(memory_source([b"a", b"b"]), tmp_path / "bad", BuildOptions(size=32), workers=1)
    with pytest.raises(BuildError, match="the source memory holds no images"):
        build_shards(memory_source([]), tmp_path / "empty", BuildOptions(size=32), workers=1)
    for name in ("bad", "empty"):
        with pytest.raises(DatasetError, match="no finished dataset"):
            open_dataset(tmp_path / name)


def test_an_error_of_the_source_comes_through(tmp_path: Path) -> None:
    source = memory_source([*(picture(32, 32, seed=n) for n in range(30)), SourceError("the archive is truncated")])
    for workers in (1, 2):
        with pytest.raises(SourceError, match="the archive is truncated"):
            build_shards(source, tmp_path / str(workers), SMALL, workers=workers)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 5}, r"seed = 0, asked for is 5"),
        ({"samples_per_shard": 8}, r"options\.samples_per_shard = 16, asked for is 8"),
        ({"encoding": "png"}, r'options\.encoding = "raw", asked for is "png"'),
    ],
    ids=["seed", "samples", "encoding"],
)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_other_options_are_refused(tmp_path: Path, changed: dict[str, object], message: str, finished: bool) -> None:
    out = tmp_path / "out"
    start_build(out, finished=finished)
    options = BuildOptions(**{"size": 32, "samples_per_shard": 16, **changed})  # type: ignore[arg-type]
    with pytest.raises(BuildError, match=message):
        build_shards(pictures(48), out, options, workers=1)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_another_source_is_refused(tmp_path: Path, finished: bool) -> None:
    start_build(tmp_path / "out", finished=finished)
    with pytest.raises(BuildError, match=r"source\.count = 48, asked for is 49"):
        build_shards(pictures(49), tmp_path / "out", SMALL, workers=1)


def test_other_codecs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_build(tmp_path / "out", finished=False)
    monkeypatch.setattr("selfie_data.build.build_shards.codec_versions", lambda: {"pillow": "99"})
    with pytest.raises(BuildError, match=r"codecs\.\w+ = .*, asked for is "):
        build_shards(pictures(48), tmp_path / "out", SMALL, workers=1)


def start_build(out: Path, *, finished: bool) -> None:
    """Builds 48 pictures, wholly or until the second shard."""
    if finished:
        build_shards(pictures(48), out, SMALL, workers=1)
        return
    with pytest.raises(KeyboardInterrupt):
        build_shards(pictures(48), out, SMALL, workers=1, progress=Interrupt(after=20))
    assert (out / BUILD).is_dir()


class Interrupt:
    """A user who presses Ctrl-C after so many images."""

    def __init__(self, *, after: int) -> None:
        self.after = after
        self.images = 0

    def spool(self, done: int, expected: int) -> None: ...

    def start(self, images: int) -> None: ...

    def close(self) -> None: ...

    def tick(self, tick: Tick) -> None:
        self.images += tick.images
        if self.images > self.after:
            raise KeyboardInterrupt


def test_after_ctrl_c_it_goes_on_and_keeps_finished_shards(tmp_path: Path) -> None:
    build_shards(pictures(48), tmp_path / "whole", SMALL, workers=1)
    out = tmp_path / "out"
    start_build(out, finished=False)
    finished = out / "shard-000000.tar"
    before = finished.stat().st_mtime_ns
    build_shards(pictures(48), out, SMALL, workers=1)
    assert contents(out) == contents(tmp_path / "whole")
    assert finished.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "index", "record"])
def test_a_finished_shard_that_was_damaged_is_built_again(tmp_path: Path, damage: str) -> None:
    build_shards(pictures(48), tmp_path / "whole", SMALL, workers=1)
    out = tmp_path / "out"
    start_build(out, finished=False)
    shard = out / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[1000] ^= 1
        shard.write_bytes(data)
    elif damage == "truncate":
        shard.write_bytes(data[:5000])
    elif damage == "remove":
        shard.unlink()
    elif damage == "index":
        shard.with_suffix(".idx").unlink()
    else:
        record = out / BUILD / "shard-000000.done"
        record.write_bytes(record.read_bytes()[:-3])
    build_shards(pictures(48), out, SMALL, workers=1)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_finished_dataset_is_found_finished(tmp_path: Path) -> None:
    manifest = build_shards(pictures(48), tmp_path / "out", SMALL, workers=1)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / BUILD).mkdir()  # killed before it was removed
    assert build_shards(pictures(48), tmp_path / "out", SMALL, workers=1) == manifest
    assert contents(tmp_path / "out") == before
    assert not (tmp_path / "out" / BUILD).exists()


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    descriptor = os.open(out, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(BuildError, match="another build is at work in this folder"):
            build_shards(pictures(48), out, SMALL, workers=1)
    finally:
        os.close(descriptor)
    build_shards(pictures(48), out, SMALL, workers=1)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("\\documentclass{book}")
    with pytest.raises(BuildError, match=r"not empty \(it holds thesis\.tex\)"):
        build_shards(pictures(48), tmp_path, SMALL, workers=1)
    assert contents(tmp_path).keys() == {"thesis.tex"}


def test_a_newer_manifest_is_refused(tmp_path: Path, raw_dataset: Path) -> None:
    out = tmp_path / "newer"
    shutil.copytree(raw_dataset, out)
    text = (out / "manifest.json").read_text().replace('"schema": 1', '"schema": 2', 1)
    (out / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match="schema 2 is newer than this version reads"):
        Manifest.load(out)
    with pytest.raises(DatasetError, match="schema 2 is newer"):
        build_shards(pictures(1000), out, SMALL, workers=1)


def test_a_manifest_that_is_no_manifest_is_one_clear_error(tmp_path: Path, raw_dataset: Path) -> None:
    good = json.loads((raw_dataset / "manifest.json").read_bytes())
    for bad in (b"", b"[]", b"{}", b"{", json.dumps({**good, "mean": 3}).encode(), b'{"schema": "x"}', b"\xff"):
        (tmp_path / "manifest.json").write_bytes(bad)
        with pytest.raises(DatasetError, match=r"manifest\.json: "):
            Manifest.load(tmp_path)
    with pytest.raises(DatasetError, match="no such dataset directory"):
        Manifest.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": 32, "encoding": "webp"},
        {"size": 32, "quality": 0},
        {"size": 32, "shard_bytes": 1},
        {"size": 32, "samples_per_shard": 0},
        {"size": 32, "limit": 0},
        {"size": 32, "seed": -1},
        {"size": 32, "on_error": "ignore"},
        {"size": 32, "resize_shorter": 16},
        {"size": 224, "resize_shorter": -1},
    ],
    ids=lambda wrong: list(wrong)[-1],
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]} must be"):
        BuildOptions(**wrong)  # type: ignore[arg-type]


def test_workers_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        build_shards(pictures(4), tmp_path / "out", SMALL, workers=0)
