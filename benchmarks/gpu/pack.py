"""Packs what a host without a registry lacks into parts small enough to travel one at a time.

    python -m benchmarks.gpu.pack FOLDER [PART_MIB]

Downloads the wheels of `requirements.txt` for Python 3.12 on Linux x86-64, unpacks them into one tree, and writes the
tree as `part-0`, `part-1`, ... of one tar.xz: 155 MiB in three parts of at most 55 MiB. `benchmarks.gpu --calls` says
how they are unpacked. At the end, what the wheels require and neither they nor the host (`host.txt`) have is listed.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = "3.12"
PART_MIB = 55
_GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)  # pip matches these exactly
# Read by compilers or other interpreters only; nvidia/__init__.py would hide the host's own nvidia.* packages.
_LEFT_OUT = ("nvidia/dali/include/", "nvidia/__init__.py")

_NOT_NEEDED = ("nvidia-libnvcomp-cu13", "nvidia-nvjpeg2k-cu13", "nvidia-nvtiff-cu13")  # for JPEG; 33 MB


def listed(name: str) -> list[str]:
    """The distributions of a list in this folder, as they stand there; comments are left out."""
    lines = (line.partition("#")[0].strip() for line in (HERE / name).read_text().splitlines())
    return [line for line in lines if line]


def normal(name: str) -> str:
    """A distribution's name as registries compare it, without its version."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~;\s\[(]", name)[0]).lower()


def download(folder: Path) -> None:
    """The wheels; ends with pip's message if one is not to be had."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp", "--dest", str(folder)]
    for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for platform in [f"manylinux_2_{one}_x86_64" for one in _GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]:
        command += ["--platform", platform]
    subprocess.run([*command, "--requirement", str(HERE / "requirements.txt")], check=True)


def split(data: Path, folder: Path, size: int) -> list[Path]:
    """Cuts a file into `part-0`, `part-1`, ... of at most `size` bytes."""
    for old in folder.glob("part-*"):
        old.unlink()
    parts: list[Path] = []
    with data.open("rb") as file:
        while piece := file.read(size):
            parts.append(folder / f"part-{len(parts)}")
            parts[-1].write_bytes(piece)
    return parts


def missing(site: Path) -> Iterator[str]:
    """Requirements of the unpacked wheels that nobody meets."""
    here = {normal(one) for one in listed("host.txt") + listed("requirements.txt")} | set(_NOT_NEEDED)
    for meta in sorted(site.glob("*.dist-info/METADATA")):
        for need in re.findall(r"^Requires-Dist: (.+)$", meta.read_text(errors="replace"), re.MULTILINE):
            if "extra ==" not in need and "python_version" not in need and normal(need) not in here:
                yield f"{meta.parent.name.partition('-')[0]} needs {need}"


def main() -> None:
    out = Path(sys.argv[1])
    size = (int(sys.argv[2]) if len(sys.argv) > 2 else PART_MIB) << 20
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        wheels, site, whole = Path(work, "wheels"), Path(work, "site"), Path(work, "site.tar.xz")
        download(wheels)
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site, [one for one in archive.namelist() if not one.startswith(_LEFT_OUT)])
        with tarfile.open(whole, "w:xz") as archive_out:
            archive_out.add(site, ".")
        for part in split(whole, out, size):
            print(f"{part}: {part.stat().st_size / 2**20:.0f} MiB")
        for line in missing(site):
            print(f"missing: {line}")


if __name__ == "__main__":
    main()
