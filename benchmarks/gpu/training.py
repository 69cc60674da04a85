"""The training step: images/s, share of the measured bf16 matrix ceiling, peak memory, and what each option gives.

Options are added one after the other: eager -> channels-last -> bf16 -> torch.compile -> CUDA graphs
(`mode="reduce-overhead"`). The stall is the share of the time that the loop waits for the loader's next batch.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import torch

from benchmarks.gpu.data import endless, loader
from benchmarks.gpu.section import Setting, attempt, emit, seconds_a_call, synchronise

CASE = "training"
# Multiply-adds of a forward pass an image, in 10^9; a training step is three forward passes. Of P + A at 224: 49
# patches are the whole image, so stages 1-3 of a ResNet-50 (3.3) and the pooling (0.6); at 32 px P runs at stride 1.
FORWARD_GMACS = {"selfie-224": 3.9, "finetune-224": 4.1}
OPTIONS: dict[str, dict[str, Any]] = {
    "eager": {"precision": "float32", "channels_last": False, "compile": "off"},
    "+ channels-last": {"precision": "float32", "channels_last": True, "compile": "off"},
    "+ bf16": {"precision": "bfloat16", "channels_last": True, "compile": "off"},
    "+ compile": {"precision": "bfloat16", "channels_last": True, "compile": "default"},
    "+ CUDA graphs": {"precision": "bfloat16", "channels_last": True, "compile": "reduce-overhead"},
}
BATCHES = {"selfie-32": (512, 8), "selfie-224": (256, 2), "finetune-224": (256, 2)}


def run(setting: Setting) -> None:
    """The ceiling, then three workloads with growing options."""
    ceiling = [0.0]
    attempt(CASE, "bf16 matrix ceiling", lambda: ceiling.append(matrix_ceiling(setting)))
    options = dict(list(OPTIONS.items())[:3]) if setting.dry else OPTIONS
    for work in BATCHES:
        for name, chosen in options.items():
            attempt(f"{CASE}: {work}", name, partial(step_rate, work, name, chosen, ceiling[-1], setting))
        attempt(f"{CASE}: {work}", "stall", partial(stall, work, setting))


def matrix_ceiling(setting: Setting) -> float:
    """Multiply-adds a second, in 10^9, of a large bf16 matrix product."""
    size = setting.size(8192, 256)
    left = torch.randn(size, size, device=setting.device, dtype=torch.bfloat16)
    seconds = seconds_a_call(partial(torch.matmul, left, left), setting)
    gmacs = [size**3 / one / 1e9 for one in seconds]
    emit(CASE, "ceiling: bf16 matrix product", gmacs, "GMAC/s", note=setting.device)
    return sorted(gmacs)[len(gmacs) // 2]


def step_rate(work: str, name: str, chosen: dict[str, Any], ceiling: float, setting: Setting) -> None:
    """Images a second on one cached batch, and the peak of memory."""
    batch, step = prepared(work, chosen, setting)
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_a_call(partial(step, batch), setting, calls=10, runs=3)
    rates = [len(batch) / one for one in seconds]
    case = f"{CASE}: {work}"
    emit(case, name, rates, "images/s", settings={**chosen, "batch": len(batch)}, note=setting.device)
    if setting.device == "cuda":
        emit(case, f"{name}: peak memory", [torch.cuda.max_memory_allocated() / 2**20], "MiB")
    if work in FORWARD_GMACS and ceiling and not setting.dry:
        share = [3 * FORWARD_GMACS[work] * one / ceiling for one in rates]
        emit(case, f"{name}: of the bf16 ceiling", share, "share")


def prepared(work: str, chosen: dict[str, Any], setting: Setting) -> tuple[Any, Callable[[Any], None]]:
    """A batch on the device and the function that makes one step with it."""
    from selfie_model.training.precision import autocast, compiled, place

    torch._dynamo.reset()
    config = configuration(work, setting)
    config = replace(config, runtime=replace(config.runtime, **chosen))
    device = torch.device(setting.device)
    model = network(work, config)
    place(model, device, config.runtime)
    forward = compiled(model, device, config.runtime)
    optimiser = _optimiser(model, config)

    def step(batch: Any) -> None:
        with autocast(device, config.runtime):
            loss = forward(batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return noise(work, config, setting), step


def configuration(work: str, setting: Setting) -> Any:
    """The paper's model, or in a dry run a narrow one of the same shape."""
    from selfie_model.presets import cifar10, imagenet224

    config = cifar10() if work == "selfie-32" else imagenet224()
    if setting.dry:
        small: dict[str, Any] = {
            "width": 8,
            "attention_heads": 4,
            "attention_hidden": 64,
            "attention_blocks": 1,
            "blocks": (1, 1, 1, 1),
        }
        config = replace(config, model=replace(config.model, **small))
    return config


def network(work: str, config: Any) -> torch.nn.Module:
    """Selfie, or the classifier of finetuning."""
    from selfie_model.network.classifier import Classifier
    from selfie_model.network.selfie import Selfie

    model = Classifier(config, 1000) if work.startswith("finetune") else Selfie(config)
    return model.train()


def noise(work: str, config: Any, setting: Setting) -> Any:
    """A batch of random bytes on the device."""
    from pipelines.batch import ImageBatch, PatchBatch

    model, device = config.model, setting.device
    count = setting.size(*BATCHES[work])
    ids = torch.arange(count, device=device)
    if work.startswith("finetune"):
        image = torch.randint(0, 256, (count, 224, 224, 3), dtype=torch.uint8, device=device)
        return ImageBatch(image=image, label=ids % 1000, sample_id=ids)
    cells, patch = (model.image_size // model.patch_size) ** 2, model.patch_size
    position = torch.rand(count, cells, device=device).argsort(dim=1)
    mask = torch.zeros(count, cells, dtype=torch.bool, device=device).scatter(1, position[:, model.context :], True)
    patches = torch.randint(0, 256, (count, cells, patch, patch, 3), dtype=torch.uint8, device=device)
    return PatchBatch(patches=patches, position=position, context_count=model.context, mask=mask, sample_id=ids)


def stall(work: str, setting: Setting) -> None:
    """The share of the time that a loop with our loader waits for it, and its rate beside the cached batch's."""
    if work.startswith("finetune"):
        return
    chosen = list(OPTIONS.values())[1 if setting.dry else 3]
    batch, step = prepared(work, chosen, setting)
    kind = "raw32" if work == "selfie-32" else "jpeg256"
    with loader(kind, setting, global_batch_size=len(batch)) as stream:
        ready = (one.to(setting.device, non_blocking=True) for one in endless(stream))
        cached, _ = _loop(step, repeat(batch), setting)
        real, waited = _loop(step, ready, setting)
    emit(f"{CASE}: {work}", "stall", [waited], "share", note=setting.device)
    emit(f"{CASE}: {work}", "with the loader / with a cached batch", [real / cached], "ratio")


def _loop(step: Callable[[Any], None], batches: Iterator[Any], setting: Setting) -> tuple[float, float]:
    """Images a second and the share of the time spent waiting for batches; steps are waited for, so that waits are."""
    for _ in range(3):
        step(next(batches))
    synchronise(setting.device)
    start, waited, images = time.perf_counter(), 0.0, 0
    while time.perf_counter() - start < 3 * setting.window_s or not images:
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step(batch)
        synchronise(setting.device)
        images += len(batch)
    elapsed = time.perf_counter() - start
    return images / elapsed, waited / elapsed


def _optimiser(model: torch.nn.Module, config: Any) -> torch.optim.Optimizer:
    from selfie_model.training.optimiser import make_optimiser

    return make_optimiser(model, config.pretrain)
