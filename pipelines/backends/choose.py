"""Which backend does the work, and on which device.

auto on a CPU     cpu (compiled kernels; also called fused), reference where they cannot be had
auto on a GPU     dali, cpu where there is no DALI
auto with store   store (compiled kernels on a CPU, PyTorch's operations on a GPU)
"""

import importlib
import logging
from pathlib import Path
from typing import Any, Literal, cast

import torch

from pipelines.batch_plan import Backend, OutputSpec, Verify
from pipelines.rank import own_gpu
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import stored_at_size

BackendName = Literal["auto", "cpu", "dali", "fused", "reference", "store"]

_CLASSES = {
    "dali": ("pipelines.backends.dali", "DaliBackend"),
    "cpu": ("pipelines.backends.cpu_shards", "ShardBackend"),
    "reference": ("pipelines.backends.reference", "ReferenceBackend"),
    "store": ("pipelines.backends.cpu_store", "StoreBackend"),
}
_STORE_ON_A_GPU = ("pipelines.backends.gpu_store", "GpuStoreBackend")
_log = logging.getLogger(__name__)


def resolve_device(device: str | torch.device) -> torch.device:
    """Returns the device that `auto`, `cpu`, `cuda` or `cuda:1` means here, a GPU with its index.

    `auto` and `cuda` are this process's current GPU; where no other than the first was made that, and a launcher
    numbers the processes of this machine (LOCAL_RANK), the GPU of that number.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    refused = ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {str(device)!r}")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        raise refused from None
    if resolved.type not in ("cpu", "cuda"):
        raise refused
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch sees no GPU; use 'cpu' or 'auto'")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {str(device)!r} was asked for, but torch sees {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", own_gpu()) if resolved.type == "cuda" and resolved.index is None else resolved


def choose_backend(name: BackendName, device: torch.device, *, store: Path | str | None) -> str:
    """Returns the name of the backend to use.

    Raises:
        ValueError: no such backend, or it cannot be imported here, or `store` does not fit it.
    """
    name = "cpu" if name == "fused" else name
    if name != "auto" and name not in _CLASSES:
        raise ValueError(f"backend must be 'auto' or one of {sorted(_CLASSES)}, got {name!r}")
    if store is not None and name not in ("auto", "store"):
        raise ValueError(f"store= is read by the backend 'store', got backend {name!r}")
    if name == "store" and store is None:
        raise ValueError("the backend 'store' needs store=PATH, made by `selfie-data export-store`")
    if name != "auto":
        _load(name, device)
        return name
    if store is not None:
        return "store"
    wanted = ("dali", "cpu", "reference") if device.type == "cuda" else ("cpu", "reference")
    for candidate in wanted[:-1]:
        try:
            _load(candidate, device)
        except ValueError as error:
            _log.warning("%s; a slower way is taken", str(error))  # not the error: its traceback holds the loader
        else:
            return candidate
    return wanted[-1]


def check_views(name: str, dataset: Dataset, augmentation: Augmentation) -> None:
    """Refuses to draw crops where there is nothing to crop from.

    Raises:
        ValueError: the backend is the store, which has photographs' central views only, and the crops are random.
    """
    if name != "store" or (augmentation.crop_area is None and not augmentation.padding) or stored_at_size(dataset):
        return
    raise ValueError(
        f"the pixel store holds the central views of these images only, so random crops need the shards, got "
        f"{augmentation}: leave out store=, or give augment='none' or Augmentation(flip=True)"
    )


def make_backend(
    name: str,
    dataset: Dataset,
    spec: OutputSpec,
    *,
    device: torch.device,
    verify: Verify,
    threads: int,
    prefetch: int,
    store: Path | str | None = None,
) -> Backend:
    """Returns a running backend."""
    options: dict[str, Any] = {"device": device, "verify": verify, "threads": threads, "prefetch": prefetch}
    if name == "store":
        options["store"] = store
    _log.info("backend %s on %s", name, device)
    return cast(Backend, _load(name, device)(dataset, spec, **options))


def _load(name: str, device: torch.device) -> Any:
    on_a_gpu = name == "store" and device.type != "cpu"
    module, kind = _STORE_ON_A_GPU if on_a_gpu else _CLASSES[name]
    try:
        return getattr(importlib.import_module(module), kind)
    except ImportError as error:
        raise ValueError(f"the backend {name!r} cannot be used here ({error})") from error
