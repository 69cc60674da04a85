"""A run → one HTML page: what was run, how it went, what the model sees, and how it compares.

Everything on the page is drawn from the run's own files and from pictures given to it; the functions here read nothing
and write nothing but `read_story` and `write_page`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfie_data.errors import RunError
from selfie_data.files import write_output
from selfie_model.config import Config
from selfie_model.report import page
from selfie_model.report.page import Markup
from selfie_model.report.plots import Curve, curve_chart
from selfie_model.report.puzzles import Puzzle, choose, draw
from selfie_model.study.comparison import Row, chart, difference_sentences, ours, paper_text
from selfie_model.study.published import ARM_NAMES
from selfie_model.training.checkpoint import config_of, find_checkpoint, read_checkpoint
from selfie_model.training.journal import read_journal

_TITLES = {"pretrain": "Selfie pretraining", "finetune": "Finetuning"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a run's folder tells.

    Attributes:
        name: of the folder.
        kind: `pretrain` or `finetune`.
        config: resolved.
        step: of the newest checkpoint.
        journal: its records, in order.
        parameters: numbers in the model's weights, buffers not counted.
        chance: accuracy of guessing, 0..1.
        fingerprint: of the data set; empty if the run does not say.
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


def read_story(run: Path) -> Story:
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
    return Story(
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
    story: Story,
    *,
    noise: Story | None = None,
    puzzles: Sequence[Puzzle] = (),
    rows: Sequence[Row] = (),
    notes: Sequence[str] = (),
) -> str:
    """Returns the page as text.

    Args:
        story: the run.
        noise: a pretraining on noise images, whose curve belongs beside the run's: it must stay at chance.
        puzzles: of images the run did not train on, in the order of the data; a choice of them is shown.
        rows: results of a study, for the table of the paper beside ours.
        notes: what must be said about that table.
    """
    body = [
        page.heading(f"{_TITLES[story.kind]}: {story.name}", _lead(story)),
        page.facts(_facts(story, puzzles)),
        _curves(story, noise),
    ]
    if puzzles:
        body.append(_pictures(puzzles))
    if rows:
        body.append(_table(rows, notes))
    body += [_configuration(story.config), page.footer(f"Data set {story.fingerprint or 'not named'}. Made by selfie.")]
    return page.page(f"{_TITLES[story.kind]}: {story.name}", body)


def write_page(path: Path, content: str) -> None:
    """Writes the page whole or not at all."""
    write_output(path, content)


def _lead(story: Story) -> str:
    model = story.config.model
    task = (
        f"{model.target} hidden patches to put back among {model.context} seen ones, {model.image_size} px images"
        if story.kind == "pretrain"
        else f"whole {model.image_size} px images into {round(1 / story.chance)} classes"
    )
    state = "finished" if story.step >= story.steps else "not finished"
    return f"Preset {story.config.preset}: {task}. {story.step:,} of {story.steps:,} steps, {state}."


def _facts(story: Story, puzzles: Sequence[Puzzle]) -> list[tuple[str, str, str]]:
    entries = []
    for event, word in (("validation", "validation"), ("train", "training")):
        records = [record for record in story.journal if record["event"] == event and "accuracy" in record]
        if records:
            last = records[-1]
            note = f"chance {100 * story.chance:.2f} %; loss {last['loss']:.4f} at step {last['step']:,}"
            entries.append((f"Accuracy, {word}", f"{100 * last['accuracy']:.2f} %", note))
    if puzzles:
        holes = sum(len(puzzle.holes) for puzzle in puzzles)
        right = sum(puzzle.right for puzzle in puzzles)
        entries.append(("Patches put back", f"{100 * right / holes:.1f} %", f"{right:,} of {holes:,}, below"))
    entries.append(("Parameters", f"{story.parameters / 1e6:.2f} M", "weights, without statistics"))
    rates = [record["images_per_s"] for record in story.journal if record.get("images_per_s")]
    if rates:
        middle = sorted(rates)[len(rates) // 2]
        entries.append(("Speed", f"{middle:,.0f}", "images/s, median of the intervals"))
    return entries


def _curves(story: Story, noise: Story | None) -> Markup:
    charts = [
        _curve(story, noise, "accuracy", reference=("chance", story.chance)),
        _curve(story, noise, "loss", reference=None),
    ]
    drawn = [figure for figure in charts if figure]
    if not drawn:
        return page.section("Curves", page.paragraph("The run's journal holds no measurements yet."))
    lead = "Training values are means over each logging interval, with augmentation and dropout on."
    if noise:
        lead += (
            f" The dashed noise curve is the same training on pictures of pure noise ({noise.name}): were it above "
            "chance, the task could be solved without looking at the picture."
        )
    return page.section("Curves", page.paragraph(lead), page.grid("side", drawn))


def _curve(story: Story, noise: Story | None, value: str, *, reference: tuple[str, float] | None) -> Markup | None:
    curves = []
    for source, event, name, colour in (
        (story, "train", "training", 0),
        (story, "validation", "validation", 1),
        (noise, "train", "noise", 3),
    ):
        records = [r for r in source.journal if r["event"] == event and value in r] if source else []
        if records:
            steps, values = [r["step"] for r in records], [float(r[value]) for r in records]
            curves.append(Curve(name=name, x=steps, y=values, colour=colour, dashed=name == "noise"))
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
    return page.figure(drawing, spoken[0].upper() + spoken[1:])


def _pictures(puzzles: Sequence[Puzzle]) -> Markup:
    shown = choose(list(puzzles), right=6, wrong=6)
    clean = sum(puzzle.right == len(puzzle.holes) for puzzle in puzzles)
    even = 1 / (1 + int((puzzles[0].attention > 0).sum()))
    own = 1 - sum(float(puzzle.attention.sum()) for puzzle in puzzles) / len(puzzles)
    return page.section(
        "Patches put back",
        page.paragraph(
            f"Of {len(puzzles):,} images, {clean:,} had every patch put into its own hole. Shown are the first six of "
            "those and the first six with a mistake, in the order of the data: nothing is picked by hand. In the third "
            "picture each hole holds the patch that the model chose for it (two holes may ask for the same patch): "
            "✓ right, ✗ wrong."
        ),
        page.paragraph(
            "Attention: what u0 looks at in the last block, mean over the heads, from the patch looked at least (dark) "
            "to the one looked at most (as it is); the caption says how far apart these are, and an even look would be "
            f"{100 * even:.1f} %. u0 gives {100 * own:.0f} % to itself on average, not drawn."
        ),
        page.grid("puzzles", [draw(puzzle) for puzzle in shown]),
    )


def _table(rows: Sequence[Row], notes: Sequence[str]) -> Markup:
    header = ("labelled", "images", "arm", "ours, mean ± std", "seeds", "each seed", "peak rate", "the paper")
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
    return page.section(
        "Compared with supervised training from scratch",
        page.paragraph("Top-1 accuracy on the test images in per cent; ± is the sample standard deviation over seeds."),
        page.figure(chart(rows), "Small dots: single seeds. Large dot and bar: mean ± standard deviation."),
        page.table(header, lines, numbers=(1, 3, 4, 6, 7)),
        page.bullets([*difference_sentences(rows), *notes]),
    )


def _configuration(config: Config) -> Markup:
    sections = []
    for name, values in config.to_dict().items():
        if isinstance(values, dict):
            lines = [(key, str(value)) for key, value in values.items()]
            sections.append(page.details(name, page.table(("value", "setting"), lines)))
    return page.section("Configuration", *sections)


def _is_weight(key: str) -> bool:
    return not key.startswith("normalise.") and not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
