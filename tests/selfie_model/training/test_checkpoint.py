"""Checkpoints: atomic, safe to load, few."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from selfie_data.errors import RunError
from selfie_model.training.checkpoint import FORMAT, Checkpoints, find_checkpoint, read_checkpoint, write_atomically


def state(step: int) -> dict[str, object]:
    return {"format": FORMAT, "kind": "pretrain", "step": step, "model": {"weight": torch.full((3,), float(step))}}


def test_round_trip(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(state(12))
    assert path.name == "step-000000012.pt"
    loaded = read_checkpoint(path)
    assert loaded["step"] == 12
    assert torch.equal(loaded["model"]["weight"], torch.full((3,), 12.0))


def test_the_newest_k_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for step in (5, 10, 15, 100):
        checkpoints.save(state(step))
    checkpoints.save_best(state(10))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "best.pt",
        "step-000000015.pt",
        "step-000000100.pt",
    ]
    newest = checkpoints.newest()
    assert newest is not None
    assert read_checkpoint(newest)["step"] == 100


def test_a_crash_while_writing_keeps_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Checkpoints(tmp_path).save_best(state(1))

    def crash(source: object, target: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="no space"):
        Checkpoints(tmp_path).save_best(state(2))
    assert read_checkpoint(path)["step"] == 1


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    write_atomically(state(1), tmp_path / "a.pt")
    assert order == ["fsync", "replace", "fsync"]


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch /tmp/selfie-hostile",))


@pytest.mark.parametrize("kind", ["truncated", "text", "pickle", "empty", "torch with code"])
def test_damaged_and_hostile_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.pt"
    if kind == "truncated":
        write_atomically(state(1), path)
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "torch with code":
        torch.save({"format": FORMAT, "model": Hostile()}, path)
    else:
        path.write_bytes({"text": b"hello", "pickle": pickle.dumps(Hostile()), "empty": b""}[kind])
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    assert not Path("/tmp/selfie-hostile").exists()


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_found(tmp_path: Path, bit: int) -> None:
    """`torch.load` reads such a file, and the weights are others than were saved."""
    path = tmp_path / "x.pt"
    weight = torch.arange(1000, dtype=torch.float32)
    write_atomically({"format": FORMAT, "kind": "pretrain", "model": {"weight": weight}}, path)
    stored = bytearray(path.read_bytes())
    place = stored.index(weight.numpy().tobytes()) + 500 * 4 + bit % 4
    stored[place] ^= 1 << bit
    path.write_bytes(stored)
    assert not torch.equal(torch.load(path, weights_only=True)["model"]["weight"], weight)
    with pytest.raises(RunError, match=r"cannot be read as a checkpoint \(damaged in .*data/0\)"):
        read_checkpoint(path)


def test_other_files_of_torch_are_no_checkpoints(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(RunError, match="not a checkpoint of selfie-model"):
        read_checkpoint(tmp_path / "x.pt")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": FORMAT + 1}, tmp_path / "x.pt")
    with pytest.raises(RunError, match=f"format {FORMAT + 1}, this version reads up to {FORMAT}"):
        read_checkpoint(tmp_path / "x.pt")


def test_best_is_found_before_last(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    last = checkpoints.save(state(2))
    assert find_checkpoint(tmp_path) == last
    best = checkpoints.save_best(state(1))
    assert find_checkpoint(tmp_path) == best
    assert find_checkpoint(tmp_path, which="last") == last
    assert find_checkpoint(last) == last


def test_a_folder_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no checkpoint; give the folder of a run"):
        find_checkpoint(tmp_path)
    Checkpoints(tmp_path).save(state(1))
    with pytest.raises(RunError, match="holds no best checkpoint"):
        find_checkpoint(tmp_path, which="best")
