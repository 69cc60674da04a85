"""`selfie-data cache`: what it shows, and that it empties."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from selfie_data.cache.home import CacheHome
from selfie_data.cache.shard_cache import ShardCache
from selfie_data.cli.__main__ import main
from selfie_data.storage.local import LocalStorage
from tests.selfie_data.cache.reading import write_shards


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["cache", *arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of 1 MB that holds two shards."""
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SELFIE_CACHE_BYTES", "1MB")
    (tmp_path / "cache").mkdir(mode=0o700)
    cache = ShardCache(LocalStorage(tmp_path / "origin"), CacheHome(tmp_path / "cache", 10**6))
    for shard in write_shards(tmp_path / "origin", 2, size=1000):
        descriptor = cache.open(shard)
        assert descriptor is not None
        os.close(descriptor)
    return tmp_path / "cache"


def test_status_says_where_it_is_and_what_it_holds(folder: Path) -> None:
    facts = {"folder": str(folder), "limit": 10**6, "shards": 2, "bytes": 2000, "arriving": 0, "readers": 0}
    assert json.loads(invoke("status", "--json").output) == facts
    lines = invoke("status").output.splitlines()
    assert [line.split() for line in lines] == [[name, f"{v:,}" if type(v) is int else v] for name, v in facts.items()]


def test_clear_empties_it_and_says_what_went(folder: Path) -> None:
    assert json.loads(invoke("clear", "--json").output) == {"folder": str(folder), "shards": 2, "bytes": 2000}
    assert json.loads(invoke("status", "--json").output)["shards"] == 0
    assert invoke("clear").output.splitlines()[1].split() == ["shards", "0"]


def test_a_place_that_cannot_be_one_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    result = invoke("status")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path}/file: cannot be the cache of shards")
    assert len(result.output.splitlines()) == 1
