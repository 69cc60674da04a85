"""The commands on a dataset in a bucket: the results of a local one, and one line when the store refuses."""

import json
from pathlib import Path

import pytest
import torch

from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.splits import SplitOptions, write_splits
from selfie_data.storage.place import place_of, storage_of
from selfie_model.training.checkpoint import read_checkpoint
from tests.selfie_model.test_cli import SMALL, error_line, invoke
from tests.servers.fault_proxy import Fault, FaultProxy

FAR = ["--device", "cpu"]


@pytest.fixture
def local(raw_dataset: Path, tmp_path: Path) -> Path:
    """Generated pictures with splits, in four shards."""
    out = tmp_path / "shards"
    out.mkdir()
    for path in raw_dataset.iterdir():
        (out / path.name).symlink_to(path)
    write_splits(open_dataset(out), SplitOptions(labelled=("10", "100")))
    return out


@pytest.fixture
def url(local: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same in a bucket, before a cold cache."""
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "cache"))
    storage = storage_of(place_of(bucket))
    for folder in (local, *(path for path in local.rglob("*") if path.is_dir())):
        for path in folder.rglob("*"):
            if path.is_file():
                storage.write(path.relative_to(local).as_posix(), path.read_bytes())
    return bucket


def test_every_command_gives_what_it_gives_on_a_folder(local: Path, url: str, tmp_path: Path) -> None:
    results = []
    for name, shards in {"near": local, "far": url}.items():
        run, tuned, vectors = (tmp_path / name / what for what in ("run", "tuned", "vectors"))
        invoke("pretrain", shards, "--out", run, "--shuffle", "lanes", "--validation", *SMALL)
        invoke("finetune", shards, "--from", run, "--labelled", "100%", "--out", tuned, "--shuffle", "lanes", *SMALL)
        weights = [read_checkpoint(folder / "checkpoints/step-000000004.pt")["model"] for folder in (run, tuned)]
        evaluated = json.loads(invoke("evaluate", tuned, shards, "--json", *FAR).output)
        probed = json.loads(invoke("probe", run, shards, "--test", shards, "--json", "--subset", "all-10", *FAR).output)
        invoke("embed", run, shards, vectors, *FAR)
        embedded = {path.relative_to(vectors): path.read_bytes() for path in vectors.rglob("*") if path.is_file()}
        results.append((weights, evaluated, probed, embedded))
    near, far = results
    for ours, theirs in zip(near[0], far[0], strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert near[1:] == far[1:]


def test_a_run_goes_on_in_its_own_order_wherever_the_set_lies_then(local: Path, url: str, tmp_path: Path) -> None:
    orders = {}
    for name, (first, then) in {"near": (local, url), "far": (url, local)}.items():
        run, whole = tmp_path / name, tmp_path / f"{name}-whole"
        invoke("pretrain", first, "--out", run, *SMALL, "--time-limit", "0.00001")
        assert newest_step(run) < 4
        invoke("pretrain", then, "--out", run, *SMALL, "--resume", "auto")
        invoke("pretrain", first, "--out", whole, *SMALL)
        states = [read_checkpoint(folder / "checkpoints/step-000000004.pt") for folder in (run, whole)]
        assert all(torch.equal(states[0]["model"][name], states[1]["model"][name]) for name in states[0]["model"])
        orders[name] = {state["data"]["order"] for state in states}
    assert orders["near"] == {"global"}
    assert "lanes" in orders["far"].pop()


def newest_step(run: Path) -> int:
    state = read_checkpoint(sorted((run / "checkpoints").glob("step-*.pt"))[-1])
    return int(state["step"])


def test_a_study_runs_on_a_url(url: str, tmp_path: Path) -> None:
    options = ["--preset", "tiny", "--fractions", "100", "--seeds", "1", "--learning-rates", "0.1", "--budget", "0.001"]
    invoke("reproduce", url, "--out", tmp_path / "study", *options, "--quiet", *FAR)
    assert (tmp_path / "study/results.json").exists()


def test_a_store_that_refuses_in_the_midst_is_one_line_and_the_same_command_goes_on(
    url: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.faults = [Fault("status", status=403, within="shard-00000")] * 100
    command = ["pretrain", url, "--out", tmp_path / "run", *SMALL]
    assert "access is refused" in error_line(invoke(*command, code=1))
    proxy.faults = []
    invoke(*command)
    invoke("pretrain", url, "--out", tmp_path / "whole", *SMALL)
    ours, theirs = (read_checkpoint(tmp_path / run / "checkpoints/step-000000004.pt") for run in ("run", "whole"))
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in ours["model"])
