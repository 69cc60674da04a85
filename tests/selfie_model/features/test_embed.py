"""Embeddings: every sample in its row, whole chunks, complete or not there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from selfie_data.errors import RunError
from selfie_model.features import embed
from selfie_model.features.embed import write_embeddings
from selfie_model.features.encoder import Features


def parts(samples: int, batch: int, width: int = 3) -> Iterator[Features]:
    for start in range(0, samples, batch):
        ids = np.arange(start, min(start + batch, samples))
        vector = np.repeat(ids[:, None], width, axis=1).astype(np.float32)
        yield Features(vector, np.full(len(ids), -1), ids)


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(1, 60), batch=st.integers(1, 25), rows=st.integers(1, 20))
def test_every_sample_stands_in_its_row(
    samples: int, batch: int, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("embed") / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "CHUNK_ROWS", rows)
        shape = write_embeddings(path, parts(samples, batch), samples=samples, attributes={"fingerprint": "abc"})
    assert shape == (samples, 3)
    group = zarr.open_group(str(path), mode="r")
    assert group.attrs["fingerprint"] == "abc"
    array = group["features"]
    assert isinstance(array, zarr.Array)
    assert array.dtype == np.float32
    assert array.chunks == (min(rows, samples), 3)
    np.testing.assert_array_equal(np.asarray(array[:])[:, 0], np.arange(samples))
    assert [entry.name for entry in path.parent.iterdir()] == ["out.zarr"]


def test_missing_and_disordered_samples_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    with pytest.raises(RunError, match="2 of 12 samples have no features"):
        write_embeddings(path, parts(10, 4), samples=12, attributes={})
    with pytest.raises(RunError, match="in order; after 4 came another"):
        write_embeddings(path, [*parts(4, 4), *parts(4, 4)], samples=8, attributes={})
    with pytest.raises(RunError, match="have no features"):
        write_embeddings(path, [], samples=8, attributes={})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_place_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    write_embeddings(path, parts(4, 2), samples=4, attributes={"n": "1"})
    with pytest.raises(RunError, match="--overwrite"):
        write_embeddings(path, parts(4, 2), samples=4, attributes={"n": "2"})
    assert zarr.open_group(str(path), mode="r").attrs["n"] == "1"
    with pytest.raises(RunError, match="no features"):
        write_embeddings(path, parts(2, 2), samples=4, attributes={"n": "2"}, overwrite=True)
    assert zarr.open_group(str(path), mode="r").attrs["n"] == "1"
    write_embeddings(path, parts(4, 2), samples=4, attributes={"n": "2"}, overwrite=True)
    assert zarr.open_group(str(path), mode="r").attrs["n"] == "2"


def test_overwrite_replaces_embeddings_only(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "manifest.json").write_text("{}")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("dataset")
    before = sorted(tmp_path.rglob("*"))
    for name in ("dataset", "file", "link"):
        with pytest.raises(RunError, match="holds something else than embeddings"):
            write_embeddings(tmp_path / name, parts(4, 2), samples=4, attributes={}, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embed, "_write", full)
    with pytest.raises(RunError, match=r"out\.zarr: cannot be written \(No space left on device\)"):
        write_embeddings(tmp_path / "out.zarr", parts(4, 2), samples=4, attributes={})
    assert list(tmp_path.iterdir()) == []
