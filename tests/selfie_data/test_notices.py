"""What is left out of a dataset, or in it by a guess, is counted and told everywhere it should be."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.cli.__main__ import main
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.verify import verify_dataset
from selfie_data.images.decode import NOT_STRICT, OF_SEVERAL_FRAMES
from selfie_data.images.encode import BEHIND_CUT_OFF
from selfie_data.notices import EXAMPLES, NAME, Notice, Notices, notices_of, say
from selfie_data.sources import open_source
from tests.material import encoded, jpeg, memory_source, picture

SMALL = BuildOptions(size=16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for number in range(4):
        place = root / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(jpeg(picture(20, 20, seed=number)))
    for number in range(30):
        (root / f"cat/{number:02d}.json").write_text("{}")
    (root / "dog/.thumbnails").mkdir()
    (root / "dog/.thumbnails/1.jpg").write_bytes(b"small")
    (root / "dog/1.jpg_large").write_bytes(b"large")
    return root


REASONS = ["files with the suffix .json", "files in hidden or system folders", "files with the suffix .jpg_large"]


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.lists(st.text(max_size=5), min_size=1), max_size=5))
def test_every_name_is_counted_and_the_largest_reason_comes_first(added: dict[str, list[str]]) -> None:
    notices = Notices()
    for reason, names in added.items():
        for name in names:
            notices.add(reason, name)
    found = notices.summary()
    assert {notice.reason: notice.count for notice in found} == {reason: len(names) for reason, names in added.items()}
    assert [notice.count for notice in found] == sorted((notice.count for notice in found), reverse=True)
    for notice in found:
        assert list(notice.examples) == sorted(added[notice.reason])[:EXAMPLES]
    assert json.loads(notices.to_json()) == {reason: sorted(names) for reason, names in added.items()}
    assert Notices(notices, notices).summary() == Notices(*[notices] * 2).summary()
    assert bool(notices) == bool(added)


def test_very_many_reasons_are_one_in_the_manifest_and_few_on_the_terminal() -> None:
    notices = Notices()
    for number in range(250):
        notices.add(f"reason {number:03d}", f"name {number}")
    notices.add("reason 249", "name another")
    found = notices.summary()
    assert (len(found), found[0].reason, sum(notice.count for notice in found)) == (100, "reason 249", 251)
    assert len(json.loads(notices.to_json())) == 250
    assert say(found).count("name ") == 8
    assert "\n" not in say(found)
    assert say(found).endswith("; and 92 more reasons")
    assert say(()) == ""


def test_a_worker_is_not_sent_them() -> None:
    notices = Notices()
    notices.add("reason", "name")
    assert not pickle.loads(pickle.dumps(notices))  # noqa: S301 - made above


def test_the_manifest_counts_and_a_file_lists_everything(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = build_shards(open_source("folder", folder), out, SMALL, workers=1)
    assert [notice.reason for notice in manifest.notices] == REASONS
    assert manifest.notices[0] == Notice(
        reason=REASONS[0], count=30, examples=tuple(f"cat/{number:02d}.json" for number in range(20))
    )
    listed = json.loads((out / NAME).read_bytes())
    assert {reason: len(names) for reason, names in listed.items()} == dict(zip(REASONS, (30, 1, 1), strict=True))
    assert manifest.samples == 4
    assert verify_dataset(out) == []
    assert Manifest.load(out) == manifest
    again = build_shards(open_source("folder", folder), tmp_path / "again", SMALL, workers=2)
    assert again.digest == manifest.digest


@pytest.mark.parametrize("damage", [b"", b"{}\n", None])
def test_a_list_that_was_changed_or_removed_is_found(folder: Path, tmp_path: Path, damage: bytes | None) -> None:
    out = tmp_path / "out"
    build_shards(open_source("folder", folder), out, SMALL, workers=1)
    (out / NAME).unlink() if damage is None else (out / NAME).write_bytes(damage)
    assert len(verify_dataset(out)) == 1
    assert NAME in verify_dataset(out)[0]


def test_without_notices_nothing_is_written(tmp_path: Path) -> None:
    source = memory_source([picture(16, 16, seed=0)])
    assert not notices_of(source)
    manifest = build_shards(source, tmp_path / "out", SMALL, workers=1)
    assert manifest.notices == ()
    assert "notices" not in json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert not (tmp_path / "out" / NAME).exists()


def run(*arguments: object) -> tuple[str, str]:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_they_are_said_once_on_the_terminal_and_shown_by_info(folder: Path, tmp_path: Path) -> None:
    line = (
        "not used, or used by a guess: files with the suffix .json: 30 (cat/00.json, …); files in hidden or system "
        "folders: 1 (dog/.thumbnails/1.jpg); files with the suffix .jpg_large: 1 (dog/1.jpg_large)\n"
    )
    build = ("build-shards", "folder", tmp_path / "out", "--root", folder, "--size", 16, "--workers", 1)
    printed, said = run(*build, "--dry-run")
    assert line in printed
    printed, said = run(*build)
    assert said.count(line) == 1
    assert printed.endswith("2 classes, 0 quarantined, 32 in notices.json\n")
    printed, _ = run("info", tmp_path / "out")
    assert "notices files with the suffix .json: 30, files in hidden" in " ".join(printed.split())
    assert "files with the suffix .jpg_large: dog/1.jpg_large\n" in printed
    assert "cat/19.json, … 10 more, in notices.json\n" in printed


def test_they_are_in_the_json_of_every_command(folder: Path, tmp_path: Path) -> None:
    build = ("build-shards", "folder", tmp_path / "out", "--root", folder, "--size", 16, "--json", "--workers", 1)
    counts = dict(zip(REASONS, (30, 1, 1), strict=True))
    commands = [(*build, "--dry-run"), build, ("info", tmp_path / "out", "--json")]
    for command in commands:
        printed, _ = run(*command)
        facts = json.loads(printed if command[0] == "info" else printed.splitlines()[-1])
        assert {notice["reason"]: notice["count"] for notice in facts["notices"]} == counts, command[0]
        assert all(len(notice["examples"]) == min(notice["count"], 20) for notice in facts["notices"])


def test_quarantined_images_are_told_by_info(tmp_path: Path) -> None:
    images = [picture(16, 16, seed=0), *[b"no image"] * 23]
    build_shards(memory_source(images, np.zeros(24, int).tolist()), tmp_path / "out", SMALL, workers=1)
    printed, _ = run("info", tmp_path / "out")
    assert printed.count("not an image of a known format") == 20
    assert "quarantined: 3 more, which `--quarantined` lists" in printed
    printed, _ = run("info", tmp_path / "out", "--quarantined")
    assert printed.count("not an image of a known format\n") == 23


ANIMATION, PHOTOGRAPH, DAMAGED = "cat/animation.gif", "cat/motion.jpg", "dog/damaged.jpg"
OF_FILES = {OF_SEVERAL_FRAMES: ANIMATION, BEHIND_CUT_OFF: PHOTOGRAPH, NOT_STRICT: DAMAGED}


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """Pictures that are used in part, or by a guess, and a file that is not used."""
    root, data = tmp_path / "odd", jpeg(picture(20, 20, seed=1))
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime")]
    scan = data.index(b"\xff\xda")
    files = {
        ANIMATION: encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        PHOTOGRAPH: data + b"video" * 100,
        DAMAGED: data[:scan] + b"stray" + data[scan:],
        "dog/plain.jpg": data,
        "dog/notes.txt": b"notes",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_what_is_found_while_images_are_read_is_told_too(odd_folder: Path, tmp_path: Path) -> None:
    build = ("build-shards", "folder", tmp_path / "out", "--root", odd_folder, "--size", 100, "--workers", 1)
    printed, _ = run(*build, "--dry-run")
    assert "\nnot used, or used by a guess: files with the suffix .txt: 1 (dog/notes.txt)\nof 4 images" in printed
    assert all(f"{reason}: 1 ({name})" in printed for reason, name in OF_FILES.items())
    facts = json.loads(run(*build, "--dry-run", "--json")[0])["looked_at"]
    assert facts["images"] == 4
    assert {notice["reason"]: notice["examples"] for notice in facts["notices"]} == {
        reason: [name] for reason, name in OF_FILES.items()
    }
    printed, said = run(*build)
    for reason, name in (*OF_FILES.items(), ("files with the suffix .txt", "dog/notes.txt")):
        assert said.count(f"{reason}: 1 ({name})") == 1
    assert printed.endswith("2 classes, 0 quarantined, 4 in notices.json\n")
    every = json.loads((tmp_path / "out" / NAME).read_text())
    assert every == {"files with the suffix .txt": ["dog/notes.txt"]} | {
        reason: [name] for reason, name in OF_FILES.items()
    }
    printed, _ = run("info", tmp_path / "out")
    assert all(f"{reason}: {name}\n" in printed for reason, name in OF_FILES.items())
    assert verify_dataset(tmp_path / "out", decode=True) == []


def test_they_do_not_depend_on_workers(odd_folder: Path, tmp_path: Path) -> None:
    options = BuildOptions(size=100, samples_per_shard=1)
    for workers in (1, 2):
        build_shards(open_source("folder", odd_folder), tmp_path / f"{workers}", options, workers=workers)
    assert (tmp_path / "1/manifest.json").read_bytes() == (tmp_path / "2/manifest.json").read_bytes()
    assert {notice.reason for notice in Manifest.load(tmp_path / "1").notices} >= set(OF_FILES)
