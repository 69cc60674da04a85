"""The examples of other methods, and of weights that are taken away, run as they are."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from selfie_model import Selfie, presets
from selfie_model.features.export import export_weights

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_read_in_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 150


def test_the_masked_autoencoder_learns_and_is_probed(raw_dataset: Path) -> None:
    first, second, *probes = run(
        "mae.py", raw_dataset, "--epochs", 2, "--probe", raw_dataset, "--images", 500, "--beside", "untrained"
    )
    losses = [float(line.rpartition(" ")[2]) for line in (first, second)]
    assert losses[1] < losses[0] < 1.5  # 1 is what a painter of even grey gets
    found = [json.loads(line) for line in probes]
    assert [probe["probe"] for probe in found] == ["trained", "untrained"]
    assert all(0.1 < probe["accuracy"] <= 1 for probe in found)


def test_the_joint_embedding_learns_without_collapse(raw_dataset: Path) -> None:
    lines = run("ijepa.py", raw_dataset, "--epochs", 2)
    found = [
        re.fullmatch(r"epoch \d: loss (\S+), (\d+)% of a picture shown, spread of features (\S+)", x) for x in lines
    ]
    assert all(found)
    (before, _, _), (after, shown, spread) = (match.groups() for match in found if match)
    assert float(after) < float(before)
    assert 15 < int(shown) < 60
    assert float(spread) > 0.05


def exported(folder: Path) -> Path:
    """The weights of a pretraining that ends before its first step, as torchvision's."""
    config = presets.cifar10().override(model={"variant": "v1"})
    path = folder / "weights.safetensors"
    export_weights(Selfie(config).state_dict(), config, path, format="torchvision", classes=None, fingerprint="")
    return path


def test_exported_weights_are_those_the_finetuning_asks_for(tmp_path: Path) -> None:
    """What the example checks while it loads, against the committed list of torchvision's keys: without torchvision."""
    listed = json.loads((ROOT / "tests" / "data" / "torchvision_resnet50.json").read_text())["state"]
    state = {key: list(value.shape) for key, value in load_file(exported(tmp_path)).items()}
    assert state.pop("conv1.weight") == [64, 3, 3, 3]  # the stem for small images, which the example puts in
    assert all(listed[key] == shape for key, shape in state.items())
    assert {key.partition(".")[0] for key in set(listed) - set(state)} == {"conv1", "layer4", "fc"}


def test_torchvision_finetunes_exported_weights(tmp_path: Path) -> None:
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # a library built for another torch fails in many ways
        pytest.skip(f"torchvision cannot be imported here ({type(error).__name__}); keys and shapes are tested above")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(2):
            picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
            picture.save(tmp_path / "images" / name / f"{number}.png")
    lines = run("finetune_torchvision.py", tmp_path / "images", exported(tmp_path), "--batch", 2)
    assert re.fullmatch(r"epoch 0: 2 steps, loss \d+\.\d{4}", lines[0])
