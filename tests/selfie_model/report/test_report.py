"""The page: complete, self-contained, honest about what is missing."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from selfie_data.errors import RunError
from selfie_model import Classifier, Selfie
from selfie_model.config import Config
from selfie_model.report.puzzles import solve
from selfie_model.report.report import build_page, read_run_summary
from selfie_model.study.table import FinalResult, rows_of
from selfie_model.training.checkpoint import FORMAT, Checkpoints
from tests.selfie_model.memory import patch_batch, small_config

CONFIG = small_config()


class Checker(HTMLParser):
    """Collects what would make a request, what lacks an alternative text, and whether tags are closed."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag in ("script", "link", "iframe"):
            self.problems.append(f"<{tag}>")
        for name in ("src", "href"):
            if name in values and not str(values[name]).startswith("data:"):
                self.problems.append(f"{tag} {name}={values[name]}")
        if tag == "svg" and values.get("role") != "img":
            self.problems.append("svg without role")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> does not match")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def make_run(folder: Path, kind: str = "pretrain", *, config: Config = CONFIG, accuracy: float = 0.4) -> Path:
    network = Selfie(config) if kind == "pretrain" else Classifier(config, 3)
    state = {
        "format": FORMAT,
        "kind": kind,
        "config": config.to_dict(),
        "class_names": ["a", "b", "c"],
        "step": 8,
        "data": {"fingerprint": "abc"},
        "model": network.state_dict(),
    }
    Checkpoints(folder).save(state)
    records = [
        {"event": "train", "step": 4, "loss": 1.3, "accuracy": 0.3, "images_per_s": 100.0},
        {"event": "train", "step": 8, "loss": 1.2, "accuracy": accuracy, "images_per_s": 120.0},
        {"event": "validation", "step": 8, "loss": 1.25, "accuracy": 0.35, "counted": 10},
        {"event": "warning", "step": 8, "message": "near chance"},
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def check(page: str) -> str:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.problems == []
    assert checker.open == []
    assert "url(" not in page
    assert "@import" not in page
    return " ".join(checker.text)


def test_a_whole_page_is_self_contained_and_says_what_was_run(tmp_path: Path) -> None:
    summary = read_run_summary(make_run(tmp_path / "run <1>"))
    noise = read_run_summary(make_run(tmp_path / "noise", accuracy=0.25))
    puzzles = solve(Selfie(CONFIG), patch_batch(CONFIG, 24))
    results = [
        FinalResult(arm=arm, percent=5, seed=seed, accuracy=0.5 + seed / 10, labelled=20, rate=0.1)
        for arm in ("scratch", "selfie")
        for seed in (0, 1)
    ]
    page = build_page(summary, noise=noise, puzzles=puzzles, rows=rows_of(results, preset="cifar10"), notes=["a note"])
    text = check(page)
    for words in (
        "Selfie pretraining: run <1>",
        "8 of 8 steps, finished",
        "35.00 %",
        "chance 25.00 %",
        "noise",
        "Patches put back",
        "nothing is picked by hand",
        "attention",
        "75.9 ± 0.7",
        "55.00 ± 7.07",
        "a note",
        "attention_heads",
        "Data set abc",
    ):
        assert words in text


def test_a_finetuning_run_and_a_run_without_a_journal_have_pages_too(tmp_path: Path) -> None:
    text = check(build_page(read_run_summary(make_run(tmp_path / "a", "finetune"))))
    assert "whole 16 px images into 3 classes" in text
    assert "chance 33.33 %" in text
    run = make_run(tmp_path / "b")
    (run / "journal.jsonl").unlink()
    assert "no measurements yet" in check(build_page(read_run_summary(run)))


def test_an_unfinished_run_is_called_so(tmp_path: Path) -> None:
    longer = CONFIG.override(pretrain={"steps": 100})
    assert "8 of 100 steps, not finished" in check(build_page(read_run_summary(make_run(tmp_path, config=longer))))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        read_run_summary(tmp_path)
