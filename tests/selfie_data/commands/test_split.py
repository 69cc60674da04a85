"""`selfie-data split`: what is made, and the share that it is."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.commands.split import command
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.sources import open_source


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    build_shards(open_source("synthetic", limit=230, size=8), tmp_path / "shards", BuildOptions(size=8), workers=1)
    return open_dataset(tmp_path / "shards")


def test_the_command(dataset: Dataset) -> None:
    result = CliRunner().invoke(command, [str(dataset.path), "--fractions", "10,50", "--validation", "20"])
    assert result.exit_code == 0, result.output
    assert "train-50           90 samples" in result.output
    assert "50.00% of the 180 labelled in train" in result.output
    wrong = CliRunner().invoke(command, [str(dataset.path), "--fractions", "0"])
    assert wrong.exit_code == 2
    assert "labelled percentages must be in (0, 100], got 0" in wrong.output


def test_the_command_tells_the_share_that_rounding_a_class_gives(tmp_path: Path) -> None:
    source = open_source("synthetic", limit=500, size=8)
    build_shards(source, tmp_path / "shards", BuildOptions(size=8), workers=1)
    result = CliRunner().invoke(command, [str(tmp_path / "shards"), "--fractions", "5"])
    assert result.output.splitlines() == [
        "train             450 samples    90.00% of the 500 in all",
        "validation         50 samples    10.00% of the 500 in all",
        "all-5              30 samples     6.00% of the 500 labelled",
        "train-5            20 samples     4.44% of the 450 labelled in train",
    ]


def test_the_command_on_images_without_labels(tmp_path: Path, unlabelled_dataset: Path) -> None:
    out = Path(shutil.copytree(unlabelled_dataset, tmp_path / "dataset"))
    result = CliRunner().invoke(command, [str(out)])
    assert result.output.splitlines() == [
        "train             180 samples    90.00% of the 200 in all",
        "validation         20 samples    10.00% of the 200 in all",
    ]
