"""Exported weights: right keys and shapes always, equal logits where timm and torchvision can be imported."""

import importlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from selfie_model import Classifier, Selfie, presets
from selfie_model.config import Config
from selfie_model.features.export import export_onnx, export_weights, network_state, to_timm, to_torchvision
from selfie_model.features.export_facts import describe, timm_config

DATA = Path(__file__).parents[2] / "data"
TINY: dict[str, Any] = {"width": 8, "blocks": (1, 2, 1, 1), "attention_heads": 4, "attention_hidden": 16}


def expected(name: str) -> dict[str, list[int]]:
    content: dict[str, dict[str, list[int]]] = json.loads((DATA / f"{name}.json").read_text())
    return content["state"]


def shapes(state: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def classifier(config: Config, classes: int = 1000) -> Classifier:
    """A classifier whose batch norms are not the identity, so that a mixed-up statistic shows."""
    torch.manual_seed(0)
    network = Classifier(config, classes)
    for key, value in network.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif ".norm" in key and key.endswith("weight"):
            value.uniform_(0.5, 1.0)
    return network.eval()


def imported(name: str) -> Any:
    """The library, or a skip that says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception as error:  # a library built for another torch fails in many ways
        pytest.skip(f"{name} cannot be imported here ({type(error).__name__}), so only keys and shapes are tested")


def network(config: Config) -> dict[str, torch.Tensor]:
    return network_state(classifier(config).state_dict(), config, classes=1000)


@pytest.mark.parametrize(
    ("variant", "rename", "listing"),
    [("v2", to_timm, "timm_resnetv2_50"), ("v1", to_torchvision, "torchvision_resnet50")],
    ids=["timm", "torchvision"],
)
def test_keys_and_shapes_are_the_librarys(variant: str, rename: Any, listing: str) -> None:
    config = presets.imagenet224().override(model={"variant": variant})
    assert shapes(rename(network(config))) == expected(listing)


@pytest.mark.parametrize(
    ("variant", "rename", "listing", "stem"),
    [
        ("v2", to_timm, "timm_resnetv2_50", "stem.conv.weight"),
        ("v1", to_torchvision, "torchvision_resnet50", "conv1.weight"),
    ],
    ids=["timm", "torchvision"],
)
def test_small_stem_differs_in_one_shape_only(variant: str, rename: Any, listing: str, stem: str) -> None:
    config = presets.cifar10().override(model={"variant": variant})
    assert shapes(rename(network(config))) == {**expected(listing), stem: [64, 3, 3, 3]}


@pytest.mark.parametrize("small", [False, True], ids=["large stem", "small stem"])
def test_timm_gives_equal_logits(small: bool) -> None:
    timm = imported("timm")
    config = presets.cifar10() if small else presets.imagenet224()
    ours = classifier(config)
    theirs = timm.create_model("resnetv2_50", num_classes=1000)
    if small:
        theirs.stem = torch.nn.Sequential()
        theirs.stem.add_module("conv", torch.nn.Conv2d(3, 64, 3, padding=1, bias=False))
    theirs.load_state_dict(to_timm(network_state(ours.state_dict(), config, classes=1000)))
    assert_equal_logits(ours, theirs.eval())


@pytest.mark.parametrize("small", [False, True], ids=["large stem", "small stem"])
def test_torchvision_gives_equal_logits(small: bool) -> None:
    torchvision = imported("torchvision")
    config = (presets.cifar10() if small else presets.imagenet224()).override(model={"variant": "v1"})
    ours = classifier(config)
    theirs = torchvision.models.resnet50(num_classes=1000)
    if small:
        theirs.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        theirs.maxpool = torch.nn.Identity()
    theirs.load_state_dict(to_torchvision(network_state(ours.state_dict(), config, classes=1000)))
    assert_equal_logits(ours, theirs.eval())


def assert_equal_logits(ours: Classifier, theirs: torch.nn.Module) -> None:
    size = ours.config.model.image_size
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        left = ours.head(ours.features(pixels))
        right = theirs(ours.normalise(pixels).permute(0, 3, 1, 2).contiguous())
    difference = (left - right).abs().max().item()
    print(f"largest difference {difference:.2e} among logits of {left.abs().mean():.3f} on average")
    assert difference <= 1e-5 * left.abs().max().item()


def test_v1_is_refused_by_timm_and_v2_by_torchvision() -> None:
    v1 = network(presets.cifar10().override(model={**TINY, "variant": "v1"}))
    v2 = network(presets.cifar10().override(model=TINY))
    with pytest.raises(ValueError, match=r"no place for stem\.norm\.weight: only variant v2"):
        to_timm(v1)
    with pytest.raises(ValueError, match="no pre-activation ResNet"):
        to_torchvision(v2)


def test_weights_of_another_configuration_are_refused() -> None:
    config = presets.cifar10().override(model=TINY)
    state = classifier(config, 10).state_dict()
    with pytest.raises(ValueError, match="do not fit the configuration"):
        network_state(state, config.override(model={"width": 16}), classes=10)
    del state["stem.conv.weight"]
    with pytest.raises(ValueError, match=r"the first is stem\.conv\.weight"):
        network_state(state, config, classes=10)


@settings(max_examples=12, deadline=None)
@given(
    blocks=st.tuples(*[st.integers(1, 3)] * 4),
    variant=st.sampled_from(["v1", "v2"]),
    stem=st.sampled_from(["small", "large"]),
)
def test_renaming_loses_and_invents_nothing(blocks: tuple[int, ...], variant: str, stem: str) -> None:
    size = {"image_size": 32, "patch_size": 8}
    model = {**TINY, **size, "blocks": blocks, "variant": variant, "stem": stem}
    config = presets.cifar10().override(model=model)
    state = network_state(Classifier(config, 3).state_dict(), config, classes=3)
    renamed = (to_timm if variant == "v2" else to_torchvision)(state)
    assert len(renamed) == len(state)
    assert sum(value.numel() for value in renamed.values()) == sum(value.numel() for value in state.values())


def test_pretraining_run_exports_stem_and_stages_of_p(tmp_path: Path) -> None:
    config = presets.cifar10().override(model=TINY)
    state = Selfie(config).state_dict()
    path = tmp_path / "p.safetensors"
    metadata = export_weights(state, config, path, format="timm", classes=None, fingerprint="f")
    assert "strict=False" in metadata["selfie_part"]
    wanted = {
        key
        for key in network_state(Classifier(config, 2).state_dict(), config, classes=2)
        if key.startswith(("stem.", "stages.0.", "stages.1.", "stages.2."))
    }
    assert set(load_file(path)) == wanted


def test_plain_safetensors_hold_every_weight_and_what_they_are(tmp_path: Path) -> None:
    config = presets.cifar10().override(model=TINY)
    network = classifier(config, 10)
    network.normalise.set([1 / (255 * 0.25)] * 3, [-0.5 / 0.25] * 3)
    path = tmp_path / "run.safetensors"
    export_weights(network.state_dict(), config, path, format="safetensors", classes=10, fingerprint="abc")
    loaded = load_file(path)
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())
    assert loaded.keys() == network.state_dict().keys()
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert Config.from_dict(json.loads(metadata["selfie_config"])) == config
    assert metadata["selfie_fingerprint"] == "abc"
    assert json.loads(metadata["mean"]) == pytest.approx([0.5] * 3)
    assert json.loads(metadata["std"]) == pytest.approx([0.25] * 3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.safetensors"]


def test_files_say_what_is_done_to_an_image_and_what_its_classes_are(tmp_path: Path) -> None:
    names = ["cat", "a\nb", "Hündin, trächtig"]
    config = presets.imagenet224().override(model={"width": 8, "attention_heads": 4, "variant": "v1"})
    facts = {"classes": 3, "fingerprint": "f", "class_names": names}
    for file_format, resize in (("safetensors", 256), ("torchvision", 224), ("safetensors", None)):
        path = tmp_path / f"{file_format}.safetensors"
        state = classifier(config, 3).state_dict()
        export_weights(state, config, path, format=file_format, resize=resize, **facts)  # type: ignore[arg-type]
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        assert json.loads(metadata["class_names"]) == names
        assert metadata["resize"] == ("" if resize is None else str(resize))
        assert (metadata["image_size"], metadata["crop"], metadata["interpolation"]) == ("224", "center", "bilinear")


@pytest.mark.parametrize("place", ["model.safetensors", "mine.safetensors"])
def test_timms_configuration_stands_beside_its_weights(tmp_path: Path, place: str) -> None:
    config = presets.imagenet224().override(model=TINY)
    network = classifier(config, 2)
    facts = {"classes": 2, "fingerprint": "f", "class_names": ["cat", "dog"], "resize": 256}
    export_weights(network.state_dict(), config, tmp_path / place, format="timm", **facts)  # type: ignore[arg-type]
    written = json.loads((tmp_path / ("config.json" if place.startswith("model") else "mine.json")).read_text())
    assert (written["num_classes"], written["num_features"]) == (2, 256)
    assert written["label_names"] == ["cat", "dog"]
    pixels = written["pretrained_cfg"]
    assert (pixels["input_size"], pixels["crop_pct"], pixels["crop_mode"]) == ([3, 224, 224], 0.875, "center")
    assert pixels["mean"] == pytest.approx([0.5] * 3, abs=1e-2)


def test_timms_share_of_the_crop_gives_back_the_shorter_side() -> None:
    config = presets.cifar10().override(model=TINY)
    state = classifier(config, 2).state_dict()
    for size in range(32, 2048, 8):
        for resize in (size, size * 8 // 7):
            sized = config.override(model={"image_size": size})
            metadata = describe(state, sized, format="timm", classes=2, fingerprint="", resize=resize)
            share = timm_config(metadata, sized)["pretrained_cfg"]["crop_pct"]
            assert math.floor(size / share) == resize, size


def test_timm_builds_the_network_from_what_was_written(tmp_path: Path) -> None:
    timm = imported("timm")
    config = presets.imagenet224().override(model=TINY)
    ours = classifier(config, 2)
    facts = {"classes": 2, "fingerprint": "f", "class_names": ["cat", "dog"], "resize": 256}
    path = tmp_path / "model.safetensors"
    export_weights(ours.state_dict(), config, path, format="timm", **facts)  # type: ignore[arg-type]
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert_equal_logits(ours, theirs)
    data = timm.data.resolve_model_data_config(theirs)
    assert list(data["input_size"]) == [3, 224, 224]
    assert (data["crop_pct"], data["crop_mode"], data["interpolation"]) == (0.875, "center", "bilinear")
    assert theirs.pretrained_cfg["label_names"] == ["cat", "dog"]


def test_onnx_gives_equal_logits(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
    config = presets.tiny()
    network = classifier(config, 10)
    path = tmp_path / "model.onnx"
    export_onnx(network, path, metadata={"selfie_fingerprint": "abc"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
    model = onnx.load(path)
    assert {entry.key: entry.value for entry in model.metadata_props}["selfie_fingerprint"] == "abc"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    reference = importlib.import_module("onnx.reference").ReferenceEvaluator(model)
    (got,) = reference.run(None, {"image": pixels})
    with torch.no_grad():
        wanted = network.head(network.features(torch.from_numpy(pixels))).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4)
