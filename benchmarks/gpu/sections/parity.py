"""Is the device's stream the reference's? Ids, draws, raw bits, JPEG within the bound, resume, ranks.

DALI's operators, of which nothing more is promised; the kernels, whose every bit is, are a section of their own.
"""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.gpu.data import loader
from benchmarks.gpu.measure import attempt, emit, verdict
from benchmarks.gpu.setting import Setting

CASE = "correctness: parity"
# Bound of a GPU decode and resize against the twin, of 255: mean difference, share of values off by more than 1 (the
# CPU's own bound), and for nvJPEG, whose colour conversion and IDCT differ from libjpeg-turbo's, a looser one; chroma
# of the nearest pixel instead of a smooth one would be 0.55 off by itself.
MEAN_BOUND = {"cpu": 0.3, "cuda": 0.6}
STEPS = 3


def run(setting: Setting) -> None:
    """Compares the device with the reference for raw and JPEG, then resume."""
    kinds = ("raw32", "jpeg256") if setting.dry else ("raw32", "jpeg256", "full")
    for kind in kinds:
        attempt(CASE, f"{kind}: device and twin", lambda kind=kind: compare(kind, setting))  # type: ignore[misc]
        attempt(CASE, f"{kind}: resume", lambda kind=kind: resume(kind, setting))  # type: ignore[misc]
    attempt(CASE, "raw32: ranks", lambda: ranks(setting))


def first(stream: Any, count: int) -> list[Any]:
    """The first batches, on the CPU."""
    found = []
    for batch in stream:
        found.append(batch.to("cpu"))
        if len(found) == count:
            break
    return found


def compare(kind: str, setting: Setting) -> None:
    """Device against `reference`: the same ids and positions, the same bits or the bound."""
    batch = setting.size(64, 8)
    with loader(kind, setting, global_batch_size=batch, backend="dali-operators") as device:
        ours = first(device, STEPS)
    with loader(kind, setting, global_batch_size=batch, backend="reference", device="cpu") as reference:
        twins = first(reference, STEPS)
    verdict(
        CASE, f"{kind}: same ids", all(torch.equal(a.sample_id, b.sample_id) for a, b in zip(ours, twins, strict=True))
    )
    verdict(
        CASE, f"{kind}: same draws", all(torch.equal(a.position, b.position) for a, b in zip(ours, twins, strict=True))
    )
    differences = torch.cat(
        [(a.patches.int() - b.patches.int()).abs().flatten() for a, b in zip(ours, twins, strict=True)]
    )
    mean = float(differences.float().mean())
    emit(CASE, f"{kind}: mean difference", [mean], "of 255", stored=kind)
    emit(CASE, f"{kind}: off by more than 1", [float((differences > 1).float().mean())], "share", stored=kind)
    emit(CASE, f"{kind}: largest difference", [float(differences.max())], "of 255", stored=kind)
    holds = mean == 0 if kind == "raw32" else mean <= MEAN_BOUND[setting.device]
    verdict(CASE, f"{kind}: {'same bits' if kind == 'raw32' else 'within the bound'}", holds, stored=kind)


def resume(kind: str, setting: Setting) -> None:
    """A loader restored at step 2 gives the tensors of one that was never interrupted."""
    batch = setting.size(64, 8)
    with loader(kind, setting, global_batch_size=batch) as whole:
        expected = first(whole, 4)
    with loader(kind, setting, global_batch_size=batch) as stopped:
        stream = iter(stopped)
        next(stream)
        next(stream)
        state = stopped.state_dict()
    with loader(kind, setting, global_batch_size=batch) as restored:
        restored.load_state_dict(state)
        rest = first(restored, 2)
    verdict(CASE, f"{kind}: resume is exact", same(expected[2:], rest))


def ranks(setting: Setting) -> None:
    """Two ranks together give the global batch of one."""
    batch = setting.size(64, 8)
    with loader("raw32", setting, global_batch_size=batch, rank=0, world_size=1) as whole:
        expected = first(whole, 1)[0]
    halves = []
    for rank in range(2):
        with loader("raw32", setting, global_batch_size=batch, rank=rank, world_size=2) as part:
            halves.append(first(part, 1)[0])
    joined = torch.cat([half.patches for half in halves])
    verdict(CASE, "raw32: two ranks are one", torch.equal(joined, expected.patches))


def same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Equal ids and equal bits."""
    return all(
        torch.equal(a.sample_id, b.sample_id) and torch.equal(a.patches, b.patches)
        for a, b in zip(left, right, strict=True)
    )
