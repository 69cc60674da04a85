"""Datasets of JPEGs with restart markers, and what is cut out of them."""

from pathlib import Path

import pytest

from pipelines.backends import jpeg_windows
from tests.pipelines.backends.marked import SAMPLINGS, marked
from tests.pipelines.conftest import write_dataset

SHAPES = [(200, 260), (255, 190), (96, 341), (300, 111), (97, 98)]


@pytest.fixture(scope="session", params=SAMPLINGS)
def marked_shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 JPEGs with restart markers; those of 4:2:0 have every MCU marked. Not to be changed."""
    encode_one = marked(request.param, 1 if request.param == "420" else 3)
    path = tmp_path_factory.mktemp("marked") / "shards"
    return write_dataset(path, samples=20, size=96, encoding="jpeg", shapes=SHAPES, encode_one=encode_one)


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of every window from here on; 0 and less where there was none."""
    found: list[int] = []
    cut = jpeg_windows.cut_windows

    def noted(*arguments: object) -> int:
        unexpected: int = cut(*arguments)
        found.extend(arguments[6].tolist())  # type: ignore[attr-defined]
        return unexpected

    monkeypatch.setattr(jpeg_windows, "cut_windows", noted)
    return found
