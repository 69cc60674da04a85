"""What is this process's among several: its slice of every global batch, its GPU and its cores."""

import os

import torch
import torch.distributed

from pipelines.arguments import whole_number


def resolve_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Returns (rank, world size): as given, else torch.distributed's, else (0, 1).

    Raises:
        ValueError: only one is given, or this is one of several processes of a launcher whose process group does not
            exist yet: each would go through the whole data.
    """
    if rank is not None and world_size is not None:
        return whole_number("rank", rank), whole_number("world_size", world_size)
    if rank is not None or world_size is not None:
        raise ValueError(f"give rank and world_size together, got {rank} and {world_size}")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    launched = os.environ.get("WORLD_SIZE", "1")
    if launched not in ("", "1"):
        raise ValueError(
            f"WORLD_SIZE={launched} is set but torch.distributed is not initialised: every process would read all "
            "data; call init_process_group before making a loader, or give rank and world_size"
        )
    return 0, 1


def own_gpu() -> int:
    """Returns the index of this process's GPU: the current one, or its launcher's where that is still the first."""
    current = torch.cuda.current_device()
    local_rank = _local("LOCAL_RANK", 0)
    return local_rank if current == 0 and local_rank < torch.cuda.device_count() else current


def own_cores() -> int:
    """Returns how many cores this process may keep busy: its share, where a launcher started several on this machine.

    A launcher that divides the machine's cores itself leaves each process its part of all of them: that is not divided
    again. Fewer are taken for what all processes share, as those of a container are.
    """
    allowed, processes = len(os.sched_getaffinity(0)), _local("LOCAL_WORLD_SIZE", 1)
    if allowed == (os.cpu_count() or allowed) // max(1, processes):
        return allowed
    return max(1, allowed // max(1, processes))


def _local(name: str, missing: int) -> int:
    """Returns a number of the launcher's about the processes of this machine."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else missing
