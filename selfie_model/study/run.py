"""The paper's protocol as a study: both arms, several labelled shares, several seeds, and an honest table.

1. A tenth of the training images (stratified, drawn with the study's own seed) is the validation split.
2. Pretraining sees every training image, without labels; it is done once and shared by all shares and seeds, or once a
   seed. The paper does not say; once is cheaper, and the Selfie arm's spread is then that of finetuning alone.
3. For each arm and share the peak learning rate with the best accuracy on the validation split is taken, all candidates
   being trained on that share of the *other* images. The test images are never looked at here.
4. For each arm, share and seed the classifier is trained on that share of *all* training images with the tuned rate,
   to the last step (no early stopping), and measured once on the test images.

Both arms of a seed see the same labelled images, in the same order. What each step needs of a dataset is `StudyData`;
`study` says which cells there are and who works on which.

Source: the paper, section "Experiments" (tuning on 10 % of the training set, five seeds, mean and deviation).
"""

import shutil
import time
from collections.abc import Callable
from typing import Any, Literal

from selfie_data.errors import DivergedError, RunError
from selfie_data.files import damaged, read_json, write_output_json
from selfie_model.config import Config, differences
from selfie_model.study.data import StudyData
from selfie_model.study.grid import Cell, Study, apply_budget, best_rate, claim, read_done, steps_of, write_done
from selfie_model.training.distributed import Ranks
from selfie_model.training.evaluate import evaluate
from selfie_model.training.finetune import finetune, load_classifier
from selfie_model.training.pretrain import pretrain
from selfie_model.training.stop_request import StopRequest

_POLL_S = 5.0
Progress = Literal["none", "pretraining", "all"]
STUDY = "study.json"


def run_study(
    study: Study,
    data: StudyData,
    *,
    ranks: Ranks,
    stop: StopRequest,
    say: Callable[[str], None],
    progress: Progress = "none",
    poll_s: float = _POLL_S,
) -> bool:
    """Works on the study's cells until all are finished, here or on other machines; returns whether they are.

    Args:
        study: what to run; its folder may hold finished cells, which are not run again.
        data: its datasets.
        ranks: this process; one process works on one cell.
        stop: asked inside every training; the cell goes on at that step when the study is started again.
        say: shows one line.
        progress: of which trainings to show the course: `none`, `pretraining`, or `all`.
        poll_s: seconds between looks at cells that others work on.

    Raises:
        RunError: the folder holds another study, or a damaged one.
        DivergedError: a final or pretraining cell diverged (a tuning cell is recorded as such and loses).
    """
    config = apply_budget(study.config, study.budget)
    _check_same(study, config, data.identity)
    cells = study.grid.cells()
    while not stop:
        pending = [cell for cell in cells if read_done(study.folder(cell)) is None]
        if not pending:
            return True
        if (
            not _work_once(study, config, data, pending, ranks=ranks, stop=stop, say=say, progress=progress)
            and not stop
        ):
            time.sleep(poll_s)
    return False


def _work_once(
    study: Study,
    config: Config,
    data: StudyData,
    pending: list[Cell],
    *,
    ranks: Ranks,
    stop: StopRequest,
    say: Callable[[str], None],
    progress: Progress,
) -> bool:
    """Runs every pending cell that is ready and free; returns whether there was one."""
    total = len(study.grid.cells())
    worked = False
    for cell in pending:
        folder = study.folder(cell)
        if stop or any(read_done(study.folder(other)) is None for other in study.grid.waits_for(cell)):
            continue
        with claim(folder) as mine:
            if not mine or read_done(folder) is not None:
                continue
            worked = True
            place = 1 + study.grid.cells().index(cell)
            say(f"[{place}/{total}] {cell.name}")
            start = time.perf_counter()
            shown = progress == "all" or (progress == "pretraining" and cell.stage == "pretrain")
            record = _run_cell(study, config, data, cell, ranks=ranks, stop=stop, quiet=not shown)
            if record is None:
                return worked
            write_done(folder, {**_describe(cell), **record, "seconds": round(time.perf_counter() - start, 1)})
            say(f"[{place}/{total}] {cell.name}: {_outcome(record)}")
    return worked


def _run_cell(
    study: Study, config: Config, data: StudyData, cell: Cell, *, ranks: Ranks, stop: StopRequest, quiet: bool
) -> dict[str, Any] | None:
    """Returns what the cell measured, None if it was stopped before its end."""
    if cell.stage == "pretrain":
        return _pretrain_cell(study, config, data, cell, ranks=ranks, stop=stop, quiet=quiet)
    assert cell.arm is not None
    assert cell.percent is not None
    tuning = cell.stage == "tune"
    rate = cell.rate if cell.rate is not None else _tuned_rate(study, cell)
    count = data.labelled_count(cell.percent, cell.seed, tuning=tuning)
    config = config.override(
        finetune={
            "seed": cell.seed,
            "steps": steps_of(cell.arm, config),
            "learning_rate": rate,
            "batch_size": min(config.finetune.batch_size, count),  # a share smaller than a batch is one batch
        },
        runtime={"validate_every": 0, "keep_last": 1},
    )
    source = study.folder(study.grid.pretraining_of(cell.seed)) / "run" if cell.arm == "selfie" else None
    run = study.folder(cell) / "run"
    record = {"labelled": count, "rate": rate, "steps": config.finetune.steps}
    with data.labelled(config, cell.percent, cell.seed, tuning=tuning) as loader, data.validation(config) as held_out:
        try:
            result = finetune(
                config,
                loader,
                class_names=data.class_names,
                out=run,
                ranks=ranks,
                source=source,
                validation=held_out if tuning else None,
                resume="auto",
                stop=stop,
                data={**data.identity, "resize": data.resize, "labelled": f"{cell.percent:g} %"},
                quiet=quiet,
            )
        except DivergedError:
            if not tuning:
                raise
            return {**record, "accuracy": 0.0, "counted": 0, "diverged": True}
    if not result.finished:
        return None
    if tuning:
        assert result.validation is not None
        shutil.rmtree(run / "checkpoints", ignore_errors=True)  # only its number is needed, and there are many
        return {**record, "accuracy": result.validation.accuracy, "counted": result.validation.counted}
    network, _, _ = load_classifier(run, which="last")
    with data.test(config) as images:
        metrics = evaluate(network.to(ranks.device), images, ranks=ranks, runtime=config.runtime)
    return {**record, "accuracy": metrics.accuracy, "counted": metrics.counted, "loss": metrics.loss}


def _pretrain_cell(
    study: Study, config: Config, data: StudyData, cell: Cell, *, ranks: Ranks, stop: StopRequest, quiet: bool
) -> dict[str, Any] | None:
    config = config.override(pretrain={"seed": cell.seed}, runtime={"validate_every": 0, "keep_last": 1})
    with data.patches(config) as loader:
        result = pretrain(
            config,
            loader,
            out=study.folder(cell) / "run",
            ranks=ranks,
            resume="auto",
            stop=stop,
            data={**data.identity, "resize": data.resize},
            quiet=quiet,
        )
    if not result.finished:
        return None
    return {"accuracy": result.accuracy, "loss": result.loss, "steps": result.step}


def _tuned_rate(study: Study, cell: Cell) -> float:
    """The rate that won on validation; with a single candidate, that one."""
    assert cell.arm is not None
    assert cell.percent is not None
    tuning = study.grid.tuning(cell.arm, cell.percent)
    if not tuning:
        return study.grid.rates[0]
    records = [read_done(study.folder(other)) for other in tuning]
    accuracies = [record["accuracy"] for record in records if record is not None]
    return best_rate([other.rate for other in tuning if other.rate is not None], accuracies)


def _check_same(study: Study, config: Config, identity: dict[str, str]) -> None:
    """Refuses to mix cells of another configuration or dataset; seeds, shares and rates may be added."""
    path = study.out / STUDY
    asked = {"config": config.to_dict(), "identity": identity}
    remedy = "delete it if the study was begun with this very command, else give another --out"
    saved = read_json(path, remedy=remedy)
    if saved is None:
        write_output_json(path, asked)
        return
    with damaged(path, remedy=remedy):
        changed = differences(Config.from_dict(saved["config"]), config)
        theirs = saved["identity"]
        names = sorted(theirs.keys() | identity.keys())
        changed += [
            f"{name}: {theirs.get(name)} → {identity.get(name)}"
            for name in names
            if theirs.get(name) != identity.get(name)
        ]
    if changed:
        raise RunError(f"{study.out} holds another study ({'; '.join(changed)}); give another --out")


def _describe(cell: Cell) -> dict[str, Any]:
    return {"stage": cell.stage, "seed": cell.seed, "arm": cell.arm, "percent": cell.percent}


def _outcome(record: dict[str, Any]) -> str:
    if record.get("diverged"):
        return f"diverged at peak learning rate {record['rate']:g}"
    return f"accuracy {100 * record['accuracy']:.2f} %"
