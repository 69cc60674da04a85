"""What a training step must at least take: its floating-point operations and the bytes that it moves, op by op.

A step is run on the device `meta`, where tensors have shapes and no data, with every tensor in bf16. An op takes at
least its operations at the card's rate for matrices, and its inputs and outputs at the rate of its memory:

    seconds >= sum over ops of max(operations / rate, bytes / bandwidth)

Eager, every op moves its own bytes. Compiled, what is done value by value (ReLU, sums, casts) moves none: it happens
where a value is made or used anyway. Optimiser and loader are left out: 0.2 GB of weights, and a stage beside the step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.gpu.sections.workload import configuration, network, noise
from benchmarks.gpu.setting import Setting


class Card(NamedTuple):
    """Operations a second in bf16 matrices, bytes a second of memory."""

    operations: float
    bytes: float


H100 = Card(989e12, 3.35e12)  # SXM, NVIDIA's data sheet, without sparsity


class Cost(NamedTuple):
    """Of a step: operations (two a multiply-add), bytes moved eagerly and compiled, and the least seconds of both."""

    operations: float
    bytes_eager: float
    bytes_compiled: float
    seconds_eager: float
    seconds_compiled: float


class _Ops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects (operations, bytes, whether it is done value by value) of every op that moves anything."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[float, float, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            count = flop_registry.get(func.overloadpacket)
            operations = float(count(*args, **(kwargs or {}), out_val=result)) if count else 0.0
            moved = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, Tensor)]
            by_value = torch.Tag.pointwise in func.tags or func.overloadpacket.__name__ == "_to_copy"
            self.found.append((operations, float(sum(one.nbytes for one in moved)), by_value))
        return result


def cost(step: Callable[[], Tensor], card: Card = H100) -> Cost:
    """Returns what `step` costs, forward and backward; it returns its loss, on the device `meta`."""
    with _Ops() as ops:
        step().backward()  # type: ignore[no-untyped-call]
    operations, moved = (sum(one[place] for one in ops.found) for place in (0, 1))
    rest = [one for one in ops.found if not one[2]]
    eager, compiled = (
        sum(max(each / card.operations, size / card.bytes) for each, size, _ in found) for found in (ops.found, rest)
    )
    return Cost(operations, moved, sum(one[1] for one in rest), eager, compiled)


def step_of(work: str, count: int, setting: Setting) -> Callable[[], Tensor]:
    """Returns the step of a workload of `workload.py` at a batch size, on the device `meta`."""
    config = configuration(work, setting)
    model = network(work, config).to("meta", torch.bfloat16)
    batch = noise(work, config, count, "meta")
    # Autocast, which `meta` has not, would hand bf16 to the first convolution, and so to all that follows.
    model.get_submodule("normalise").register_forward_hook(lambda _module, _given, pixels: pixels.to(torch.bfloat16))

    def step() -> Tensor:
        loss: Tensor = model(batch).loss
        return loss

    return step
