"""Which slice of every global batch is this process's."""

import os

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
