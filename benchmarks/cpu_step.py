"""What makes a training step fast on a CPU?

    python -m benchmarks cpu-step --threads 1

Images a second of processor time for a whole step (forward, backward, SGD) of pretraining on one cached batch, by
number format, memory layout and batch size; ratios are to the first. Processor time, because a machine without a GPU
often runs something else beside: what is compared is work.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.harness.record import Record, record, versions
from benchmarks.harness.rounds import interleaved
from benchmarks.harness.statistics import pair_ratios

if TYPE_CHECKING:
    from pipelines.batch import PatchBatch
    from selfie_model.config import Config

QUESTION = "cpu_step"
STEPS = 3
PRESETS = ("small",)  # `tiny` takes no bf16 on a CPU: `precision.check_precision`
CHOICES: dict[str, dict[str, Any]] = {  # the first is what the others are held against
    "float32, channels-last": {"precision": "float32"},
    "float32, contiguous": {"precision": "float32", "channels_last": False},
    "bfloat16, channels-last": {"precision": "bfloat16"},
    "bfloat16, contiguous": {"precision": "bfloat16", "channels_last": False},
    "bfloat16, channels-last, half the batch": {"precision": "bfloat16", "share": 2},
}


def run(*, rounds: int, threads: int) -> list[Record]:
    """Measures the preset that is meant for a CPU and computes in bf16."""
    import torch

    from selfie_model.presets import PRESETS as ALL

    torch.set_num_threads(threads)
    found = []
    for preset in PRESETS:
        config = ALL[preset]()
        measures = {name: _measure(config, **choice) for name, choice in CHOICES.items()}
        for measure in measures.values():
            measure()
        values = interleaved(measures, rounds, title=preset)
        settings = {"batch": config.pretrain.batch_size, "threads": threads, "steps a run": STEPS}
        shared = partial(record, QUESTION, preset, settings=settings, versions=versions(["torch"]))
        found += [shared(name, runs, unit="images/s of processor time") for name, runs in values.items()]
        first, *others = values
        found += [
            shared(f"{name} / {first}", pair_ratios(values[name], values[first]), unit="ratio") for name in others
        ]
    return found


def _measure(config: "Config", *, precision: str, channels_last: bool = True, share: int = 1) -> Callable[[], float]:
    """Returns what measures the images a second of some steps."""
    import torch

    from selfie_model.network.selfie import Selfie
    from selfie_model.training.optimiser import make_optimiser
    from selfie_model.training.precision import autocast, place

    config = config.override(runtime={"precision": precision, "channels_last": channels_last})
    device, model = torch.device("cpu"), Selfie(config).train()
    place(model, device, config.runtime)
    optimiser = make_optimiser(model, config.pretrain)
    count = config.pretrain.batch_size // share
    batch = _batch(config, count)

    def measure() -> float:
        start = time.process_time()
        for _ in range(STEPS):
            optimiser.zero_grad(set_to_none=True)
            with autocast(device, config.runtime):
                output = model(batch)
            output.loss.backward()
            optimiser.step()
        return STEPS * count / (time.process_time() - start)

    return measure


def _batch(config: "Config", count: int) -> "PatchBatch":
    """Noise: what a step costs does not depend on what is to be seen."""
    import torch

    from pipelines.batch import PatchBatch

    model = config.model
    generator = torch.Generator().manual_seed(0)
    position = torch.rand(count, model.cells, generator=generator).argsort(dim=1)[:, : model.context + model.target]
    size = (*position.shape, model.patch_size, model.patch_size, 3)
    mask = torch.zeros(count, model.cells, dtype=torch.bool).scatter_(1, position[:, model.context :], True)
    return PatchBatch(
        patches=torch.randint(256, size, dtype=torch.uint8, generator=generator),
        position=position,
        context_count=model.context,
        mask=mask,
        sample_id=torch.arange(count),
    )
