"""The guide's script for plain DistributedDataParallel, as it stands: two processes, then one that goes on."""

import re
from pathlib import Path

import torch

from tests.torchrun import ROOT, torchrun


def train(folder: Path, text: str, processes: int) -> list[str]:
    """Returns what the script says of its epochs."""
    script = folder / "train.py"
    script.write_text(text)
    return re.findall(r"^epoch \d+: loss \d\.\d+$", torchrun(processes, script, folder=folder), re.MULTILINE)


def test_the_script_runs_and_goes_on_with_another_number_of_processes(raw_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").symlink_to(raw_dataset)
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs/guides/ddp.md").read_text(), re.DOTALL)
    assert found is not None
    first = train(tmp_path, found[1], 2)
    assert [line.split(":")[0] for line in first] == ["epoch 0", "epoch 1"]
    before = torch.load(tmp_path / "run.pt", weights_only=True)
    assert (before["loader"]["epoch"], before["loader"]["step"]) == (2, 0)
    then = train(tmp_path, found[1].replace("EPOCHS, BATCH, SAVED = 2", "EPOCHS, BATCH, SAVED = 3"), 1)
    assert [line.split(":")[0] for line in then] == ["epoch 2"]
    after = torch.load(tmp_path / "run.pt", weights_only=True)
    assert after["loader"] == {**before["loader"], "epoch": 3}
    assert any(not torch.equal(value, after["model"][name]) for name, value in before["model"].items())
