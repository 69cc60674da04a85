"""What was there stays to the byte; what is added is the same however it came to be."""

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.build.plan import Plan
from selfie_data.build.restart import restart_dataset
from selfie_data.changes import extend as extend_module
from selfie_data.changes.drop import drop_samples
from selfie_data.changes.extend import LaterPlan, extend_dataset, options_of
from selfie_data.dataset.names import BUILD, EXTENSION
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import read_payloads
from selfie_data.dataset.splits import SplitOptions, split_ids, write_splits
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError
from selfie_data.notices import Notices
from selfie_data.storage.place import place_of, storage_of
from tests.material import MemorySource, memory_source, photographs
from tests.selfie_data.changes.folders import Killed, Mortal, contents, payloads, pictures, small_dataset


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures, two of them unusable, with splits; some are excluded."""
    out = small_dataset(tmp_path_factory.mktemp("parent") / "out", bad=[2, 30])
    write_splits(open_dataset(out), SplitOptions(validation="20", labelled=("50",)))
    drop_samples(out, np.array([3, 20]))
    return out


@pytest.fixture
def out(parent: Path, tmp_path: Path) -> Path:
    """A copy of `parent`."""
    return Path(shutil.copytree(parent, tmp_path / "out"))


MORE = pictures(25, first=100, bad=[7])


def test_what_was_there_stays_and_goes_on(parent: Path, out: Path) -> None:
    before, was = contents(out), open_dataset(parent)
    child = extend_dataset(MORE, out, workers=1)
    after, dataset = contents(out), open_dataset(out)
    assert verify_dataset(out, decode=True) == []
    changed = {name for name, digest in before.items() if after.get(name) != digest}
    assert changed == {"manifest.json"} | {name for name in before if name.startswith("splits/")}
    assert (child.samples, child.live, child.parent, len(child.shards)) == (62, 60, was.fingerprint, 7)
    assert sum(child.class_counts.values()) == 60
    old = np.arange(38)
    assert payloads(dataset, old) == payloads(was, old)
    assert [dataset.key(sample) for sample in range(62)][37:40] == ["000000000039", "000000000040", "000000000041"]
    new = {bytes(image.tobytes()) for number, image in enumerate(MORE.images) if number != 7}
    assert set(payloads(dataset, np.arange(38, 62))) == new
    assert (child.mean, child.std) == (was.manifest.mean, was.manifest.std)
    assert open_dataset(out, fingerprint=was.fingerprint).subset("train").tolist() == was.subset("train").tolist()


def test_each_part_is_split_by_itself(parent: Path, out: Path) -> None:
    was = open_dataset(parent)
    extend_dataset(MORE, out, workers=1)
    dataset = open_dataset(out)
    for name in was.subset_names():
        ids = dataset.subset(name)
        assert ids[ids < 38].tolist() == was.subset(name).tolist(), name
    held_out = dataset.subset("validation")
    assert len(held_out[held_out >= 38]) == 5  # of 9, 7 and 8 of a class: 2, 1 and 2
    assert len(dataset.subset("train")) + len(held_out) == 60


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.lists(st.integers(-1, 3), min_size=1, max_size=30), min_size=1, max_size=4),
    held_out=st.sampled_from(["0", "10", "33.3"]),
)
def test_no_sample_changes_sides_however_often_a_dataset_grows(labels: Sequence[list[int]], held_out: str) -> None:
    options = SplitOptions(validation=held_out, labelled=("20", "100"))
    sides = list[tuple[set[int], set[int]]]()
    for count in range(1, len(labels) + 1):
        every = np.concatenate([np.array(part, np.int32) for part in labels[:count]])
        parts = tuple(int(first) for first in np.cumsum([0, *map(len, labels[: count - 1])]))
        subsets = split_ids(every, options, parts)
        assert set(subsets["train"]) | set(subsets["validation"]) == set(range(len(every)))
        for name in subsets.keys() - {"train", "validation"}:
            assert (every[subsets[name]] >= 0).all()
        sides.append((set(subsets["train"].tolist()), set(subsets["validation"].tolist())))
    for earlier, later in itertools.pairwise(sides):
        assert earlier[0] <= later[0]
        assert earlier[1] <= later[1]


def test_bytes_depend_on_neither_workers_nor_the_number_of_tries(parent: Path, out: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(parent, tmp_path / "other"))
    extend_dataset(MORE, out, workers=1)
    extend_dataset(MORE, other, workers=2)
    assert contents(out) == contents(other)
    extend_dataset(MORE, other, workers=1)  # done already
    assert contents(out) == contents(other)
    assert extend_dataset(MORE, other, again=True, workers=1).samples == 86
    assert payloads(open_dataset(other), np.arange(38, 62)) != payloads(open_dataset(other), np.arange(62, 86))
    assert verify_dataset(other) == []


def test_killed_at_any_step_and_asked_again_it_ends_the_same(
    parent: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # no power is cut here
    more = pictures(12, first=100, bad=[7])
    extend_dataset(more, out, workers=1)
    expected, steps = contents(out), 0
    while True:
        copy = Path(shutil.copytree(parent, tmp_path / f"{steps}"))
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, steps)
            try:
                extend_dataset(more, copy, workers=1)
            except Killed:
                pass
            else:
                break
        assert len(open_dataset(copy)) in (38, 49)
        extend_dataset(more, copy, workers=1)
        assert contents(copy) == expected, steps
        shutil.rmtree(copy)
        steps += 1
    assert steps > 30


def test_an_unfinished_extension_is_seen_by_nobody(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(extend_module, "_finish", die)
        with pytest.raises(Killed):
            extend_dataset(MORE, out, workers=1)
    assert (out / "shard-000006.tar").exists()
    assert len(open_dataset(out)) == 38
    assert verify_dataset(out) == []
    with pytest.raises(BuildError, match=r"an extension is not finished; give its command again, or delete \.build"):
        drop_samples(out, np.array([1]))
    with pytest.raises(
        BuildError, match=r"unfinished extension with added\.count = 25.*, or delete \.build there to give"
    ):
        extend_dataset(pictures(5, first=900), out, workers=1)
    build_shards(pictures(40, bad=[2, 30]), out, BuildOptions(size=8, samples_per_shard=10))  # is there already
    assert (out / BUILD / EXTENSION).exists()
    shutil.rmtree(out / BUILD)  # given up
    child = extend_dataset(pictures(5, first=900), out, workers=1)
    assert (child.samples, verify_dataset(out)) == (43, [])


def test_a_source_without_usable_images_leaves_the_dataset_as_it_was(out: Path) -> None:
    before = contents(out)
    with pytest.raises(BuildError, match="the source memory holds no images"):
        extend_dataset(memory_source([]), out, workers=1)
    assert contents(out) == before
    with pytest.raises(BuildError, match="none of 2 images can be used"):
        extend_dataset(pictures(2, bad=[0, 1]), out, workers=1)
    assert contents(out) == before


def numbered(names: tuple[str, ...], count: int) -> MemorySource:
    source = pictures(count, first=300, classes=len(names))
    object.__setattr__(source, "class_names", names)
    return source


def test_classes_that_it_has_not_are_asked_for(out: Path) -> None:
    with pytest.raises(BuildError, match="has 3 classes and not a, z; --new-classes adds them behind the others"):
        extend_dataset(numbered(("c0", "c1", "c2", "a", "z"), 10), out, workers=1)
    with pytest.raises(BuildError, match="numbers its classes otherwise"):
        extend_dataset(numbered(("a", "c0", "c1", "c2"), 10), out, new_classes=True, workers=1)
    child = extend_dataset(numbered(("c0", "c1", "c2", "a", "z"), 10), out, new_classes=True, workers=1)
    assert child.class_names == ("c0", "c1", "c2", "a", "z")
    assert {label: child.class_counts[label] for label in ("3", "4")} == {"3": 2, "4": 2}
    assert verify_dataset(out) == []


def test_unlabelled_images_join_a_labelled_dataset(out: Path) -> None:
    source = memory_source(pictures(10, first=300).images)
    child = extend_dataset(source, out, workers=1)
    assert child.class_counts["-1"] == 10
    held_out = open_dataset(out).subset("validation")
    assert not (held_out >= 38).any()
    assert verify_dataset(out) == []


def test_other_libraries_are_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = extend_module.codec_versions()
    monkeypatch.setattr(extend_module, "codec_versions", lambda: {**here, "pillow": "0.1"})
    with pytest.raises(BuildError, match=r"was built with pillow .*, here is 0\.1: install that version"):
        extend_dataset(MORE, out, workers=1)
    assert not (out / BUILD).exists()


@pytest.mark.parametrize(
    "given",
    [
        {"size": 32},
        {"size": 96},
        {"size": 96, "encoding": "keep"},
        {"size": 32, "encoding": "keep"},
        {"size": 96, "encoding": "jpeg", "quality": 70},
        {"size": 96, "restart_blocks": 8, "resize_shorter": 0},
        {"size": 48, "encoding": "png", "samples_per_shard": 7, "max_pixels": 200_000},
    ],
    ids=str,
)
def test_an_extension_stores_as_the_build_did(given: dict[str, object], tmp_path: Path) -> None:
    options = BuildOptions(**given, limit=6)  # type: ignore[arg-type]
    manifest = build_shards(memory_source(photographs(8)), tmp_path / "out", options, workers=1)
    own = options_of(manifest)
    assert own.encoder == options.encoder
    assert (own.limit, own.samples_per_shard, own.max_pixels) == (None, options.samples_per_shard, options.max_pixels)


def test_notices_are_of_all_parts(out: Path) -> None:
    source = pictures(6, first=700)
    object.__setattr__(source, "notices", noticed("files with the suffix .json", "a.json"))
    extend_dataset(source, out, workers=1)
    child = extend_dataset(with_notices(pictures(6, first=800), "b.json"), out, workers=1)
    assert [(notice.reason, notice.count) for notice in child.notices] == [("files with the suffix .json", 2)]
    assert sorted(path.name for path in out.glob("notices*")) == ["notices-000004.json", "notices-000005.json"]
    assert verify_dataset(out) == []


def noticed(reason: str, name: str) -> Notices:
    notices = Notices()
    notices.add(reason, name)
    return notices


def with_notices(source: MemorySource, name: str) -> MemorySource:
    object.__setattr__(source, "notices", noticed("files with the suffix .json", name))
    return source


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 60), each=st.integers(1, 9), shard=st.integers(1, 99), place=st.integers(0, 999))
def test_a_later_plan_is_the_plan_further_on(size: int, each: int, shard: int, place: int) -> None:
    plan = Plan(size=size, samples=size, samples_per_shard=each, seed=3)
    later = LaterPlan(plan=plan, shard=shard, place=place)
    found = [later.sources(later.positions(number)).tolist() for number in range(shard, later.shards)]
    assert found == [plan.sources(plan.positions(number)).tolist() for number in range(plan.shards)]
    positions = [position for number in range(shard, later.shards) for position in later.positions(number).tolist()]
    assert positions == list(range(place, place + size))
    windows = [window.tolist() for number in range(shard, later.shards) for window in later.windows(number)]
    assert [position for window in windows for position in window] == positions


def test_a_bucket_grows_and_shrinks_as_a_folder_does(parent: Path, out: Path, bucket: str) -> None:
    url = place_of(f"{bucket}/set")
    for name in contents(parent):
        storage_of(url).write(name, (parent / name).read_bytes())
    image = read_payloads(open_dataset(out), np.array([7]))[0]
    for place in (out, url):
        extend_dataset(MORE, place, workers=1)
        drop_samples(place, np.array([7, 50]), with_bytes=True)
    remote = {found.name: storage_of(url).read(found.name) for found in storage_of(url).list()}
    assert remote == {name: (out / name).read_bytes() for name in contents(out)}
    assert not any(image in data for data in remote.values())
    assert verify_dataset(url, decode=True) == []
    assert len(open_dataset(url).subset("train")) == len(open_dataset(out).subset("train"))


def test_a_dataset_that_grew_gets_no_markers(out: Path, tmp_path: Path) -> None:
    built = tmp_path / "photographs"
    options = BuildOptions(size=96, samples_per_shard=4, restart_blocks=0)
    build_shards(memory_source(photographs(4)), built, options, workers=1)
    extend_dataset(memory_source(photographs(2, seed=9)), built, workers=1)
    with pytest.raises(BuildError, match="has grown or shrunk; a dataset gets its markers before that"):
        restart_dataset(built, tmp_path / "new", workers=1)
