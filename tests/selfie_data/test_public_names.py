"""The names that `selfie_data` offers: all there, none imported before its first use."""

import subprocess
import sys
from pathlib import Path

import pytest

import selfie_data


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in selfie_data.__all__:
        assert getattr(selfie_data, name).__doc__, name
        assert name in dir(selfie_data)
    with pytest.raises(AttributeError, match="module 'selfie_data' has no attribute 'nothing'"):
        _ = selfie_data.nothing


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, selfie_data; print([name for name in sys.modules if name.startswith('selfie_data.')], "
    code += "[name for name in ('numpy', 'PIL', 'msgspec') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_the_example_of_the_package(tmp_path: Path) -> None:
    from selfie_data import BuildOptions, build_shards, open_dataset, open_source, verify_dataset

    manifest = build_shards(open_source("synthetic", limit=20), tmp_path / "out", BuildOptions(size=32), workers=1)
    assert manifest == open_dataset(tmp_path / "out").manifest
    assert verify_dataset(tmp_path / "out") == []
