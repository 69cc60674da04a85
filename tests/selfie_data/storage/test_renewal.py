"""Credentials of a machine's role end, and the client asks for new ones by itself."""

import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from selfie_data.storage import remote
from selfie_data.storage.place import place_of, storage_of

CONTENT = b"content of the object"


class Cloud(BaseHTTPRequestHandler):
    """A machine's metadata, which gives another key whenever it is asked, and a bucket that takes the newest only."""

    protocol_version = "HTTP/1.1"
    given, taken = 0, list[str]()

    def log_message(self, format: str, *args: object) -> None: ...

    def do_PUT(self) -> None:
        self._answer(b"a token")

    def do_GET(self) -> None:
        if self.path.endswith("/security-credentials/"):
            self._answer(b"role")
        elif self.path.endswith("/role"):
            Cloud.given += 1
            end = f"{datetime.now(UTC) + timedelta(seconds=60):%FT%TZ}"  # the client renews what ends within 5 minutes
            keys = {"AccessKeyId": f"key-{Cloud.given}", "SecretAccessKey": "secret", "Token": "token"}
            facts = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": end, "Expiration": end}
            self._answer(json.dumps(keys | facts).encode())
        else:
            key = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
            Cloud.taken.append(key)
            self._answer(CONTENT, 206 if key == f"key-{Cloud.given}" else 403)

    def _answer(self, content: bytes, status: int = 200) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        if status == 206:
            self.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Fri, 27 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket, on a machine that has a role and no keys."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cloud)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    remote._new_store.cache_clear()
    yield "s3://bucket/folder"
    remote._new_store.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join()


def test_keys_that_are_about_to_end_are_renewed(cloud: str) -> None:
    storage = storage_of(place_of(cloud))
    for _ in range(3):
        assert storage.read("object", length=len(CONTENT)) == CONTENT
        time.sleep(0.2)  # the client asks no more often than ten times a second
    assert Cloud.taken == ["key-1", "key-2", "key-3"]
