"""Fixtures for every test."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images that the environment variable SELFIE_TEST_DATA names; skips without it."""
    folder = os.environ.get("SELFIE_TEST_DATA")
    if not folder:
        pytest.skip("SELFIE_TEST_DATA does not name a folder of real images")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"SELFIE_TEST_DATA names {path}, which is no folder")
    return path
