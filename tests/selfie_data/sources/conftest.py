"""For tests of sources."""

from pathlib import Path

import pytest

from tests.selfie_data.sources.folder_material import FILES, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos of alice"
    write(folder, FILES)
    return folder
