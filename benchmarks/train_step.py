"""Does the loader keep a training step waiting?

    python -m benchmarks train-step

One step of Selfie pretraining (forward, backward, SGD) on batches of the loader, beside the same step on one cached
batch, which is what the best loader there could be would give. The stall is the share of the time that the loop waits
for the next batch. On a CPU the model takes the cores that the loader wants, so this shows overhead, not throughput;
`benchmarks/gpu` asks the question where it matters.
"""

import time
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks.harness.record import Record, record, versions
from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import pair_ratios
from benchmarks.work import material
from benchmarks.work.dataset import shards
from benchmarks.work.task import rows

QUESTION = "train_step"
BATCH = 128
STEPS = 6


def run(*, rounds: int, threads: int, scratch: Path, images: Path | None) -> list[Record]:
    """Measures the preset `tiny` at 32 px, raw shards."""
    import torch

    from pipelines import PatchLoader
    from selfie_model.presets import tiny

    torch.set_num_threads(threads)
    task = rows(scratch, threads=threads)["raw32"]
    material.prepare(task.material, scratch, images=images)
    stalls: list[float] = []
    with PatchLoader(shards(task), global_batch_size=BATCH, device="cpu", threads=threads) as loader:
        step = _step(loader)
        stream = _endless(loader)
        cached = repeat(next(stream))
        measures = {
            "selfie, loader": partial(_rate, step, stream, stalls),
            "selfie, cached batch": partial(_rate, step, cached, []),
        }
        for measure in measures.values():
            measure()
        stalls.clear()
        values = interleaved(measures, rounds, title=QUESTION)
    settings = {"preset": tiny().preset, "batch": BATCH, "threads": threads, "steps a run": STEPS}
    found = [
        record(QUESTION, "tiny-raw32", name, runs, unit="images/s", settings=settings, versions=versions(["torch"]))
        for name, runs in values.items()
    ]
    pairs = pair_ratios(*values.values())
    found.append(record(QUESTION, "tiny-raw32", "loader / cached batch", pairs, unit="ratio", settings=settings))
    found.append(record(QUESTION, "tiny-raw32", "stall", stalls, unit="share", settings=settings))
    return found


def _step(loader: Any) -> Any:
    """A function that takes a batch and makes one optimiser step."""
    from selfie_model.network.selfie import Selfie
    from selfie_model.presets import tiny
    from selfie_model.training.optimiser import make_optimiser

    config = tiny()
    model = Selfie(config)
    model.normalise.set(*loader.normalisation)
    optimiser = make_optimiser(model, config.pretrain)

    def step(batch: Any) -> None:
        model(batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def _endless(loader: Any) -> Iterator[Any]:
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


def _rate(step: Any, batches: Iterator[Any], stalls: list[float]) -> float:
    """Images a second over `STEPS` steps; appends the share of the time spent waiting for batches."""
    waited = 0.0
    start = time.perf_counter()
    for _ in range(STEPS):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step(batch)
    elapsed = time.perf_counter() - start
    stalls.append(waited / elapsed)
    return STEPS * BATCH / elapsed
