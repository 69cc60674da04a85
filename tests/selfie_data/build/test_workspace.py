"""The folder of a build: bound to one source and one set of options, held against others, unfinished or not."""

import fcntl
import os
from pathlib import Path

import pytest

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.build.shard_task import Tick
from selfie_data.build.workspace import listings_folder
from selfie_data.dataset.names import BUILD
from selfie_data.errors import BuildError
from tests.selfie_data.build.test_build_shards import SMALL, contents, pictures


def start_build(out: Path, *, finished: bool) -> None:
    """Builds 48 pictures, wholly or until the second shard."""
    if finished:
        build_shards(pictures(48), out, SMALL, workers=1)
        return
    with pytest.raises(KeyboardInterrupt):
        build_shards(pictures(48), out, SMALL, workers=1, progress=Interrupt(after=20))
    assert (out / BUILD).is_dir()


class Interrupt:
    """A user who presses Ctrl-C after so many images."""

    def __init__(self, *, after: int) -> None:
        self.after = after
        self.images = 0

    def spool(self, done: int, expected: int) -> None: ...

    def start(self, images: int) -> None: ...

    def close(self) -> None: ...

    def tick(self, tick: Tick) -> None:
        self.images += tick.images
        if self.images > self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 5}, r"seed = 0, asked for is 5"),
        ({"samples_per_shard": 8}, r"options\.samples_per_shard = 16, asked for is 8"),
        ({"encoding": "png"}, r'options\.encoding = "raw", asked for is "png"'),
    ],
    ids=["seed", "samples", "encoding"],
)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_other_options_are_refused(tmp_path: Path, changed: dict[str, object], message: str, finished: bool) -> None:
    out = tmp_path / "out"
    start_build(out, finished=finished)
    options = BuildOptions(**{"size": 32, "samples_per_shard": 16, **changed})  # type: ignore[arg-type]
    with pytest.raises(BuildError, match=message):
        build_shards(pictures(48), out, options, workers=1)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_another_source_is_refused(tmp_path: Path, finished: bool) -> None:
    start_build(tmp_path / "out", finished=finished)
    with pytest.raises(BuildError, match=r"source\.count = 48, asked for is 49"):
        build_shards(pictures(49), tmp_path / "out", SMALL, workers=1)


def test_other_codecs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_build(tmp_path / "out", finished=False)
    monkeypatch.setattr("selfie_data.build.build_shards.codec_versions", lambda: {"pillow": "99"})
    with pytest.raises(BuildError, match=r"codecs\.\w+ = .*, asked for is "):
        build_shards(pictures(48), tmp_path / "out", SMALL, workers=1)


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    descriptor = os.open(out, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(BuildError, match="another build is at work in this folder"):
            build_shards(pictures(48), out, SMALL, workers=1)
    finally:
        os.close(descriptor)
    build_shards(pictures(48), out, SMALL, workers=1)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("\\documentclass{book}")
    with pytest.raises(BuildError, match=r"not empty \(it holds thesis\.tex\)"):
        build_shards(pictures(48), tmp_path, SMALL, workers=1)
    assert contents(tmp_path).keys() == {"thesis.tex"}


def test_listings_are_kept_in_builds_and_in_nothing_else(tmp_path: Path) -> None:
    expected = tmp_path / "out" / BUILD / "listings"
    assert listings_folder(tmp_path / "out") == expected
    (tmp_path / "out").mkdir()
    assert listings_folder(tmp_path / "out") == expected
    (tmp_path / "out" / "somebody's").touch()
    assert listings_folder(tmp_path / "out") is None
    (tmp_path / "out" / BUILD).mkdir()
    assert listings_folder(tmp_path / "out") == expected
    assert listings_folder(tmp_path / "out" / "somebody's") is None
