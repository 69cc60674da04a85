"""A study's record holds its cells; one of them done again on the same machine gives the same accuracy."""

import json
import math
import statistics
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.evidence import repeat_cell, study_record
from benchmarks.evidence.repeat_cell import prediction_interval
from benchmarks.evidence.study_record import StudyRecord
from selfie_model.cli import main


@pytest.fixture(scope="module")
def record(raw_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    asked = [str(raw_dataset), "--test", str(raw_dataset), "--preset", "tiny", "--budget", "0.005", "--fractions", "20"]
    asked += ["--seeds", "2", "--learning-rates", "0.1", "--pretrain-per-seed", "--quiet", "--device", "cpu"]
    done = CliRunner().invoke(main, ["reproduce", *asked, "--out", str(folder / "study")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    target = folder / "record.json"
    places = [str(folder / "study"), str(raw_dataset), str(raw_dataset)]
    written = CliRunner().invoke(study_record.command, [*places, "--output", str(target)], catch_exceptions=False)
    assert written.output.startswith("6 cells, "), written.output
    assert target.with_suffix(".svg").read_text().startswith("<svg")
    return target


def repeat(record: Path, shards: Path, cell: str, *options: str) -> Result:
    return CliRunner().invoke(repeat_cell.command, [str(record), str(shards), str(shards), "--cell", cell, *options])


@pytest.mark.parametrize("cell", ["final/scratch-20/seed-1", "final/selfie-20/seed-1"])
def test_a_cell_done_again_is_the_same_cell(record: Path, raw_dataset: Path, cell: str) -> None:
    result = repeat(record, raw_dataset, cell)
    accuracy = f"{StudyRecord.load(record).cells[cell]['accuracy']:.2%}"
    assert result.exit_code == 0, result.output
    assert f"{cell}: {accuracy}, recorded {accuracy}" in result.output


def test_another_accuracy_does_not_agree(record: Path, raw_dataset: Path, tmp_path: Path) -> None:
    content, cell = json.loads(record.read_text()), "final/scratch-20/seed-0"
    for name, one in content["cells"].items():
        if name.startswith("final/scratch-20/"):
            one["accuracy"] += 0.5
    (tmp_path / "changed.json").write_text(json.dumps(content))
    result = repeat(tmp_path / "changed.json", raw_dataset, cell)
    assert (result.exit_code, "does NOT agree" in result.output) == (1, True), result.output


def test_other_images_and_cells_are_refused(record: Path, raw_dataset: Path, unlabelled_dataset: Path) -> None:
    refused = repeat(record, unlabelled_dataset, "final/scratch-20/seed-0")
    assert (refused.exit_code, "are not the images of" in refused.output) == (2, True)
    unknown = repeat(record, raw_dataset, "final/scratch-20/seed-7")
    assert (unknown.exit_code, "there are: final/scratch-20/seed-0, " in unknown.output) == (2, True)


def test_a_further_value_lies_wider_than_the_mean() -> None:
    values = [0.1, 0.2, 0.3]
    low, high = prediction_interval(values)
    assert (low + high) / 2 == pytest.approx(0.2)
    assert (high - low) / 2 == pytest.approx(4.303 * statistics.stdev(values) * math.sqrt(1 + 1 / 3))
    assert prediction_interval([0.4]) == (0.4, 0.4)
