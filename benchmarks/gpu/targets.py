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
    """

    claim: str
    bound: float
    at_least: bool
    value: Callable[[Values], float]

    def line(self, values: Values) -> list[str]:
        """Claim, promise, measurement, verdict."""
        sign = ">=" if self.at_least else "<="
        try:
            got = self.value(values)
        except (KeyError, ValueError, ZeroDivisionError):
            return [self.claim, f"{sign} {self.bound:,g}", "-", "not measured"]
        holds = got >= self.bound if self.at_least else got <= self.bound
        return [self.claim, f"{sign} {self.bound:,g}", f"{got:,.4g}", "holds" if holds else "MISSED"]


def _best(values: Values, case: str, start: str) -> float:
    return max(value for (one, system), value in values.items() if one == case and system.startswith(start))


def _patch_share(values: Values) -> float:
    """Time an image in the patch stage over time an image in the decoder."""
    stage = _best(values, "patch stage: 224 px", ("dali sequence"))
    return _best(values, "throughput: 224 px", "ceiling: jpeg256, decode alone, mixed") / stage


TARGETS = (
    Target(
        claim="32 px from shards, images/s",
        bound=300_000,
        at_least=True,
        value=lambda values: values["throughput: 32 px", "shards"],
    ),
    Target(
        claim="256 px JPEG into 224 px patches, images/s",
        bound=15_000,
        at_least=True,
        value=lambda values: _best(values, "throughput: 224 px", "jpeg256"),
    ),
    Target(claim="patch stage, share of the decoding time", bound=0.05, at_least=False, value=_patch_share),
    Target(
        claim="pretraining at 224 px, images/s",
        bound=2_500,
        at_least=True,
        value=lambda values: max(
            value
            for (case, system), value in values.items()
            if case == "training: selfie-224" and system in ("+ bf16", "+ compile", "+ CUDA graphs")
        ),
    ),
    Target(
        claim="loader stall at 224 px, share of the time",
        bound=0.01,
        at_least=False,
        value=lambda values: values["training: selfie-224", "stall"],
    ),
)


def medians(records: Sequence[Record]) -> Values:
    """The median of every measured record."""
    return {(one.case, one.system): one.median for one in records if one.n}
