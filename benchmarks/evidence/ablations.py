"""What matters in the method? One change at a time, the same seeds, transfer measured beside the pretext task.

    python -m benchmarks ablations SHARDS --preset small --seeds 5

A cell is a row and a seed: pretraining without labels, finetuning with a share of them, accuracy on the validation set
(a tenth of SHARDS; test images have no part in choices). Rows that change nothing in pretraining share it. Each cell is
appended to the result file when it is done, and is not run again.

A row's difference to the first row is taken seed by seed. Beside it stands the smallest difference that as many seeds
with that spread could tell from zero (half of the 95 % interval): below it, no difference means nothing.
"""

import dataclasses
import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from benchmarks.harness.record import RESULTS, commit, host, versions

if TYPE_CHECKING:
    from selfie_model.config import Config
    from selfie_model.study.shards import StudyShards

BASE = "as it is"
ROWS: Mapping[str, dict[str, dict[str, Any]]] = {  # name → section → what is changed
    BASE: {},
    "no positions on the context": {"model": {"encoder_positions": False}},
    "hidden patches as zeros": {"model": {"masking": "zero"}},
    "8 seen, 8 put back": {"model": {"context": 8, "target": 8}},
    "4 seen, 12 put back": {"model": {"context": 4, "target": 12}},
    "raw logits": {"model": {"logits": "raw"}},
    "cosine logits, temperature 0.1": {"model": {"logits": "cosine", "temperature": 0.1}},
    "mean pooling": {"model": {"pooling": "mean"}},
    "maximum pooling": {"model": {"pooling": "max"}},
    "the large stem": {"model": {"stem": "large"}},
    "crops of 0.64-1": {"pretrain": {"augmentation": "crop_flip", "crop_area_min": 0.64}},
    "batch norm frozen in finetuning": {"finetune": {"batch_norm": "frozen"}},
    "transferred stages at 0.3 of the rate": {"finetune": {"transferred_rate": 0.3}},
    "transferred stages at 0.1 of the rate": {"finetune": {"transferred_rate": 0.1}},
}
SHARES = (5.0, 10.0, 50.0)  # of the images, per cent, that pretraining sees; the first row sees all
SCRATCH = "no pretraining"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What one cell measured.

    Attributes:
        row: name of what was changed.
        seed: of everything.
        pretext: accuracy of the last steps of pretraining, 0..1; None without pretraining.
        accuracy: of the finetuned classifier on the validation split, 0..1.
        seconds: the cell took, shared pretraining counted once.
    """

    row: str
    seed: int
    pretext: float | None
    accuracy: float
    seconds: float


@click.command("ablations")
@click.argument("shards", type=click.Path(path_type=Path, exists=True))
@click.option("--preset", default="small", show_default=True)
@click.option("--budget", default=1.0, show_default=True, help="Factor on the steps of both trainings.")
@click.option("--percent", default=5.0, show_default=True, help="Labelled share.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--rows", default="", help="Names, joined by semicolons.  [default: all]")
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="Folder of the trainings.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "ablations.jsonl", show_default=True)
def command(
    shards: Path, preset: str, budget: float, percent: float, seeds: int, rows: str, scratch: Path, output: Path
) -> None:
    """One change at a time, by transfer and by the pretext task; started again, it goes on."""
    from selfie_model.data import LoaderOptions
    from selfie_model.presets import PRESETS
    from selfie_model.study.grid import apply_budget
    from selfie_model.study.shards import StudyShards

    config = apply_budget(PRESETS[preset](), budget).override(runtime={"validate_every": 0, "keep_last": 1})
    data = StudyShards(shards, shards, config=config, loading=LoaderOptions(device="cpu"))
    setting = {"preset": preset, "budget": budget, "percent": percent, **data.identity}
    wanted = [name for name in rows.split(";") if name] or [*ROWS, *map(_share_name, SHARES), SCRATCH]
    finished = {(one.row, one.seed) for one in read_cells(output, setting)}
    for seed in range(seeds):
        for row in wanted:
            if (row, seed) not in finished:
                result = _run_cell(config, shards, data, row, seed, percent, scratch)
                _append(output, setting, result)
                click.echo(f"{row}, seed {seed}: {result.accuracy:.2%}")
    click.echo("\n" + table(read_cells(output, setting)))


def read_cells(path: Path, setting: Mapping[str, Any]) -> list[CellResult]:
    """Returns the cells of a result file that were run under `setting`."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [msgspec.convert(line["cell"], CellResult) for line in lines if line["setting"] == dict(setting)]


def table(cells: Sequence[CellResult]) -> str:
    """Returns the Markdown table: a row a change, differences to the first row in points, seed by seed."""
    from selfie_model.study.table import half_interval

    by_row: dict[str, dict[int, CellResult]] = {}
    for cell in cells:
        by_row.setdefault(cell.row, {})[cell.seed] = cell
    lines = [
        "| change | seeds | pretext | finetuned | difference, points | could be told from zero |",
        "|---|---|---|---|---|---|",
    ]
    base = by_row.get(BASE, {})
    for row, found in by_row.items():
        pretext = [cell.pretext for cell in found.values() if cell.pretext is not None]
        shown = f"{100 * statistics.fmean(pretext):.1f} %" if pretext else "none"
        mean = 100 * statistics.fmean(cell.accuracy for cell in found.values())
        pairs = [found[seed].accuracy - base[seed].accuracy for seed in sorted(found.keys() & base.keys())]
        compared = row != BASE and pairs
        difference = f"{100 * statistics.fmean(pairs):+.2f}" if compared else ""
        half = half_interval(pairs) if compared else None
        least = "" if half is None else f"{100 * half:.2f}"
        lines.append(f"| {row} | {len(found)} | {shown} | {mean:.2f} % | {difference} | {least} |")
    return "\n".join(lines)


def _run_cell(
    config: "Config", shards: Path, data: "StudyShards", row: str, seed: int, percent: float, scratch: Path
) -> CellResult:
    from selfie_model.training.distributed import Ranks
    from selfie_model.training.finetune import finetune

    start = time.perf_counter()
    config = config.override(**ROWS.get(row, {})).override(pretrain={"seed": seed}, finetune={"seed": seed})
    share = next((share for share in SHARES if row == _share_name(share)), 100.0)
    source, pretext = (None, None) if row == SCRATCH else _pretrained(config, shards, share, scratch)
    count = data.labelled_count(percent, seed, tuning=True)
    config = config.override(finetune={"batch_size": min(config.finetune.batch_size, count)})
    out = scratch / "finetune" / f"{_digest(row)}-{seed}"
    with data.labelled(config, percent, seed, tuning=True) as loader, data.validation(config) as held_out:
        result = finetune(
            config,
            loader,
            class_names=data.class_names,
            out=out,
            ranks=Ranks(),
            source=source,
            validation=held_out,
            resume="auto",
            quiet=True,
        )
    assert result.validation is not None
    return CellResult(
        row=row,
        seed=seed,
        pretext=pretext,
        accuracy=result.validation.accuracy,
        seconds=round(time.perf_counter() - start, 1),
    )


def _pretrained(config: "Config", shards: Path, share: float, scratch: Path) -> tuple[Path, float]:
    """Returns a pretraining run, made unless an earlier row made the same, and its last accuracy."""
    from selfie_data.dataset.splits import SplitOptions, split_ids
    from selfie_model.config import TrainConfig
    from selfie_model.data import LoaderOptions, open_shards, patch_loader
    from selfie_model.training.distributed import Ranks
    from selfie_model.training.pretrain import pretrain

    config = dataclasses.replace(config, finetune=TrainConfig())  # what follows is no part of the run
    dataset, subset = open_shards(shards, config), None
    if share < 100:
        options = SplitOptions(labelled=(f"{share:g}",), seed=config.pretrain.seed)
        subset = split_ids(dataset.table.label, options)[f"all-{share:g}"]
    plain = config.to_dict()
    out = scratch / "pretrain" / _digest(json.dumps([plain["model"], plain["pretrain"], share], sort_keys=True))
    with closing(patch_loader(dataset, config, LoaderOptions(device="cpu"), subset=subset)) as loader:
        result = pretrain(config, loader, out=out, ranks=Ranks(), resume="auto", quiet=True)
    return out, result.accuracy


def _share_name(share: float) -> str:
    return f"pretrained on {share:g} % of the images"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _append(path: Path, setting: Mapping[str, Any], result: CellResult) -> None:
    line = {
        "setting": dict(setting),
        "cell": dataclasses.asdict(result),
        "host": host(),
        "versions": versions(["torch"]),
        "commit": commit(),
    }
    with path.open("a") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")
