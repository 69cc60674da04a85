"""Two processes, started by torchrun with gloo, against one: the same weights, whatever their slices."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from selfie_data.errors import RunError
from selfie_model.network.selfie import Selfie
from selfie_model.training.checkpoint import find_checkpoint, read_checkpoint
from selfie_model.training.distributed import Ranks, choose_device, distribute, process_group
from selfie_model.training.evaluate import Metrics, evaluate
from selfie_model.training.finetune import load_classifier
from selfie_model.training.journal import read_journal
from selfie_model.training.run_folder import read_result
from tests.selfie_model.memory import MemoryLoader, random_images, small_config
from tests.selfie_model.training import distributed_worker, slow_worker
from tests.torchrun import torchrun

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes wrote."""
    out = tmp_path_factory.mktemp("two")
    torchrun(2, distributed_worker.__file__, str(out))
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one process wrote."""
    out = tmp_path_factory.mktemp("one")
    distributed_worker.train_both(out, Ranks(), (0, 1))
    return out


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
@pytest.mark.parametrize("slices", distributed_worker.SCENARIOS)
def test_two_processes_train_to_the_weights_of_one(one: Path, two: Path, slices: str, kind: str) -> None:
    expected = read_checkpoint(find_checkpoint(one / kind))["model"]
    found = read_checkpoint(find_checkpoint(two / slices / kind))["model"]
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.allclose(tensor, found[name], atol=1e-5), name


def test_metrics_are_those_of_the_global_batch(one: Path, two: Path) -> None:
    expected, found = (
        [record for record in read_journal(out) if record["event"] == "train"]
        for out in (one / "pretrain", two / "unequal/pretrain")
    )
    assert len(expected) == len(found) == 2
    for left, right in zip(expected, found, strict=True):
        assert left["step"] == right["step"]
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-5)
        assert left["accuracy"] == pytest.approx(right["accuracy"])


def test_a_signal_to_one_rank_stops_all_at_the_same_step(two: Path) -> None:
    steps = {(two / f"stopped-{rank}").read_text() for rank in (0, 1)}
    assert steps == {"2"}  # raised in the first, known to all a step later
    assert read_checkpoint(find_checkpoint(two / "stopped"))["step"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["all by torchrun", "one of two"])
def test_slow_steps_are_saved_within_two_of_a_signal_however_seldom_metrics_are_fetched(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, slow_worker.__file__, str(tmp_path)], env=environment, stdout=log, stderr=log
        )
        try:
            asked_at = wait_for_step(tmp_path, 3)
            os.kill(process.pid if number == signal.SIGTERM else int((tmp_path / "pid-1").read_text()), number)
            process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert asked_at <= read_checkpoint(find_checkpoint(tmp_path / "run"))["step"] <= asked_at + 2
    result = read_result(tmp_path / "run")
    assert result is not None
    assert result.stopped_by == ("SIGTERM" if number == signal.SIGTERM else "another rank")


def wait_for_step(out: Path, least: int) -> int:
    """Returns the step that rank 0 is in, once it has begun the step `least`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        steps = (out / "steps").read_text().split() if (out / "steps").exists() else []
        if len(steps) >= least:
            return len(steps)
        time.sleep(0.02)
    raise AssertionError((out / "log").read_text()[-3000:])


def test_evaluation_is_summed_over_the_ranks(two: Path) -> None:
    model, config, _ = load_classifier(two / "equal/finetune")
    loader = MemoryLoader(*random_images(23), batch_size=8, model=None, evaluation=True)
    expected = evaluate(model, loader, ranks=Ranks(), runtime=config.runtime)
    for rank in (0, 1):
        found = eval((two / f"metrics-{rank}").read_text(), {"Metrics": Metrics})
        assert found.counted == expected.counted == 23
        assert found.loss == pytest.approx(expected.loss, abs=1e-6)
        assert found.accuracy == pytest.approx(expected.accuracy)


def test_validation_measures_the_checkpoint_that_is_saved(two: Path) -> None:
    """Batch-norm statistics differ between the ranks until then."""
    model, config, _ = load_classifier(two / "validated", which="last")
    loader = MemoryLoader(*random_images(23), batch_size=8, model=None, evaluation=True)
    expected = evaluate(model, loader, ranks=Ranks(), runtime=config.runtime)
    found = [record for record in read_journal(two / "validated") if record["event"] == "validation"][-1]
    assert found["loss"] == pytest.approx(expected.loss, abs=1e-5)


def test_sync_batch_norm_is_refused_on_the_cpu() -> None:
    for size in (1, 2):
        with pytest.raises(RunError, match="--sync-batch-norm needs GPUs"):
            distribute(Selfie(small_config()), Ranks(size=size), sync_batch_norm=True)


def test_one_process_needs_no_wrapper() -> None:
    model = Selfie(small_config())
    assert distribute(model, Ranks(), sync_batch_norm=False) is model


def test_processes_that_do_not_meet_say_so_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        for name, value in {"WORLD_SIZE": "2", "RANK": "1", **place}.items():
            monkeypatch.setenv(name, value)
        with (
            pytest.raises(RunError, match=r"^the 2 processes of this run did not meet at 127.0.0.1:\d+ within 1 s .+$"),
            process_group("cpu", limit_s=1),
        ):
            pass


def test_devices_are_named() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="auto, cpu or cuda, got 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(RunError, match="has no GPU of its own"):
            choose_device("cuda")
