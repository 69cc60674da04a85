"""Builds on a Ray cluster: the bytes of one process, whatever dies; what cannot work is one line."""

import json
import logging
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from selfie_data.build import ray_engine, ray_task
from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.build.plan import Plan
from selfie_data.build.ray_engine import run_ray
from selfie_data.build.ray_task import Requirements
from selfie_data.build.shard_task import Done, Job, Tick
from selfie_data.dataset.names import BUILD
from selfie_data.errors import BuildError
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from selfie_data.sources.synthetic import SyntheticSource
from selfie_data.storage.place import Place, place_of, storage_of
from selfie_data.storage.protocol import Storage, StorageError
from tests.selfie_data.build.ray_materials import Troubled
from tests.selfie_data.build.test_build_shards import contents
from tests.selfie_data.build.test_remote import objects
from tests.selfie_data.build.test_workspace import Interrupt
from tests.servers import seaweed
from tests.servers.fault_proxy import FaultProxy
from tests.servers.ray_cluster import RayCluster, ray_cluster

REPOSITORY = Path(__file__).parents[3]
RESULTS = REPOSITORY / "benchmarks" / "results" / "kills.jsonl"
OPTIONS = BuildOptions(size=32, samples_per_shard=6)
COUNT = 60
SHARDS = 10


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RayCluster]:
    """Two nodes, with the credentials of the S3 server where there is one; skips where Ray is not installed."""
    pytest.importorskip("ray", reason="Ray is not installed: the extra `ray`")
    environment = {"TMPDIR": str(tmp_path_factory.mktemp("nodes"))}
    if seaweed.program() is not None:
        proxy: FaultProxy = request.getfixturevalue("_proxy")
        environment |= {
            "AWS_ACCESS_KEY_ID": seaweed.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": seaweed.SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
        }
    with ray_cluster(environment) as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of two classes."""
    root = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(
        SyntheticSource(split="train", count=COUNT, size=32, seed=0).read_many(range(COUNT))
    ):
        place = root / ("even" if number % 2 == 0 else "odd")
        place.mkdir(exist_ok=True)
        Image.fromarray(image.data).save(place / f"{number:03d}.png")
    (root / "odd" / "999.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected") / "out"
    build_shards(open_source("folder", folder), out, OPTIONS, workers=1)
    return contents(out)


def run(cluster: RayCluster, job: Job, shards: Any, report: Any, **trouble: Any) -> Iterator[Done]:
    """The engine, with an encoder that is slow or deadly."""
    return run_ray(replace(job, encoder=Troubled(job.encoder, **trouble)), shards, report, address=cluster.address)


def start(folder: Path, out: Path | str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "selfie_data.cli", "build-shards", "folder", str(out), "--root", str(folder)]
    command += ["--samples-per-shard", "6", "--size", "32", *more]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def on(cluster: RayCluster) -> tuple[str, ...]:
    return ("--engine", "ray", "--ray-address", cluster.address)


def test_the_bytes_are_those_of_one_process(
    cluster: RayCluster, folder: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    process = start(folder, tmp_path / "out", *on(cluster), "--json")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "out") == expected
    events = [line for line in output.splitlines() if line]
    assert all(line.startswith("{") for line in events)  # Ray itself says nothing
    assert '"images": 61, "total": 61' in events[-2]


@pytest.mark.parametrize("name", ["pictures.tar", "pictures.tar.gz"])  # read in place; spooled into the bucket
def test_from_a_bucket_into_a_bucket_by_blocks(
    cluster: RayCluster, folder: Path, bucket: str, tmp_path: Path, name: str
) -> None:
    with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as tar:
        for path in sorted(folder.rglob("*.png")):
            tar.add(path, path.relative_to(folder))
    storage_of(place_of(bucket)).write(name, (tmp_path / name).read_bytes())
    options = BuildOptions(size=32, samples_per_shard=6, block_bytes=1 << 16)
    build_shards(open_source("tar", tmp_path / name), tmp_path / "out", options, workers=1)
    engine = partial(run_ray, address=cluster.address)
    build_shards(open_source("tar", f"{bucket}/{name}"), f"{bucket}/out", options, engine=engine)
    assert objects(f"{bucket}/out") == contents(tmp_path / "out")


def test_a_worker_is_killed_and_a_node(
    cluster: RayCluster, folder: Path, expected: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "selfie_data")
    trouble = {"seconds": 0.05, "deadly": "odd/003.png", "once": tmp_path / "once"}
    ticks: list[Tick] = []

    def killing(job: Job, shards: Any, report: Any) -> Any:
        def keep(tick: Tick) -> None:
            ticks.append(tick)
            report(tick)

        for number, done in enumerate(run(cluster, job, shards, keep, **trouble)):
            if number == 2:
                cluster.kill_node("127.0.0.4")
            yield done

    build_shards(open_source("folder", folder), tmp_path / "out", OPTIONS, engine=killing)
    assert contents(tmp_path / "out") == expected
    assert sum(tick.images for tick in ticks) == COUNT + 1  # what was lost was taken back
    assert "its worker was killed (for lack of memory?) or crashed; it is begun again" in caplog.text


def test_a_shard_that_kills_its_worker_three_times_ends_the_build_with_the_image(
    cluster: RayCluster, folder: Path, tmp_path: Path
) -> None:
    engine = partial(run, cluster, deadly="odd/003.png")
    rule = r"shard \d: its worker was killed .* or crashed, at odd/003.png, and so 3 times; finished shards are kept"
    with pytest.raises(BuildError, match=rule):
        build_shards(open_source("folder", folder), tmp_path / "out", OPTIONS, engine=engine)


def test_the_driver_is_killed_and_the_build_goes_on_here_then_there(
    cluster: RayCluster, folder: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Begun on the cluster, whose driver is killed; gone on by a process that is interrupted; ended on the cluster."""
    out = tmp_path / "out"
    process = start(folder, out, *on(cluster))
    wait_for_shards(out, 1, process)
    process.kill()
    process.communicate()
    with pytest.raises(KeyboardInterrupt):
        build_shards(open_source("folder", folder), out, OPTIONS, workers=1, progress=Interrupt(after=30))
    build_shards(open_source("folder", folder), out, OPTIONS, engine=partial(run_ray, address=cluster.address))
    assert contents(out) == expected


def wait_for_shards(out: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("shard-*.tar"))) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_interrupt_ends_all_tasks(cluster: RayCluster, folder: Path, tmp_path: Path) -> None:
    def interrupted(job: Job, shards: Any, report: Any) -> Any:
        yield from run(cluster, job, shards, partial(interrupt, report), seconds=0.5)

    def interrupt(report: Any, tick: Tick) -> None:
        report(tick)
        if cluster.tasks():  # a tick may come just between two
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_shards(open_source("folder", folder), tmp_path / "out", OPTIONS, engine=interrupted)
    deadline = time.monotonic() + 10
    while cluster.tasks():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list((tmp_path / "out" / BUILD).glob("cluster-*"))


def test_other_codecs_on_a_node_are_one_line(
    cluster: RayCluster, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = ray_task._versions()
    monkeypatch.setattr(ray_task, "_versions", lambda: {**versions, "pillow": "0.1"})
    engine = partial(run_ray, address=cluster.address)
    rule = (
        rf"^node 127\.0\.0\.[34] has pillow {versions['pillow']}; this build has pillow 0\.1: install the same versions"
    )
    with pytest.raises(BuildError, match=rule):
        build_shards(open_source("folder", folder), tmp_path / "out", OPTIONS, engine=engine)


def test_a_cluster_that_says_nothing_is_not_waited_for_without_end(
    cluster: RayCluster, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_SILENT_S", 0.6)
    with pytest.raises(BuildError, match="the cluster has done nothing for 0 minutes: `ray status` says why; finished"):
        build_shards(
            open_source("folder", folder), tmp_path / "out", OPTIONS, engine=partial(run, cluster, seconds=9.0)
        )


def test_errors_of_a_task_are_one_line(cluster: RayCluster, folder: Path, tmp_path: Path) -> None:
    options = BuildOptions(size=32, samples_per_shard=6, on_error="fail")
    with pytest.raises(BuildError, match=r"^odd/999.png: .* \(--on-error quarantine goes on without it\)$"):
        build_shards(
            open_source("folder", folder), tmp_path / "out", options, engine=partial(run_ray, address=cluster.address)
        )


@pytest.mark.fuzz
def test_many_kills_of_workers_nodes_and_drivers(
    cluster: RayCluster, folder: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    rng = random.Random(20190607)
    kills, rounds = Counter[str](), 0
    while kills.total() < 20:
        cluster.mend()
        out = tmp_path / str(rounds)
        while True:
            command = [sys.executable, "-m", "tests.selfie_data.build.ray_materials", out, folder, cluster.address]
            process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
            deadline = time.monotonic() + 60
            while not cluster.tasks() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(rng.random() * 3)
            kind = rng.choice(("worker", "worker", "node", "driver"))
            if kind == "driver" and process.poll() is None:
                process.kill()
                kills["driver"] += 1
            elif kind == "node" and len(cluster.nodes) == 2:
                cluster.kill_node(rng.choice(sorted(cluster.nodes)))
                kills["node"] += 1
            elif tasks := cluster.tasks():
                rng.choice(tasks).kill()
                kills["worker"] += 1
            _, errors = process.communicate(timeout=120)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL or "and so 3 times" in errors, errors
        assert contents(out) == expected, f"round {rounds}"
        rounds += 1
    line = {"question": "kills on a Ray cluster", **kills, "builds": rounds, "different_bytes": 0}
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


# What needs no cluster


def job(source: ImageSource, out: Path) -> Job:
    (out / BUILD).mkdir(parents=True)
    plan = Plan(size=len(source), samples=len(source), samples_per_shard=6, seed=0)
    return Job(source=source, plan=plan, encoder=OPTIONS.encoder, out=out, fail_on_error=False)


def test_a_node_must_see_the_folder_and_the_source(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_task, "_SEEN_S", 0.0)
    source = open_source("folder", folder)
    needed = Requirements.of(job(source, tmp_path / "out"), "token")
    needed.check("n1")
    with pytest.raises(BuildError, match="node n1 reads other bytes of the source than this machine, or none: it must"):
        replace(needed, probes=replace(needed.probes, root=tmp_path)).check("n1")
    (tmp_path / "out" / BUILD / "token").unlink()
    with pytest.raises(
        BuildError, match=r"node n1 does not see .*/out as this machine does: .* that all of them share"
    ):
        needed.check("n1")

    def refuse(place: Place) -> Storage:
        raise StorageError(str(place), "access is refused")

    monkeypatch.setattr(ray_task, "storage_of", refuse)
    with pytest.raises(BuildError, match=r"^node n1: .*/out: access is refused$"):
        needed.check("n1")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--engine", "ray", "--ray-address", "127.0.0.1:9"), "no Ray cluster answers at 127.0.0.1:9 (["),
        (("--engine", "ray", "--ray-address", "ray://host:1"), "a Ray cluster's address is HOST:PORT as"),
        (("--engine", "ray", "--workers", "3"), "a Ray cluster has as many workers as CPUs: leave out --workers"),
        (("--ray-address", "127.0.0.1:9"), "--ray-address is for --engine ray: give both"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, tmp_path: Path, options: tuple[str, ...], rule: str
) -> None:
    process = start(folder, tmp_path / "out", *options)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert rule in errors.splitlines()[-1]
