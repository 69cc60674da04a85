"""Finetuning: both arms, the same code."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.batch import ImageBatch
from selfie_data.errors import RunError
from selfie_model.config import Config
from selfie_model.network.classifier import Classifier
from selfie_model.training.checkpoint import read_checkpoint
from selfie_model.training.distributed import Ranks
from selfie_model.training.finetune import finetune, load_classifier, start_from
from selfie_model.training.pretrain import load_selfie, pretrain
from selfie_model.training.run_folder import Result
from tests.selfie_model.memory import MemoryLoader, random_images, small_config

NAMES = ("cat", "dog", "frog")


def run(config: Config, out: Path, **options: Any) -> Result:
    images, labels = random_images(40)
    images[:, :8] = 60 * labels[:, None, None, None]  # so that there is something to learn
    loader = MemoryLoader(images, labels, batch_size=8, model=None)
    return finetune(config, loader, class_names=NAMES, out=out, ranks=Ranks(), quiet=True, **options)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    config = small_config()
    loader = MemoryLoader(*random_images(40), batch_size=8, model=config.model)
    pretrain(config, loader, out=out, ranks=Ranks(), quiet=True)
    return out


def test_it_learns(tmp_path: Path) -> None:
    result = run(small_config().override(finetune={"steps": 60}), tmp_path / "run")
    assert result.accuracy > 0.8


def test_the_arms_differ_in_p_only(pretrained: Path) -> None:
    """Fresh weights depend on the seed alone, so both arms begin with the same stage four and head."""
    config = small_config()
    arms = []
    for source in (None, pretrained):
        torch.manual_seed(0)
        model = Classifier(config, 3)
        if source is not None:
            start_from(source, model)
        arms.append(model.state_dict())
    scratch, started = arms
    selfie = load_selfie(pretrained)[0].state_dict()
    for name, tensor in started.items():
        if name.startswith(("stages.3.", "norm.", "head.")):
            assert torch.equal(tensor, scratch[name]), name
        elif not name.startswith("normalise."):
            assert torch.equal(tensor, selfie[f"patch_network.{name}"]), name


def test_from_a_run_pixels_are_normalised_as_there(tmp_path: Path, pretrained: Path) -> None:
    run(small_config(), tmp_path / "run", source=pretrained)
    assert torch.equal(load_classifier(tmp_path / "run")[0].normalise.scale, load_selfie(pretrained)[0].normalise.scale)


def test_loading_gives_model_configuration_and_class_names(tmp_path: Path, pretrained: Path) -> None:
    config = small_config()
    run(config, tmp_path / "run", source=pretrained)
    model, loaded, names = load_classifier(tmp_path / "run")
    assert (loaded, names, model.training) == (config, NAMES, False)
    state = read_checkpoint(tmp_path / "run/checkpoints/step-000000008.pt")["model"]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_source_that_does_not_fit_is_named(tmp_path: Path, pretrained: Path) -> None:
    with pytest.raises(RunError, match="pretrained: the pretrained weights do not fit this classifier: shape of"):
        run(small_config(width=8), tmp_path / "run", source=pretrained)


def test_a_finetuning_run_is_no_source(tmp_path: Path) -> None:
    run(small_config(), tmp_path / "run")
    with pytest.raises(RunError, match="comes from finetune, a run of pretrain is needed here"):
        run(small_config(), tmp_path / "other", source=tmp_path / "run")


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere holds no checkpoint"):
        run(small_config(), tmp_path / "run", source=tmp_path / "nowhere")


def test_a_run_of_the_other_kind_is_not_resumed(tmp_path: Path, pretrained: Path) -> None:
    with pytest.raises(RunError, match="holds a run of pretrain, not of finetune"):
        run(small_config(), pretrained, resume="auto")


def test_a_run_is_not_resumed_as_the_other_arm(tmp_path: Path, pretrained: Path) -> None:
    run(small_config(), tmp_path / "run", source=pretrained)
    with pytest.raises(RunError, match="started from pretrained, not from scratch"):
        run(small_config(), tmp_path / "run", resume="auto")
    renamed = shutil.copytree(pretrained, tmp_path / "renamed")
    assert run(small_config(), tmp_path / "run", source=renamed, resume="auto").finished


def test_everything_is_trained_end_to_end(tmp_path: Path, pretrained: Path) -> None:
    run(small_config(), tmp_path / "run", source=pretrained)
    before = load_selfie(pretrained)[0].state_dict()
    after = load_classifier(tmp_path / "run")[0].state_dict()
    moved = [
        name for name, tensor in after.items() if name.startswith(("stem.", "stages.0.")) and name.endswith("weight")
    ]
    assert moved
    for name in moved:
        assert not torch.equal(after[name], before[f"patch_network.{name}"]), name


def test_batches_are_whole_images(tmp_path: Path) -> None:
    loader = MemoryLoader(*random_images(8), batch_size=8, model=None)
    batch = next(iter(loader))
    assert isinstance(batch, ImageBatch)
    assert batch.image.shape == (8, 16, 16, 3)
