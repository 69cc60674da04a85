"""What went wrong in public attempts at this method, each as a test that fails when it goes wrong here.

The traps: padded crops in pretraining, softmax before cross-entropy, one mask for a whole batch, u0 not learned, model
selection on the test split, overlapping random crops instead of a grid, labelled subsets not stratified, and a run that
stays at chance (`test_pretrain`). Loaders and splits have their own tests; here it is what the training does with them.
"""

from pathlib import Path

import click
import numpy as np
import pytest
import torch

from pipelines import PatchLoader
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.splits import SplitOptions, split_ids
from selfie_model import presets
from selfie_model.commands.finetune import command as finetune_command
from selfie_model.config import Config
from selfie_model.network.selfie import Selfie
from selfie_model.training.distributed import Ranks
from selfie_model.training.pretrain import pretrain
from tests.selfie_model.memory import MemoryLoader, patch_batch, random_images, small_config


def quick_tiny(steps: int) -> Config:
    """The `tiny` preset on a shorter schedule."""
    return presets.tiny().override(
        pretrain={"steps": steps, "warmup_steps": 10},
        runtime={"log_every": steps, "validate_every": 0, "checkpoint_every": 0},
    )


def pretrain_on(images: np.ndarray, config: Config, out: Path) -> float:
    """Returns the validation accuracy on 1,024 images that were held out."""
    labels = np.zeros(len(images), dtype=np.int64)
    held_out = 1024
    loader = MemoryLoader(
        images[held_out:], labels[held_out:], batch_size=config.pretrain.batch_size, model=config.model, flip=True
    )
    validation = MemoryLoader(images[:held_out], labels[:held_out], batch_size=256, model=config.model, evaluation=True)
    result = pretrain(config, loader, out=out, ranks=Ranks(), validation=validation, quiet=True)
    assert result.validation is not None
    return result.validation.accuracy


def test_noise_stays_at_chance(tmp_path: Path) -> None:
    """Nothing can be learned from noise; what scores there has found a leak. The same steps suffice on pictures."""
    config = quick_tiny(150)
    images, _ = random_images(4096, 32)
    assert pretrain_on(images, config, tmp_path / "run") == pytest.approx(0.25, abs=0.02)


def test_pictures_are_learned_in_the_steps_that_leave_noise_at_chance(tmp_path: Path) -> None:
    """Bright above, dark below, with noise: the simplest layout there is."""
    images, _ = random_images(4096, 32)
    slope = np.linspace(0, 120, 32, dtype=np.uint8)[None, ::-1, None, None]
    pictures = images // 8 + slope
    assert pretrain_on(pictures, quick_tiny(150), tmp_path / "run") > 0.4


@pytest.mark.parametrize("name", presets.PRESETS)
def test_no_preset_and_no_loader_pads_in_pretraining(name: str, raw_dataset: Path) -> None:
    assert "padded" not in presets.PRESETS[name]().pretrain.augmentation
    with pytest.raises(ValueError, match="patches must not come from padded crops"):
        PatchLoader(raw_dataset, global_batch_size=8, device="cpu", augment=Augmentation(padding=4))


def test_padded_crops_are_refused_in_a_configuration() -> None:
    with pytest.raises(ValueError, match="padding tells where a border patch was"):
        presets.cifar10().override(pretrain={"augmentation": "padded_crop_flip"})


def test_cross_entropy_takes_logits_not_probabilities() -> None:
    """A model that is sure and right has a loss of zero; through a second softmax it would stay above 0.7."""
    model = Selfie(small_config()).eval()
    target = torch.eye(64)[None, :4] * 1000
    logits = model.logits(torch.eye(64)[None, :4], target)
    loss = torch.nn.functional.cross_entropy(logits[0], torch.arange(4))
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.max().item() == pytest.approx(1000 / 8)


def test_every_image_has_its_own_mask(raw_dataset: Path) -> None:
    with PatchLoader(raw_dataset, global_batch_size=64, device="cpu") as loader:
        batch = next(iter(loader))
        model = presets.tiny().model
        assert len({tuple(row) for row in batch.target_position.tolist()}) > 32
        assert len({tuple(row) for row in batch.mask.tolist()}) > 32
        assert batch.position.shape == (64, model.context + model.target)


def test_patches_are_the_cells_of_a_grid(raw_dataset: Path) -> None:
    """Each cell once: no overlap between what the encoder sees and what it is asked for."""
    with PatchLoader(raw_dataset, global_batch_size=64, device="cpu") as loader:
        batch = next(iter(loader))
    assert (batch.position.sort(dim=1).values == torch.arange(16)).all()


def test_u0_is_learned(tmp_path: Path) -> None:
    config = small_config()
    torch.manual_seed(config.pretrain.seed)
    before = Selfie(config).u0.detach().clone()
    loader = MemoryLoader(*random_images(40), batch_size=8, model=config.model)
    pretrain(config, loader, out=tmp_path / "run", ranks=Ranks(), quiet=True)
    from selfie_model.training.pretrain import load_selfie

    after = load_selfie(tmp_path / "run")[0].u0
    assert not torch.equal(before, after)
    assert isinstance(Selfie(config).u0, torch.nn.Parameter)


def test_u0_matters() -> None:
    config = small_config()
    model = Selfie(config).eval()
    batch = patch_batch(config)
    expected = model(batch).embedding
    with torch.no_grad():
        model.u0.add_(torch.randn(64))
    assert not torch.allclose(model(batch).embedding, expected, atol=1e-3)


def test_finetuning_cannot_be_given_a_test_set() -> None:
    """All selection happens on a split of the training shards: there is one dataset argument and no other."""
    arguments = [parameter.name for parameter in finetune_command.params if isinstance(parameter, click.Argument)]
    assert arguments == ["shards"]
    options = {option for parameter in finetune_command.params for option in parameter.opts}
    assert not any("test" in option for option in options)


def test_labelled_subsets_are_stratified(raw_dataset: Path) -> None:
    labels = open_dataset(raw_dataset).table.label
    for name, ids in split_ids(labels, SplitOptions()).items():
        if name != "train":
            counts = np.bincount(labels[ids], minlength=10)
            assert counts.max() - counts.min() <= 1 + np.ptp(np.bincount(labels)), name
