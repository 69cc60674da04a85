"""The models and steps that the training sections measure: the paper's, in a dry run narrow ones of the same shape."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu.setting import Setting

OPTIONS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "float32", "channels_last": False, "compile": "off"},
    "float32, channels-last": {"precision": "float32", "channels_last": True, "compile": "off"},
    "bf16": {"precision": "bfloat16", "channels_last": True, "compile": "off"},
    "bf16 + compile": {"precision": "bfloat16", "channels_last": True, "compile": "default"},
    "bf16 + compile + CUDA graphs": {"precision": "bfloat16", "channels_last": True, "compile": "reduce-overhead"},
}
STORED = {"selfie-32": "raw32", "selfie-224": "jpeg256"}  # what the loader of a pretraining reads

Step = Callable[[Any], torch.Tensor]


def prepared(work: str, option: str, count: int, setting: Setting) -> tuple[Any, Step]:
    """A batch of `count` images on the device, and the function that makes one step and returns its loss."""
    from selfie_model.training.optimiser import make_optimiser
    from selfie_model.training.precision import autocast, compiled, place

    if OPTIONS[option]["compile"] != "off":  # else nothing needs the compiler, and importing it takes seconds
        torch.compiler.reset()
    config = configuration(work, setting)
    config = replace(config, runtime=replace(config.runtime, **OPTIONS[option]))
    device = torch.device(setting.device)
    model = network(work, config)
    place(model, device, config.runtime)
    forward = compiled(model, device, config.runtime)
    optimiser = make_optimiser(model, config.pretrain)

    def step(batch: Any) -> torch.Tensor:
        with autocast(device, config.runtime):
            loss: torch.Tensor = forward(batch).loss
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    return noise(work, config, count, setting.device), step


def configuration(work: str, setting: Setting) -> Any:
    """The preset of the workload."""
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


def noise(work: str, config: Any, count: int, device: str) -> Any:
    """A batch of random bytes on the device."""
    from pipelines.batch import ImageBatch, PatchBatch

    model = config.model
    ids = torch.arange(count, device=device)
    if work.startswith("finetune"):
        image = torch.randint(0, 256, (count, 224, 224, 3), dtype=torch.uint8, device=device)
        return ImageBatch(image=image, label=ids % 1000, sample_id=ids)
    cells, patch = (model.image_size // model.patch_size) ** 2, model.patch_size
    position = torch.rand(count, cells, device=device).argsort(dim=1)
    mask = torch.zeros(count, cells, dtype=torch.bool, device=device).scatter(1, position[:, model.context :], True)
    patches = torch.randint(0, 256, (count, cells, patch, patch, 3), dtype=torch.uint8, device=device)
    return PatchBatch(patches=patches, position=position, context_count=model.context, mask=mask, sample_id=ids)
