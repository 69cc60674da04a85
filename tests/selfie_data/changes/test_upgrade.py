"""Upgrading writes beside what is there, the same whoever does it, and is the same dataset."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfie_data.changes.upgrade import upgrade_dataset
from selfie_data.cli.__main__ import main
from selfie_data.dataset.manifest import UPGRADED, Manifest
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import DatasetError
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of
from tests.servers.fault_proxy import FaultProxy


def contents(folder: Path) -> dict[str, bytes]:
    return {found.name: (folder / found.name).read_bytes() for found in LocalStorage(folder).list()}


@pytest.fixture
def old(earlier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(earlier, tmp_path / "old"))


def test_what_was_there_stays_and_a_second_call_changes_nothing(old: Path, earlier: Path) -> None:
    for _ in range(2):
        result = CliRunner().invoke(main, ["upgrade", str(old)])
        assert result.exit_code == 0
        assert f"{UPGRADED} written, 16 samples in 3 shards" in result.output
        found, before = contents(old), contents(earlier)
        assert {name: found[name] for name in before} == before
        new = found.keys() - before.keys()
        assert sorted(new)[:1] == [UPGRADED]
        assert {Path(name).suffix for name in new} == {".json", ".rows", ""}
    manifest = Manifest.load(old)
    assert (manifest.schema, manifest.fingerprint) == (2, Manifest.load(earlier).fingerprint)
    assert manifest.shards.totals.quarantined == 8
    assert verify_dataset(old, decode=True) == []


def test_it_reads_no_table_any_more(old: Path) -> None:
    upgrade_dataset(old)
    shutil.rmtree(old / "samples.zarr")
    assert open_dataset(old).table.label.tolist() == [2, 1, 1, 2, 1, 2, 0, 2, 0, 1, 2, 1, 2, 0, 0, 2]
    assert [line for line in verify_dataset(old) if "samples.zarr/zarr.json: missing" in line]


def test_in_a_bucket_it_is_the_same(bucket: str, old: Path, proxy: FaultProxy) -> None:
    storage = storage_of(place_of(bucket))
    for name, data in contents(old).items():
        storage.write(name, data)
    proxy.reset_counts()
    upgrade_dataset(bucket)
    assert proxy.down < sum(len(data) for name, data in contents(old).items() if not name.endswith(".tar")) + 60_000
    upgrade_dataset(old)
    assert {found.name: storage.read(found.name) for found in storage.list()} == contents(old)
    assert verify_dataset(place_of(bucket)) == []


def test_of_the_present_form_it_leaves_a_dataset_alone(raw_dataset: Path) -> None:
    before = contents(raw_dataset)
    assert upgrade_dataset(raw_dataset) == Manifest.load(raw_dataset)
    assert contents(raw_dataset) == before


def test_damage_is_said(old: Path, web: tuple[str, Path]) -> None:
    url, root = web
    shutil.copytree(old, root / "set")
    with pytest.raises(DatasetError, match="cannot be written"):
        upgrade_dataset(f"{url}/set")
    upgrade_dataset(old)
    text = (old / UPGRADED).read_text()
    (old / UPGRADED).write_text(text.replace('"samples": 16', '"samples": 17'))
    with pytest.raises(DatasetError, match=rf"{UPGRADED}: damaged"):
        open_dataset(old)
    (old / UPGRADED).write_text(text)
    (old / "manifest.json").write_bytes((old / "manifest.json").read_bytes()[:-5])
    assert [line for line in verify_dataset(old) if "manifest.json: damaged" in line]
