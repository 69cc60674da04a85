"""The finished cells of a study → its table as Markdown, JSON and SVG, with what it must be read with."""

from typing import Any

from selfie_data.files import damaged, number, write_output, write_output_json
from selfie_model.study.comparison import FinalResult, Row, as_json, chart, markdown, rows_of
from selfie_model.study.grid import DONE, RUN_AGAIN, Study, apply_budget, read_done
from selfie_model.study.published import ARM_NAMES


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
                results.append(final_result(record))
    return rows_of(results, preset=study.config.preset)


def final_result(record: dict[str, Any]) -> FinalResult:
    """Returns what a final cell recorded.

    Raises:
        KeyError, TypeError, ValueError: an entry is missing or not what it must be.
    """
    if record["arm"] not in ARM_NAMES:
        raise ValueError(f"arm must be one of {', '.join(ARM_NAMES)}, got {record['arm']!r}")
    return FinalResult(
        arm=record["arm"],
        percent=number(record, "percent"),
        seed=int(number(record, "seed")),
        accuracy=number(record, "accuracy"),
        labelled=int(number(record, "labelled")),
        rate=number(record, "rate"),
    )


def write_results(study: Study, rows: list[Row]) -> str:
    """Writes `results.md`, `results.json` and `results.svg` into the study's folder; returns the Markdown."""
    notes = [*study.notes, *standing_notes(study)]
    text = markdown(rows, notes=notes)
    write_output(study.out / "results.md", text)
    write_output_json(study.out / "results.json", as_json(rows, notes=notes))
    if rows:
        write_output(study.out / "results.svg", chart(rows))
    return text


def standing_notes(study: Study) -> list[str]:
    """Returns what every table of this study must be read with."""
    config, grid = apply_budget(study.config, study.budget), study.grid
    times = "once, shared by all seeds: the Selfie arm's spread is that of finetuning alone"
    if len(grid.pretrain_seeds) > 1:
        times = f"{len(grid.pretrain_seeds)} times, seeds take turns"
    tuned = "taken as given, not tuned"
    if len(grid.rates) > 1:
        rates = ", ".join(f"{rate:g}" for rate in sorted(grid.rates))
        tuned = f"the best of {rates} on a validation split of the training images, never on the test images"
    return [
        f"Preset {config.preset}, budget {study.budget:g}: {config.pretrain.steps:,} steps of pretraining and "
        f"{config.finetune.steps:,} of finetuning; the paper trains 120,000.",
        f"Pretraining was done {times}.",
        f"The peak learning rate is {tuned}.",
        "± is the sample standard deviation over seeds (ddof = 1). A seed decides the labelled images, the first "
        "weights and the order; both arms of a seed share the labelled images.",
    ]
