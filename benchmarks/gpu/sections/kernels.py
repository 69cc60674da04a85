"""Do Triton's kernels give the reference's bits on this card, and does the self-check catch it where they do not?

Decoded by the CPU every bit must be the reference's; by nvJPEG the pixels differ, and the self-check still holds the
kernels to what the reference makes of those pixels. The planted fault is one weight that is a little too large.
"""

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.data import loader
from benchmarks.gpu.measure import attempt, verdict
from benchmarks.gpu.sections.parity import first
from benchmarks.gpu.setting import Setting

CASE = "correctness: kernels"
STEPS = 3
_FAULT = 1 << 14  # of weights that sum to 1 << 22


def run(setting: Setting) -> None:
    """Bits by kind and dtype, then the self-check."""
    for kind in ("raw32", "jpeg256") if setting.dry else ("raw32", "jpeg256", "full"):
        for dtype in ("uint8", "bfloat16"):
            attempt(CASE, f"{kind}, {dtype}: same bits", partial(bits, kind, dtype, setting))
    attempt(CASE, "store: same bits", partial(bits, "raw32", "float32", setting, resident=True))
    attempt(CASE, "self-check: nvJPEG's pixels pass", partial(passes, setting))
    attempt(CASE, "self-check: catches a planted fault", partial(catches, setting))


def bits(kind: str, dtype: str, setting: Setting, **options: Any) -> None:
    """The device's patches, decoded by the CPU, and the reference's."""
    batch, steps = setting.size(64, 2), setting.size(STEPS, 1)
    common: dict[str, Any] = {"global_batch_size": batch, "dtype": dtype}
    ours = {"backend": "auto" if options else "gpu", "decode": "cpu", **options}
    with loader(kind, setting, **common, **ours) as device:
        got = first(device, steps)
    with loader(kind, setting, **common, backend="reference", device="cpu") as reference:
        wanted = first(reference, steps)
    same = all(torch.equal(left.patches, right.patches) for left, right in zip(got, wanted, strict=True))
    name = "store" if options else f"{kind}, {dtype}"
    verdict(CASE, f"{name}: same bits", same, f"{steps} batches of {batch}", stored=kind)


def passes(setting: Setting) -> None:
    """The first batch is handed out."""
    with loader("jpeg256", setting, global_batch_size=setting.size(64, 2), backend="gpu") as stream:
        first(stream, 1)
    verdict(CASE, "self-check: nvJPEG's pixels pass", True, stored="jpeg256")


def catches(setting: Setting) -> None:
    """The first batch of kernels with a fault is not handed out, and the error says what to do."""
    from pipelines.backends import gpu as module
    from selfie_data.errors import DeviceError

    gpu: Any = module
    calculate = gpu.calculate_taps

    def faulty(*arguments: Any, **options: Any) -> Any:
        taps = calculate(*arguments, **options)
        taps.weight[1, 1, 0] += _FAULT
        return taps

    gpu.calculate_taps = faulty
    said = "nothing was said"
    try:
        with loader("jpeg256", setting, global_batch_size=setting.size(64, 2), backend="gpu", decode="cpu") as stream:
            first(stream, 1)
    except DeviceError as error:
        said = str(error)
    finally:
        gpu.calculate_taps = calculate
    verdict(CASE, "self-check: catches a planted fault", "dali-operators" in said, said[:300], stored="jpeg256")
