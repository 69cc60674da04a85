"""The script for a GPU: its sections are isolated, its targets are told, its geometry is right. No GPU is needed."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks.gpu.__main__ import BUDGETS, main
from benchmarks.gpu.decoder_stress import checksum
from benchmarks.gpu.patch_stage import gather_torch
from benchmarks.gpu.section import Setting, isolated
from benchmarks.gpu.targets import TARGETS, medians
from benchmarks.harness.record import record
from pipelines.sampling.grid import patchify

SETTING = Setting(device="cpu", dry=True, seconds=60, threads=1, batches=4, scratch="", images=None)


def test_the_budgets_fit_in_ten_minutes() -> None:
    assert sum(BUDGETS.values()) <= 600


def test_a_section_that_fails_is_a_record(tmp_path: Path) -> None:
    del tmp_path
    (one, *_) = isolated("no_such_section", SETTING)
    assert one.system == "section failed"
    assert "ended with code 1" in one.note
    assert "no_such_section" in one.note


def test_gather_is_patchify_and_take() -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    cells = torch.rand(3, 16).argsort(dim=1)
    expected = torch.from_numpy(patchify(images.numpy(), 8)).take_along_dim(cells[:, :, None, None, None], 1)
    assert torch.equal(gather_torch(images, cells, 8), expected)


def test_the_checksum_sees_a_changed_and_a_moved_byte() -> None:
    image = torch.randint(0, 255, (4, 8, 8, 3), dtype=torch.uint8)
    changed, moved = image.clone(), image.clone()
    changed[0, 0, 0, 0] += 1
    moved.view(-1)[:2] = torch.tensor([1, 2], dtype=torch.uint8)
    swapped = moved.clone()
    swapped.view(-1)[:2] = torch.tensor([2, 1], dtype=torch.uint8)
    assert checksum(image) != checksum(changed)
    assert checksum(moved) != checksum(swapped)


def test_targets_are_held_missed_or_not_measured() -> None:
    shards = TARGETS[0]
    assert shards.line({})[-1] == "not measured"
    for rate, verdict in ((400_000.0, "holds"), (1_000.0, "MISSED")):
        values = medians([record("gpu", "throughput: 32 px", "shards", [rate], unit="images/s")])
        assert shards.line(values)[-1] == verdict


def test_without_a_gpu_only_a_dry_run_is_allowed() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "--dry-run" in result.output
