"""The loader's benchmark runs ours and the floors end to end, small: no assertion on any time."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import loader
from benchmarks.harness.plot import kind
from benchmarks.work import material
from benchmarks.work.systems import SYSTEMS, choose
from benchmarks.work.task import Task, rows


def test_a_tiny_run_gives_records_ratios_and_no_disagreement(tmp_path: Path) -> None:
    records = loader.run(
        names=["raw32"],
        peers="none",
        rounds=2,
        dtypes=["uint8"],
        threads=1,
        scratch=tmp_path,
        images=None,
        windows=loader.Windows(small_s=0.02, small_settle_s=0.0),
    )
    measured = {one.system: one for one in records if one.n}
    assert {"selfie", "decode", "cached"} <= set(measured), [one.note for one in records if not one.n]
    assert measured["selfie"].check["equal_to_stored"] == 1.0
    assert measured["selfie / cached"].unit == "ratio"
    assert all(one.n == 2 for one in measured.values())
    assert not [one.note for one in records if one.system == "check"]
    assert "synthetic" in measured["selfie"].settings["material_images"]


def test_a_masked_row_is_checked_whole(tmp_path: Path) -> None:
    material.prepare("jpeg256", tmp_path, images=None, limit=24)
    task = replace(rows(tmp_path, threads=1)["mae-jpeg256"], batch_size=8)
    records = loader.row(task, choose(task.row, "none"), 1, loader.Windows(large_s=0.02, large_settle_s=0.0))
    ours = next(one for one in records if one.system == "selfie")
    assert ours.check["masked"], [one.note for one in records if not one.n]
    assert ours.check["shape"] == [8, 49, 16, 16, 3]
    assert not [one.note for one in records if one.system == "check"]


def test_a_missing_environment_is_a_reason_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.harness.child.ROOT", tmp_path)
    task = rows(tmp_path, threads=1)["raw32"]
    children, skipped = loader.start(task, [one for one in SYSTEMS if one.name == "ffcv"])
    assert children == {}
    assert skipped == {"ffcv": "no .bench-env: run `make bench-env`"}


@pytest.mark.parametrize("row", list(rows(Path("nowhere"), threads=1)))
def test_every_row_has_ours_floors_and_two_peers_to_be_quick_with(row: str) -> None:
    names = [one.name for one in choose(row, "best")]
    assert any(kind(name) == "selfie" for name in names)
    assert any(kind(name) == "floor" for name in names)
    assert len([name for name in names if kind(name) == "peer"]) >= (1 if row == "store32" else 2)


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"peers are all, best, none or some of .*ffcv.*; got nonsense"):
        choose("raw32", "nonsense")


def test_a_task_travels_as_json_and_its_folder_stays_out_of_records() -> None:
    task = rows(Path("secret"), threads=2)["jpeg256-antialiased"]
    assert Task.from_json(task.to_json()) == task
    assert "secret" not in str(task.settings())
