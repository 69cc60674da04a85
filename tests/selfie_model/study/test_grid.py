"""The grid of a study: its cells, what they wait for, and that no two processes work on one."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfie_data.errors import RunError
from selfie_model.study.grid import ARMS, Arm, Cell, StudyGrid, best_rate, claim, read_done, steps_of, write_done
from tests.selfie_model.memory import small_config


@given(
    percents=st.lists(st.sampled_from([1, 5, 8, 20, 100]), min_size=1, unique=True),
    seeds=st.integers(1, 6),
    rates=st.lists(st.sampled_from([0.02, 0.05, 0.1]), min_size=1, unique=True),
    pretrainings=st.integers(1, 3),
    arms=st.sampled_from([("scratch", "selfie"), ARMS]),
)
def test_every_cell_comes_after_what_it_waits_for(
    percents: list[float], seeds: int, rates: list[float], pretrainings: int, arms: tuple[Arm, ...]
) -> None:
    grid = StudyGrid(
        percents=tuple(percents),
        seeds=tuple(range(seeds)),
        rates=tuple(rates),
        arms=arms,
        pretrain_seeds=tuple(range(pretrainings)),
    )
    cells = grid.cells()
    assert len({cell.name for cell in cells}) == len(cells)
    columns = len(arms) * len(percents)
    tuning = columns * len(rates) if len(rates) > 1 else 0
    assert len(cells) == min(pretrainings, seeds) + tuning + columns * seeds
    done: set[Cell] = set()
    for cell in cells:
        assert set(grid.waits_for(cell)) <= done
        done.add(cell)


def test_names_are_the_folders_of_the_cells() -> None:
    grid = StudyGrid(percents=(5, 0.5), seeds=(0, 1), rates=(0.1, 0.2))
    names = [cell.name for cell in grid.cells()]
    assert names[:3] == ["tune/scratch-5/rate-0.1", "tune/scratch-5/rate-0.2", "pretrain/seed-0"]
    assert names[-1] == "final/selfie-0.5/seed-1"


def test_a_seed_is_pretrained_when_its_turn_comes() -> None:
    """Whoever stops after some seeds has whole rows of the table, not only pretrained networks."""
    grid = StudyGrid(percents=(5,), seeds=(0, 1), rates=(0.1,), pretrain_seeds=(0, 1))
    names = [cell.name for cell in grid.cells()]
    assert names == [
        "final/scratch-5/seed-0",
        "pretrain/seed-0",
        "final/selfie-5/seed-0",
        "final/scratch-5/seed-1",
        "pretrain/seed-1",
        "final/selfie-5/seed-1",
    ]


def test_the_long_arm_sees_as_many_images_as_both_phases() -> None:
    config = small_config().override(
        pretrain={"steps": 100, "batch_size": 24}, finetune={"steps": 50, "batch_size": 16}
    )
    assert [steps_of(arm, config) for arm in ARMS] == [50, 200, 50]


def test_without_selfie_nothing_is_pretrained() -> None:
    grid = StudyGrid(percents=(5,), seeds=(0,), rates=(0.1,), arms=("scratch",))
    assert [cell.name for cell in grid.cells()] == ["final/scratch-5/seed-0"]


@pytest.mark.parametrize(
    ("percents", "seeds", "rates", "text"),
    [
        ((), (0,), (0.1,), "percents must be given"),
        ((5, 5), (0,), (0.1,), "all different"),
        ((101,), (0,), (0.1,), r"\(0, 100\]"),
        ((5,), (0,), (0.0,), "must be positive"),
    ],
)
def test_impossible_grids_are_refused(
    percents: tuple[float, ...], seeds: tuple[int, ...], rates: tuple[float, ...], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        StudyGrid(percents=percents, seeds=seeds, rates=rates)


def test_a_finished_cell_reads_back_and_a_damaged_record_is_named(tmp_path: Path) -> None:
    assert read_done(tmp_path) is None
    write_done(tmp_path, {"accuracy": 0.5})
    assert read_done(tmp_path) == {"accuracy": 0.5}
    assert [entry.name for entry in tmp_path.iterdir()] == ["done.json"]
    (tmp_path / "done.json").write_text("{")
    with pytest.raises(RunError, match=r"done\.json is damaged .* delete it"):
        read_done(tmp_path)
    (tmp_path / "done.json").write_text("[]")
    with pytest.raises(RunError, match="must hold an object"):
        read_done(tmp_path)


def hold(folder: Path) -> None:
    with claim(folder) as mine:
        (folder / ("mine" if mine else "refused")).touch()
        time.sleep(60)


def test_a_claim_excludes_others_and_dies_with_its_process(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 20
    while not (tmp_path / "mine").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with claim(tmp_path) as mine:
        assert not mine
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with claim(tmp_path) as mine:
        assert mine
    with claim(tmp_path) as mine:
        assert mine


def test_best_rate_prefers_the_smaller_of_equals() -> None:
    assert best_rate([0.4, 0.1, 0.2], [0.5, 0.5, 0.4]) == 0.1
    assert best_rate([0.4, 0.1, 0.2], [0.4, 0.5, 0.6]) == 0.2
    with pytest.raises(ValueError, match="one accuracy"):
        best_rate([0.1], [])
