"""Damaged JSON files of runs and studies: one line that names the file, says what is wrong and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from selfie_data.errors import RunError
from selfie_data.files import write_output_json
from selfie_model.study.grid import read_done
from selfie_model.study.results import as_json, rows_from_json
from selfie_model.study.table import FinalResult, rows_of
from selfie_model.training.journal import read_journal
from selfie_model.training.run_folder import Result, read_result

RESULT = Result(
    step=4, finished=True, stopped_by="", loss=1.0, accuracy=0.5, validation=None, best=(0.5, 4), images_per_s=9.0
)
NO_OBJECTS = [b"", b"{", b"[]", b"3", b"null", b'"x"', b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1']


@pytest.mark.parametrize("content", NO_OBJECTS, ids=lambda content: repr(content[:9]))
@pytest.mark.parametrize(
    ("name", "read", "remedy"),
    [
        ("result.json", read_result, "delete it: the checkpoints hold the run"),
        ("done.json", read_done, "delete it to run the cell again"),
    ],
)
def test_what_is_no_object_is_named(
    tmp_path: Path, name: str, read: Callable[[Path], object], remedy: str, content: bytes
) -> None:
    assert read(tmp_path) is None
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name} is damaged or of another version (")
    assert remedy in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "four"}, "step must be a number, got 'four'"),
        ({"loss": None}, "loss must be a number, got None"),
        ({"accuracy": True}, "accuracy must be a number, got True"),
        ({"best": [1]}, "no entry 'accuracy'"),
        ({"best": {"accuracy": 1.0, "step": []}}, "step must be a number"),
        ({"validation": {"loss": 1.0}}, "missing 2 required"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
    ],
    ids=str,
)
def test_a_result_of_another_shape_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    write_output_json(tmp_path / "result.json", RESULT.to_dict())
    assert read_result(tmp_path) == RESULT
    write_output_json(tmp_path / "result.json", {**RESULT.to_dict(), **change})
    with pytest.raises(RunError, match=r"result\.json is damaged") as error:
        read_result(tmp_path)
    assert reason in str(error.value)


@pytest.mark.parametrize("name", list(RESULT.to_dict()))
def test_a_result_that_lacks_an_entry_is_refused(tmp_path: Path, name: str) -> None:
    content = RESULT.to_dict()
    del content[name]
    write_output_json(tmp_path / "result.json", content)
    with pytest.raises(RunError, match=name):
        read_result(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"accuracy": "x"}', '{"accuracy": false}'])
def test_a_cell_without_an_accuracy_is_not_finished_but_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "done.json").write_text(content)
    with pytest.raises(RunError, match=r"accuracy.*delete it to run the cell again"):
        read_done(tmp_path)


def test_a_final_cell_must_say_all_that_the_table_needs() -> None:
    whole = {"arm": "selfie", "percent": 5.0, "seed": 0, "accuracy": 0.5, "labelled": 20, "rate": 0.1}
    assert msgspec.convert({**whole, "stage": "final"}, FinalResult) == FinalResult(**whole)  # type: ignore[arg-type]
    for name in whole:
        with pytest.raises((KeyError, ValueError), match=name):
            msgspec.convert({key: value for key, value in whole.items() if key != name}, FinalResult)
        with pytest.raises((TypeError, ValueError), match=name):
            msgspec.convert({**whole, name: "x"}, FinalResult)


def test_results_of_another_shape_are_refused() -> None:
    result = FinalResult(arm="selfie", percent=5.0, seed=0, accuracy=0.5, labelled=20, rate=0.1)
    content = json.loads(json.dumps(as_json(rows_of([result], preset="cifar10"))))
    assert rows_from_json(content) == rows_of([result], preset="cifar10")
    row = content["rows"][0]
    for name in row:
        for value in ("x", [["x"]], {}, True):
            with pytest.raises((KeyError, TypeError, ValueError)):
                rows_from_json({"rows": [{**row, name: value}]})
    for rows in (3, [3], ["x"], [None], {"a": 1}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            rows_from_json({"rows": rows})


@pytest.mark.parametrize(
    "line",
    [b"[]", b"3", b"{}", b'{"event": "train"}', b'{"event": 1, "step": 1}', b"\xff", b'{"event": "train", "step": "1"}']
    + [b'{"event": "train", "step": 1, "%s": "x"}' % name for name in (b"loss", b"accuracy", b"images_per_s")],
    ids=repr,
)
def test_a_journal_line_of_another_shape_is_named(tmp_path: Path, line: bytes) -> None:
    good = b'{"event": "train", "step": 1, "loss": 1.5}\n{"event": "diverged", "step": 1, "loss": "nan"}\n'
    (tmp_path / "journal.jsonl").write_bytes(good + line + b"\n" + good + line)  # the last is cut short: left out
    with pytest.raises(RunError, match=r"journal\.jsonl: line 3 is damaged .*; delete that line"):
        read_journal(tmp_path)
