"""A dataset that an earlier version built opens, is verified, trains and resumes as it did then; upgraded, too."""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import PatchLoader
from pipelines.batch import PatchBatch
from selfie_data.changes.upgrade import upgrade_dataset
from selfie_data.cli.__main__ import main
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.verify import verify_dataset
from tests.conftest import EARLIER

THEN: dict[str, Any] = json.loads((EARLIER / "schema-1.json").read_text())


@pytest.fixture(params=["as it was", "upgraded"])
def dataset(request: pytest.FixtureRequest, earlier: Path, tmp_path: Path) -> Path:
    if request.param == "as it was":
        return earlier
    shutil.copytree(earlier, tmp_path / "upgraded")
    upgrade_dataset(tmp_path / "upgraded")
    return tmp_path / "upgraded"


def loader(dataset: Path) -> PatchLoader:
    return PatchLoader(dataset, global_batch_size=4, seed=3, patch_size=2, device="cpu", backend="reference")


def digest_of(batches: Iterable[PatchBatch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.sample_id.numpy().tobytes())
        digest.update(batch.patches.numpy().tobytes())
    return digest.hexdigest()


def test_it_says_what_it_said(dataset: Path) -> None:
    once, ids = open_dataset(dataset), np.arange(16)
    for opened in (once, copy.deepcopy(once)):  # by what pickle would do
        assert opened.fingerprint == THEN["fingerprint"]
        assert [opened.key(sample) for sample in range(len(opened))] == THEN["keys"]
        assert opened.rows(ids).label.tolist() == THEN["labels"]
        assert [entry.key for entry in opened.quarantined()] == THEN["quarantined"]
        assert opened.sample_ids(opened.plan_positions(ids)).tolist() == ids.tolist()
    assert verify_dataset(dataset, decode=True) == []
    told = json.loads(CliRunner().invoke(main, ["info", str(dataset), "--json"]).stdout)
    assert (told["quarantined"], told["shards"]) == (8, 3)
    assert len(once.subset("train")) + len(once.subset("validation")) == 16


def test_a_run_goes_on_from_a_state_of_then(dataset: Path) -> None:
    with loader(dataset) as whole:
        batches = list(whole)
        assert digest_of(batches[:2]) == THEN["first"]
    with loader(dataset) as resumed:
        resumed.load_state_dict(THEN["state"])
        assert digest_of(resumed) == THEN["rest"] == digest_of(batches[2:])
