"""`selfie-data extend`: what it asks for, says and refuses; `info` tells what became of a dataset."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from selfie_data.cli.__main__ import main
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.verify import verify_dataset
from tests.material import picture


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


def folder_of(root: Path, classes: str, each: int = 4, *, first: int = 0) -> Path:
    for number, name in enumerate(classes.split()):
        (root / name).mkdir(parents=True)
        for image in range(each):
            seed = first + 100 * number + image
            Image.fromarray(picture(16, 16, seed=seed)).save(root / name / f"{image}.png")
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("extend")
    folder_of(base / "first", "cat dog")
    run("build-shards", "folder", base / "out", "--root", base / "first", "--size", 16, "--workers", 1)
    return base / "out"


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "out"))


def test_a_folder_is_added_and_told_of(out: Path, tmp_path: Path) -> None:
    more = folder_of(tmp_path / "more", "cat dog", first=5000)
    dry = run("extend", out, "folder", "--root", more, "--dry-run", "--json")
    assert json.loads(dry.stdout)["images"] == 8
    done = run("extend", out, "folder", "--root", more, "--workers", 1, "--json")
    assert json.loads(done.stdout.splitlines()[-1])["samples"] == 16
    assert json.loads(run("info", out, "--json").stdout)["lineage"][0]["added"]["kind"] == "folder"
    assert "8 samples, 0 excluded; then 8 added from folder" in run("info", out).stdout
    run("extend", out, "folder", "--root", more, "--workers", 1)
    assert len(open_dataset(out)) == 16


def test_a_class_that_is_not_there_is_asked_for(out: Path, tmp_path: Path) -> None:
    more = folder_of(tmp_path / "more", "ant dog", first=5000)
    refused = run("extend", out, "folder", "--root", more, "--workers", 1, code=1)
    assert refused.stderr == (
        "Error: the class 'ant' is none of the 2 classes of the dataset; --new-classes adds those that it has not\n"
    )
    run("extend", out, "folder", "--root", more, "--workers", 1, "--new-classes")
    dataset = open_dataset(out)
    assert dataset.class_names == ("cat", "dog", "ant")
    assert dataset.manifest.class_counts == {"0": 4, "1": 8, "2": 4}
    third = folder_of(tmp_path / "third", "ant cat", first=9000)  # the classes are not in order any more
    run("extend", out, "folder", "--root", third, "--workers", 1)
    assert open_dataset(out).manifest.class_counts == {"0": 8, "1": 8, "2": 8}
    assert verify_dataset(out, decode=True) == []
    test = folder_of(tmp_path / "test", "ant cat dog", first=99)
    arguments = ["--size", 16, "--workers", 1, "--classes-from", out]
    run("build-shards", "folder", tmp_path / "of-test", "--root", test, *arguments)
    assert open_dataset(tmp_path / "of-test").class_names == ("cat", "dog", "ant")
    assert open_dataset(tmp_path / "of-test").manifest.class_counts == {"0": 4, "1": 4, "2": 4}


def test_a_class_can_come_alone(out: Path, tmp_path: Path) -> None:
    more = folder_of(tmp_path / "more", "zebra", first=5000)
    assert "the class 'zebra' is none of" in run("extend", out, "folder", "--root", more, code=1).stderr
    run("extend", out, "folder", "--root", more, "--workers", 1, "--new-classes")
    assert open_dataset(out).manifest.class_counts == {"0": 4, "1": 4, "2": 4}


def test_what_a_dataset_says_cannot_be_given(out: Path, tmp_path: Path) -> None:
    more = folder_of(tmp_path / "more", "cat dog", first=5000)
    for option in ("--size", "--quality", "--seed"):
        assert "No such option" in run("extend", out, "folder", "--root", more, option, 9, code=2).stderr
    assert "no such dataset directory" in run("extend", tmp_path / "none", "folder", "--root", more, code=1).stderr
    assert not (tmp_path / "none").exists()


def test_generated_pictures_are_others_each_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("build-shards", "synthetic", out, "--limit", 20, "--size", 16, "--workers", 1)
    for _ in range(2):
        run("extend", out, "synthetic", "--limit", 10, "--workers", 1)
    rows = open_dataset(out).table
    assert len(set(rows.crc32c.tolist())) == 40


def test_a_dataset_without_labels_takes_a_single_folder_for_none(tmp_path: Path) -> None:
    flat = folder_of(tmp_path / "flat", "photographs")
    out = tmp_path / "out"
    run("build-shards", "folder", out, "--root", flat / "photographs", "--size", 16, "--workers", 1)
    run("extend", out, "folder", "--root", folder_of(tmp_path / "more", "new", first=50), "--workers", 1)
    assert (open_dataset(out).class_names, len(open_dataset(out))) == ((), 8)
    more = folder_of(tmp_path / "labelled", "cat dog", first=900)
    refused = run("extend", out, "folder", "--root", more, "--workers", 1, code=1)
    assert "has 0 classes and not cat, dog; --new-classes adds them behind the others" in refused.stderr
    run("extend", out, "folder", "--root", more, "--workers", 1, "--new-classes")
    assert open_dataset(out).manifest.class_counts == {"-1": 8, "0": 4, "1": 4}


def test_only_what_is_added_is_said_to_be_left_out(tmp_path: Path) -> None:
    for name, first in (("first", 0), ("more", 5000)):
        (folder_of(tmp_path / name, "cat dog", first=first) / "cat" / f"{name}-broken.png").write_bytes(b"no image")
    built = run("build-shards", "folder", tmp_path / "out", "--root", tmp_path / "first", "--size", 16, "--workers", 1)
    assert "first-broken.png" in built.stderr
    added = run("extend", tmp_path / "out", "folder", "--root", tmp_path / "more", "--workers", 1)
    assert "more-broken.png" in added.stderr
    assert "first-broken.png" not in added.stderr
    assert "2 quarantined" in added.stdout
