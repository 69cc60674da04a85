"""Results of a study's final cells → the table of the paper beside ours, as Markdown, JSON and a chart.

Accuracies are kept as shares in 0..1 and shown in per cent with two digits; means, deviations and differences are taken
before rounding. A deviation is that of a sample (ddof = 1); with one seed there is none, and none is shown. The two
arms of a seed share their labelled images, so the difference is taken seed by seed.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfie_data.files import checked_number, number
from selfie_model.charts import Spread, spread_chart
from selfie_model.study.published import ARM_NAMES, Published, published

# Two-sided 95 % points of Student's t for 1..30 degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalResult:
    """What one final cell measured.

    Attributes:
        arm: `scratch` or `selfie`.
        percent: labelled share, per cent.
        seed: of the run and of its labelled subset.
        accuracy: top-1 on the test images, 0..1.
        labelled: number of labelled images trained on.
        rate: peak learning rate used.
    """

    arm: str
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

    arm: str
    percent: float
    labelled: int
    rate: float
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    mean: float
    deviation: float | None
    paper: Published | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Selfie minus supervised at one labelled share, seed by seed.

    Attributes:
        percent: labelled share, per cent.
        pairs: number of seeds finished in both arms.
        ahead: number of them where Selfie is strictly better.
        mean: difference of accuracies, -1..1.
        deviation: of the differences (ddof = 1); None with one pair.
        interval: 95 % confidence interval of the mean (Student's t); None with one pair.
    """

    percent: float
    pairs: int
    ahead: int
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None


def rows_of(results: Sequence[FinalResult], *, preset: str) -> list[Row]:
    """Groups results into rows: by rising labelled share, supervised before Selfie."""
    groups: dict[tuple[float, str], list[FinalResult]] = {}
    for result in results:
        groups.setdefault((result.percent, result.arm), []).append(result)
    rows = []
    for (percent, arm), members in sorted(groups.items()):
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
    """Pairs the two arms of each labelled share by seed; a share that lacks an arm has no difference."""
    by_arm = {(row.percent, row.arm): dict(zip(row.seeds, row.accuracies, strict=True)) for row in rows}
    differences = []
    for percent in sorted({row.percent for row in rows}):
        scratch, selfie = by_arm.get((percent, "scratch"), {}), by_arm.get((percent, "selfie"), {})
        values = [selfie[seed] - scratch[seed] for seed in sorted(scratch.keys() & selfie.keys())]
        if not values:
            continue
        mean, deviation = statistics.fmean(values), _deviation(values)
        differences.append(
            Difference(
                percent=percent,
                pairs=len(values),
                ahead=sum(value > 0 for value in values),
                mean=mean,
                deviation=deviation,
                interval=_interval(mean, deviation, len(values)),
            )
        )
    return differences


def markdown(rows: Sequence[Row], *, notes: Sequence[str] = ()) -> str:
    """Returns the table as Markdown, the differences below it, and `notes` as a list."""
    if not rows:
        return "No final cell is finished yet.\n"
    lines = [
        "| labelled | arm | ours, mean ± std (seeds) | each seed | peak learning rate | the paper |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        each = " ".join(f"{100 * value:.2f}" for value in row.accuracies)
        lines.append(
            f"| {row.percent:g} % ({row.labelled:,}) | {ARM_NAMES[row.arm]} | {ours(row)} ({len(row.seeds)}) "
            f"| {each} | {row.rate:g} | {paper_text(row.paper)} |"
        )
    lines.append("")
    lines.extend(f"- {sentence}" for sentence in difference_sentences(rows))
    lines.extend(f"- {note}" for note in notes)
    return "\n".join(lines) + "\n"


def difference_sentences(rows: Sequence[Row]) -> list[str]:
    """Returns one plain sentence a labelled share: what the difference is, and whether it can be told from zero."""
    sentences = []
    for item in differences_of(rows):
        start = f"At {item.percent:g} % labelled, Selfie minus supervised: {100 * item.mean:+.2f} points"
        if item.interval is None or item.deviation is None:
            sentences.append(f"{start} from one seed: no spread is known, so nothing can be said about its sign.")
            continue
        low, high = item.interval
        verdict = (
            "the interval holds zero, so the arms cannot be told apart by these seeds"
            if low <= 0 <= high
            else f"the interval does not hold zero: {'Selfie' if low > 0 else 'supervised'} is ahead"
        )
        sentences.append(
            f"{start} ± {100 * item.deviation:.2f} over {item.pairs} paired seeds (ahead in {item.ahead}); "
            f"95 % interval {100 * low:+.2f} to {100 * high:+.2f}: {verdict}."
        )
    return sentences


def as_json(rows: Sequence[Row], *, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the same as plain data: accuracies as shares in 0..1, the paper's in per cent."""
    return {
        "rows": [{**asdict(row), "paper": row.paper._asdict() if row.paper else None} for row in rows],
        "differences": [asdict(difference) for difference in differences_of(rows)],
        "ddof": 1,
        "notes": list(notes),
    }


def rows_from_json(content: dict[str, Any]) -> list[Row]:
    """The inverse of `as_json`.

    Raises:
        KeyError, TypeError, ValueError: it is not what `as_json` gives.
    """
    return [_row_from_json(row) for row in content["rows"]]


def _row_from_json(row: dict[str, Any]) -> Row:
    if row["arm"] not in ARM_NAMES:
        raise ValueError(f"arm must be one of {', '.join(ARM_NAMES)}, got {row['arm']!r}")
    for name in ("percent", "labelled", "rate", "mean"):
        number(row, name)
    lists = {name: tuple(checked_number(value, name) for value in row[name]) for name in ("seeds", "accuracies")}
    if not len(lists["seeds"]) == len(lists["accuracies"]) > 0:
        raise ValueError("every seed needs one accuracy")
    paper = None if row["paper"] is None else Published(**row["paper"])
    for value in (row["deviation"], *(paper or ())):
        if value is not None:
            checked_number(value, "a mean or a deviation")
    return Row(**{**row, **lists, "paper": paper})


def chart(rows: Sequence[Row]) -> str:
    """Returns the table as an SVG element: seeds as dots, mean ± std, the paper's value hollow."""
    percents = sorted({row.percent for row in rows})
    arms = [arm for arm in ARM_NAMES if any(row.arm == arm for row in rows)]
    spreads = [
        Spread(
            column=percents.index(row.percent),
            arm=arms.index(row.arm),
            values=row.accuracies,
            deviation=row.deviation,
            published=row.paper.mean / 100 if row.paper else None,
        )
        for row in rows
    ]
    spoken = "; ".join(f"{row.percent:g} % {ARM_NAMES[row.arm]}: {ours(row)}" for row in rows)
    return spread_chart(
        spreads,
        columns=[f"{percent:g} %" for percent in percents],
        arms=["supervised" if arm == "scratch" else "Selfie" for arm in arms],
        title="Test accuracy by labelled share",
        description=f"Accuracy in per cent, mean ± standard deviation over seeds. {spoken}.",
        x_label="labelled share of the training images",
        y_label="test accuracy",
    )


def ours(row: Row) -> str:
    """Returns `61.20 ± 0.71`, or `61.20` where one seed gives no deviation; per cent."""
    return f"{100 * row.mean:.2f}" + ("" if row.deviation is None else f" ± {100 * row.deviation:.2f}")


def paper_text(paper: Published | None) -> str:
    """Returns `75.9 ± 0.7`, per cent, or `none` where the paper has no such entry."""
    if paper is None:
        return "none"
    return f"{paper.mean:.1f}" + ("" if paper.deviation is None else f" ± {paper.deviation:.1f}")


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _interval(mean: float, deviation: float | None, count: int) -> tuple[float, float] | None:
    if deviation is None:
        return None
    half = _T95[min(count - 1, len(_T95)) - 1] * deviation / math.sqrt(count)
    return (mean - half, mean + half)
