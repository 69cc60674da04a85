"""Where the cache may lie, and its limit."""

import os
import tempfile
from pathlib import Path

import pytest

from selfie_data.cache import home as module
from selfie_data.cache.home import CacheHome, cache_home, file_system
from selfie_data.errors import CacheError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CACHE_HOME", "SELFIE_CACHE_BYTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "cache"))


def test_the_folder_is_the_named_one_else_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_home() == CacheHome(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("SELFIE_CACHE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_home().folder == tmp_path / f"selfie-{os.getuid()}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home().folder == tmp_path / "xdg/selfie"


@pytest.mark.parametrize(("text", "size"), [("1000", 1000), ("2.5GB", 2_500_000_000), (" 3 gib ", 3 << 30)])
def test_the_limit_is_a_size(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("SELFIE_CACHE_BYTES", text)
    assert cache_home().allowed(0) == size


def test_without_a_limit_it_is_a_share_of_what_is_held_and_free() -> None:
    home = cache_home()
    disk = os.statvfs(home.folder)
    assert home.allowed(10**15) == pytest.approx(0.9 * (10**15 + disk.f_bavail * disk.f_frsize), rel=1e-3)


@pytest.mark.parametrize("text", ["", "much", "3 parsecs", "-1"])
def test_what_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SELFIE_CACHE_BYTES", text)
    with pytest.raises(CacheError, match="SELFIE_CACHE_BYTES must be a size such as 500GB"):
        cache_home()


@pytest.mark.parametrize("number", [0x6969, 0x0BD00BD0, 0x65735546])
def test_network_file_systems_are_refused(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(module, "file_system", lambda _: number)
    with pytest.raises(
        CacheError, match=r"must be on a disk of this machine, this is (NFS|Lustre|FUSE); name a folder"
    ):
        cache_home()


def test_the_kind_of_a_file_system_is_the_kernels_number() -> None:
    assert file_system(Path("/proc")) == 0x9FA0
    with pytest.raises(FileNotFoundError):
        file_system(Path("/no/such/folder"))


def test_a_folder_that_others_may_write_or_that_cannot_be_made_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(CacheError, match="writable by nobody else"):
        cache_home()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SELFIE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match=r"cannot be the cache of shards .File exists.; name a folder of a local disk"):
        cache_home()
