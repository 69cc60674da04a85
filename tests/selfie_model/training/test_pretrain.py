"""A whole pretraining: it learns, it is reproducible, and an interruption leaves no trace in the weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfie_data.errors import DivergedError, RunError
from selfie_model.config import Config
from selfie_model.training.checkpoint import Checkpoints, read_checkpoint
from selfie_model.training.distributed import Ranks
from selfie_model.training.journal import read_journal
from selfie_model.training.pretrain import load_selfie, pretrain
from selfie_model.training.run_folder import Result, read_result
from selfie_model.training.stop_request import StopRequest
from tests.selfie_model.memory import MemoryLoader, random_images, small_config


def run(config: Config, out: Path, *, validate: bool = False, **options: Any) -> Result:
    images, labels = random_images(40)
    loader = MemoryLoader(images, labels, batch_size=config.pretrain.batch_size, model=config.model)
    held_out = None
    if validate:
        held_out = MemoryLoader(images[:20], labels[:20], batch_size=8, model=config.model, evaluation=True)
    return pretrain(config, loader, out=out, ranks=Ranks(), validation=held_out, quiet=True, **options)


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = Checkpoints(run).newest()
    assert newest is not None
    state: dict[str, torch.Tensor] = read_checkpoint(newest)["model"]
    return state


class StopAfter(StopRequest):
    """Asks to stop after so many questions, as a signal would."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def __bool__(self) -> bool:
        self.left -= 1
        if self.left <= 0:
            self.reason = "SIGTERM"
        return bool(self.reason)


@pytest.mark.parametrize("stop_at", [1, 3, 5, 7])
def test_an_interrupted_run_ends_in_equal_weights(tmp_path: Path, stop_at: int) -> None:
    """With dropout, across the end of an epoch (5 steps), at steps with and without a regular checkpoint."""
    config = small_config()
    assert config.model.dropout > 0
    run(config, tmp_path / "whole")
    first = run(config, tmp_path / "parts", stop=StopAfter(stop_at))
    assert (first.step, first.finished, first.stopped_by) == (stop_at, False, "SIGTERM")
    second = run(config, tmp_path / "parts", resume="auto")
    assert second.finished
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_the_journal_has_every_global_batch_once_if_asked(tmp_path: Path) -> None:
    config = small_config()
    run(config, tmp_path / "without")
    assert not [line for line in read_journal(tmp_path / "without") if line["event"] == "batch"]
    config = config.override(runtime={"journal_batches": True})
    run(config, tmp_path / "whole")
    run(config, tmp_path / "parts", stop=StopAfter(3))
    run(config, tmp_path / "parts", resume="auto")
    whole, parts = (
        [line for line in read_journal(tmp_path / name) if line["event"] == "batch"] for name in ("whole", "parts")
    )
    assert whole == parts
    assert [(line["epoch"], line["step"]) for line in whole] == [
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 4),
        (0, 5),
        (1, 6),
        (1, 7),
        (1, 8),
    ]
    assert len({line["ids"] for line in whole}) == len({line["tensors"] for line in whole}) == 8


def test_many_interruptions_leave_the_same_checkpoint(tmp_path: Path) -> None:
    """Optimiser, schedule, random state and loader as well; every step continues at the very next one."""
    config = small_config()
    run(config, tmp_path / "whole")
    for _ in range(config.pretrain.steps):
        run(config, tmp_path / "parts", stop=StopAfter(1), resume="auto")
    whole = read_checkpoint(tmp_path / "whole/checkpoints/step-000000008.pt")
    parts = read_checkpoint(tmp_path / "parts/checkpoints/step-000000008.pt")
    assert whole["loader"] == parts["loader"]
    for left, right in zip(whole["optimiser"]["state"].values(), parts["optimiser"]["state"].values(), strict=True):
        assert torch.equal(left["momentum_buffer"], right["momentum_buffer"])
    assert [record["step"] for record in read_journal(tmp_path / "parts") if record["event"] == "train"] == [
        *range(1, 9)
    ]


def test_same_seed_same_weights_other_seed_other_weights(tmp_path: Path) -> None:
    config = small_config()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(config.override(pretrain={"seed": seed}), tmp_path / name)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["u0"], c["u0"])


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path, parts: int) -> None:
    """Parts of unequal sizes among them; dropout off and batch norm frozen, or parts would differ by right."""
    config = small_config(dropout=0.0).override(pretrain={"batch_norm": "frozen"})
    run(config, tmp_path / "whole")
    run(config.override(pretrain={"accumulate": parts}), tmp_path / "parts")
    whole, pieces = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, tensor in whole.items():
        assert torch.allclose(tensor, pieces[name], atol=1e-5), name


def test_frozen_batch_norm_keeps_its_statistics(tmp_path: Path) -> None:
    run(small_config().override(pretrain={"batch_norm": "frozen"}), tmp_path / "run", validate=True)
    state = weights(tmp_path / "run")
    means = [tensor for name, tensor in state.items() if name.endswith("running_mean")]
    assert means
    assert all((tensor == 0).all() for tensor in means)


def test_a_run_leaves_what_its_readers_need(tmp_path: Path) -> None:
    config = small_config()
    result = run(config, tmp_path / "run", validate=True, data={"fingerprint": "f00d", "samples": 40})
    assert json.loads((tmp_path / "run/config.json").read_text()) == config.to_dict()
    assert read_result(tmp_path / "run") == result
    events = [(record["event"], record["step"]) for record in read_journal(tmp_path / "run")]
    assert [event for event in events if event[0] != "warning"] == [
        ("train", 4),
        ("validation", 4),
        ("train", 8),
        ("validation", 8),
    ]
    model, loaded = load_selfie(tmp_path / "run", which="last")
    assert loaded == config
    assert not model.training
    state = weights(tmp_path / "run")
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert read_checkpoint(tmp_path / "run/checkpoints/step-000000008.pt")["data"]["fingerprint"] == "f00d"


def test_pixels_are_normalised_as_the_loader_says(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "run")
    images, _ = random_images(40)
    model, _ = load_selfie(tmp_path / "run")
    normalised = model.normalise(torch.from_numpy(images))
    assert normalised.mean().item() == pytest.approx(0, abs=1e-3)
    assert normalised.std().item() == pytest.approx(1, abs=1e-3)


def test_validation_is_the_same_at_every_pass(tmp_path: Path) -> None:
    """Fixed masks: a model that does not change (rate ~ 0) measures the same at both passes."""
    config = small_config().override(pretrain={"learning_rate": 1e-12, "batch_norm": "frozen"})
    run(config, tmp_path / "run", validate=True)
    passes = [record for record in read_journal(tmp_path / "run") if record["event"] == "validation"]
    assert passes[0]["loss"] == pytest.approx(passes[1]["loss"], abs=1e-9)
    assert passes[0]["accuracy"] == passes[1]["accuracy"]


def test_the_best_checkpoint_is_the_best_on_the_validation_split(tmp_path: Path) -> None:
    config = small_config().override(pretrain={"steps": 20}, runtime={"validate_every": 2, "log_every": 2})
    result = run(config, tmp_path / "run", validate=True)
    passes = [record for record in read_journal(tmp_path / "run") if record["event"] == "validation"]
    best = max(passes, key=lambda record: (record["accuracy"], -record["step"]))
    assert result.best == (best["accuracy"], best["step"])
    assert read_checkpoint(tmp_path / "run/checkpoints/best.pt")["step"] == best["step"]


def test_without_a_validation_split_nothing_is_selected(tmp_path: Path) -> None:
    result = run(small_config(), tmp_path / "run")
    assert result.best is None
    assert not (tmp_path / "run/checkpoints/best.pt").exists()


def test_a_folder_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "run")
    with pytest.raises(RunError, match="holds a run already; go on with --resume auto, or give another --out"):
        run(small_config(), tmp_path / "run")


def test_a_folder_with_a_dataset_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    with pytest.raises(RunError, match="holds a dataset: a run needs a folder of its own, give another --out"):
        run(small_config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_folder_with_a_best_checkpoint_only_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/best.pt").touch()
    with pytest.raises(RunError, match="holds a run already"):
        run(small_config(), tmp_path / "run")


def test_a_damaged_journal_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"event": "train", "step": 1}\n{bad\n{"event": "tr')
    with pytest.raises(RunError, match=r"journal\.jsonl: line 2 is damaged .*; delete that line"):
        read_journal(tmp_path)


def test_resuming_with_another_configuration_is_refused(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "run", stop=StopAfter(3))
    with pytest.raises(RunError, match=r"another configuration \(pretrain.learning_rate: 0.05 → 0.5\)"):
        run(small_config().override(pretrain={"learning_rate": 0.5}), tmp_path / "run", resume="auto")


def test_resuming_may_change_how_the_run_is_executed(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "run", stop=StopAfter(3))
    assert run(small_config().override(runtime={"log_every": 1}), tmp_path / "run", resume="auto").finished


def test_resuming_a_finished_run_gives_its_result(tmp_path: Path) -> None:
    result = run(small_config(), tmp_path / "run")
    assert run(small_config(), tmp_path / "run", resume="auto") == result


def test_resume_auto_starts_where_there_is_nothing(tmp_path: Path) -> None:
    assert run(small_config(), tmp_path / "new/run", resume="auto").finished


@pytest.mark.parametrize("rate", [1e30, 1e4], ids=["not finite", "far above the start"])
def test_a_diverged_loss_stops_the_run_with_a_message(tmp_path: Path, rate: float) -> None:
    config = small_config(logits="raw").override(
        pretrain={"learning_rate": rate, "warmup_steps": 0}, runtime={"log_every": 2}
    )
    with pytest.raises(DivergedError, match="training has diverged; lower the learning rate"):
        run(config, tmp_path / "run")
    assert read_journal(tmp_path / "run")[-1]["event"] == "diverged"
    for path in (tmp_path / "run").glob("checkpoints/*.pt"):
        assert all(torch.isfinite(tensor.double()).all() for tensor in read_checkpoint(path)["model"].values())


def test_a_run_that_stays_at_chance_warns_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = random_images(160)
    config = small_config().override(
        pretrain={"learning_rate": 1e-9, "batch_size": 40, "steps": 40}, runtime={"log_every": 10}
    )
    loader = MemoryLoader(images, labels, batch_size=40, model=config.model)
    pretrain(config, loader, out=tmp_path / "run", ranks=Ranks())
    warnings = [record for record in read_journal(tmp_path / "run") if record["event"] == "warning"]
    assert len(warnings) == 1
    assert "chance is 25.0%: nothing is learned yet" in warnings[0]["message"]
    assert "nothing is learned yet" in capsys.readouterr().err


def test_a_loader_of_another_batch_size_is_refused(tmp_path: Path) -> None:
    images, labels = random_images(40)
    config = small_config()
    loader = MemoryLoader(images, labels, batch_size=10, model=config.model)
    with pytest.raises(RunError, match="the loader gives 10 images a step, batch_size is 8"):
        pretrain(config, loader, out=tmp_path / "run", ranks=Ranks(), quiet=True)


def test_an_empty_loader_does_not_hang(tmp_path: Path) -> None:
    class Empty(MemoryLoader):
        def __iter__(self) -> Any:
            return iter(())

    images, labels = random_images(40)
    config = small_config()
    with pytest.raises(RunError, match="gave no batch in epoch 0"):
        pretrain(
            config,
            Empty(images, labels, batch_size=8, model=config.model),
            out=tmp_path / "run",
            ranks=Ranks(),
            quiet=True,
        )


def test_between_two_reports_the_host_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`item` and `tolist` make a GPU's host wait: twenty more steps may cost one fetch, that of their report."""
    calls: list[str] = []
    for name in ("item", "tolist"):
        original = getattr(torch.Tensor, name)

        def counting(tensor: torch.Tensor, *, _original: Any = original, _name: str = name) -> Any:
            calls.append(_name)
            return _original(tensor)

        monkeypatch.setattr(torch.Tensor, name, counting)
    counts = []
    for steps in (20, 40):
        calls.clear()
        config = small_config().override(pretrain={"steps": steps}, runtime={"log_every": 20, "checkpoint_every": 0})
        run(config, tmp_path / str(steps))
        counts.append((calls.count("item"), calls.count("tolist")))
    (items, lists), (more_items, more_lists) = counts
    assert more_items == items
    assert more_lists == lists + 1


def test_time_limit_saves_and_ends(tmp_path: Path) -> None:
    config = small_config().override(pretrain={"steps": 1_000_000})
    result = run(config, tmp_path / "run", stop=StopRequest(time_limit_s=0.2))
    assert result.stopped_by == "the time limit"
    newest = Checkpoints(tmp_path / "run").newest()
    assert newest is not None
    assert read_checkpoint(newest)["step"] == result.step > 0


def test_the_model_compiles_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated without a graph break; generating code is left out, it takes a minute."""
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, mode: original(model, backend="aot_eager", fullgraph=True))
    config = small_config(dropout=0.0)
    run(config, tmp_path / "eager")
    run(config.override(runtime={"compile": "default"}), tmp_path / "compiled")
    eager, compiled = weights(tmp_path / "eager"), weights(tmp_path / "compiled")
    for name, tensor in eager.items():
        assert torch.allclose(tensor, compiled[name], atol=1e-5), name
