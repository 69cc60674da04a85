"""A run → one HTML page: what was run, how it went, what the model sees, and how it compares.

The words and the looks are `report.html.j2`, filled by jinja2, which is imported where the page is made. Everything on
the page is drawn from the run's own files and from pictures given to it; only `read_run_summary` reads files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfie_data.errors import RunError
from selfie_model.charts import Curve, curve_chart
from selfie_model.config import Config
from selfie_model.report.puzzles import Puzzle, choose, draw
from selfie_model.study.results import ARM_NAMES, chart, difference_sentences, ours, paper_text
from selfie_model.study.table import Row
from selfie_model.training.checkpoint import config_of, find_checkpoint, read_checkpoint
from selfie_model.training.journal import read_journal

_TITLES = {"pretrain": "Selfie pretraining", "finetune": "Finetuning"}
_COLUMNS = ("labelled", "images", "arm", "ours, mean ± std", "seeds", "each seed", "peak rate", "the paper")
_SHOWN = 6  # puzzles of each kind: without a mistake, with one


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run's folder tells.

    Attributes:
        name: of the folder.
        kind: `pretrain` or `finetune`.
        config: resolved.
        step: of the newest checkpoint.
        journal: its records, in order.
        parameters: numbers in the model's weights, buffers not counted.
        chance: accuracy of guessing, 0..1.
        fingerprint: of the dataset; empty if the run does not say.
    """

    name: str
    kind: str
    config: Config
    step: int
    journal: list[dict[str, Any]] = field(repr=False)
    parameters: int
    chance: float
    fingerprint: str

    @property
    def steps(self) -> int:
        """Steps that the run was to take."""
        return self.config.pretrain.steps if self.kind == "pretrain" else self.config.finetune.steps


def read_run_summary(run: Path) -> RunSummary:
    """Reads a run's folder.

    Raises:
        RunError: it holds no run, or a damaged one.
    """
    path = find_checkpoint(run, which="last")
    state = read_checkpoint(path)
    config = config_of(state, path)
    kind = str(state["kind"])
    if kind not in _TITLES:
        raise RunError(f"{run} holds a run of kind {kind}; a report is made of pretrain or finetune")
    outcomes = config.model.target if kind == "pretrain" else len(state["class_names"])
    data: Mapping[str, Any] = state["data"] if isinstance(state.get("data"), dict) else {}
    return RunSummary(
        name=run.resolve().name,
        kind=kind,
        config=config,
        step=int(state["step"]),
        journal=read_journal(run),
        parameters=sum(value.numel() for key, value in state["model"].items() if _is_weight(key)),
        chance=1 / max(outcomes, 1),
        fingerprint=str(data.get("fingerprint", "")),
    )


def build_page(
    run: RunSummary,
    *,
    noise: RunSummary | None = None,
    puzzles: Sequence[Puzzle] = (),
    rows: Sequence[Row] = (),
    notes: Sequence[str] = (),
) -> str:
    """Returns the page as text.

    Args:
        run: what it is about.
        noise: a pretraining on noise images, whose curve belongs beside the run's: it must stay at chance.
        puzzles: of images the run did not train on, in the order of the data; a choice of them is shown.
        rows: results of a study, for the table of the paper beside ours.
        notes: what must be said about that table.
    """
    import jinja2

    loader = jinja2.PackageLoader("selfie_model.report", package_path="")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    curves = [_curve(run, noise, "accuracy", reference=("chance", run.chance)), _curve(run, noise, "loss")]
    return environment.get_template("report.html.j2").render(
        title=_TITLES[run.kind],
        run=run,
        noise=noise,
        lead=_lead(run),
        facts=_facts(run, puzzles),
        curves=[curve for curve in curves if curve],
        puzzles=_pictures(puzzles) if puzzles else None,
        results=_results(rows, notes) if rows else None,
        configuration=[(name, values) for name, values in run.config.to_dict().items() if isinstance(values, dict)],
    )


def _lead(run: RunSummary) -> str:
    model = run.config.model
    task = (
        f"{model.target} hidden patches to put back among {model.context} seen ones, {model.image_size} px images"
        if run.kind == "pretrain"
        else f"whole {model.image_size} px images into {round(1 / run.chance)} classes"
    )
    state = "finished" if run.step >= run.steps else "not finished"
    return f"Preset {run.config.preset}: {task}. {run.step:,} of {run.steps:,} steps, {state}."


def _facts(run: RunSummary, puzzles: Sequence[Puzzle]) -> list[tuple[str, str, str]]:
    """Key figures: name, value, and a word to judge it by."""
    entries = []
    for event, word in (("validation", "validation"), ("train", "training")):
        records = [record for record in run.journal if record["event"] == event and "accuracy" in record]
        if records:
            last = records[-1]
            note = f"chance {100 * run.chance:.2f} %; loss {last['loss']:.4f} at step {last['step']:,}"
            entries.append((f"Accuracy, {word}", f"{100 * last['accuracy']:.2f} %", note))
    if puzzles:
        hidden = sum(len(puzzle.hidden) for puzzle in puzzles)
        right = sum(puzzle.right for puzzle in puzzles)
        entries.append(("Patches put back", f"{100 * right / hidden:.1f} %", f"{right:,} of {hidden:,}, below"))
    entries.append(("Parameters", f"{run.parameters / 1e6:.2f} M", "weights, without statistics"))
    rates = [record["images_per_s"] for record in run.journal if record.get("images_per_s")]
    if rates:
        middle = sorted(rates)[len(rates) // 2]
        entries.append(("Speed", f"{middle:,.0f}", "images/s, median of the intervals"))
    return entries


def _curve(
    run: RunSummary, noise: RunSummary | None, value: str, *, reference: tuple[str, float] | None = None
) -> tuple[str, str] | None:
    """Returns a chart of one value by step and its caption; None if nothing of it was measured."""
    curves = []
    for source, event, name, style in (
        (run, "train", "training", 0),
        (run, "validation", "validation", 1),
        (noise, "train", "noise", 3),
    ):
        journal = source.journal if source else []
        records = [record for record in journal if record["event"] == event and value in record]
        if records:
            steps, values = [record["step"] for record in records], [float(record[value]) for record in records]
            curves.append(Curve(name=name, x=steps, y=values, style=style))
    if not curves:
        return None
    ends = ", ".join(f"{curve.name} ends at {curve.y[-1]:.3f}" for curve in curves)
    spoken = f"{value} by step: {ends}" + (f"; chance is {reference[1]:.3f}." if reference else ".")
    drawing = curve_chart(
        curves,
        title=f"{value} by step",
        description=spoken,
        x_label="optimiser steps",
        y_label=value,
        percent=value == "accuracy",
        reference=reference,
    )
    return drawing, spoken[0].upper() + spoken[1:]


def _pictures(puzzles: Sequence[Puzzle]) -> dict[str, Any]:
    return {
        "drawings": [draw(puzzle) for puzzle in choose(list(puzzles), right=_SHOWN, wrong=_SHOWN)],
        "count": len(puzzles),
        "clean": sum(puzzle.right == len(puzzle.hidden) for puzzle in puzzles),
        "even": 1 / (1 + int((puzzles[0].attention > 0).sum())),
        "own": 1 - sum(float(puzzle.attention.sum()) for puzzle in puzzles) / len(puzzles),
    }


def _results(rows: Sequence[Row], notes: Sequence[str]) -> dict[str, Any]:
    lines = [
        (
            f"{row.percent:g} %",
            f"{row.labelled:,}",
            ARM_NAMES[row.arm],
            ours(row),
            str(len(row.seeds)),
            " ".join(f"{100 * value:.2f}" for value in row.accuracies),
            f"{row.rate:g}",
            paper_text(row.paper),
        )
        for row in rows
    ]
    sentences = [*difference_sentences(rows), *notes]
    return {"chart": chart(rows), "header": _COLUMNS, "lines": lines, "sentences": sentences}


def _is_weight(key: str) -> bool:
    return not key.startswith("normalise.") and not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
