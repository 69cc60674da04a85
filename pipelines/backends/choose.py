"""Which backend does the work, and on which device.

auto on a CPU     cpu (compiled kernels; also called fused), reference where they cannot be had
auto on a GPU     gpu (DALI decodes, Triton's kernels do the rest), dali-operators or cpu where it cannot be had
auto with store   store (the compiled kernels on a CPU, Triton's on a GPU)

`dali` is the old name of dali-operators, and means what it always did: all of the work done by DALI's operators.
"""

import importlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Literal, cast

import torch

from pipelines.batch_plan import Backend, Decode, OutputSpec, Verify
from pipelines.rank import own_gpu
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import stored_at_size

BackendName = Literal["auto", "cpu", "dali", "dali-operators", "fused", "gpu", "reference", "store"]

_OTHER_NAMES = {"fused": "cpu", "dali": "dali-operators"}
_CLASSES = {
    "dali-operators": ("pipelines.backends.dali", "DaliBackend"),
    "cpu": ("pipelines.backends.cpu_shards", "ShardBackend"),
    "gpu": ("pipelines.backends.gpu_shards", "GpuShardBackend"),
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
    name = cast(BackendName, _OTHER_NAMES.get(name, name))
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
    wanted = ("gpu", "dali-operators", "cpu", "reference") if device.type == "cuda" else ("cpu", "reference")
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
    decode: Decode = "mixed",
    store: Path | str | None = None,
) -> Backend:
    """Returns a running backend."""
    options: dict[str, Any] = {"device": device, "verify": verify, "threads": threads, "prefetch": prefetch}
    if name == "store":
        options["store"] = store
    if name == "gpu":
        options["decode"] = decode
    _log.info("backend %s on %s", name, device)
    return cast(Backend, _load(name, device)(dataset, spec, **options))


def _load(name: str, device: torch.device) -> Any:
    if name == "store" and device.type != "cpu":
        try:
            return _import(name, _STORE_ON_A_GPU, device)
        except ValueError as error:
            _log.warning("%s; a slower way is taken", str(error))
    return _import(name, _CLASSES[name], device)


def _import(name: str, place: tuple[str, str], device: torch.device) -> Any:
    module, kind = place
    if name == "gpu" or place == _STORE_ON_A_GPU:
        _check_triton(name, device)
    try:
        return getattr(importlib.import_module(module), kind)
    except ImportError as error:
        raise ValueError(f"the backend {name!r} cannot be used here ({error})") from error


def _check_triton(name: str, device: torch.device) -> None:
    """Raises ValueError where Triton's kernels could not be launched."""
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"the backend {name!r} needs a GPU, got device 'cpu'; use 'cpu' (with TRITON_INTERPRET=1 in the "
            "environment it runs in Triton's interpreter, for tests)"
        )
    if device.type == "cuda" and not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        raise ValueError(
            f"the backend {name!r} cannot be used here: Triton needs a C compiler, and finds neither gcc nor clang nor "
            "what CC names; install one, or use 'dali-operators'"
        )
