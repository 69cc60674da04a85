"""Between two fetches of the metrics a training never waits for its device: ten steps of each kind, every backend.

The device is `meta`, so that what is queued can be counted where there is no GPU (`tests.waits`).
"""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.pixel_store import export_store
from selfie_model.config import Config
from selfie_model.network.classifier import Classifier
from selfie_model.network.selfie import Selfie
from selfie_model.training import loop
from selfie_model.training.distributed import Ranks
from selfie_model.training.task import Training
from tests.pipelines.conftest import write_dataset
from tests.selfie_model.memory import small_config
from tests.waits import PretendedLane, Waits

META = torch.device("meta")
STEPS = 10
BACKENDS = ("reference", "cpu", "store", "dali-operators", "gpu")


class AtOnce:
    """An executor whose work is done in the caller's thread, where it can be counted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def submit(self, function: Any, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future

    def shutdown(self, **kwargs: Any) -> None:
        pass


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("raw") / "shards", size=16)


@pytest.fixture(scope="module")
def store(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "store.zarr"
    export_store(open_dataset(raw), path)
    return path


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    """Counts; `auto` means the device `meta`, and what DALI would give on a GPU is there."""
    lanes: list[PretendedLane] = []

    def lane_of(device: torch.device) -> PretendedLane:
        lanes.append(PretendedLane())
        return lanes[-1]

    def from_dali(tensor: Any) -> torch.Tensor:
        return torch.empty_like(torch.from_dlpack(tensor), device=META)

    monkeypatch.setattr("pipelines.staging.lane_of", lane_of)
    monkeypatch.setattr("pipelines.parts.resolve_device", lambda device: META)
    monkeypatch.setattr("pipelines.backends.gpu_shards.ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr("pipelines.kernels.patches_triton._launch", lambda *_, **__: None)
    monkeypatch.setattr("pipelines.backends.gpu.GpuBackend._check", lambda *_: None)  # fetches, of the first batch
    monkeypatch.setattr("pipelines.backends.dali.from_dlpack", from_dali)
    monkeypatch.setattr(loop, "autocast", lambda device, runtime: nullcontext())  # torch has none for `meta`
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)
    with Waits(lanes) as counted:
        yield counted


def ten_steps(training: Training[Any], waits: Waits) -> None:
    """Runs steps; what is built and sent once, at the first, is not counted."""
    trainer = loop._Trainer(training, ranks=Ranks(device=META), resume=None, tensorboard=False, quiet=True)
    try:
        batches = trainer._batches()
        for step in range(1 + STEPS):
            trainer._train_step(next(batches))
            trainer.monitor.step()
            if step == 0:
                waits.clear()
    finally:
        trainer.close()


def described(kind: str, model: torch.nn.Module, loader: Any, config: Config, run: Path) -> Training[Any]:
    config = config.override(**{kind: {"steps": 100}})
    return Training(
        kind=kind,
        config=config,
        train=getattr(config, kind),
        model=model,
        loader=loader,
        validation=None,
        chance=0.25,
        run=run,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"masking": "zero", "whole_image": True, "dtype": "bfloat16"},
        {"augment": Augmentation(flip=True), "dtype": "float32"},
    ],
    ids=["skip", "zero", "flip"],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_steps_of_pretraining(
    raw: Path, store: Path, tmp_path: Path, waits: Waits, backend: str, options: dict[str, Any]
) -> None:
    config = small_config(masking=options.get("masking", "skip"))
    options = {"augment": Augmentation(), **options}
    source = {"store": store} if backend == "store" else {"backend": backend}
    with PatchLoader(raw, global_batch_size=8, patch_size=4, threads=1, **source, **options) as loader:
        ten_steps(described("pretrain", Selfie(config), loader, config, tmp_path), waits)
    assert waits.found == []
    assert waits.copies >= STEPS


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_steps_of_finetuning(raw: Path, store: Path, tmp_path: Path, waits: Waits, backend: str) -> None:
    config = small_config().override(finetune={"accumulate": 2})
    source = {"store": store} if backend == "store" else {"backend": backend}
    with ImageLoader(
        raw, global_batch_size=8, threads=1, augment=Augmentation(flip=True, padding=2), **source
    ) as loader:
        ten_steps(described("finetune", Classifier(config, 4), loader, config, tmp_path), waits)
    assert waits.found == []
    assert waits.copies >= STEPS


@pytest.mark.parametrize("wait", [torch.Tensor.item, torch.Tensor.cpu, torch.nonzero, lambda total: total[total > 0]])
def test_what_would_wait_is_counted(raw: Path, tmp_path: Path, waits: Waits, wait: Any) -> None:
    """`meta` has no values, so that a step that asks for one may also fail; it is counted before."""
    total = torch.zeros(3, device=META)[0] if wait is torch.Tensor.item else torch.zeros(3, device=META)
    with suppress(RuntimeError, NotImplementedError):
        wait(total)
    assert len(waits.found) >= 1
    waits.clear()
    torch.zeros(3).to(META, non_blocking=True)
    assert len(waits.found) == 1  # from memory that is not pinned
