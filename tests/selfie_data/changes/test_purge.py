"""Of a purged image no byte is left, whenever the purge was killed; the others have all of theirs."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.changes import drop as drop_module
from selfie_data.changes.drop import drop_samples
from selfie_data.changes.extend import extend_dataset
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, DatasetError
from selfie_data.storage.place import place_of, storage_of
from tests.material import memory_source, photographs
from tests.selfie_data.changes.folders import (
    Killed,
    Mortal,
    contents,
    files_with,
    payloads,
    pictures,
    small_dataset,
)

EVERY = np.arange(38)
PURGED = np.array([4, 17, 5])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(small_dataset(tmp_path_factory.mktemp("purge") / "out", bad=[2, 30]))


def test_nothing_is_left_of_them_and_all_of_the_others(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(dataset.path, out)
    drop_samples(out, np.array([5, 6]))
    done = drop_samples(out, PURGED, with_bytes=True)
    assert (done.excluded, done.purged, done.shards, done.live) == (2, 3, 2, 34)
    after = open_dataset(out)
    assert after.excluded.tolist() == [4, 5, 6, 17]
    assert verify_dataset(out, decode=True) == []
    for sample, payload in zip(EVERY.tolist(), payloads(dataset, EVERY), strict=True):
        assert bool(files_with(out, payload)) == (sample not in PURGED), sample
    rest = np.setdiff1d(EVERY, PURGED)
    assert payloads(after, rest) == payloads(dataset, rest)
    assert [after.key(sample) for sample in EVERY] == [dataset.key(sample) for sample in EVERY]
    assert after.labels[rest][3:].tolist() == np.where(rest == 6, -1, dataset.labels[rest])[3:].tolist()
    assert not (out / "roots").exists()
    assert not (out / "samples.zarr").exists()
    with pytest.raises(DatasetError, match=r"nothing is kept of a time when it was .*; images were purged since"):
        open_dataset(out, fingerprint=dataset.fingerprint)


def test_ancestors_that_do_not_name_them_stay(tmp_path: Path) -> None:
    out = small_dataset(tmp_path / "out")
    first = open_dataset(out).fingerprint
    second = extend_dataset(pictures(12, first=500), out, workers=1).fingerprint
    image = payloads(open_dataset(out), np.array([45]))[0]
    drop_samples(out, np.array([45]), with_bytes=True)
    assert (len(open_dataset(out, fingerprint=first)), verify_dataset(out)) == (40, [])
    with pytest.raises(DatasetError, match="images were purged since"):
        open_dataset(out, fingerprint=second)
    assert not files_with(out, image)


def test_a_shard_of_purged_images_only_has_no_tar(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(dataset.path, out)
    start, shard = dataset.manifest.shards.start(1), dataset.manifest.shards[1]
    gone = np.arange(start, start + shard.samples)
    drop_samples(out, gone, with_bytes=True)
    assert verify_dataset(out, decode=True) == []
    assert sorted(path.name for path in out.glob("shard-000001*")) == ["shard-000001.1.rows"]
    assert payloads(open_dataset(out), np.array([start - 1, start + shard.samples])) == payloads(
        dataset, np.array([start - 1, start + shard.samples])
    )


def test_a_damaged_image_beside_them_is_named_and_can_go_too(dataset: Dataset, tmp_path: Path) -> None:
    out = Path(shutil.copytree(dataset.path, tmp_path / "out"))
    row, shard = dataset.rows(np.array([6])), dataset.shard_path(0)
    with (out / shard.name).open("r+b") as file:
        file.seek(int(row.offset[0]))
        file.write(b"damaged")
    before = contents(out)
    with pytest.raises(BuildError, match=r"tar: sample 6 of it, which stays, is damaged; .* or purge that one too"):
        drop_samples(out, np.array([5]), with_bytes=True)
    assert contents(out) == before
    drop_samples(out, np.array([5, 6]), with_bytes=True)
    assert verify_dataset(out) == []


def test_all_that_are_excluded_go_without_naming_them(dataset: Dataset, tmp_path: Path) -> None:
    named, unnamed = tmp_path / "named", tmp_path / "unnamed"
    for out in (named, unnamed):
        shutil.copytree(dataset.path, out)
        drop_samples(out, PURGED)
        assert drop_samples(out, PURGED if out is named else PURGED[:0], with_bytes=True).purged == 3
    assert contents(named) == contents(unnamed)


def test_photographs_keep_their_bytes_and_counts_of_markers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_shards(memory_source(photographs(9)), out, BuildOptions(size=224, samples_per_shard=3), workers=1)
    before = open_dataset(out)
    kept, gone = payloads(before, np.array([0, 2, 3])), payloads(before, np.array([1]))[0]
    drop_samples(out, np.array([1]), with_bytes=True)
    assert verify_dataset(out, decode=True) == []
    assert payloads(open_dataset(out), np.array([0, 2, 3])) == kept
    assert not files_with(out, gone[:200])


def killed_purges(begun: Path, purged: NDArray[np.int64], folder: Path) -> Iterator[Path]:
    """Yields copies of a dataset whose purge was killed: before its first change of the file system, its second, …"""
    for steps in itertools.count():
        out = Path(shutil.copytree(begun, folder / f"{steps}"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _descriptor: None)  # no power is cut here
            mortal = Mortal(patch, steps)
            try:
                drop_samples(out, purged, with_bytes=True)
            except Killed:
                pass
            else:
                assert steps > 20
                return
        assert mortal.left < 0
        yield out
        shutil.rmtree(out)


def test_killed_at_any_step_and_asked_again_it_ends_the_same(tmp_path: Path) -> None:
    begun, purged = small_dataset(tmp_path / "begun", count=12, each=6), np.array([1, 4])
    images = payloads(open_dataset(begun), purged)
    drop_samples(begun, np.array([6]))
    whole = Path(shutil.copytree(begun, tmp_path / "whole"))
    drop_samples(whole, purged, with_bytes=True)
    expected = contents(whole)
    for out in killed_purges(begun, purged, tmp_path):
        opened = open_dataset(out)  # the parent or the child, and it can be read
        assert len(payloads(opened, opened.live(np.arange(12)))[0]) == 192
        drop_samples(out, purged, with_bytes=True)
        assert contents(out) == expected, out
        assert not any(files_with(out, image) for image in images)


def test_killed_at_any_step_an_extension_finds_it_done_or_not_begun(tmp_path: Path) -> None:
    begun, purged = small_dataset(tmp_path / "begun", count=12, each=6), np.array([1, 4])
    images, seen = payloads(open_dataset(begun), purged), set[bool]()
    for out in killed_purges(begun, purged, tmp_path):
        extend_dataset(pictures(1, first=500), out, workers=1)
        dataset = open_dataset(out)
        assert (len(dataset), verify_dataset(out)) == (13, [])
        done = dataset.excluded.tolist() == purged.tolist()
        assert {bool(files_with(out, image)) for image in images} == {not done}, out
        seen.add(done)
    assert seen == {False, True}


def test_a_web_server_is_read_only() -> None:
    with pytest.raises(BuildError, match="a web server is read only"):
        drop_samples("http://127.0.0.1:9/set", np.array([1]))


def test_in_a_bucket_an_extension_ends_what_was_killed_too(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build_shards(pictures(12), bucket, BuildOptions(size=8, samples_per_shard=6), workers=1)
    image, storage = payloads(open_dataset(bucket), np.array([1]))[0], storage_of(place_of(bucket))
    with monkeypatch.context() as patch:
        patch.setattr(drop_module, "sweep", _killed)
        with pytest.raises(Killed):
            drop_samples(bucket, np.array([1]), with_bytes=True)
    assert [found.name for found in storage.list() if image in storage.read(found.name)] == ["shard-000000.tar"]
    extend_dataset(pictures(1, first=500), bucket, workers=1)
    assert not [found.name for found in storage.list() if image in storage.read(found.name)]
    assert (len(open_dataset(bucket)), verify_dataset(place_of(bucket))) == (13, [])


def _killed(*_: object) -> None:
    raise Killed


@settings(max_examples=15, deadline=None)
@given(rounds=st.lists(st.tuples(st.sets(st.integers(0, 37), max_size=6), st.booleans()), min_size=1, max_size=4))
def test_whatever_is_dropped_and_purged_in_turn(
    dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[set[int], bool]]
) -> None:
    out = tmp_path_factory.mktemp("rounds") / "out"
    shutil.copytree(dataset.path, out)
    dropped, purged = set[int](), set[int]()
    for ids, with_bytes in rounds:
        drop_samples(out, np.array(sorted(ids), np.int64), with_bytes=with_bytes)
        dropped |= ids
        if with_bytes:
            purged |= ids or dropped
    after = open_dataset(out)
    rest = np.array(sorted(set(range(38)) - purged))
    assert verify_dataset(out) == []
    assert set(after.excluded.tolist()) == dropped
    assert payloads(after, rest) == payloads(dataset, rest)
    for image in payloads(dataset, np.array(sorted(purged), np.int64)):
        assert not files_with(out, image)
    shutil.rmtree(out.parent)
