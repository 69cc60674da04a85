"""The trainers' examples, really killed: what is trained on is the loader's own sequence, before and after."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import PatchLoader

EXAMPLES = Path(__file__).parents[2] / "examples"
LINE = re.compile(r"^epoch (\d+) step (\d+): loss (\S+), samples (\d+) to (\d+)$")
BATCH, EPOCHS, EVERY = 100, 2, 4
Step = tuple[int, int]


def parsed(line: str) -> tuple[Step, tuple[str, int, int]] | None:
    match = LINE.match(line.rstrip())
    if match is None:
        return None
    epoch, step, loss, first, last = match.groups()
    return (int(epoch), int(step)), (loss, int(first), int(last))


def train(script: str, shards: Path, out: Path, *, kill_at: Step | None = None) -> dict[Step, tuple[str, int, int]]:
    """Runs an example, or kills it at a step; returns what it said of every step."""
    command = [sys.executable, EXAMPLES / script, shards, "--out", out, "--batch", BATCH, "--epochs", EPOCHS]
    process = subprocess.Popen(
        [*map(str, command), "--every", str(EVERY)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    )
    steps = {}
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        for line in process.stdout:
            if found := parsed(line):
                steps[found[0]] = found[1]
                if found[0] == kill_at:
                    process.kill()
                    break
        error = process.stderr.read()
    assert process.returncode == (0 if kill_at is None else -9), error
    return steps


@pytest.mark.parametrize(
    ("library", "script"),
    [("pytorch_lightning", "lightning_pretrain.py"), ("accelerate", "accelerate_pretrain.py")],
)
@pytest.mark.parametrize("kill_at", [(0, 6), (1, 3)], ids=["in the first epoch", "in the second"])
def test_a_killed_run_goes_on_with_the_batches_that_come_next(
    library: str, script: str, kill_at: Step, raw_dataset: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: the extra `examples`")
    killed = train(script, raw_dataset, tmp_path / "run", kill_at=kill_at)
    resumed = train(script, raw_dataset, tmp_path / "run")

    wanted = {}
    with PatchLoader(raw_dataset, global_batch_size=BATCH, seed=1, device="cpu") as loader:
        for epoch in range(EPOCHS):
            for step, batch in enumerate(loader):
                wanted[epoch, step] = (int(batch.sample_id[0]), int(batch.sample_id[-1]))
    assert max(killed) == kill_at
    assert set(killed) | set(resumed) == set(wanted)
    assert set(killed) - set(resumed), "the second run began anew"
    for seen in (killed, resumed):
        assert {place: ids for place, (_, *ids) in seen.items()} == {place: [*wanted[place]] for place in seen}
    again = set(killed) & set(resumed)  # steps after the newest checkpoint: the model went on from there as well
    assert again
    assert {place: killed[place] for place in again} == {place: resumed[place] for place in again}
