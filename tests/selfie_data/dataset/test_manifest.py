"""The manifest: newer ones and what is none are refused in one line."""

import json
import shutil
from pathlib import Path

import pytest

from selfie_data.build.build_shards import build_shards
from selfie_data.dataset.manifest import Manifest
from selfie_data.errors import DatasetError
from tests.selfie_data.build.test_build_shards import SMALL, pictures


def test_a_newer_manifest_is_refused(tmp_path: Path, raw_dataset: Path) -> None:
    out = tmp_path / "newer"
    shutil.copytree(raw_dataset, out)
    text = (out / "manifest.json").read_text().replace('"schema": 2', '"schema": 3', 1)
    (out / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match="schema 3 is newer than this version reads"):
        Manifest.load(out)
    with pytest.raises(DatasetError, match="schema 3 is newer"):
        build_shards(pictures(1000), out, SMALL, workers=1)


def test_a_manifest_that_is_no_manifest_is_one_clear_error(tmp_path: Path, raw_dataset: Path) -> None:
    good = json.loads((raw_dataset / "manifest.json").read_bytes())
    for bad in (b"", b"[]", b"{}", b"{", json.dumps({**good, "mean": 3}).encode(), b'{"schema": "x"}', b"\xff"):
        (tmp_path / "manifest.json").write_bytes(bad)
        with pytest.raises(DatasetError, match=r"manifest\.json: "):
            Manifest.load(tmp_path)
    with pytest.raises(DatasetError, match="no such dataset directory"):
        Manifest.load(tmp_path / "nowhere")
