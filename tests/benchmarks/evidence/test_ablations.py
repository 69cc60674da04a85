"""Ablations: every cell once, differences seed by seed, pretraining shared where nothing in it differs."""

import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks.evidence.ablations import BASE, ROWS, SCRATCH, CellResult, command, table
from selfie_model import presets


def test_every_cell_is_run_once_and_pretraining_is_shared(raw_dataset: Path, tmp_path: Path) -> None:
    asked = [str(raw_dataset), "--preset", "tiny", "--budget", "0.003", "--seeds", "2"]
    asked += [
        "--rows",
        f"{BASE};transferred stages at 0.1 of the rate;mean pooling;pretrained on 50 % of the images;{SCRATCH}",
    ]
    asked += ["--scratch", str(tmp_path / "runs"), "--output", str(tmp_path / "out.jsonl")]
    first = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    cells = [json.loads(line)["cell"] for line in lines]
    assert len({(cell["row"], cell["seed"]) for cell in cells}) == len(cells) == 10
    assert {cell["row"] for cell in cells if cell["pretext"] is None} == {SCRATCH}
    assert len(list((tmp_path / "runs" / "pretrain").iterdir())) == 2 * 3  # two of the five rows share theirs
    again = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert (tmp_path / "out.jsonl").read_text().splitlines() == lines
    assert again.output.strip() in first.output


def test_differences_are_of_the_same_seeds() -> None:
    cells = [
        CellResult(row=row, seed=seed, pretext=0.5, accuracy=accuracy, seconds=1.0)
        for row, values in ((BASE, {0: 0.2, 1: 0.4, 2: 0.9}), ("mean pooling", {0: 0.19, 1: 0.38}))
        for seed, accuracy in values.items()
    ]
    base, mean = table(cells).splitlines()[2:]
    assert base == f"| {BASE} | 3 | 50.0 % | 50.00 % |  |  |"
    assert mean == "| mean pooling | 2 | 50.0 % | 28.50 % | -1.50 | 6.35 |"  # t(1) = 12.706, s = 0.71 points, n = 2


def test_every_row_is_a_configuration_and_differs_from_the_first() -> None:
    for preset in (presets.tiny(), presets.small()):
        changed = {name: preset.override(**sections) for name, sections in ROWS.items() if name != BASE}
        same = {name for name, config in changed.items() if config == preset}
        assert same <= {"the large stem"}
