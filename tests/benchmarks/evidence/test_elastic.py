"""Nodes that die and join, by the guide's own commands: the stream and the loss of one undisturbed process."""

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence.elastic import Nodes, Watch, cluster, compare
from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.sources import open_source
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of

EVERY = 20  # steps between checkpoints


def check_stream(found: dict[str, Any], steps: int) -> None:
    assert found["steps"] == steps
    assert found["stream of three"] == found["stream of one"]


def check_loss(found: dict[str, Any]) -> None:
    assert found["largest difference of a loss"] <= 1e-5
    first, last = found["loss, first and last"]
    assert abs(first - last) > 1e-4  # or equal losses would say nothing


def start_three(nodes: Nodes, watch: Watch) -> None:
    for _ in range(3):
        nodes.start_agent()
    watch.wait("three ranks", lambda now: now.step >= EVERY + 5 and now.ranks == 3)


def test_the_node_of_rank_0_dies_and_another_joins(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 images a step over 3, 2 and 3 ranks: slices of 21 and 22, and of 32. From a bucket, through one cache."""
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "cache"))
    local, storage = tmp_path / "shards", storage_of(place_of(bucket))
    build_shards(open_source("synthetic", limit=1000, size=32), local, BuildOptions(size=32, samples_per_shard=25))
    for found in LocalStorage(local).list():
        storage.write(found.name, (local / found.name).read_bytes())
    with cluster(tmp_path, bucket) as nodes, closing(Watch(nodes)) as watch:
        start_three(nodes, watch)
        died = watch.after("the node of rank 0 killed", lambda: nodes.kill(nodes.worker_of_rank(0)[0]), ranks=2)
        assert 0 <= died.reached - died.went_on_after < EVERY
        joined = watch.after("a node joined", nodes.join, ranks=3)
        assert joined.reached == joined.went_on_after  # the others were asked, and saved
        assert nodes.wait_for_end() == [0, 0, 0]
        found = compare(nodes)
        check_stream(found, 160)
        check_loss(found)
        assert "Error: another process of this run is gone (" in nodes.log()


@pytest.mark.fuzz
def test_twenty_faults_at_random(tmp_path: Path) -> None:
    """The stream only: in 1,000 steps the rounding of another order of sums grows into the loss by itself."""
    draw = random.Random(1)
    with cluster(tmp_path, steps=1000) as nodes, closing(Watch(nodes)) as watch:
        start_three(nodes, watch)
        for number in range(20):
            step = watch.step + draw.randrange(30)
            watch.wait(f"step {step}", lambda now, step=step: now.step >= step)
            agent, worker = nodes.worker_of_rank(draw.randrange(watch.ranks))
            match draw.choice(["process", "node", "agent", "leaves"]):
                case "process":
                    fault = watch.after(f"{number}: a process killed", worker.kill, ranks=watch.ranks)
                case "node":
                    fault = watch.after(f"{number}: a node killed", lambda: nodes.kill(agent), ranks=2)  # noqa: B023
                case "agent":  # its process goes on, until the others are asked to begin again
                    fault = watch.after(f"{number}: an agent killed", lambda: nodes.replace(agent), ranks=3)  # noqa: B023
                case _:
                    fault = watch.after(f"{number}: a node leaves", lambda: nodes.leave(agent), ranks=2)  # noqa: B023
            assert 0 <= fault.reached - fault.went_on_after < EVERY, fault
            if watch.ranks == 2:
                watch.after(f"{number}: a node joined", nodes.join, ranks=3)
        nodes.wait_for_end()
        check_stream(compare(nodes), 1000)
