"""From nothing to the page, through the commands a user types: shards, pretraining, finetuning, what follows."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from click.testing import CliRunner
from safetensors.torch import load_file

from selfie_data.cli.__main__ import main as selfie_data
from selfie_model.cli import main as selfie_model

SMALL = ["--preset", "tiny", "--set", "model.width=4", "--set", "model.attention_hidden=16"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def call(command: object, *arguments: object) -> str:
    """Runs a command; returns what it printed."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 0, f"{arguments}: {result.output}\n{result.exception!r}"
    return result.output


def refuse(*arguments: object, code: int) -> str:
    """Runs a command of `selfie-model` that must fail with `code` and one line; returns it."""
    result = CliRunner().invoke(selfie_model, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, test shards, splits, a pretraining run and a finetuning run."""
    place = tmp_path_factory.mktemp("story")
    build = ("build-shards", "synthetic", "--size", 32, "--workers", 1)
    call(selfie_data, *build, place / "shards", "--limit", 400)
    call(selfie_data, *build, place / "test", "--limit", 200, "--split", "test")
    call(selfie_data, "split", place / "shards", "--fractions", "20,100")
    shards, threads = place / "shards", ("--threads", 1)
    call(
        *(selfie_model, "pretrain", shards, *SMALL, "--steps", 6, "--batch-size", 32, "--out", place / "run"),
        *threads,
    )
    call(
        *(selfie_model, "finetune", shards, "--from", place / "run", "--labelled", "20%", "--steps", 6),
        *("--batch-size", 32, "--out", place / "run2", *threads),
    )
    return place


def test_a_run_is_measured_on_test_shards(place: Path) -> None:
    told = json.loads(call(selfie_model, "evaluate", place / "run2", place / "test", "--json"))
    assert told["counted"] == 200
    assert told["chance"] == pytest.approx(0.1)
    assert 0 <= told["accuracy"] <= 1


def test_weights_leave_for_timm_and_plain_files(place: Path) -> None:
    call(selfie_model, "export", place / "run2", "--format", "timm", "--out", place / "timm.safetensors")
    weights = load_file(place / "timm.safetensors")
    assert weights["head.fc.weight"].shape == (10, 128, 1, 1)
    call(selfie_model, "export", place / "run", "--format", "timm", "--out", place / "p.safetensors")
    part = load_file(place / "p.safetensors")
    assert part.keys() < weights.keys()
    assert not any(key.startswith(("head", "norm", "stages.3")) for key in part)
    call(selfie_model, "export", place / "run", "--format", "safetensors")
    assert "u0" in load_file(place / "run" / "safetensors.safetensors")
    line = refuse("export", place / "run2", "--format", "torchvision", code=1)
    assert "torchvision has no pre-activation ResNet" in line
    assert "finetune the run first" in refuse("export", place / "run", "--format", "onnx", code=1)


def test_a_classifier_leaves_as_onnx(place: Path) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    told = call(selfie_model, "export", place / "run2", "--format", "onnx")
    assert (place / "run2" / "onnx.onnx").stat().st_size > 10_000
    assert "whole network" in told


def test_features_are_probed_and_embedded(place: Path) -> None:
    told = json.loads(call(selfie_model, "probe", place / "run", place / "shards", "--test", place / "test", "--json"))
    assert (told["learned_from"], told["measured_on"], told["source"]) == (400, 200, "patches")
    assert "measured on 40" in call(selfie_model, "probe", place / "run2", place / "shards")
    call(selfie_model, "embed", place / "run", place / "shards", place / "out.zarr", "--batch-size", 64)
    array = zarr.open_group(str(place / "out.zarr"), mode="r")["features"]
    assert array.shape == (400, 64)
    assert np.isfinite(np.asarray(array)).all()
    assert "--overwrite" in refuse("embed", place / "run", place / "shards", place / "out.zarr", code=1)
    assert "whole image only" in refuse(
        "embed", place / "run2", place / "shards", place / "x.zarr", "--source", "patches", code=2
    )


def test_the_papers_table_is_made_and_shown(place: Path) -> None:
    arguments = [
        *("reproduce", place / "shards", *SMALL, "--fractions", "20", "--seeds", 2, "--learning-rates", "0.05,0.1"),
        *("--steps", 3, "--set", "pretrain.steps=3", "--set", "pretrain.batch_size=32", "--out", place / "study"),
        *("--threads", 1),
    ]
    told = call(selfie_model, *arguments)
    assert "[9/9] final/selfie-20/seed-1: accuracy" in told
    assert "80 images (20 % of each class) were held out" in told
    assert "95 % interval" in told
    assert call(selfie_model, *arguments).count("accuracy") < told.count("accuracy")  # nothing is run again
    call(selfie_model, "report", place / "study", "--shards", place / "shards")
    page = (place / "study" / "report.html").read_text()
    assert "Of 80 images" in page
    assert "Compared with supervised training from scratch" in page
    assert "holds another study" in refuse(*arguments, "--budget", 2, code=1)


def test_a_run_has_a_page(place: Path) -> None:
    call(selfie_model, "report", place / "run", "--shards", place / "test", "--noise", place / "run", "--images", 70)
    page = (place / "run" / "report.html").read_text()
    assert "Of 70 images" in page
    call(selfie_model, "report", place / "run2")
    assert "Finetuning: run2" in (place / "run2" / "report.html").read_text()
    assert "leave --shards out" in refuse("report", place / "run2", "--shards", place / "test", code=2)


def test_other_images_and_other_classes_are_refused_in_one_line(place: Path) -> None:
    call(selfie_data, "build-shards", "synthetic", place / "large", "--size", 64, "--limit", 40, "--workers", 1)
    assert "64 px" in refuse("embed", place / "run", place / "large", place / "y.zarr", code=2)
    assert "takes numbers" in refuse("reproduce", place / "shards", *SMALL, "--fractions", "x", "--out", "y", code=2)
