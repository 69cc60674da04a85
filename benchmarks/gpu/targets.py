"""What was promised of a GPU, and whether the records of this run keep it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.record import Record

Values = dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One promise.

    Attributes:
        claim: in words.
        bound: the number promised.
        at_least: True where more is better.
        value: the measured number from medians by (case, system); KeyError where something was not measured.
        stored: it depends on the stored images.
    """

    claim: str
    bound: float
    at_least: bool
    value: Callable[[Values], float]
    stored: bool = True

    def line(self, values: Values, *, images: str = "") -> list[str]:
        """Claim, promise, measurement, verdict; `images` says what the reader must know of them."""
        sign = ">=" if self.at_least else "<="
        try:
            got = self.value(values)
        except (KeyError, ValueError, ZeroDivisionError):
            return [self.claim, f"{sign} {self.bound:,g}", "-", "not measured"]
        holds = got >= self.bound if self.at_least else got <= self.bound
        verdict = "holds" if holds else "MISSED"
        verdict += f" ({images})" if images and self.stored else ""
        return [self.claim, f"{sign} {self.bound:,g}", f"{got:,.4g}", verdict]


def _best(values: Values, case: str, start: str) -> float:
    return max(value for (one, system), value in values.items() if one == case and system.startswith(start))


def _patch_share(values: Values) -> float:
    """Time an image in the patch stage over time an image in the decoder."""
    stage = values["crop to patches: 256 px to 224", "gpu kernels"]
    return _best(values, "throughput: 224 px", "ceiling: jpeg256, decode alone, mixed") / stage


def _training(values: Values, work: str = "selfie-224") -> float:
    """The best rate in bf16, compiled or not, of the paper's batch or a smaller one."""
    rates = {system: value for (case, system), value in values.items() if case == f"training: {work}"}
    return max(value for system, value in rates.items() if system.startswith("bf16") and ":" not in system)


def _stall(values: Values) -> float:
    """Of the fastest step that was measured with the loader: the faster the step, the harder for the loader."""
    for option in ("bf16 + compile", "bf16"):
        if ("training: selfie-224", f"{option}, batch 1,024: stall") in values:
            return values["training: selfie-224", f"{option}, batch 1,024: stall"]
    raise KeyError("stall")


TARGETS = (
    Target(
        claim="32 px from shards, images/s",
        bound=300_000,
        at_least=True,
        value=lambda values: values["throughput: 32 px", "shards"],
        stored=False,
    ),
    Target(
        claim="256 px JPEG into 224 px patches, images/s",
        bound=20_000,
        at_least=True,
        value=lambda values: _best(values, "throughput: 224 px", "jpeg256"),
    ),
    Target(claim="patch stage, share of the decoding time", bound=0.05, at_least=False, value=_patch_share),
    Target(claim="pretraining at 224 px, images/s", bound=2_500, at_least=True, value=_training, stored=False),
    Target(claim="loader stall at 224 px, share of the time", bound=0.01, at_least=False, value=_stall),
    Target(
        claim="CIFAR-10 pretraining of the paper (120,000 steps of 512), hours",
        bound=1,
        at_least=False,
        value=lambda values: 120_000 * 512 / _training(values, "selfie-32") / 3600,
        stored=False,
    ),
    Target(
        claim="ImageNet pretraining of the paper (120,000 steps of 1,024), hours",
        bound=12,
        at_least=False,
        value=lambda values: 120_000 * 1024 / _training(values) / 3600,
        stored=False,
    ),
)


def medians(records: Sequence[Record]) -> Values:
    """The median of every measured record."""
    return {(one.case, one.system): one.median for one in records if one.n}
