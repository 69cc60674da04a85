"""`selfie-data export-store`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from selfie_data.commands.export_store import command
from selfie_data.dataset.opened import Dataset, open_dataset
from tests.pipelines.conftest import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(write_dataset(tmp_path / "shards", samples=23))


def test_the_command(dataset: Dataset, tmp_path: Path) -> None:
    arguments = [str(dataset.path), str(tmp_path / "s.zarr")]
    assert "written, 23 images, 0.1 MB" in CliRunner().invoke(command, arguments).output
    assert "is there already" in CliRunner().invoke(command, arguments).output
