"""`selfie-data drop`: ids from everywhere, what it says and refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from selfie_data.dataset.opened import open_dataset
from tests.selfie_data.changes.folders import small_dataset
from tests.selfie_data.commands.changing.test_extend import run


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("drop") / "out", count=20)


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


def test_ids_are_numbers_and_files(out: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("3  # a face\n\n4\n")
    np.save(tmp_path / "ids.npy", np.array([4, 5], np.int32))
    done = run("drop", out, "1", tmp_path / "ids.txt", tmp_path / "ids.npy")
    assert done.stdout == f"{out}: 4 more samples are excluded, 16 are left\n"
    assert open_dataset(out).excluded.tolist() == [1, 3, 4, 5]
    assert "20 samples, 0 excluded; then 4 excluded" in run("info", out).stdout
    assert "samples" in run("split", out).stdout
    assert "preview" in run("preview", out, "-o", tmp_path / "preview.png", "--count", 20, "--patch-size", 4).stdout


def test_a_purge_says_what_it_cannot_reach(out: Path) -> None:
    dry = run("drop", out, "1", "--purge", "--dry-run")
    assert "1 images would be purged from 1 shards" in dry.stdout
    assert not (out / "excluded").exists()
    done = run("drop", out, "1", "--purge")
    assert "1 images are purged from 1 shards" in done.stdout
    assert "hold them still: delete those" in done.stdout
    again = json.loads(run("drop", out, "--purge", "--json").stdout)
    assert (again["excluded"], again["purged"], again["live"]) == (0, 0, 19)
    assert again["fingerprint"] == open_dataset(out).fingerprint
    assert run("verify", out, "--decode").stdout.startswith(f"{out}: sound")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "give the ids to drop, or --purge"),
        (["x"], "ids are numbers, or a .txt or .npy file of them, got 'x'"),
        (["none.txt"], "got 'none.txt'"),
        (["floats.npy"], "float64"),
        (["large.npy"], "18446744073709551615 is no id"),
        (["9" * 20], "is no id"),
        (["1_0"], "'1_0' is no id"),
        (["none.npy", "--purge"], "got 'none.npy' (it holds no ids)"),
        (["comments.txt", "--purge"], "got 'comments.txt' (it holds no ids)"),
    ],
)
def test_what_is_no_id_is_refused(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("floats.npy", np.ones(3))
    np.save("large.npy", np.array([2**64 - 1], np.uint64))
    np.save("none.npy", np.empty(0, np.int64))
    Path("comments.txt").write_text("# nobody asked\n")
    assert message in run("drop", out, *ids, code=2).stderr
