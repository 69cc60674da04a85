"""Builds in parts: whoever builds which shard, how often, interrupted where, the bytes are those of one process."""

import gzip
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfie_data.build import parts
from selfie_data.build.build_shards import build_shards
from selfie_data.build.parts import Part, build_part, build_status, finish_build, ranges
from selfie_data.cli.__main__ import main
from selfie_data.dataset.names import BUILD
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, SourceError
from selfie_data.sources import open_source
from selfie_data.storage.place import place_of, storage_of
from tests.selfie_data.build.killed_build import OPTIONS, source
from tests.selfie_data.build.test_build_shards import SMALL, contents, pictures
from tests.selfie_data.build.test_workspace import Interrupt
from tests.selfie_data.sources.handmade import tar_of
from tests.servers.fault_proxy import Fault, FaultProxy

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a build of 70 images in five shards by one process."""
    out = tmp_path_factory.mktemp("expected") / "out"
    build_shards(pictures(70), out, SMALL, workers=1)
    return contents(out)


def build(out: Path | str, part: str) -> None:
    build_part(pictures(70), out, SMALL, Part.parse(part), workers=1)


@given(total=st.integers(0, 300), count=st.integers(1, 400))
def test_every_shard_is_of_one_part(total: int, count: int) -> None:
    numbers = [number for index in range(count + 1) for number in Part(index, count).shards(total)]
    assert sorted(numbers) == list(range(total))


@pytest.mark.parametrize("text", ["0/0", "4/3", "1", "a/b", "1/3/5", "-1/3", "", "1 /3", "1/0"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(
        ValueError, match="a part is I/N with 1 <= I <= N, as 3/10, or 0/N, which only lists and plans, got"
    ):
        Part.parse(text)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda pair: f"{min(pair)}/{max(pair)}"), st.just("")
    ),
    max_size=4,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, end=st.sampled_from(["plain", "parts"]))
def test_whoever_builds_what_the_bytes_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, expected: dict[str, bytes], steps: list[str], end: str
) -> None:
    out = tmp_path_factory.mktemp("parts") / "out"
    for step in steps:
        if step:
            build(out, step)
        else:
            with pytest.raises(KeyboardInterrupt):
                build_shards(pictures(70), out, SMALL, workers=1, progress=Interrupt(after=30))
            if not (out / BUILD).exists():
                break
    if end == "plain":
        build_shards(pictures(70), out, SMALL, workers=1)
    else:
        for part in ("2/2", "1/2"):
            build(out, part)
        finish_build(out)
    assert contents(out) == expected


def test_parts_tell_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out, "2/3")
    status = build_status(out)
    assert (status.finished, status.shards, status.built, status.missing) == (False, 5, 2, (0, 2, 3))
    assert [(part.part, part.state) for part in status.parts] == [("2/3", "done")]
    with pytest.raises(BuildError, match=r"3 of 5 shards are not built: 0, 2-3; they are of parts 1, 3 of 3: give th"):
        finish_build(out)
    build(out, "1/3")
    build(out, "3/3")
    build(out, "9/9")  # none of its own
    finish_build(out)
    assert build_status(out).finished
    assert finish_build(out).samples == 70
    build(out, "1/3")  # finds it finished
    assert verify_dataset(out) == []
    assert not (out / BUILD).exists()


def test_a_part_that_fails_says_why_to_whoever_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def fail(*_: object, **__: object) -> None:
        raise SourceError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(parts, "run_job", fail)
        with pytest.raises(SourceError):
            build(out, "1/2")
    build(out, "2/2")
    told = CliRunner().invoke(main, ["status", str(out)]).output
    assert "built    2 of 5 shards\nmissing  0, 2, 4\n" in told
    assert "part     1/2 failed (" in told
    assert "): the disk is gone" in told
    build(out, "1/2")
    assert CliRunner().invoke(main, ["status", str(out)]).output == (
        f"built    5 of 5 shards\nnext     selfie-data finish {out}\n"
    )
    assert CliRunner().invoke(main, ["finish", str(out)]).exit_code == 0
    assert CliRunner().invoke(main, ["status", str(out)]).output == "finished, 5 shards\n"


def test_other_builds_and_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    build(out, "1/2")
    with pytest.raises(BuildError, match=r"holds an unfinished build with source\.count = 70, asked for is 71"):
        build_part(pictures(71), out, SMALL, Part(2, 2), workers=1)
    build(out, "2/2")
    monkeypatch.setattr(parts, "codec_versions", lambda: {"zarr": "0.1"})
    with pytest.raises(BuildError, match=r"holds an unfinished build with codecs\."):
        finish_build(out)


@pytest.mark.parametrize("ask", [build_status, finish_build])
def test_where_nothing_was_begun(tmp_path: Path, ask: object) -> None:
    with pytest.raises(BuildError, match=r"no build in parts; `selfie-data build-shards … --part I/N` begins one"):
        ask(tmp_path / "nowhere")  # type: ignore[operator]
    assert not (tmp_path / "nowhere").exists()


def test_a_plain_build_waits_for_no_part_and_parts_run_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out, "1/2")
    with parts.locked(out, shared=True):
        build(out, "2/2")
        with pytest.raises(BuildError, match="another build is at work in this folder"):
            build_shards(pictures(70), out, SMALL, workers=1)
        with pytest.raises(BuildError, match="another build is at work in this folder"):
            finish_build(out)
    finish_build(out)


def test_part_0_spools_and_plans_and_builds_nothing(tmp_path: Path) -> None:
    archive, out = tmp_path / "pictures.tar.gz", tmp_path / "out"
    archive.write_bytes(gzip.compress(tar_of({f"{n}.jpg": b"no picture" for n in range(40)})))
    told = CliRunner().invoke(main, ["build-shards", "tar", str(out), "--root", str(archive), "--part", "0/2"])
    assert told.exit_code == 0, told.output
    assert "part 0/2 has planned, 0 of 1 shards are there" in told.output
    assert (out / ".build" / "spool" / "spool.json").exists()
    status = build_status(out)
    assert (status.built, status.missing, [each.state for each in status.parts]) == (0, (0,), ["done"])


def test_a_source_that_is_spooled_is_spooled_once(tmp_path: Path) -> None:
    archive = tmp_path / "pictures.tar.gz"
    archive.write_bytes(
        gzip.compress(
            tar_of(
                {f"{n}.jpg": b"no picture" for n in range(40)},
            )
        )
    )
    images = open_source("tar", archive)
    options = SMALL
    out = tmp_path / "out"
    threads = [
        threading.Thread(target=lambda index=index: build_part(images, out, options, Part(index, 3), workers=1))
        for index in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not build_status(out).missing
    with pytest.raises(BuildError, match="none of 40 images can be used"):
        finish_build(out)


def test_ranges_are_short() -> None:
    assert ranges((0, 1, 2, 5, 7, 8)) == "0-2, 5, 7-8"
    assert ranges(tuple(range(0, 100, 2)), most=3) == "0, 2, 4, …"
    assert ranges(()) == ""


def start(out: Path | str, part: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.selfie_data.build.killed_part", str(out), str(count), part]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def kill_at(out: Path, process: subprocess.Popen[bytes], moment: int, rng: random.Random) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and sum(1 for _ in out.rglob("*")) < moment and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_parts_that_are_killed_doubled_and_repeated(tmp_path: Path) -> None:
    build_shards(source(2000), tmp_path / "plain", OPTIONS, workers=1)
    out = tmp_path / "out"
    kill_at(out, start(out, "1/2", 2000), 8, random.Random(1))
    twice = [start(out, "1/2", 2000), start(out, "1/2", 2000)]
    for process in twice:
        end(process)
    end(start(out, "2/2", 2000))
    finish_build(out)
    assert contents(out) == contents(tmp_path / "plain")


@pytest.mark.fuzz
def test_many_kills_of_parts(tmp_path: Path) -> None:
    build_shards(source(2000), tmp_path / "plain", OPTIONS, workers=1)
    rng, kills = random.Random(20261127), 0
    for number in range(5):
        out = tmp_path / str(number)
        count = rng.randint(2, 5)
        for _ in range(4):
            at_once = [start(out, f"{rng.randint(1, count)}/{count}", 2000) for _ in range(2)]
            kill_at(out, at_once[0], rng.randint(1, 30), rng)
            kills += 1
            end(at_once[1])
        for index in range(count):
            end(start(out, f"{index + 1}/{count}", 2000))
        finish_build(out)
        assert contents(out) == contents(tmp_path / "plain")
    assert kills == 20


def test_parts_into_a_bucket(bucket: str, expected: dict[str, bytes], proxy: FaultProxy) -> None:
    proxy.faults = [Fault("lose_reply", method="PUT", within="shard-000001.tar")]
    for part in ("3/3", "1/3", "2/3", "1/3"):
        build(bucket, part)
    assert build_status(bucket).built == 5
    finish_build(bucket)
    storage = storage_of(place_of(bucket))
    assert {found.name: storage.read(found.name) for found in storage.list()} == expected
    assert not proxy.faults


def test_a_part_is_no_work_for_a_cluster(tmp_path: Path) -> None:
    asked = ["build-shards", "synthetic", str(tmp_path / "out"), "--limit", "20", "--part", "1/2", "--engine", "ray"]
    told = CliRunner().invoke(main, asked)
    assert (told.exit_code, "--part is for job arrays" in told.output) == (2, True), told.output
