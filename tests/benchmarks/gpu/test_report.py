"""Records and targets say where images are not real."""

import pytest

from benchmarks.gpu.report import TOO_GOOD, destination, marked, tables
from benchmarks.gpu.targets import TARGETS, medians
from benchmarks.harness.record import RESULTS, Record, record


def measured(stored: str, unit: str = "images/s") -> Record:
    settings = {"stored": stored} if stored else {}
    return record("gpu", "throughput: 224 px", "jpeg256: default", [20_000.0], unit=unit, settings=settings)


@pytest.mark.parametrize(
    ("stored", "unit", "note"),
    [
        ("jpeg256", "images/s", TOO_GOOD),
        ("full", "share", TOO_GOOD),
        ("jpeg256", "holds", "synthetic images"),
        ("raw32", "images/s", "synthetic images"),
        ("", "images/s", ""),
    ],
)
def test_a_record_says_that_its_images_are_synthetic(stored: str, unit: str, note: str) -> None:
    assert marked(measured(stored, unit), real=False, dry=False).note == note
    assert marked(measured(stored, unit), real=True, dry=False).note == ""


def test_the_targets_say_that_images_are_synthetic() -> None:
    line = "256 px JPEG into 224 px patches"
    for real, verdict in ((True, "holds"), (False, f"holds ({TOO_GOOD})")):
        text = tables([marked(measured("jpeg256"), real=real, dry=False)], dry=False)
        (found,) = [one for one in text.splitlines() if one.startswith(line)]
        assert found.endswith(verdict)


def test_a_dry_run_claims_nothing() -> None:
    text = tables([marked(measured("jpeg256"), real=True, dry=True)], dry=True)
    assert text.startswith("DRY RUN")
    assert text.count("not measured") == len(TARGETS)


def test_targets_are_held_missed_or_not_measured() -> None:
    shards = TARGETS[0]
    assert shards.line({})[-1] == "not measured"
    for rate, verdict in ((400_000.0, "holds"), (1_000.0, "MISSED")):
        values = medians([record("gpu", "throughput: 32 px", "shards", [rate], unit="images/s")])
        assert shards.line(values)[-1] == verdict


def test_training_and_stall_are_those_of_bf16() -> None:
    case, pretraining, stall = "training: selfie-224", TARGETS[3], TARGETS[4]
    values = {
        (case, "float32, batch 256"): 9_000.0,
        (case, "bf16, batch 1,024"): 2_600.0,
        (case, "bf16, batch 1,024: peak memory"): 40_000.0,
        (case, "bf16, batch 1,024: stall"): 0.005,
    }
    assert pretraining.line(values)[2:] == ["2,600", "holds"]
    assert stall.line(values)[2:] == ["0.005", "holds"]
    values[case, "bf16 + compile, batch 1,024: stall"] = 0.2
    assert stall.line(values)[2:] == ["0.2", "MISSED"]


def test_records_go_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", "/somewhere")
    assert str(destination(None, dry=False)) == "/somewhere/gpu.jsonl"
    monkeypatch.delenv("OUT")
    assert destination(None, dry=False) == RESULTS / "gpu.jsonl"
