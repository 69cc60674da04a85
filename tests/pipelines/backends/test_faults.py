"""Damage of any kind is a typed error, or touches bytes that no batch comes from and is found by `selfie-data verify`.

Never a crash of the process, a hang, or a silent change of a batch. `make test` tries 100 random corruptions,
`make fuzz` 1,000; the fuzz run's counts are written to benchmarks/results/loader_faults.json.
"""

import json
import os
import platform
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.backends.choose import choose_backend
from pipelines.sampling.subset import read_exclusions
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import CorruptSampleError, DatasetError, SelfieDataError
from tests.pipelines.conftest import MakeDataset, write_dataset

Tensors = list[bytes]
Rng = np.random.Generator

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "loader_faults.json"


def loader(shards: Path, **options: object) -> ImageLoader:
    return ImageLoader(shards, global_batch_size=5, device="cpu", evaluation=True, threads=1, **options)


def batches_of(shards: Path, between: Callable[[], object] = lambda: None) -> Tensors:
    """Every byte a trainer would see; `between` is called when the first batch is there."""
    found = []
    with loader(shards, prefetch=1) as batches:
        for step, batch in enumerate(batches):
            found.append(batch.image.numpy().tobytes() + batch.label.numpy().tobytes())
            if step == 0:
                between()
    return found


# --- damage, one function a kind; each changes one file of a dataset and says what it did ---


def flip_bit(rng: Rng, path: Path) -> str:
    data = bytearray(path.read_bytes())
    place, bit = int(rng.integers(len(data))), int(rng.integers(8))
    data[place] ^= 1 << bit
    _overwrite(path, bytes(data))
    return f"bit {bit} of byte {place}"


def cut_short(rng: Rng, path: Path) -> str:
    length = int(rng.integers(path.stat().st_size))
    os.truncate(path, length)
    return f"cut to {length} bytes"


def make_empty(rng: Rng, path: Path) -> str:
    os.truncate(path, 0)
    return "emptied"


def grow(rng: Rng, path: Path) -> str:
    extra = int(rng.integers(1, 1025))
    with path.open("ab") as file:
        file.write(rng.bytes(extra))
    return f"{extra} bytes longer"


def remove(rng: Rng, path: Path) -> str:
    path.unlink()
    return "removed"


def scramble_block(rng: Rng, path: Path) -> str:
    data = bytearray(path.read_bytes())
    start = int(rng.integers(len(data))) // 512 * 512
    data[start : start + 512] = rng.bytes(len(data[start : start + 512]))
    _overwrite(path, bytes(data))
    return f"512 random bytes at {start}"


def swap_with_sibling(rng: Rng, path: Path) -> str:
    siblings = [other for other in sorted(path.parent.iterdir()) if other.is_file() and other.suffix == path.suffix]
    other = siblings[int(rng.integers(len(siblings)))]
    ours, theirs = path.read_bytes(), other.read_bytes()
    _overwrite(path, theirs)
    _overwrite(other, ours)
    return f"swapped with {other.name}"


def add_a_shard(rng: Rng, path: Path) -> str:
    dataset = next(parent for parent in path.parents if list(parent.glob("shard-*.idx")))
    shutil.copy(sorted(dataset.glob("shard-*.tar"))[0], dataset / "shard-000099.tar")
    return "a shard too many"


DAMAGE = (
    flip_bit,
    flip_bit,
    flip_bit,
    cut_short,
    make_empty,
    grow,
    remove,
    scramble_block,
    swap_with_sibling,
    add_a_shard,
)


def _overwrite(path: Path, data: bytes) -> None:
    """Writes in place, as rot does: a file that is open sees it."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def _content(shards: Path) -> dict[str, bytes]:
    return {str(path.relative_to(shards)): path.read_bytes() for path in shards.rglob("*") if path.is_file()}


def attempt(rng: Rng, pristine: Path, expected: Tensors, scratch: Path) -> tuple[str, str]:
    """Damages a copy, before opening or while reading; returns (what was done, what came of it).

    Raises:
        AssertionError: the damage went through.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(pristine, scratch)
    files = sorted(path for path in scratch.rglob("*") if path.is_file())
    shards = [path for path in files if path.suffix == ".tar"]
    among = shards if rng.random() < 0.5 else files
    path = among[int(rng.integers(len(among)))]
    damage = DAMAGE[int(rng.integers(len(DAMAGE)))]
    while_reading = bool(rng.random() < 0.3)
    done: list[str] = []

    def harm() -> None:
        done.append(damage(rng, path))

    if not while_reading:
        harm()
    try:
        found = batches_of(scratch, harm if while_reading else lambda: None)
    except SelfieDataError as error:
        outcome = type(error).__name__
    else:
        assert found == expected, f"{path.name}: {done} changed a batch without a word"
        if _content(scratch) == _content(pristine):
            outcome = "nothing was changed"
        else:
            try:
                problems = verify_dataset(scratch, threads=1)
            except DatasetError as error:
                problems = [str(error)]
            assert problems, f"{path.name}: {done} found neither by the loader nor by verify"
            outcome = "batches unchanged, found by verify"
    where = path.suffix.lstrip(".") if path.suffix in (".tar", ".idx") else path.relative_to(scratch).parts[0]
    return f"{damage.__name__} {where}{' while reading' if while_reading else ''}", outcome


def many_attempts(count: int, tmp_path: Path) -> Counter[tuple[str, str]]:
    outcomes: Counter[tuple[str, str]] = Counter()
    sets = {
        "raw": write_dataset(tmp_path / "raw.d", samples=24),
        "jpeg": write_dataset(tmp_path / "jpeg.d", samples=18, size=96, encoding="jpeg", shapes=[(110, 128), (96, 96)]),
    }
    expected = {name: batches_of(shards) for name, shards in sets.items()}
    for number in range(count):
        name = "raw" if number % 2 else "jpeg"
        rng = np.random.default_rng([number, 1906])
        outcomes[attempt(rng, sets[name], expected[name], tmp_path / "scratch.d")] += 1
    return outcomes


def test_100_random_corruptions(tmp_path: Path) -> None:
    outcomes = many_attempts(100, tmp_path)
    assert sum(count for (_, outcome), count in outcomes.items() if outcome.endswith("Error")) > 40


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_1000_random_corruptions(tmp_path: Path) -> None:
    outcomes = many_attempts(1000, tmp_path)
    by_damage: dict[str, dict[str, int]] = {}
    for (damage, outcome), count in sorted(outcomes.items()):
        by_damage.setdefault(damage, {})[outcome] = count
    totals = Counter()
    for (_, outcome), count in outcomes.items():
        totals[outcome] += count
    record = {
        "what": "random corruptions of a dataset, before opening or while reading; a silent change fails the run",
        "backend": choose_backend("auto", torch.device("cpu"), store=None),
        "corruptions": 1000,
        "silent_changes": 0,
        "crashes": 0,
        "outcomes": dict(sorted(totals.items())),
        "by_damage": by_damage,
        "python": platform.python_version(),
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


# --- each kind by name, with what the message says ---


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("shard-000001.tar", cut_short, r"shard-000001\.tar: truncated"),
        ("shard-000001.tar", make_empty, r"shard-000001\.tar: truncated, 0 bytes"),
        ("shard-000001.tar", grow, r"shard-000001\.tar: too long"),
        ("shard-000001.tar", remove, r"shard-000001\.tar: missing"),
        ("shard-000001.tar", add_a_shard, r"shard-000099\.tar: a shard that the manifest does not list"),
        ("shard-000001.rows", flip_bit, r"shard-000001\.rows: changed"),
        ("shard-000001.rows", cut_short, r"shard-000001\.rows: changed"),
        ("shard-000001.rows", make_empty, r"shard-000001\.rows: changed"),
        ("shard-000001.rows", remove, r"shard-000001\.rows: missing"),
        ("manifest.json", flip_bit, r"manifest\.json"),
        ("manifest.json", cut_short, r"manifest\.json"),
        ("manifest.json", make_empty, r"manifest\.json"),
        ("manifest.json", remove, r"manifest\.json: missing"),
        ("pages/*", flip_bit, r"pages/[0-9a-f]{64}: changed"),
        ("pages/*", make_empty, r"pages/[0-9a-f]{64}: changed"),
        ("pages/*", remove, r"pages/[0-9a-f]{64}: missing"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize("kind", [ImageLoader, PatchLoader])
def test_damage_is_refused_before_anything_is_built(
    make_dataset: MakeDataset, kind: type, file: str, damage: Callable[[Rng, Path], str], message: str
) -> None:
    shards = make_dataset()
    (found,) = sorted(shards.glob(file))[:1]
    damage(np.random.default_rng(0), found)
    with pytest.raises(DatasetError, match=message) as error:
        kind(shards, global_batch_size=5, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["idx", "rows"])
def test_swapped_indexes_are_nobodys_and_swapped_rows_are_refused(make_dataset: MakeDataset, suffix: str) -> None:
    shards = make_dataset()
    expected = batches_of(shards)
    ours, theirs = (shards / f"shard-00000{number}.{suffix}" for number in (0, 1))
    content = ours.read_bytes()
    ours.write_bytes(theirs.read_bytes())
    theirs.write_bytes(content)
    if suffix == "idx":  # for other readers
        assert batches_of(shards) == expected
        return
    with pytest.raises(DatasetError, match=r"\.rows: changed"):
        loader(shards)


def test_swapped_shards_of_equal_size_are_noticed_by_the_first_sample(make_dataset: MakeDataset) -> None:
    shards = make_dataset(samples=30)
    first, second = (shards / f"shard-00000{number}.tar" for number in (0, 1))
    first.rename(shards / "aside")
    second.rename(first)
    (shards / "aside").rename(second)
    with pytest.raises(CorruptSampleError, match=r"shard-000000\.tar: sample 000000000000 at offset 512: CRC32C"):
        list(loader(shards))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such dataset directory"):
        loader(tmp_path / "nothing")


def damage_sample(shards: Path, sample: int) -> tuple[str, int, str]:
    dataset = open_dataset(shards)
    offset = int(dataset.table.offset[sample])
    path = dataset.shard_path(int(dataset.table.shard[sample]))
    data = bytearray(path.read_bytes())
    data[offset + 100] ^= 1
    _overwrite(path, bytes(data))
    return path.name, offset, dataset.key(sample)


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_flipped_bit_is_named_at_the_batch_that_holds_it(
    make_dataset: MakeDataset, encoding: str, backend: str
) -> None:
    shards = make_dataset(samples=30, encoding=encoding)
    shard, offset, key = damage_sample(shards, 17)
    seen: list[int] = []
    with (
        loader(shards, backend=backend, prefetch=3) as batches,
        pytest.raises(CorruptSampleError, match=r"exclude=\[17\]") as error,
    ):
        seen.extend(len(batch) for batch in batches)
    assert seen == [5, 5, 5]  # what came before it was handed out
    assert (error.value.shard, error.value.offset, error.value.key) == (shard, offset, key)
    assert batches.state_dict()["step"] == 3


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_the_same_loader_goes_on_once_the_shard_is_restored(make_dataset: MakeDataset, backend: str) -> None:
    shards = make_dataset(samples=30)
    expected = batches_of(shards)
    copy = (shards / "shard-000001.tar").read_bytes()
    damage_sample(shards, 17)
    with loader(shards, backend=backend) as batches:
        with pytest.raises(CorruptSampleError):
            list(batches)
        _overwrite(shards / "shard-000001.tar", copy)
        batches.load_state_dict(batches.state_dict())
        rest = [batch.image.numpy().tobytes() + batch.label.numpy().tobytes() for batch in batches]
    assert rest == expected[3:]


def test_a_recorded_exclusion_keeps_the_stream_deterministic(make_dataset: MakeDataset, tmp_path: Path) -> None:
    """The first run fails and writes the id down; the same call made again goes without it, as `exclude=[17]` would."""
    shards, record = make_dataset(samples=30), tmp_path / "excluded.txt"
    damage_sample(shards, 17)
    for sample in (17, None):
        with PatchLoader(
            shards, global_batch_size=5, device="cpu", exclude=record, on_error="record", seed=2
        ) as batches:
            if sample is None:
                seen = [batch.sample_id.tolist() for batch in batches]
            else:
                before = batches.state_dict()
                with pytest.raises(CorruptSampleError):
                    list(batches)
    assert read_exclusions(record).tolist() == [17]
    assert "CRC32C" in record.read_text()
    listed = PatchLoader(shards, global_batch_size=5, device="cpu", exclude=[17], seed=2)
    assert seen == [batch.sample_id.tolist() for batch in listed]
    assert sorted([*np.concatenate(seen).tolist(), *listed.remainder.tolist(), 17]) == list(range(30))
    with pytest.raises(ValueError, match="its subset is 'all'"):
        listed.load_state_dict(before)


def test_a_sample_may_be_recorded_more_than_once(make_dataset: MakeDataset, tmp_path: Path) -> None:
    """A loop that catches the error and goes on with the same loader meets the sample again."""
    record = tmp_path / "excluded.txt"
    record.write_text("17  # damaged\n17  # damaged\n3\n")
    assert read_exclusions(record).tolist() == [3, 17]
    with PatchLoader(make_dataset(samples=30), global_batch_size=7, device="cpu", exclude=record) as loader:
        assert len(loader) == 4  # of 28 samples


def test_an_exclusion_record_that_is_none_is_refused(raw_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "excluded.txt").write_text("seventeen\n")
    with pytest.raises(DatasetError, match=r"excluded\.txt: not an exclusion record"):
        loader(raw_shards, exclude=tmp_path / "excluded.txt")
