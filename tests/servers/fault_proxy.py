"""An HTTP proxy on loopback between a client and one server: counts what passes, and fails when told to.

Faults are taken one a request, in order, by the first request whose method they name:

    proxy.faults = [Fault("status", status=503), Fault("stall", after=1000), Fault("lose_reply", method="PUT")]
"""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

_STALL_S = 30  # longer than any limit under test
_PAUSE_S = 0.02  # of a slow reply
_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive")
KINDS = ("refuse", "status", "reset", "close", "stall", "slow", "corrupt", "lose_reply", "hang")


class Fault(NamedTuple):
    """What goes wrong with one request.

    Attributes:
        kind: refuse (reset unread), status (without asking the server), reset, close, stall (in the reply's body, after
            `after` bytes), slow (`after` bytes at a time), corrupt (byte number `after` is flipped), lose_reply (the
            server has done it, nobody hears of it), hang (no reply, and the server does not hear of it).
        method: of the requests that it may befall; "" for any.
        within: a piece of the path that they must have.
    """

    kind: str
    after: int = 0
    status: int = 503
    method: str = ""
    within: str = ""


class FaultProxy:
    """A proxy in threads; `faults` is taken from its front.

    Attributes:
        port: of loopback.
        requests: how many there were, by method.
        paths: how many there were, by path.
        up, down: bytes of bodies to the server and from it.
        met: the faults that happened.
        delay_s: what passes before the server is asked.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.met: list[Fault] = []
        self.requests: Counter[str] = Counter()
        self.paths: Counter[str] = Counter()
        self.up = self.down = 0
        self.delay_s = 0.0
        self.lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    @contextlib.contextmanager
    def running(self) -> Iterator["FaultProxy"]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def take(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests[method] += 1
            self.paths[path.partition("?")[0]] += 1
            for fault in self.faults:
                if fault.method in ("", method) and fault.within in path:
                    self.faults.remove(fault)
                    self.met.append(fault)
                    return fault
        return None

    def reset_counts(self) -> None:
        self.requests, self.paths, self.up, self.down = Counter(), Counter(), 0, 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None: ...

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client left
            super().handle_one_request()
            return
        self.close_connection = True

    def pass_on(self) -> None:
        fault = self.owner.take(self.command, self.path)
        kind = fault.kind if fault else ""
        if kind == "refuse":
            self._reset()
            return
        if kind == "hang":
            time.sleep(_STALL_S)
            self._reset()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault and kind == "status":
            self._reply(fault.status, {}, b"<Error><Code>SlowDown</Code></Error>", None)
            return
        time.sleep(self.owner.delay_s)
        upstream = http.client.HTTPConnection("127.0.0.1", self.owner.upstream, timeout=60)
        with contextlib.closing(upstream):
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = answer.read()
        with self.owner.lock:
            self.owner.up += len(body)
        if kind == "lose_reply":
            self._reset()
            return
        if fault and kind == "corrupt" and len(data) > fault.after:
            data = data[: fault.after] + bytes([data[fault.after] ^ 1]) + data[fault.after + 1 :]
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length") or "0"
        self._reply(answer.status, headers, data, fault if kind in ("reset", "close", "stall", "slow") else None)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def _reply(self, status: int, headers: dict[str, str], data: bytes, fault: Fault | None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault is None:
            sent = data
            self.wfile.write(data)
        elif fault.kind == "slow":
            sent, step = data, max(1, fault.after)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                time.sleep(_PAUSE_S)
        else:
            sent = data[: fault.after]
            self.wfile.write(sent)
            self.wfile.flush()
            if fault.kind == "stall":
                time.sleep(_STALL_S)
            if fault.kind == "close":
                self.close_connection = True
            else:
                self._reset()
        with self.owner.lock:
            self.owner.down += len(sent)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
