"""Building: what is written, what is refused, what is left out, and that it can go on."""

import datetime
import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from selfie_data.build.build_shards import BuildOptions, build_shards, describe_build
from selfie_data.build.plan import Plan
from selfie_data.dataset.manifest import Restarts
from selfie_data.dataset.names import BUILD
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import decode_payload, read_payloads
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, SourceError
from selfie_data.sources import open_source
from selfie_data.sources.synthetic import SyntheticSource
from tests.material import jpeg, memory_source, photographs, picture

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
        ["manifest.json", "pages", "samples.zarr"]
        + [f"shard-{n:06d}.{kind}" for n in range(5) for kind in ("tar", "idx", "rows")]
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


def test_an_error_of_the_source_comes_through(tmp_path: Path) -> None:
    source = memory_source([*(picture(32, 32, seed=n) for n in range(30)), SourceError("the archive is truncated")])
    for workers in (1, 2):
        with pytest.raises(SourceError, match="the archive is truncated"):
            build_shards(source, tmp_path / str(workers), SMALL, workers=workers)


def test_a_finished_dataset_is_found_finished(tmp_path: Path) -> None:
    manifest = build_shards(pictures(48), tmp_path / "out", SMALL, workers=1)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / BUILD).mkdir()  # killed before it was removed
    assert build_shards(pictures(48), tmp_path / "out", SMALL, workers=1) == manifest
    assert contents(tmp_path / "out") == before
    assert not (tmp_path / "out" / BUILD).exists()


def test_workers_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        build_shards(pictures(4), tmp_path / "out", SMALL, workers=0)


def test_restart_markers_are_in_the_manifest_and_verified(tmp_path: Path) -> None:
    source = memory_source([*photographs(15), jpeg(picture(96, 96, seed=1), restart_marker_blocks=2)])
    manifest = build_shards(source, tmp_path / "out", BuildOptions(size=224, samples_per_shard=7), workers=1)
    assert manifest.restarts is not None
    assert sum(manifest.restarts.intervals.values()) == 16
    assert manifest.restarts.reasons["it has restart markers already"] == 1
    assert verify_dataset(tmp_path / "out", decode=True) == []
    intervals = {**manifest.restarts.intervals, "2": manifest.restarts.intervals["2"] + 1}
    msgspec.structs.replace(manifest, restarts=Restarts(intervals=intervals, reasons={})).save(tmp_path / "out")
    [problem] = verify_dataset(tmp_path / "out", decode=True)
    assert f"images have a restart marker every 2 MCUs, the manifest says {intervals['2']}" in problem
    assert verify_dataset(tmp_path / "out") == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_build_from_before_there_were_markers_is_one_without(tmp_path: Path, finished: bool) -> None:
    source, out = memory_source(photographs(20)), tmp_path / "out"
    options = BuildOptions(size=224, samples_per_shard=7, restart_blocks=0)
    manifest = build_shards(source, out, options, workers=1)
    assert manifest.restarts is None
    assert b"restart" not in (out / "manifest.json").read_bytes()
    if not finished:
        (out / "manifest.json").unlink()
        (out / BUILD).mkdir()
        identity = {**describe_build(source, options), "source_fingerprint": source.fingerprint}
        (out / BUILD / "identity.json").write_text(json.dumps(identity))
    with pytest.raises(BuildError, match='restart_blocks = 0, asked for is "auto"; give --restart-blocks 0, or choose'):
        build_shards(source, out, BuildOptions(size=224, samples_per_shard=7), workers=1)
    assert build_shards(source, out, options, workers=1) == manifest


@pytest.mark.real_data
def test_real_photographs_get_their_markers_for_few_bytes(tmp_path: Path, real_data: Path) -> None:
    source = open_source("tar", real_data / "imagenet-fullres-120.tar")
    for name, most, changed in (("anew", 1.03, {"encoding": "jpeg"}), ("kept", 1.04, {"resize_shorter": 0})):
        sizes = []
        for blocks in (0, None):
            options = BuildOptions(size=224, restart_blocks=blocks, **changed)  # type: ignore[arg-type]
            manifest = build_shards(source, tmp_path / f"{name}-{blocks}", options, workers=1)
            sizes.append(int(open_dataset(tmp_path / f"{name}-{blocks}").table.length.sum()))
        assert manifest.restarts is not None
        assert manifest.restarts.intervals.get("0", 0) <= 6
        assert sizes[0] < sizes[1] <= most * sizes[0]
