"""What a build tells: a bar, plain lines, JSON lines."""

import io
import json

import pytest

from selfie_data.build.progress import Bar, JsonLines, Lines, human_bytes
from selfie_data.build.shard_task import Tick


def test_a_bar_on_a_terminal() -> None:
    stream = io.StringIO()
    bar = Bar(stream)
    bar.spool(10, 100)
    bar.spool(100, 100)
    bar.start(50)
    bar.tick(Tick(20, 3 << 20, 1))
    bar.tick(Tick(30, 1 << 20, 1))
    bar.close()
    text = stream.getvalue()
    assert "50.0/50.0" in text
    assert "4.0 MiB, 2 quarantined" in text
    assert "image/s" in text


def test_plain_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfie_data.build.progress._LINE_S", 0.0)
    monkeypatch.setattr("selfie_data.build.progress._JSON_S", 0.0)
    plain, machine = io.StringIO(), io.StringIO()
    for reporter in (Lines(plain), JsonLines(machine)):
        reporter.spool(5 << 20, 10 << 20)
        reporter.start(50)
        reporter.tick(Tick(20, 2048, 1))
        reporter.close()
    assert "spool: 5.0 MiB of about 10.0 MiB" in plain.getvalue()
    assert "build: 20 of 50 images" in plain.getvalue()
    assert "\r" not in plain.getvalue()
    events = [json.loads(line) for line in machine.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["spool", "start", "build", "build"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (64 << 20, "64.0 MiB"), (3 << 40, "3.0 TiB")]
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_the_time_left_is_not_known_before_the_first_image(capsys: pytest.CaptureFixture[str]) -> None:
    plain, machine = Lines(), JsonLines()
    for reporter in (plain, machine):
        reporter.start(9)
        reporter.close()
    told = capsys.readouterr()
    assert told.err.endswith("0 of 9 images, 0/s, 0 B, 0 quarantined, time left not known\n")
    assert json.loads(told.out.splitlines()[-1])["remaining_s"] is None
    plain.tick(Tick(9, 100, 0))
    plain.close()
    assert capsys.readouterr().err.endswith("0 s left\n")
