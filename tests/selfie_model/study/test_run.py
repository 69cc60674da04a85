"""A whole study on lists of random images: which cells run, what is reused, what is refused, what is said."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.batch import BatchLoader
from selfie_data.errors import DivergedError, RunError
from selfie_model import ImageBatch, PatchBatch, presets
from selfie_model.config import Config
from selfie_model.study.grid import Study, StudyGrid, apply_budget, claim
from selfie_model.study.results import collect, write_results
from selfie_model.study.run import run_study
from selfie_model.training.distributed import Ranks
from selfie_model.training.stop_request import StopRequest
from tests.selfie_model.memory import MemoryLoader, random_images, small_config

CONFIG = small_config().override(pretrain={"steps": 3}, finetune={"steps": 4, "batch_size": 16, "learning_rate": 0.01})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks of a few thousand weights gain nothing from threads and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class FakeData:
    """Random images; remembers what was asked of it."""

    class_names = ("a", "b", "c")
    resize = 16

    def __init__(self, fingerprint: str = "f") -> None:
        self.identity = {"fingerprint": fingerprint}
        self.asked: list[str] = []

    @contextmanager
    def patches(self, config: Config) -> Iterator[BatchLoader[PatchBatch]]:
        self.asked.append("patches")
        yield MemoryLoader(*random_images(20), batch_size=config.pretrain.batch_size, model=config.model)

    def labelled_count(self, percent: float, seed: int, *, tuning: bool) -> int:
        return round(percent * (9 if tuning else 10) / 10)

    @contextmanager
    def labelled(self, config: Config, percent: float, seed: int, *, tuning: bool) -> Iterator[BatchLoader[ImageBatch]]:
        self.asked.append(
            f"labelled {percent:g} {seed} {'tune' if tuning else 'final'} {config.finetune.learning_rate:g}"
        )
        images, labels = random_images(self.labelled_count(percent, seed, tuning=tuning), seed=seed)
        yield MemoryLoader(images, labels, batch_size=config.finetune.batch_size, model=None, seed=seed)

    @contextmanager
    def validation(self, config: Config) -> Iterator[BatchLoader[ImageBatch]]:
        yield MemoryLoader(*random_images(10, seed=50), batch_size=10, model=None, evaluation=True)

    @contextmanager
    def test(self, config: Config) -> Iterator[BatchLoader[ImageBatch]]:
        self.asked.append("test")
        yield MemoryLoader(*random_images(20, seed=51), batch_size=10, model=None, evaluation=True)


def study(out: Path, **grid: Any) -> Study:
    values: dict[str, Any] = {"percents": (20.0, 100.0), "seeds": (0, 1), "rates": (0.01, 0.02)}
    return Study(out=out, config=CONFIG, grid=StudyGrid(**{**values, **grid}))


def run(what: Study, data: FakeData, stop: StopRequest | None = None) -> tuple[bool, list[str]]:
    said: list[str] = []
    finished = run_study(
        what, data, ranks=Ranks(), stop=StopRequest() if stop is None else stop, say=said.append, poll_s=0.01
    )
    return finished, said


def test_a_study_runs_every_cell_once_and_is_not_run_again(tmp_path: Path) -> None:
    data = FakeData()
    finished, said = run(study(tmp_path), data)
    assert finished
    assert len(said) == 2 * 17  # 1 pretraining, 8 tuning, 8 final; a line before and one after
    assert said[0] == "[1/17] tune/scratch-20/rate-0.01"
    assert data.asked.count("patches") == 1
    assert data.asked.count("test") == 8
    assert "labelled 20 0 tune 0.02" in data.asked
    assert not list(tmp_path.glob("tune/*/*/run/checkpoints"))
    rows = collect(study(tmp_path))
    assert [(row.percent, row.arm, row.seeds, row.labelled) for row in rows] == [
        (20.0, "scratch", (0, 1), 20),
        (20.0, "selfie", (0, 1), 20),
        (100.0, "scratch", (0, 1), 100),
        (100.0, "selfie", (0, 1), 100),
    ]
    assert all(
        0 <= value <= 1 and value * 20 == pytest.approx(round(value * 20)) for r in rows for value in r.accuracies
    )

    again = FakeData()
    assert run(study(tmp_path), again) == (True, [])
    assert again.asked == []


def test_seeds_may_be_added_and_results_are_those_of_one_go(tmp_path: Path) -> None:
    run(study(tmp_path / "a", percents=(20.0,), seeds=(0,), rates=(0.01,)), FakeData())
    data = FakeData()
    run(study(tmp_path / "a", percents=(20.0,), rates=(0.01,)), data)
    assert data.asked.count("test") == 2
    run(study(tmp_path / "b", percents=(20.0,), rates=(0.01,)), FakeData())
    rows = [collect(study(tmp_path / name, percents=(20.0,), rates=(0.01,))) for name in "ab"]
    assert rows[0] == rows[1]


def test_final_cells_use_the_rate_that_won_on_validation(tmp_path: Path) -> None:
    what = study(tmp_path, percents=(20.0,), seeds=(0,))
    run(what, FakeData())
    for arm in ("scratch", "selfie"):
        records = [
            json.loads((tmp_path / f"tune/{arm}-20/rate-{rate}/done.json").read_text()) for rate in ("0.01", "0.02")
        ]
        best = max(records, key=lambda record: (record["accuracy"], -record["rate"]))
        assert json.loads((tmp_path / f"final/{arm}-20/seed-0/done.json").read_text())["rate"] == best["rate"]


def test_a_stopped_study_goes_on_where_it_was(tmp_path: Path) -> None:
    class StopAfter(StopRequest):
        def __init__(self, looks: int) -> None:
            super().__init__()
            self.looks = looks

        def __bool__(self) -> bool:
            self.looks -= 1
            if self.looks <= 0:
                self.reason = "test"
            return bool(self.reason)

    grid: dict[str, Any] = {"percents": (20.0,), "seeds": (0,), "rates": (0.01,)}
    finished, _ = run(study(tmp_path / "a", **grid), FakeData(), StopAfter(8))
    assert not finished
    assert not (tmp_path / "a/final/selfie-20/seed-0/done.json").exists()
    finished, _ = run(study(tmp_path / "a", **grid), FakeData())
    assert finished
    run(study(tmp_path / "b", **grid), FakeData())
    assert collect(study(tmp_path / "a", **grid)) == collect(study(tmp_path / "b", **grid))


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    what = study(tmp_path, percents=(20.0,), seeds=(0,), rates=(0.01,), arms=("scratch",))
    said: list[str] = []

    class StopWhenIdle(StopRequest):
        looks = 0

        def __bool__(self) -> bool:
            self.looks += 1
            return self.looks > 5

    with claim(tmp_path / "final/scratch-20/seed-0") as mine:
        assert mine
        assert not run_study(what, FakeData(), ranks=Ranks(), stop=StopWhenIdle(), say=said.append, poll_s=0.01)
    assert said == []


def test_another_data_set_or_configuration_is_refused(tmp_path: Path) -> None:
    what = study(tmp_path, percents=(20.0,), seeds=(0,), rates=(0.01,), arms=("scratch",))
    run(what, FakeData())
    with pytest.raises(RunError, match=r"holds another study \(fingerprint: f → g\)"):
        run(what, FakeData("g"))
    other = Study(out=tmp_path, config=CONFIG.override(finetune={"momentum": 0.5}), grid=what.grid)
    with pytest.raises(RunError, match=r"finetune\.momentum: 0\.9 → 0\.5"):
        run(other, FakeData())


def test_a_diverged_rate_loses_and_a_diverged_final_cell_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfie_model.study import run as reproduce

    real = reproduce.finetune

    def diverging(config: Config, *arguments: Any, **options: Any) -> Any:
        if config.finetune.learning_rate == 0.02:
            raise DivergedError("the loss is nan")
        return real(config, *arguments, **options)

    monkeypatch.setattr(reproduce, "finetune", diverging)
    grid: dict[str, Any] = {"percents": (20.0,), "seeds": (0,), "arms": ("scratch",)}
    finished, said = run(study(tmp_path / "a", **grid), FakeData())
    assert finished
    assert "[2/3] tune/scratch-20/rate-0.02: diverged at peak learning rate 0.02" in said
    assert collect(study(tmp_path / "a", **grid))[0].rate == 0.01
    with pytest.raises(DivergedError):
        run(study(tmp_path / "b", **grid, rates=(0.02,)), FakeData())


def test_results_are_written_with_what_they_must_be_read_with(tmp_path: Path) -> None:
    what = study(tmp_path, percents=(20.0,), rates=(0.01,))
    run(what, FakeData())
    text = write_results(what, collect(what))
    assert (tmp_path / "results.md").read_text() == text
    assert "3 steps of pretraining and 4 of finetuning; the paper trains 120,000" in text
    assert "not tuned" in text
    assert "ddof = 1" in text
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["arm"] == "scratch"
    assert (tmp_path / "results.svg").read_text().startswith("<svg xmlns")


@pytest.mark.parametrize(
    ("budget", "steps", "warmup"), [(1.0, 120_000, 100), (0.1, 12_000, 100), (0.001, 120, 12), (1e-9, 1, 1)]
)
def test_budget_scales_steps_and_bounds_the_warm_up(budget: float, steps: int, warmup: int) -> None:
    config = apply_budget(presets.cifar10(), budget)
    assert (config.pretrain.steps, config.finetune.steps) == (steps, steps)
    assert (config.pretrain.warmup_steps, config.finetune.warmup_steps) == (warmup, warmup)
    with pytest.raises(ValueError, match="positive factor"):
        apply_budget(config, 0)
