"""Number formats: bf16 on a CPU gives float32's gradients, roughly, or is refused."""

from pathlib import Path

import pytest
import torch

from selfie_data.errors import RunError
from selfie_model import presets
from selfie_model.config import Config
from selfie_model.network.selfie import Selfie
from selfie_model.training.distributed import Ranks
from selfie_model.training.precision import autocast, check_precision, place
from selfie_model.training.pretrain import pretrain
from tests.selfie_model.memory import MemoryLoader, patch_batch, random_images

CPU = torch.device("cpu")


def gradients(config: Config, precision: str) -> torch.Tensor:
    """Returns the gradients of one step, flat."""
    config = config.override(runtime={"precision": precision})
    torch.manual_seed(0)
    model = Selfie(config).train()
    place(model, CPU, config.runtime)
    with autocast(CPU, config.runtime):
        loss = model(patch_batch(config, 64)).loss
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def test_bf16_gradients_of_the_preset_that_uses_it_are_those_of_float32_but_for_rounding() -> None:
    exact, rounded, again = (gradients(presets.small(), name) for name in ("float32", "bfloat16", "bfloat16"))
    assert torch.equal(rounded, again)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99
    assert rounded.norm().item() == pytest.approx(exact.norm().item(), rel=0.05)


@pytest.mark.parametrize(
    ("preset", "narrowest"),
    [(presets.tiny, (1, 2)), (presets.small, (4, 8)), (presets.cifar10, (4, 8)), (presets.imagenet224, (4, 14))],
)
def test_the_narrowest_map_that_is_halved(preset: type, narrowest: tuple[int, int]) -> None:
    model = preset().model
    found = (model.narrowest_input(model.patch_size, model.patch_stages), model.narrowest_input(model.image_size, 4))
    assert found == narrowest


def test_bf16_is_refused_where_its_gradients_are_wrong(tmp_path: Path) -> None:
    config = presets.tiny().override(runtime={"precision": "bfloat16"})
    loader = MemoryLoader(*random_images(256, 32), batch_size=128, model=config.model)
    with pytest.raises(RunError, match="takes no maps of one pixel, which 8 px and the large stem"):
        pretrain(config, loader, out=tmp_path / "run", ranks=Ranks(), quiet=True)
    assert not (tmp_path / "run").exists()
    check_precision(config, CPU, side=32, stages=4)
    check_precision(config, torch.device("cuda"), side=8, stages=3)
    check_precision(presets.small(), CPU, side=8, stages=3)
