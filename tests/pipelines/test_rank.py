"""Several processes: who gets which slice, found out by themselves."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.distributed

from pipelines import PatchLoader
from pipelines.backends.choose import resolve_device
from pipelines.rank import own_cores, own_gpu, resolve_rank


def test_one_process_is_rank_0_of_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert resolve_rank(None, None) == (0, 1)
    assert resolve_rank(2, 5) == (2, 5)


def test_a_launched_process_without_a_group_is_refused(raw_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"WORLD_SIZE=4 is set but torch\.distributed is not initialised"):
        PatchLoader(raw_shards, global_batch_size=8, device="cpu", backend="reference")
    PatchLoader(raw_shards, global_batch_size=8, device="cpu", backend="reference", rank=0, world_size=4)


@pytest.mark.parametrize(
    ("allowed", "machine", "local_world_size", "expected"),
    [
        (16, 16, None, 16),
        (16, 16, "", 16),
        (16, 16, "1", 16),
        (16, 16, "8", 2),
        (16, 16, "3", 5),
        (4, 4, "8", 1),
        (2, 16, "8", 2),  # divided by the launcher
        (16, 64, "8", 2),  # a container's share of a machine, which all processes in it have together
    ],
)
def test_cores_are_divided_among_the_processes_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, allowed: int, machine: int, local_world_size: str | None, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(allowed)))
    monkeypatch.setattr("os.cpu_count", lambda: machine)
    if local_world_size is None:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local_world_size)
    assert own_cores() == expected


def test_a_loader_takes_its_share_of_the_cores(raw_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr("pipelines.parts.own_cores", lambda: 3)
    monkeypatch.setattr("pipelines.parts.make_backend", lambda *args, **options: taken.append(options["threads"]))
    for threads in (None, 2):
        loader = PatchLoader(raw_shards, global_batch_size=8, device="cpu", threads=threads)
        loader._parts.make_backend(loader._recipe.spec)
    assert taken == [3, 2]


@pytest.mark.parametrize(
    ("current", "local_rank", "gpus", "expected"),
    [(0, None, 4, 0), (2, None, 4, 2), (0, "3", 4, 3), (2, "3", 4, 2), (0, "3", 1, 0), (0, "", 4, 0)],
)
def test_a_process_has_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, current: int, local_rank: str | None, gpus: int, expected: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert own_gpu() == expected
    for device in ("auto", "cuda", torch.device("cuda")):
        assert resolve_device(device) == torch.device("cuda", expected)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)


def test_rank_and_world_size_come_from_torch_distributed(raw_shards: Path, tmp_path: Path) -> None:
    """Three gloo processes; put together, their slices are the stream of one process."""
    script = textwrap.dedent(f"""
        import sys
        import torch.distributed as dist
        from pathlib import Path
        from pipelines import PatchLoader
        rank = int(sys.argv[1])
        dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=3)
        with PatchLoader({str(raw_shards)!r}, global_batch_size=16, device="cpu", backend="reference") as loader:
            ids = [batch.sample_id.tolist() for batch in loader]
        Path("{tmp_path}", f"rank{{rank}}").write_text(repr(ids))
        dist.destroy_process_group()
    """)
    processes = [subprocess.Popen([sys.executable, "-c", script, str(rank)]) for rank in range(3)]
    try:
        assert [process.wait(120) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    ranks = [eval((tmp_path / f"rank{rank}").read_text()) for rank in range(3)]
    assert [[len(step) for step in rank] for rank in ranks] == [[5] * 3, [5] * 3, [6] * 3]
    together = [[sample for part in step for sample in part] for step in zip(*ranks, strict=True)]
    one = PatchLoader(raw_shards, global_batch_size=16, device="cpu", backend="reference")
    assert together == [batch.sample_id.tolist() for batch in one]
    assert not torch.distributed.is_initialized()
