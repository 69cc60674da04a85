"""The finished cells of a study → its table as Markdown, JSON and SVG, with what it must be read with.

Shown are per cent with two digits; JSON holds shares in 0..1 (the paper's in per cent).
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import msgspec

from selfie_data.files import damaged, write_output, write_output_json
from selfie_model.charts import Spread, spread_chart
from selfie_model.study.grid import DONE, RUN_AGAIN, Arm, Study, apply_budget, read_done, steps_of
from selfie_model.study.table import FinalResult, Published, Row, differences_of, rows_of

ARM_NAMES: Final[dict[Arm, str]] = {
    "scratch": "supervised from scratch",
    "long": "supervised, as long as both phases",
    "selfie": "Selfie, finetuned",
}
_IN_CHART: Final[dict[Arm, str]] = {"scratch": "supervised", "long": "as long as both", "selfie": "Selfie"}


def collect(study: Study) -> list[Row]:
    """Returns the table's rows from the final cells that are finished.

    Raises:
        RunError: what a cell recorded is damaged.
    """
    results = []
    for cell in study.grid.cells():
        record = read_done(study.folder(cell)) if cell.stage == "final" else None
        if record is not None:
            with damaged(study.folder(cell) / DONE, remedy=RUN_AGAIN):
                results.append(msgspec.convert(record, FinalResult))
    return rows_of(results, preset=study.config.preset)


def write_results(study: Study, rows: list[Row]) -> str:
    """Writes `results.md`, `results.json` and `results.svg` into the study's folder; returns the Markdown."""
    notes = [*study.notes, *notes_of(study)]
    text = markdown(rows, notes=notes)
    write_output(study.out / "results.md", text)
    write_output_json(study.out / "results.json", as_json(rows, notes=notes))
    if rows:
        write_output(study.out / "results.svg", chart(rows))
    return text


def notes_of(study: Study) -> list[str]:
    """Returns what every table of this study must be read with."""
    config, grid = apply_budget(study.config, study.budget), study.grid
    times = "once, shared by all seeds: the Selfie arm's spread is that of finetuning alone"
    if len(grid.pretrain_seeds) > 1:
        times = f"{len(grid.pretrain_seeds)} times, seeds take turns"
    tuned = "taken as given, not tuned"
    if len(grid.rates) > 1:
        rates = ", ".join(f"{rate:g}" for rate in sorted(grid.rates))
        tuned = f"the best of {rates} on a validation split of the training images, never on the test images"
    long = []
    if "long" in grid.arms:
        long = [
            f"“{ARM_NAMES['long']}” sees as many images as pretraining and finetuning together: "
            f"{steps_of('long', config):,} steps."
        ]
    return [
        f"Preset {config.preset}, budget {study.budget:g}: {config.pretrain.steps:,} steps of pretraining and "
        f"{config.finetune.steps:,} of finetuning; the paper trains 120,000.",
        f"Pretraining was done {times}.",
        *long,
        f"The peak learning rate is {tuned}.",
        "± is the sample standard deviation over seeds (ddof = 1). A seed decides the labelled images, the first "
        "weights and the order; the arms of a seed share the labelled images.",
    ]


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
    """Returns a sentence a labelled share and supervised arm: the difference, and whether it can be told from zero."""
    sentences = []
    for item in differences_of(rows):
        other = "supervised" if item.arm == "scratch" else "supervised for as long as both phases"
        start = f"At {item.percent:g} % labelled, Selfie minus {other}: {100 * item.mean:+.2f} points"
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
    """Returns the table as plain data."""
    return {
        "rows": [asdict(row) for row in rows],
        "differences": [asdict(difference) for difference in differences_of(rows)],
        "ddof": 1,
        "notes": list(notes),
    }


def rows_from_json(content: dict[str, Any]) -> list[Row]:
    """The inverse of `as_json`.

    Raises:
        KeyError, ValueError: it is not what `as_json` gives.
    """
    return msgspec.convert(content["rows"], list[Row])


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
        arms=[_IN_CHART[arm] for arm in arms],
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
