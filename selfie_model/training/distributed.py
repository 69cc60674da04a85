"""One process or many: who I am, on which device, and sums over all of us.

Started by `torchrun`, every process reads its rank from the environment; started plainly there is one. Each rank holds
a slice of the global batch, and slices may differ by one image: a rank's loss is its *sum* over the global batch size,
times the number of ranks because DDP averages gradients: together they are the gradient of the global mean.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from selfie_data.errors import RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: 0 <= rank < size; rank 0 writes.
        size: number of processes.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def writes(self) -> bool:
        return self.rank == 0


_LIMIT_S = 600.0  # NCCL's default; gloo's is three times as long


@contextmanager
def process_group(device: str = "auto", *, limit_s: float = _LIMIT_S) -> Iterator[Ranks]:
    """Joins the group that `torchrun` started, if any, and leaves it at the end.

    Args:
        device: `auto` (a GPU if there is one), `cpu` or `cuda`; with many GPUs each local rank takes its own.
        limit_s: how long one process waits for another, here and in every exchange.

    Raises:
        RunError: `cuda` where there is no GPU, more local ranks than GPUs, no other processes within `limit_s`, or one
            of them is gone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    place = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if size == 1:
        yield Ranks(device=place)
        return
    # Default arguments in there keep the group of the moment of import. DDP imports it: after this line that group
    # would outlive its end, and gloo's threads, still there when the interpreter ends, now and then abort the process.
    importlib.import_module("torch.distributed.nn")
    try:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=timedelta(seconds=limit_s))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RunError(
            f"the {size} processes of this run did not meet at {where} within {limit_s:.0f} s "
            f"({_first_sentence(error)}); start all of them by torchrun with the same arguments"
        ) from error
    try:
        yield Ranks(rank=rank, size=size, device=place)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise RunError(
            f"another process of this run is gone ({_first_sentence(error)}); its own output says why; go on from the "
            "newest checkpoint with --resume auto, as torchrun --max-restarts does by itself"
        ) from error
    finally:
        dist.destroy_process_group()


def begins_again() -> bool:
    """Tells whether `torchrun` starts this process anew when it fails (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def choose_device(device: str, local_rank: int = 0) -> torch.device:
    """Returns the device for `auto`, `cpu` or `cuda`."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device not in ("auto", "cuda"):
        raise ValueError(f"a device is auto, cpu or cuda, got {device!r}")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise RunError(f"local rank {local_rank} has no GPU of its own, this machine shows {count}: use --device cpu")
    return torch.device("cuda", local_rank)


def _first_sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0]


def distribute(model: nn.Module, ranks: Ranks, *, sync_batch_norm: bool) -> nn.Module:
    """Returns the module to call in training: `model` itself, or a wrapper that averages its gradients over the ranks.

    Batch-norm statistics are each rank's own unless `sync_batch_norm`; the buffers that are saved are rank 0's.
    """
    if sync_batch_norm and ranks.device.type != "cuda":
        raise RunError("--sync-batch-norm needs GPUs: PyTorch has no synchronised batch norm for the CPU")
    if ranks.size == 1:
        return model
    if sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(
        model,
        device_ids=[ranks.device.index] if ranks.device.type == "cuda" else None,
        broadcast_buffers=False,  # else every forward pass would begin by giving all ranks the statistics of rank 0
        gradient_as_bucket_view=True,  # gradients lie where they are summed: a copy of the model's size less
    )


def gradients_wait(model: nn.Module, waits: bool) -> AbstractContextManager[None]:
    """Holds gradients back while more parts of the step are to come: they cross the network once, with the last."""
    if waits and isinstance(model, DistributedDataParallel):
        waiting: AbstractContextManager[None] = model.no_sync()
        return waiting
    return nullcontext()


def sum_over_ranks(values: Tensor, ranks: Ranks) -> Tensor:
    """Returns the sum of every rank's `values`, the same on all."""
    if ranks.size > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def share_buffers(model: nn.Module, ranks: Ranks) -> None:
    """Gives every rank the buffers of rank 0: without synchronised batch norm each has statistics of its own."""
    if ranks.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


class SharedFlag:
    """Tells every rank whether a flag was raised on one of them: how all of them stop at the same step.

    It travels over a group of its own, on the CPU and while the next step runs, so that neither the device nor the
    network is waited for.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._group = dist.new_group(backend="gloo") if ranks.size > 1 else None
        self._raised = torch.zeros(1)
        self._under_way: dist.Work | None = None

    def exchange(self, flag: bool) -> bool:
        """Returns, the same on all ranks, whether one of them raised its flag in the call before; alone: in this one.

        All ranks call it equally often.
        """
        if self._group is None:
            return flag
        before = self._received()
        self._raised = torch.tensor([float(flag)])
        self._under_way = dist.all_reduce(self._raised, group=self._group, async_op=True)
        return before

    def close(self) -> None:
        """Leaves the group; its threads, still there when the interpreter ends, may abort the process."""
        if self._group is not None:
            self._received()
            dist.destroy_process_group(self._group)
            self._group = None

    def _received(self) -> bool:
        if self._under_way is None:
            return False
        self._under_way.wait()
        self._under_way = None
        return bool(self._raised.item())
