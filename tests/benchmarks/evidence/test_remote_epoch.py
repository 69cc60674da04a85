"""The benchmark of remote epochs takes what it says it takes."""

from dataclasses import replace
from pathlib import Path

from benchmarks.evidence.remote_epoch import BY_NODES, MEASURED, epoch


def test_an_epoch_of_a_process_is_measured(raw_dataset: Path, tmp_path: Path) -> None:
    work = replace(BY_NODES, images_per_s=1_000)
    measured = epoch(str(raw_dataset), raw_dataset, tmp_path, work, rank=1, ranks=4, epochs=2)
    assert tuple(measured) == MEASURED
    assert all(value > 0 for value in measured.values())
    batches = 2 * (1000 // 64)
    assert measured["epoch"] >= batches * 16 / 1_000  # a rank of four has 16 of 64 images
    assert measured["first batch"] < measured["epoch"]
