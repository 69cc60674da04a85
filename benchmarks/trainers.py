"""What does a trainer cost that takes batches from the loader?

    python -m benchmarks trainers

The training step of `examples/lightning_pretrain.py` (preset tiny, 32 px, raw shards) under PyTorch Lightning and in a
plain loop, in turns: the time from the end of the second step to the end of the last. Lightning without logger,
progress bar and checkpoints, which a plain loop has not either; `self.log` stays, as a plain loop would keep its loss.
Processor time stands beside the time on the clock, which other work on the machine makes longer.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.record import Record, record, versions
from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import pair_ratios
from benchmarks.work import material
from benchmarks.work.dataset import shards
from benchmarks.work.task import rows

QUESTION = "trainers"
BATCH = 64
STEPS = 40
CLOCKS: dict[str, Callable[[], float]] = {"clock": time.perf_counter, "processor": time.process_time}


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None) -> list[Record]:
    """Measures both loops, in turns."""
    import torch

    from pipelines import PatchLoader

    torch.set_num_threads(threads)
    task = rows(scratch, threads=threads)["raw32"]
    material.prepare(task.material, scratch, images=images)
    processor: dict[str, list[float]] = {"plain": [], "Lightning": []}
    with PatchLoader(shards(task), global_batch_size=BATCH, device="cpu", threads=threads) as loader:
        loops = {"plain": _plain, "Lightning": _lightning}
        for loop in loops.values():
            loop(loader)
        measures = {name: partial(_rate, loop, loader, processor[name]) for name, loop in loops.items()}
        clock = interleaved(measures, rounds, title=QUESTION)
    settings = {"preset": "tiny", "batch": BATCH, "threads": threads, "steps a run": STEPS}
    used = versions(["torch", "pytorch-lightning"])
    found = []
    for kind, values in (("clock", clock), ("processor", processor)):
        unit = "images/s" if kind == "clock" else "images/processor s"
        found += [
            record(QUESTION, kind, name, runs, unit=unit, settings=settings, versions=used)
            for name, runs in values.items()
        ]
        pairs = pair_ratios(values["Lightning"], values["plain"])
        found.append(record(QUESTION, kind, "Lightning / plain", pairs, unit="ratio", settings=settings))
    return found


def _rate(loop: Callable[[Any], dict[str, float]], loader: Any, processor: list[float]) -> float:
    """Images a second; appends those a second of processor time."""
    spent = loop(loader)
    images = (STEPS - 2) * BATCH
    processor.append(images / spent["processor"])
    return images / spent["clock"]


class _Marks:
    """Both clocks at the ends of steps."""

    def __init__(self) -> None:
        self.at: list[dict[str, float]] = []

    def step(self) -> None:
        self.at.append({name: read() for name, read in CLOCKS.items()})

    def spent(self) -> dict[str, float]:
        return {name: self.at[-1][name] - self.at[1][name] for name in CLOCKS}


def _model(loader: Any) -> Any:
    from selfie_model import Selfie, presets

    model = Selfie(presets.tiny())
    model.normalise.set(*loader.normalisation)
    return model


def _optimiser(model: Any) -> Any:
    import torch

    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def _plain(loader: Any) -> dict[str, float]:
    model, marks = _model(loader), _Marks()
    optimiser = _optimiser(model)
    loader.set_epoch(0)
    for batch in loader:
        loss = model(batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        marks.step()
        if len(marks.at) == STEPS:
            break
    return marks.spent()


def _lightning(loader: Any) -> dict[str, float]:
    import pytorch_lightning as pl

    marks = _Marks()

    class Pretraining(pl.LightningModule):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.selfie = _model(loader)

        def training_step(self, batch: Any, index: int) -> Any:
            del index
            loss = self.selfie(batch).loss
            self.log("loss", loss, batch_size=len(batch))
            return loss

        def configure_optimizers(self) -> Any:
            return _optimiser(self)

        def on_train_batch_end(self, *_: Any) -> None:
            marks.step()

    loader.set_epoch(0)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Pretraining(), loader)
    return marks.spent()
