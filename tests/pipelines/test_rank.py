"""Several processes: who gets which slice, found out by themselves."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch.distributed

from pipelines import PatchLoader
from pipelines.rank import resolve_rank


def test_one_process_is_rank_0_of_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert resolve_rank(None, None) == (0, 1)
    assert resolve_rank(2, 5) == (2, 5)


def test_a_launched_process_without_a_group_is_refused(raw_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"WORLD_SIZE=4 is set but torch\.distributed is not initialised"):
        PatchLoader(raw_shards, global_batch_size=8, device="cpu", backend="reference")
    PatchLoader(raw_shards, global_batch_size=8, device="cpu", backend="reference", rank=0, world_size=4)


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
