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
BATCHES = {64: 40, 256: 16}  # images a step, steps a run: Lightning's price is one of steps
_LIBRARIES = ["torch", "pytorch-lightning"]
CLOCKS: dict[str, Callable[[], float]] = {"clock": time.perf_counter, "processor": time.process_time}


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None) -> list[Record]:
    """Measures both loops, in turns."""
    import torch

    from pipelines import PatchLoader

    torch.set_num_threads(threads)
    task = rows(scratch, threads=threads)["raw32"]
    material.prepare(task.material, scratch, images=images)
    found: list[Record] = []
    for batch, steps in BATCHES.items():
        processor: dict[str, list[float]] = {"plain": [], "Lightning": []}
        with PatchLoader(shards(task), global_batch_size=batch, device="cpu", threads=threads) as loader:
            loops = {"plain": partial(_plain, loader, steps), "Lightning": partial(_lightning, loader, steps)}
            for loop in loops.values():
                loop()
            images_timed = (steps - 2) * batch
            measures = {name: partial(_rate, loop, images_timed, processor[name]) for name, loop in loops.items()}
            clock = interleaved(measures, rounds, title=f"{QUESTION}, {batch} images a step")
        settings = {"preset": "tiny", "batch": batch, "threads": threads, "steps a run": steps}
        for kind, values in (("clock", clock), ("processor", processor)):
            case, unit = f"{batch} images a step, {kind}", "images/s" if kind == "clock" else "images/processor s"
            found += [
                record(QUESTION, case, name, runs, unit=unit, settings=settings, versions=versions(_LIBRARIES))
                for name, runs in values.items()
            ]
            pairs = pair_ratios(values["Lightning"], values["plain"])
            found.append(record(QUESTION, case, "Lightning / plain", pairs, unit="ratio", settings=settings))
    return found


def _rate(loop: Callable[[], dict[str, float]], images: int, processor: list[float]) -> float:
    """Images a second; appends those a second of processor time."""
    spent = loop()
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


def _plain(loader: Any, steps: int) -> dict[str, float]:
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
        if len(marks.at) == steps:
            break
    return marks.spent()


def _lightning(loader: Any, steps: int) -> dict[str, float]:
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
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Pretraining(), loader)
    return marks.spent()
