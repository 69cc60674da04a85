"""The commands: from shards to runs, the options, the one-line errors."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.sources import open_source
from selfie_model.cli import main
from selfie_model.commands.configuration import resolve_config
from selfie_model.config import Config
from selfie_model.training.checkpoint import Checkpoints, find_checkpoint, read_checkpoint
from selfie_model.training.journal import read_journal
from selfie_model.training.run_folder import read_result

ROOT = Path(__file__).parents[2]
QUICK = ["--device", "cpu", "--quiet", "--set", "runtime.validate_every=0"]
SMALL = ["--preset", "tiny", "--steps", "4", "--batch-size", "32", *QUICK]


def invoke(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def error_line(result: Result) -> str:
    """Returns the message, having checked that there is one line of it and no traceback."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


@pytest.fixture(scope="module")
def shards(raw_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated pictures with splits; links, so that the shared dataset stays as it is."""
    out = tmp_path_factory.mktemp("shards") / "raw"
    subprocess.run(["cp", "-r", str(raw_dataset), str(out)], check=True)
    write_splits(open_dataset(out), SplitOptions(labelled=("10", "100")))
    return out


@pytest.fixture(scope="module")
def pretrained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    invoke("pretrain", shards, "--out", out, *SMALL)
    return out


def test_pretrain_writes_a_run(shards: Path, pretrained: Path) -> None:
    assert {path.name for path in pretrained.iterdir()} == {
        "checkpoints",
        "config.json",
        "journal.jsonl",
        "result.json",
    }
    config = Config.from_dict(json.loads((pretrained / "config.json").read_text()))
    assert (config.preset, config.pretrain.steps, config.pretrain.batch_size) == ("tiny", 4, 32)
    state = read_checkpoint(pretrained / "checkpoints/step-000000004.pt")
    fingerprint = open_dataset(shards).fingerprint
    seen = {"subset": "all", "samples": 1000, "resize": 32, "order": "global"}
    assert state["data"] == {"fingerprint": fingerprint, **seen}


def test_trainings_hand_on_what_loaders_offer(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    """Floats that the loader normalises give the very weights that uint8 gives; another shuffle gives others."""

    def weights(run: Path) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = read_checkpoint(run / "checkpoints/step-000000004.pt")["model"]
        return state

    expected = weights(pretrained)
    invoke("pretrain", shards, "--out", tmp_path / "floats", "--dtype", "float32", "--verify", "always", *SMALL)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "floats").items())
    invoke("pretrain", shards, "--out", tmp_path / "half", "--dtype", "bfloat16", *SMALL)
    half = weights(tmp_path / "half")
    assert not torch.equal(half["u0"], expected["u0"])
    assert torch.allclose(half["u0"], expected["u0"], atol=0.05)
    invoke("pretrain", shards, "--out", tmp_path / "blocks", "--shuffle", "2", *SMALL)
    assert not torch.equal(weights(tmp_path / "blocks")["u0"], expected["u0"])


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_excluded_images_are_not_learned_from(shards: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "bad.txt").write_text("3\n5\n8\n")
    start = ("--from", "scratch") if command == "finetune" else ()
    options = ["--exclude", tmp_path / "bad.txt", "--dtype", "float16"]
    invoke(command, shards, "--out", tmp_path / "run", *start, "--no-validation", *options, *SMALL)
    state = read_checkpoint(tmp_path / "run/checkpoints/step-000000004.pt")
    assert state["data"]["samples"] == 997


def test_a_corrupt_image_is_recorded_and_a_new_run_goes_without_it(shards: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    subprocess.run(["cp", "-r", str(shards), str(damaged)], check=True)
    dataset = open_dataset(damaged)
    victim = 17
    shard = damaged / dataset.manifest.shards[int(dataset.table.shard[victim])].name
    data = bytearray(shard.read_bytes())
    data[int(dataset.table.offset[victim]) + 100] ^= 1
    shard.write_bytes(data)
    epoch = ["--preset", "tiny", "--steps", "10", "--batch-size", "100", *QUICK]
    record = ["--on-error", "record", "--exclude", tmp_path / "bad.txt"]
    assert "CRC32C" in error_line(invoke("pretrain", damaged, "--out", tmp_path / "a", *record, *epoch, code=1))
    assert [line.split()[0] for line in (tmp_path / "bad.txt").read_text().splitlines()] == [str(victim)]
    invoke("pretrain", damaged, "--out", tmp_path / "b", *record, *epoch)
    invoke("pretrain", damaged, "--out", tmp_path / "c", "--verify", "never", *epoch)  # a wrong pixel, unseen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shuffle", "some"], "shuffle must be 'global' or a number of shards"),
        (["--shuffle", "lanes", "--lanes", "7"], "lanes must divide global_batch_size"),
        (["--on-error", "record"], "on_error='record' needs exclude=PATH.txt"),
        (["--dtype", "float64"], "'float64' is not one of"),
    ],
    ids=str,
)
def test_wrong_options_of_a_loader_are_wrong_options_of_the_command(
    shards: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    assert message in error_line(invoke("pretrain", shards, "--out", tmp_path, *options, *SMALL, code=2))


def test_pretrain_with_validation_holds_a_split_out(shards: Path, tmp_path: Path) -> None:
    result = invoke("pretrain", shards, "--out", tmp_path / "run", "--validation", *SMALL)
    assert "validation" in result.output
    state = read_checkpoint(tmp_path / "run/checkpoints/best.pt")
    assert (state["data"]["subset"], state["data"]["samples"]) == ("train", 900)
    passes = [record for record in read_journal(tmp_path / "run") if record["event"] == "validation"]
    assert [record["counted"] for record in passes] == [400]  # 100 images, 4 hidden patches each


@pytest.mark.parametrize("arm", ["selfie", "scratch"])
def test_finetune_and_evaluate_both_arms(shards: Path, pretrained: Path, tmp_path: Path, arm: str) -> None:
    start = ["--from", pretrained] if arm == "selfie" else ["--from", "scratch", "--preset", "tiny"]
    out = tmp_path / "run"
    invoke("finetune", shards, *start, "--labelled", "10%", "--out", out, "--steps", "4", "--batch-size", "32", *QUICK)
    state = read_checkpoint(out / "checkpoints/best.pt")
    assert (state["data"]["subset"], state["data"]["samples"]) == ("train-10", 90)
    assert state["class_names"] == list(open_dataset(shards).class_names)
    result = json.loads(invoke("evaluate", out, shards, "--json", "--device", "cpu").output)
    assert result["counted"] == 1000
    assert result["checkpoint"] == "best.pt"
    assert result["chance"] == 0.1


def test_finetune_without_validation_learns_from_everything(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    invoke("finetune", shards, "--from", "scratch", "--labelled", "10", "--no-validation", "--out", out, *SMALL)
    assert read_checkpoint(out / "checkpoints/step-000000004.pt")["data"]["subset"] == "all-10"
    assert not (out / "checkpoints/best.pt").exists()


@pytest.mark.parametrize("arguments", [["pretrain"], ["finetune", "--from", "scratch", "--no-validation"]])
def test_a_subset_may_be_a_file_of_ids(shards: Path, tmp_path: Path, arguments: list[str]) -> None:
    ids, out = tmp_path / "ids.npy", tmp_path / "run"
    np.save(ids, np.arange(0, 1000, 10))
    invoke(*arguments, shards, "--subset", ids, "--out", out, *SMALL)
    assert read_checkpoint(out / "checkpoints/step-000000004.pt")["data"]["samples"] == 100


@pytest.mark.parametrize("arguments", [["pretrain", "--validation"], ["finetune", "--from", "scratch"]])
def test_validation_images_are_not_learned_from(shards: Path, tmp_path: Path, arguments: list[str]) -> None:
    result = invoke(*arguments, shards, "--subset", "all-100", "--out", tmp_path / "run", *SMALL, code=2)
    assert "100 of the images to learn from are in the split validation" in error_line(result)


def test_a_probe_does_not_learn_from_what_it_measures(shards: Path, pretrained: Path) -> None:
    result = invoke("probe", pretrained, shards, "--subset", "all-100", "--device", "cpu", code=2)
    assert "100 of the images to learn from are in the split validation" in error_line(result)
    assert "give --test" in error_line(result)


def test_finetune_takes_the_model_of_its_source(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--from", pretrained, "--preset", "cifar10", "--steps", "1", "--batch-size", "16", *QUICK]
    invoke("finetune", shards, *options, "--out", out)
    config = Config.from_dict(json.loads((out / "config.json").read_text()))
    assert config.preset == "cifar10"
    assert config.model.width == 8


def test_evaluate_measures_a_pretraining_run(pretrained: Path, shards: Path) -> None:
    result = invoke("evaluate", pretrained, shards, "--subset", "validation", "--device", "cpu")
    assert "chance 25.00%" in result.output
    assert "400 hidden patches" in result.output


def test_values_come_from_preset_file_and_options_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'preset = "tiny"\n[pretrain]\nsteps = 7\nlearning_rate = 0.3\nseed = 2\n[model]\nblocks = [1, 2, 1, 1]\n'
    path.write_text(text)
    config = resolve_config(
        "pretrain",
        preset=None,
        config_file=path,
        assignments=["pretrain.learning_rate=0.2", "pretrain.seed=3"],
        steps=None,
        seed=4,
    )
    assert config.model.blocks == (1, 2, 1, 1)
    train = config.pretrain
    assert (train.steps, train.learning_rate, train.seed) == (7, 0.2, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "tiny", "--set", "model.widht=3"], "no value model.widht"),
        (["--preset", "tiny", "--set", "width=3"], "--set takes SECTION.NAME=VALUE, got 'width=3'"),
        (["--preset", "tiny", "--steps", "0"], "steps must be at least 1"),
        (["--preset", "tiny", "--batch-size", "5000"], "global_batch_size 5000 is more than the 1000 samples"),
        (["--preset", "imagenet224"], "holds images of 32 px, the model is for 224"),
        (["--preset", "tiny", "--set", "pretrain.augmentation=padded_crop_flip"], "padding tells where"),
        (["--preset", "huge"], "'huge' is not one of"),
        ([], "--preset is needed, one of cifar10, imagenet32, imagenet224, tiny"),
        (["--preset", "tiny", "--subset", "train-7"], "train-7"),
    ],
)
def test_wrong_options_are_one_line(shards: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["pretrain", str(shards), "--out", str(tmp_path / "run"), *options, "--quiet"])
    assert result.exit_code in (1, 2)
    assert message in error_line(result)


def test_a_missing_dataset_is_one_line(tmp_path: Path) -> None:
    result = invoke("pretrain", tmp_path / "nothing", "--out", tmp_path / "run", *SMALL, code=1)
    assert "nothing" in error_line(result)


def test_a_run_is_not_written_over(shards: Path, pretrained: Path) -> None:
    result = invoke("pretrain", shards, "--out", pretrained, *SMALL, code=1)
    assert "go on with --resume auto" in error_line(result)


def test_a_wrong_source_is_one_line(shards: Path, tmp_path: Path) -> None:
    result = invoke("finetune", shards, "--from", tmp_path, "--out", tmp_path / "run", *QUICK, code=1)
    assert "holds no checkpoint" in error_line(result)


def test_probes_need_labels(pretrained: Path, unlabelled_dataset: Path) -> None:
    options = ["--test", unlabelled_dataset, "--device", "cpu"]
    result = invoke("probe", pretrained, unlabelled_dataset, *options, code=2)
    assert re.search(r"(\d+) of \1 images of .* have no label: build it from class folders", error_line(result))


def test_nothing_goes_into_the_folder_of_a_dataset(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shards)
    for out in (shards / "run", tmp_path / "link/run"):
        for command in (["pretrain"], ["finetune", "--from", "scratch"], ["reproduce"]):
            result = invoke(*command, shards, "--preset", "tiny", "--device", "cpu", "--out", out, code=1)
            assert "is inside the dataset, which holds its own files only" in error_line(result)
        result = invoke("embed", pretrained, shards, out, "--device", "cpu", code=1)
        assert "is inside the dataset, which holds its own files only" in error_line(result)
    assert not (shards / "run").exists()


def test_a_study_of_fewer_images_than_a_batch_does_not_begin(shards: Path, tmp_path: Path) -> None:
    options = [
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--set",
        "pretrain.batch_size=100000",
        "--out",
        tmp_path / "study",
    ]
    result = invoke("reproduce", shards, *options, code=1)
    assert re.search(
        r"takes 100000 images a step and there are (\d+): --set pretrain.batch_size=\1 ", error_line(result)
    )
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("share", ["many", "-5%", "5,10", ""])
def test_a_share_of_the_labels_is_a_percentage(shards: Path, tmp_path: Path, share: str) -> None:
    options = ["--from", "scratch", "--preset", "tiny", "--out", tmp_path / "run", "--labelled", share]
    result = invoke("finetune", shards, *options, code=2)
    assert f"--labelled takes a percentage such as 5% or 2.5%, got {share!r}" in error_line(result)


def test_images_without_a_label_are_not_counted_and_that_is_said(tmp_path: Path) -> None:
    for number in range(9):
        path = tmp_path / "folder" / (f"class {number % 2}/{number}.png" if number < 8 else "other.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    labelled = "".join(f"class {number % 2}/{number}.png,class {number % 2}\n" for number in range(8))
    (tmp_path / "labels.csv").write_text(labelled)
    train = open_source("folder", tmp_path / "folder", table=tmp_path / "labels.csv")
    build_shards(train, tmp_path / "train", BuildOptions(size=32))
    build_shards(open_source("folder", tmp_path / "folder"), tmp_path / "test", BuildOptions(size=32))
    start = ["--from", "scratch", "--preset", "tiny", *QUICK, "--steps", "1", "--batch-size", "4", "--no-validation"]
    invoke("finetune", tmp_path / "train", *start, "--out", tmp_path / "run")
    result = invoke("evaluate", tmp_path / "run", tmp_path / "test", "--device", "cpu")
    assert "8 images" in result.output
    assert "warning: 1 of 9 images have no label and are not counted" in result.output


def test_two_classes_are_needed(tmp_path: Path) -> None:
    """Nothing is left behind, so that the same --out can be given again."""
    for number in range(10):
        path = tmp_path / f"folder/only/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    source = open_source("folder", tmp_path / "folder", class_level=1)
    build_shards(source, tmp_path / "one", BuildOptions(size=32))
    options = ["--preset", "tiny", "--out", tmp_path / "run", "--device", "cpu"]
    for command in (["finetune", "--from", "scratch"], ["reproduce"]):
        result = invoke(*command, tmp_path / "one", *options, code=1)
        assert "a classifier needs two classes or more, got 1; build from a source that has them" in error_line(result)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", ["", "s3://bucket/run"])
@pytest.mark.parametrize("command", [["pretrain"], ["finetune", "--from", "scratch"], ["reproduce"]])
def test_a_run_goes_into_a_folder_that_is_named(unlabelled_dataset: Path, command: list[str], out: str) -> None:
    result = invoke(*command, unlabelled_dataset, "--preset", "tiny", "--out", out, code=2)
    assert re.search("an empty name is no path|must be a path of this machine, got s3://", error_line(result))


def test_labels_are_needed(unlabelled_dataset: Path, tmp_path: Path) -> None:
    options = ["--from", "scratch", "--preset", "tiny", "--out", tmp_path / "run", "--device", "cpu"]
    result = invoke("finetune", unlabelled_dataset, *options, code=2)
    assert re.search(r"(\d+) of \1 images of .* have no label: build it from class folders", error_line(result))


def test_a_damaged_checkpoint_is_one_line(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    result = invoke("evaluate", tmp_path / "bad.pt", shards, "--device", "cpu", code=1)
    assert "cannot be read as a checkpoint" in error_line(result)


def test_classes_must_agree(shards: Path, unlabelled_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    invoke("finetune", shards, "--from", "scratch", "--labelled", "10", "--out", out, *SMALL)
    result = invoke("evaluate", out, unlabelled_dataset, "--device", "cpu", code=2)
    assert "build the test shards with --classes-from" in error_line(result)


def test_images_without_labels_are_not_evaluated(shards: Path, tmp_path: Path) -> None:
    """Of the same classes: only then it is the labels that are missing."""
    folder, out = tmp_path / "flat", tmp_path / "run"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number}.png")
    source = open_source("folder", folder, classes=open_dataset(shards).class_names)
    build_shards(source, tmp_path / "flat-shards", BuildOptions(size=32))
    invoke("finetune", shards, "--from", "scratch", "--labelled", "10", "--out", out, *SMALL)
    options = ["--batch-size", 4, "--device", "cpu"]
    result = invoke("evaluate", out, tmp_path / "flat-shards", *options, code=1)
    assert "nothing to evaluate: no image, or none with a label" in error_line(result)


def test_mistakes_are_one_line(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    """What was a traceback, spoke in the system's words only, or told to delete a file named by mistake."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "section.toml").write_text("model = 3\n")
    (tmp_path / "steps.toml").write_text("[pretrain]\nsteps = inf\n")
    (tmp_path / "preset.toml").write_text('preset = ["tiny"]\n')
    pretrain = ["pretrain", shards, "--out", tmp_path / "run"]
    report = ["report", pretrained, "--out", tmp_path / "page.html"]
    reproduce = ["reproduce", shards, "--preset", "tiny", "--device", "cpu", "--out", tmp_path / "study"]
    for code, arguments, message in [
        (2, [*pretrain, *SMALL, "--config", tmp_path / "section.toml"], "model is a section of values, got 3"),
        (2, [*pretrain, *SMALL, "--config", tmp_path / "steps.toml"], "pretrain.steps takes a whole number, got inf"),
        (2, [*pretrain, "--config", tmp_path / "preset.toml"], "preset is the name of one, got ['tiny']"),
        (2, [*pretrain, *SMALL, "--set", "model.attention_heads=0"], "attention_heads must be at least 1"),
        (1, [*pretrain, *SMALL, "--accumulate", "99"], "images of a process's batch, 32, got 99; lower --accumulate"),
        (1, ["pretrain", shards, "--out", tmp_path / "file", *SMALL], "cannot be made a folder (File exists)"),
        (1, ["export", pretrained, "--format", "timm", "--out", tmp_path / "file" / "x"], "cannot be made a folder"),
        (1, ["export", pretrained, "--format", "timm", "--out", tmp_path], "cannot be written (Is a directory)"),
        (1, ["evaluate", tmp_path / "file", shards], "cannot be read as a checkpoint (truncated or not one); give the"),
        (1, ["evaluate", pretrained, tmp_path / "file"], "a file, where the directory of a dataset is wanted"),
        (1, [*report, "--study", tmp_path / "file"], "holds no results.json of reproduce"),
        (2, [*reproduce, "--learning-rates", "inf"], "learning rates must be positive and finite, got (inf,)"),
    ]:
        assert message in error_line(invoke(*arguments, code=code)), arguments
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", 1], "two images or more at a time where the last map is 1 x 1, got 1: batch_size 1"),
        (["--batch-size", 3, "--accumulate", 2], "batch_size 3, processes 1, accumulate 2; raise --batch-size"),
        (["--batch-size", 1, "--set", "model.variant=v1"], "or --set finetune.batch_norm=frozen"),
    ],
    ids=["batch", "part", "v1"],
)
def test_one_image_at_a_time_gives_batch_norm_nothing_to_measure(
    shards: Path, tmp_path: Path, options: list[object], message: str
) -> None:
    start = ["finetune", shards, "--from", "scratch", "--no-validation", "--preset", "tiny", "--steps", 2, *QUICK]
    assert message in error_line(invoke(*start, *options, "--out", tmp_path / "refused", code=1))
    assert not (tmp_path / "refused").exists()
    for number, allowed in enumerate((["--set", "finetune.batch_norm=frozen"], ["--set", "model.stem=small"])):
        invoke(*start, *options, *allowed, "--out", tmp_path / str(number))


@pytest.mark.parametrize("classes", [2, 10], ids=["another number of classes", "as many classes"])
def test_a_finetuning_does_not_go_on_with_other_classes(shards: Path, tmp_path: Path, classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    for number in range(4 * classes):
        path = tmp_path / "folder" / names[number % classes] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    build_shards(open_source("folder", tmp_path / "folder"), tmp_path / "others", BuildOptions(size=32))
    start = ["--from", "scratch", "--no-validation", "--out", tmp_path / "run", "--preset", "tiny", *QUICK]
    start += ["--steps", "2", "--batch-size", "8"]
    invoke("finetune", shards, *start)
    result = invoke("finetune", tmp_path / "others", *start, "--resume", "auto", code=1)
    assert "cannot go on with this data: the state belongs to another stream" in error_line(result)
    assert error_line(result).endswith("; give the shards and options of its beginning, or another --out")


@pytest.mark.parametrize("budget", ["0", "nan", "inf"])
def test_a_budget_is_a_positive_factor(shards: Path, tmp_path: Path, budget: str) -> None:
    options = ["--preset", "tiny", "--out", tmp_path / "study", "--budget", budget, "--device", "cpu"]
    assert "the budget is a positive factor" in error_line(invoke("reproduce", shards, *options, code=2))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_saves_and_resume_ends_in_the_weights_of_an_uninterrupted_run(
    shards: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """In a process of its own, with the real loaders; stopped somewhere, wherever that is."""
    options = ["--preset", "tiny", "--steps", "40", "--batch-size", "32", "--device", "cpu"]
    arguments = [str(shards), *options, "--set", "runtime.log_every=1", "--set", "model.dropout=0.1", "--out"]
    command = [sys.executable, "-m", "selfie_model.cli", "pretrain", *arguments, str(tmp_path / "parts")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(read_journal(tmp_path / "parts")) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert f"stopped by {number.name} at step" in out
    invoke("pretrain", *arguments, tmp_path / "parts", "--resume", "auto", "--quiet")
    invoke("pretrain", *arguments, tmp_path / "whole", "--quiet")
    paths = [Checkpoints(tmp_path / name).newest() for name in ("parts", "whole")]
    parts, whole = (read_checkpoint(path)["model"] for path in paths if path is not None)
    for name, tensor in whole.items():
        assert (tensor == parts[name]).all(), name


def slow_run(shards: Path, out: Path, **options: Any) -> "subprocess.Popen[bytes]":
    """Begins a pretraining that would take minutes, and returns once a step has been written down."""
    settings = ["--preset", "tiny", "--steps", "5000", "--device", "cpu", "--set", "runtime.log_every=1"]
    command = [sys.executable, "-m", "selfie_model.cli", "pretrain", str(shards), *settings, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, **options)
    deadline = time.monotonic() + 120
    while not read_journal(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def test_a_closed_terminal_saves(shards: Path, tmp_path: Path) -> None:
    """The kernel hangs up, and no line of progress can be written any more."""
    ours, theirs = os.openpty()
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = slow_run(
        shards,
        tmp_path / "run",
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        **terminal,
    )
    os.close(theirs)
    os.close(ours)
    try:
        process.wait(timeout=120)
    finally:
        process.kill()
    result = read_result(tmp_path / "run")
    assert result is not None
    assert result.stopped_by == "SIGHUP"
    assert read_checkpoint(find_checkpoint(tmp_path / "run"))["step"] == result.step


def test_nohup_keeps_its_word(shards: Path, tmp_path: Path) -> None:
    process = slow_run(
        shards,
        tmp_path / "run",
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    process.send_signal(signal.SIGHUP)
    before = len(read_journal(tmp_path / "run"))
    deadline = time.monotonic() + 60
    while len(read_journal(tmp_path / "run")) < before + 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None
    assert len(read_journal(tmp_path / "run")) >= before + 3
    process.terminate()
    assert process.wait(timeout=120) == 0


def test_progress_names_loss_chance_speed_and_waiting(shards: Path, tmp_path: Path) -> None:
    options = [option for option in SMALL if option != "--quiet"]
    result = invoke("pretrain", shards, "--out", tmp_path / "run", *options, "--set", "runtime.log_every=2")
    lines = [line for line in result.stderr.splitlines() if line.startswith("pretrain: step")]
    assert len(lines) == 2
    for word in ("loss", "accuracy", "chance 25.0%", "images/s", "waiting for data", "left"):
        assert word in lines[0]


def test_tensorboard_is_written_when_asked(shards: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")
    invoke("pretrain", shards, "--out", tmp_path / "run", *SMALL, "--tensorboard")
    assert list((tmp_path / "run/tensorboard").glob("events.*"))


@pytest.mark.parametrize("kept", [2, 7])
def test_tensorboard_shows_every_step_once_after_a_kill(shards: Path, tmp_path: Path, kept: int) -> None:
    """The killed process had written eight steps, and its newest checkpoint is of the step `kept`."""
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the package tensorboard is not installed"
    )
    run = tmp_path / "run"
    options = ["--tensorboard", *SMALL, "--set", "runtime.log_every=1", "--set", "runtime.checkpoint_every=1"]
    options += ["--steps", "8", "--set", "runtime.keep_last=9"]
    invoke("pretrain", shards, "--out", run, *options)
    for path in (run / "checkpoints").iterdir():  # as after a kill: written down, not saved
        if int(path.stem.removeprefix("step-")) > kept:
            path.unlink()
    invoke("pretrain", shards, "--out", run, *options, "--resume", "auto")
    accumulator = accumulators.EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in accumulator.Scalars("train/loss")] == [*range(1, 9)]


@pytest.fixture(scope="module")
def unfinished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining of four steps whose newest checkpoint is of the second."""
    out = tmp_path_factory.mktemp("runs") / "unfinished"
    invoke("pretrain", shards, "--out", out, *SMALL, "--set", "runtime.checkpoint_every=2")
    (out / "checkpoints/step-000000004.pt").unlink()
    return out


@pytest.mark.parametrize("command", ["finetune", "export", "embed", "evaluate", "probe"])
def test_who_reads_a_run_says_when_it_was_not_finished(
    shards: Path, pretrained: Path, unfinished: Path, tmp_path: Path, command: str
) -> None:
    def call(run: Path, name: str) -> str:
        out = tmp_path / name
        arguments: dict[str, list[object]] = {
            "finetune": [shards, "--from", run, "--out", out, "--steps", 1, "--batch-size", 16, *QUICK],
            "export": [run, "--format", "safetensors", "--out", out],
            "embed": [run, shards, out, "--device", "cpu"],
            "evaluate": [run, shards, "--subset", "validation", "--json", "--device", "cpu"],
            "probe": [run, shards, "--json", "--device", "cpu"],
        }
        return invoke(command, *arguments[command]).stderr

    told = "was not finished, 2 of 4 steps are done; its weights are taken as they are"
    assert f"warning: {unfinished} {told}" in call(unfinished, "a")
    assert told in call(unfinished / "checkpoints/step-000000002.pt", "b")
    assert "not finished" not in call(pretrained, "c")


def test_an_early_best_checkpoint_is_no_unfinished_run(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--set", "runtime.validate_every=1", "--set", "runtime.checkpoint_every=1"]
    invoke("pretrain", shards, "--out", run, "--validation", *SMALL, *options)
    state = read_checkpoint(run / "checkpoints/best.pt")
    torch.save({**state, "step": 1}, run / "checkpoints/best.pt")
    export = ["export", run, "--format", "safetensors"]
    assert "not finished" not in invoke(*export, "--out", tmp_path / "a").stderr
    for path in (run / "checkpoints").glob("step-*.pt"):
        path.unlink()
    assert "was not finished, 1 of 4 steps" in invoke(*export, "--out", tmp_path / "b").stderr


@pytest.mark.parametrize("file_format", ["timm", "safetensors"])
def test_an_export_is_not_written_over(pretrained: Path, tmp_path: Path, file_format: str) -> None:
    out = tmp_path / "mine.safetensors"
    export = ["export", pretrained, "--format", file_format, "--out", out]
    out.write_text("mine")
    assert f"{out} exists already; give another --out, or --overwrite" in error_line(invoke(*export, code=1))
    assert out.read_text() == "mine"
    invoke(*export, "--overwrite")
    assert load_file(out)
    out.unlink()
    if file_format == "timm":
        assert f"{out.with_suffix('.json')} exists already" in error_line(invoke(*export, code=1))
        assert not out.exists()


def test_an_export_spares_the_configuration_of_a_run(pretrained: Path) -> None:
    before = (pretrained / "config.json").read_bytes()
    for name in ("model.safetensors", "config.safetensors"):
        export = ["export", pretrained, "--format", "timm", "--out", pretrained / name, "--overwrite"]
        assert "config.json is the configuration of a run; give another --out" in error_line(invoke(*export, code=1))
    assert (pretrained / "config.json").read_bytes() == before


def test_exports_hold_the_classes_and_the_shorter_side(shards: Path, pretrained: Path, tmp_path: Path) -> None:
    """A run of an older version does not say how images were resized: the file does not either, and that is told."""
    run, out = tmp_path / "run", tmp_path / "out.safetensors"
    invoke("finetune", shards, "--from", pretrained, "--no-validation", "--out", run, "--steps", 1, *QUICK)
    export = ["export", run, "--format", "timm", "--out", out, "--overwrite"]
    assert "resized" not in invoke(*export).stderr
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["class_names"]) == list(open_dataset(shards).class_names)
    assert metadata["resize"] == "32"
    checkpoint = run / "checkpoints/step-000000001.pt"
    state = read_checkpoint(checkpoint)
    del state["data"]["resize"]
    torch.save(state, checkpoint)
    assert f"{run} does not say how its images were resized" in invoke(*export).stderr
    assert "crop_pct" not in json.loads(out.with_suffix(".json").read_text())["pretrained_cfg"]


def test_missing_tensorboard_is_one_line(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = invoke("pretrain", shards, "--out", tmp_path / "run", *SMALL, "--tensorboard", code=1)
    assert "pip install 'selfie[tensorboard]'" in error_line(result)


@pytest.mark.parametrize("name", ["pretrain", "finetune", "evaluate"])
def test_help_says_what_an_option_means(name: str) -> None:
    text = invoke(name, "--help").output
    assert "selfie-model" in text


def test_help_of_the_group_imports_no_torch() -> None:
    code = "import sys; from selfie_model.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.splitlines()[-1].split()


def test_option_lists_are_frozen() -> None:
    """A new option is a promise: add it here on purpose."""
    source = {"--device", "--backend", "--decode", "--threads", "--store"}
    configuration = {"--preset", "--config", "--set", "--steps", "--batch-size", "--learning-rate"}
    configuration |= {"--accumulate", "--seed"}
    run = {"--out", "--resume", "--time-limit", "--sync-batch-norm", "--tensorboard", "--quiet"}
    stream = {"--exclude", "--on-error", "--shuffle", "--lanes", "--verify", "--dtype"}
    common = {"--subset", "--validation"} | source | stream | configuration | run
    expected = {
        "pretrain": common | {"--follow"},
        "finetune": common | {"--from", "--labelled"},
        "evaluate": {"--subset", "--checkpoint", "--batch-size", "--json"} | source,
    }
    for name, options in expected.items():
        command = main.get_command(None, name)  # type: ignore[attr-defined, arg-type]
        assert {parameter.opts[0] for parameter in command.params if parameter.param_type_name == "option"} == options
