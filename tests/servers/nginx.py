"""A real web server on loopback: nginx, of the system or unpacked into `.ci/nginx`."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.servers.seaweed import free_ports

_UNPACKED = Path(__file__).parents[2] / ".ci/nginx/usr/sbin/nginx"
_START_S = 10
_CONFIG = """
daemon off; worker_processes 1; pid {work}/pid; error_log {work}/errors; events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c;
  uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;
  server {{
    listen 127.0.0.1:{port}; root {root};
    location /no-ranges/ {{ alias {root}/; max_ranges 0; }}
  }}
}}
"""


def program() -> str | None:
    """Returns the program; None where it is not installed."""
    return shutil.which("nginx", path="/usr/sbin:/usr/bin") or (str(_UNPACKED) if _UNPACKED.exists() else None)


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[str]:
    """Serves the folder `root`; yields the URL and ends the server. Below /no-ranges/ it ignores ranges of bytes."""
    command = program()
    assert command is not None
    port = free_ports(1)[0]
    (work / "nginx.conf").write_text(_CONFIG.format(work=work, root=root, port=port))
    with (work / "log").open("wb") as log:
        server = subprocess.Popen(
            [command, "-c", str(work / "nginx.conf"), "-p", str(work), "-e", str(work / "errors")],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start: {(work / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()  # its worker would outlive a kill
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
