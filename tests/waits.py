"""Counts what would make a host wait for its GPU, where there is none: on the device `meta`, of tensors without data.

A host waits for all that is queued when it fetches a value, when a tensor's size depends on values, and when memory
that is not pinned is copied. `lane` stands for a CUDA stream: its memory counts as pinned.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.staging import HostLane

FETCHES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "is_nonzero", "equal", "item")


class PretendedLane(HostLane):
    """Allocates memory that counts as pinned, and keeps it."""

    def __init__(self) -> None:
        self.pinned: list[Tensor] = []

    def allocate(self, size: int) -> Tensor:
        self.pinned.append(super().allocate(size))
        return self.pinned[-1]

    def working(self) -> AbstractContextManager[Any]:
        return nullcontext()


class Waits(TorchDispatchMode):
    """Collects the operations of this thread at which a host would wait.

    Attributes:
        found: their names.
        copies: how many copies from host to device there were that nobody waits for.
    """

    def __init__(self, lanes: Sequence[PretendedLane]) -> None:
        super().__init__()
        self.found: list[str] = []
        self.copies = 0
        self._lanes = lanes

    def clear(self) -> None:
        self.found, self.copies = [], 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in FETCHES:
            self.found.append(name)
        elif name in ("index", "index_put", "index_put_") and args[0].device.type != "cpu":
            if any(index is not None and index.dtype == torch.bool for index in args[1]):
                self.found.append(f"{name} by a mask")
        elif name == "_to_copy":
            queued = bool(kwargs.get("non_blocking"))
            self._copied(args[0], kwargs.get("device") or args[0].device, queued=queued)
        elif name == "copy_":
            queued = bool(args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            self._copied(args[1], args[0].device, queued=queued)
        return func(*args, **kwargs)

    def _copied(self, source: Tensor, device: torch.device, *, queued: bool) -> None:
        if source.device == device:
            return
        if source.device.type == "cpu" and queued and self._is_pinned(source):
            self.copies += 1
        else:
            self.found.append(f"copy of {tuple(source.shape)} from {source.device} to {device}, queued: {queued}")

    def _is_pinned(self, tensor: Tensor) -> bool:
        memory = {one.untyped_storage().data_ptr() for lane in self._lanes for one in lane.pinned}
        return tensor.untyped_storage().data_ptr() in memory
