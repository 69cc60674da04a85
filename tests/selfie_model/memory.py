"""Small models, and loaders that need no files: same protocol and same kind of draws as the real ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pipelines.batch import ImageBatch, PatchBatch
from selfie_model.config import Config, ModelConfig, RuntimeConfig, TrainConfig


def small_config(**model: Any) -> Config:
    """A model of a few thousand parameters for 16 px images, that trains in milliseconds."""
    values: dict[str, Any] = {
        "image_size": 16,
        "patch_size": 4,
        "width": 4,
        "blocks": (1, 1, 1, 1),
        "attention_blocks": 1,
        "attention_heads": 4,
        "attention_hidden": 16,
    }
    return Config(
        preset="test",
        model=ModelConfig(**{**values, **model}),
        pretrain=TrainConfig(steps=8, batch_size=8, learning_rate=0.05, warmup_steps=2),
        finetune=TrainConfig(steps=8, batch_size=8, learning_rate=0.05, warmup_steps=2, augmentation="none"),
        runtime=RuntimeConfig(log_every=4, validate_every=4, checkpoint_every=4),
    )


class MemoryLoader:
    """Batches from arrays in memory, a pure function of (seed, epoch, step): the protocol of `BatchLoader`.

    With `model` given they are patches, else labelled images. A rank takes its slice of each global batch:
    `bounds` say which part of it, so slices may be unequal.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        model: ModelConfig | None,
        seed: int = 0,
        flip: bool = False,
        evaluation: bool = False,
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        self.batch_size, self.model, self.seed, self.flip, self.evaluation = batch_size, model, seed, flip, evaluation
        self.bounds = (round(bounds[0] * batch_size), round(bounds[1] * batch_size))
        self.epoch, self.position = 0, 0
        mean, std = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2)) + 1e-6
        self.normalisation = (1 / std, -mean / std)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + (1 if self.evaluation and rest else 0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "epoch": self.epoch, "step": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["seed"] == self.seed
        self.epoch, self.position = state["epoch"], state["step"]

    def __iter__(self) -> Iterator[Any]:
        while self.position < len(self):
            batch = self.batch(self.epoch, self.position)
            self.position += 1
            if self.position == len(self):
                self.set_epoch(self.epoch + 1)
                yield batch
                return
            yield batch

    def batch(self, epoch: int, step: int) -> Any:
        count = len(self.images)
        order = np.arange(count)
        if not self.evaluation:
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(count)
        ids = order[step * self.batch_size : (step + 1) * self.batch_size][slice(*self.bounds)]
        images, labels = self.images[ids], self.labels[ids]
        rng = np.random.default_rng([self.seed, epoch, 2])
        keys = rng.random((count, 64))[ids]
        if self.flip:
            flipped = torch.from_numpy(rng.random(count)[ids] < 0.5)
            images = torch.where(flipped[:, None, None, None], images.flip(2), images)
        sample_id = torch.from_numpy(ids.astype(np.int64))
        if self.model is None:
            return ImageBatch(image=images, label=labels, sample_id=sample_id)
        return cut(images, keys, sample_id, self.model)


def cut(images: torch.Tensor, keys: np.ndarray, sample_id: torch.Tensor, model: ModelConfig) -> PatchBatch:
    """Cuts images [B, H, W, 3] into patches, in the order that `keys` [B, >= cells] sort them into."""
    count, side, size = len(images), model.side, model.patch_size
    grid = images.view(count, side, size, side, size, 3).permute(0, 1, 3, 2, 4, 5).flatten(1, 2)
    order = torch.from_numpy(keys[:, : model.cells].argsort(axis=1))[:, : model.context + model.target]
    target = order[:, model.context :]
    mask = torch.zeros(count, model.cells, dtype=torch.bool).scatter(1, target, True)
    if model.masking == "zero":
        order = torch.cat((torch.arange(model.cells).expand(count, -1), target), dim=1)
    patches = grid.gather(1, order[:, :, None, None, None].expand(-1, -1, size, size, 3))
    context = order.shape[1] - model.target
    return PatchBatch(patches=patches, position=order, context_count=context, mask=mask, sample_id=sample_id)


def random_images(count: int, size: int = 16, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 noise [count, size, size, 3] and labels [count]."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return images, rng.integers(0, classes, count)


def patch_batch(config: Config, count: int = 6, seed: int = 0) -> PatchBatch:
    """A batch of noise patches for a configuration."""
    images, labels = random_images(count, config.model.image_size, seed=seed)
    batch = MemoryLoader(images, labels, batch_size=count, model=config.model, seed=seed).batch(0, 0)
    assert isinstance(batch, PatchBatch)
    return batch
