"""The table of the paper, and ours beside it: the results of a study's final cells, grouped and compared.

Accuracies are kept as shares in 0..1; the paper's are in per cent, as printed there (arXiv 1906.02940, table of
results). Means, deviations and differences are taken before rounding. A deviation is that of a sample (ddof = 1); with
one seed there is none. The arms of a seed share their labelled images, so the difference is taken seed by seed.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from selfie_model.study.grid import ARMS, Arm

# Two-sided 95 % points of Student's t for 1..30 degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Published:
    """One entry of the paper's table: top-1 test accuracy over five runs.

    Attributes:
        mean: per cent.
        deviation: per cent; None where the paper gives none.
    """

    mean: float
    deviation: float | None


# preset → (labelled share in per cent, supervised from scratch, Selfie), a row a column of the paper's table
_TABLE: Final[dict[str, tuple[tuple[float, Published, Published], ...]]] = {
    "cifar10": (
        (5, Published(75.9, 0.7), Published(75.9, 0.4)),
        (8, Published(79.3, 1.0), Published(80.3, 0.3)),
        (20, Published(88.3, 0.3), Published(89.1, 0.5)),
        (100, Published(95.5, 0.2), Published(95.7, 0.1)),
    ),
    "imagenet32": (
        (5, Published(13.1, 0.8), Published(18.3, 0.1)),
        (10, Published(25.9, 0.5), Published(30.2, 0.5)),
        (20, Published(32.7, 0.4), Published(33.5, None)),
        (100, Published(55.7, 0.6), Published(56.4, 0.6)),
    ),
    "imagenet224": (
        (5, Published(35.6, 0.7), Published(46.7, 0.4)),
        (10, Published(59.6, 0.2), Published(61.9, 0.2)),
        (20, Published(65.7, 0.2), Published(67.1, 0.2)),
        (100, Published(76.9, 0.2), Published(77.0, 0.1)),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalResult:
    """What one final cell measured.

    Attributes:
        arm: which of the two.
        percent: labelled share, per cent.
        seed: of the run and of its labelled subset.
        accuracy: top-1 on the test images, 0..1.
        labelled: number of labelled images trained on.
        rate: peak learning rate used.
    """

    arm: Arm
    percent: float
    seed: int
    accuracy: float
    labelled: int
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One arm at one labelled share, over all finished seeds.

    Attributes:
        arm, percent, labelled, rate: as in FinalResult.
        seeds, accuracies: of the finished cells, by rising seed.
        mean: 0..1.
        deviation: of a sample (ddof = 1); None with one seed.
        paper: the paper's mean and deviation in per cent, if its table has this entry.
    """

    arm: Arm
    percent: float
    labelled: int
    rate: float
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    deviation: float | None
    paper: Published | None

    def __post_init__(self) -> None:
        if not len(self.seeds) == len(self.accuracies) > 0:
            raise ValueError("every seed needs one accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Selfie minus a supervised arm at one labelled share, seed by seed.

    Attributes:
        arm: the supervised one.
        percent: labelled share, per cent.
        pairs: number of seeds finished in both arms.
        ahead: number of them where Selfie is strictly better.
        mean: difference of accuracies, -1..1.
        deviation: of the differences (ddof = 1); None with one pair.
        interval: 95 % confidence interval of the mean (Student's t); None with one pair.
    """

    arm: Arm
    percent: float
    pairs: int
    ahead: int
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None


def rows_of(results: Sequence[FinalResult], *, preset: str) -> list[Row]:
    """Groups results into rows: by rising labelled share, supervised before Selfie."""
    groups: dict[tuple[float, Arm], list[FinalResult]] = {}
    for result in results:
        groups.setdefault((result.percent, result.arm), []).append(result)
    rows = []
    for (percent, arm), members in sorted(groups.items(), key=lambda group: (group[0][0], ARMS.index(group[0][1]))):
        members.sort(key=lambda result: result.seed)
        accuracies = tuple(result.accuracy for result in members)
        rows.append(
            Row(
                arm=arm,
                percent=percent,
                labelled=members[0].labelled,
                rate=members[0].rate,
                seeds=tuple(result.seed for result in members),
                accuracies=accuracies,
                mean=statistics.fmean(accuracies),
                deviation=_deviation(accuracies),
                paper=published(preset, arm, percent),
            )
        )
    return rows


def differences_of(rows: Sequence[Row]) -> list[Difference]:
    """Pairs Selfie with each supervised arm of a labelled share by seed, in the rows' order."""
    by_arm = {(row.percent, row.arm): dict(zip(row.seeds, row.accuracies, strict=True)) for row in rows}
    differences = []
    for percent, arm in by_arm:
        supervised, selfie = by_arm[percent, arm], by_arm.get((percent, "selfie"), {})
        values = [selfie[seed] - supervised[seed] for seed in sorted(supervised.keys() & selfie.keys())]
        if arm == "selfie" or not values:
            continue
        mean, half = statistics.fmean(values), half_interval(values)
        differences.append(
            Difference(
                arm=arm,
                percent=percent,
                pairs=len(values),
                ahead=sum(value > 0 for value in values),
                mean=mean,
                deviation=_deviation(values),
                interval=None if half is None else (mean - half, mean + half),
            )
        )
    return differences


def published(preset: str, arm: str, percent: float) -> Published | None:
    """Returns the paper's accuracy for a preset, an arm and a labelled share; None if it has none."""
    for column, scratch, selfie in _TABLE.get(preset, ()):
        if column == percent:
            return {"scratch": scratch, "selfie": selfie}.get(arm)
    return None


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def half_interval(values: Sequence[float]) -> float | None:
    """Returns half of the 95 % confidence interval of the mean (Student's t); None with one value."""
    deviation = _deviation(values)
    if deviation is None:
        return None
    return _T95[min(len(values) - 1, len(_T95)) - 1] * deviation / math.sqrt(len(values))
