"""A dataset that an earlier version built opens, is verified, trains and resumes as it did then."""

import copy
import hashlib
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipelines import PatchLoader
from pipelines.batch import PatchBatch
from selfie_data.cli.__main__ import main
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.verify import verify_dataset

EARLIER = Path(__file__).parents[1] / "selfie_data/dataset/earlier"
THEN: dict[str, Any] = json.loads((EARLIER / "schema-1.json").read_text())


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, not to be changed."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(EARLIER / "schema-1.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder / "schema-1"


def loader(earlier: Path) -> PatchLoader:
    return PatchLoader(earlier, global_batch_size=4, seed=3, patch_size=2, device="cpu", backend="reference")


def digest_of(batches: Iterable[PatchBatch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.sample_id.numpy().tobytes())
        digest.update(batch.patches.numpy().tobytes())
    return digest.hexdigest()


def test_it_says_what_it_said(earlier: Path) -> None:
    dataset = open_dataset(earlier)
    ids = np.arange(16)
    for opened in (dataset, copy.deepcopy(dataset)):  # by what pickle would do
        assert (opened.fingerprint, opened.manifest.schema) == (THEN["fingerprint"], 1)
        assert [opened.key(sample) for sample in range(len(opened))] == THEN["keys"]
        assert opened.rows(ids).label.tolist() == THEN["labels"]
        assert [entry.key for entry in opened.quarantined()] == THEN["quarantined"]
        assert opened.sample_ids(opened.plan_positions(ids)).tolist() == ids.tolist()
    assert verify_dataset(earlier, decode=True) == []
    told = json.loads(CliRunner().invoke(main, ["info", str(earlier), "--json"]).stdout)
    assert (told["schema"], told["quarantined"], told["shards"]) == (1, 8, 3)
    assert len(dataset.subset("train")) + len(dataset.subset("validation")) == 16


def test_a_run_goes_on_from_a_state_of_then(earlier: Path) -> None:
    with loader(earlier) as whole:
        batches = list(whole)
        assert digest_of(batches[:2]) == THEN["first"]
    with loader(earlier) as resumed:
        resumed.load_state_dict(THEN["state"])
        assert digest_of(resumed) == THEN["rest"] == digest_of(batches[2:])
