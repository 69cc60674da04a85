"""The sections in the order of their value, each with its limit, and which of them go into one call of a lent host.

Correctness first, then what is promised of 224 px, then the rest; last what may crash. A run that is cut short has
answered the more valuable questions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

USUAL_LIMIT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: a module of `benchmarks.gpu.sections` with options, in a process of its own.

    Attributes:
        name: what `--only` takes; the part before the first `_` names a group.
        module: file of `benchmarks.gpu.sections`.
        limit_s: after this many seconds it is ended.
        asks: the question, in words.
        options: for the module.
        why_long: the reason for a limit over two minutes.
    """

    name: str
    module: str
    limit_s: int
    asks: str
    options: Mapping[str, Any] = field(default_factory=dict)
    why_long: str = ""


SECTIONS = (
    Section(
        name="data",
        module="prepare",
        limit_s=45,
        asks="are the shards and the store of all sections built (later sections find them)",
    ),
    Section(
        name="parity",
        module="parity",
        limit_s=75,
        asks="same ids, draws, raw bits as the reference; JPEG within the bound; resume; ranks",
    ),
    Section(
        name="kernels",
        module="kernels",
        limit_s=60,
        asks="Triton's kernels: the reference's bits, with the CPU's pixels; does the self-check catch a fault",
    ),
    Section(name="tests", module="tests", limit_s=60, asks="do the tests marked `gpu` pass"),
    Section(
        name="throughput_224",
        module="throughput",
        limit_s=75,
        asks="from shards to patches at 224 px, the default first",
        options={"size": 224},
    ),
    Section(
        name="training_224",
        module="training",
        limit_s=150,
        asks="the pretraining step: bf16, batch 1,024, peak memory, stall by events, torch.compile",
        options={"work": "selfie-224"},
        why_long="one torch.compile from cold, about a minute",
    ),
    Section(
        name="training_32",
        module="training",
        limit_s=100,
        asks="the same at 32 px",
        options={"work": "selfie-32"},
    ),
    Section(
        name="throughput_decoding",
        module="decoding",
        limit_s=80,
        asks="decoding alone without the hardware engine: threads, batch sizes, and on the CPU",
        options={"hw_decoder_loads": [0.0]},
    ),
    Section(
        name="throughput_32",
        module="throughput",
        limit_s=40,
        asks="shards and store at 32 px, beside pixels that already lie on the device",
        options={"size": 32},
    ),
    Section(
        name="patch_stage",
        module="patch_stage",
        limit_s=50,
        asks="patches of images on the device: Triton's kernels beside DALI's operators, torch and a copy",
    ),
    Section(
        name="training_finetune",
        module="training",
        limit_s=100,
        asks="the finetuning step at 224 px",
        options={"work": "finetune-224"},
    ),
    Section(
        name="training_options",
        module="training",
        limit_s=40,
        asks="the same step in float32, without and with channels-last",
        options={"work": "selfie-224", "trials": "float32"},
    ),
    Section(
        name="decoder_stress_busy",
        module="decoder_stress",
        limit_s=40,
        asks="are pixels right that a busy stream reads late (no hardware engine)",
        options={"hw_decoder_load": 0.0, "freed": False},
    ),
    Section(
        name="decoder_stress_freed",
        module="decoder_stress",
        limit_s=40,
        asks="the same for tensors that are freed before they are read",
        options={"hw_decoder_load": 0.0, "freed": True},
    ),
    Section(
        name="throughput_hardware",
        module="decoding",
        limit_s=60,
        asks="decoding alone with shares of the hardware engine",
        options={"hw_decoder_loads": [0.65, 0.3, 0.9]},
    ),
    Section(
        name="decoder_stress_busy_hardware",
        module="decoder_stress",
        limit_s=40,
        asks="late reads with the hardware engine",
        options={"hw_decoder_load": 0.65, "freed": False},
    ),
    Section(
        name="decoder_stress_freed_hardware",
        module="decoder_stress",
        limit_s=40,
        asks="freed tensors with the hardware engine",
        options={"hw_decoder_load": 0.65, "freed": True},
    ),
    Section(
        name="decoder_stress_region",
        module="region",
        limit_s=30,
        asks="decoding a window only: the pixels of decoding all?",
    ),
    Section(
        name="training_graphs",
        module="graphs",
        limit_s=110,
        asks="do CUDA graphs live with tensors that DALI frees",
    ),
)

# Which sections go into one call of a lent host: of similar value, each call within its host's limit.
CALLS: tuple[tuple[str, ...], ...] = (
    ("data", "parity", "kernels", "tests"),
    ("throughput_224", "training_224"),
    ("training_32", "throughput_decoding"),
    ("throughput_32", "patch_stage", "training_finetune", "training_options"),
    (
        "decoder_stress_busy",
        "decoder_stress_freed",
        "throughput_hardware",
        "decoder_stress_busy_hardware",
        "decoder_stress_freed_hardware",
        "decoder_stress_region",
        "training_graphs",
    ),
)


def choose(only: str) -> list[Section]:
    """The sections that `only` names, comma-separated, in the order of the plan; all for an empty string.

    A name stands for its section and for every section that begins with it and `_`: `training` for all of training.

    Raises:
        ValueError: a name that is no section.
    """
    names = [name for name in only.split(",") if name]
    if not names:
        return list(SECTIONS)
    found = [one for one in SECTIONS if any(_means(name, one.name) for name in names)]
    unknown = [name for name in names if not any(_means(name, one.name) for one in found)]
    if unknown:
        known = ", ".join(one.name for one in SECTIONS)
        raise ValueError(f"sections are {known}; got {', '.join(unknown)}")
    return found


def _means(given: str, section: str) -> bool:
    return section == given or section.startswith(f"{given}_")
