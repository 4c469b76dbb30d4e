"""An S3 server for tests: moto behind a part that counts requests and makes faults (``python -m tests.s3_server``)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import requests

from tests.daemon_process import ROOT, environment

CONTROL = "/-/control"
BUCKET = "archive"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Faulty:
    """Counts the requests for objects and their bytes; the next responses may be errors, end too early, or not come."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._state: dict[str, int] = {}
        self._released = threading.Event()
        """Set when the faults are set anew."""

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == CONTROL:
            return self._control(environ, start)
        is_get = environ["REQUEST_METHOD"] == "GET"
        is_list = "list-type" in environ.get("QUERY_STRING", "")
        if is_get:
            self._count("lists" if is_list else "gets")
            self._hold(self._released)
        if is_get and self._next("slow_down"):
            return _error(start, "503 Slow Down", "SlowDown")
        if is_get and self._next("deny" if not is_list else "deny_list"):
            return _error(start, "403 Forbidden", "AccessDenied")
        body = b"".join(self._app(environ, start))
        if is_get and not is_list:
            self._count("bytes", len(body))
            if self._next("cut"):
                return [body[: len(body) // 2]]
        return [body]

    def _hold(self, released: threading.Event) -> None:
        """Requests for objects beyond ``most_gets`` wait until the faults are set anew."""
        gets = self._state.get("gets", 0)
        if gets > self._state.get("most_gets", gets):
            released.wait()

    def _count(self, what: str, number: int = 1) -> None:
        self._state[what] = self._state.get(what, 0) + number

    def _next(self, fault: str) -> bool:
        left = self._state.get(fault, 0)
        self._state[fault] = max(0, left - 1)
        return left > 0

    def _control(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            self._state = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self._released.set()
            self._released = threading.Event()
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self._state).encode()]


def _error(start: Callable[..., Any], status: str, code: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code><Message>Not now.</Message></Error>".encode()]


class S3Server:
    """The running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def put(self, key: str, content: bytes, bucket: str = BUCKET) -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def set(self, **faults: int) -> None:
        """Set the counters to zero, and how many of the next responses are faulty."""
        requests.put(f"{self.url}{CONTROL}", json=faults, timeout=30).raise_for_status()

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = requests.get(f"{self.url}{CONTROL}", timeout=30).json()
        return {what: number for what, number in found.items() if number}

    def reset(self) -> None:
        """Leave an empty bucket and no faults."""
        self.set()
        requests.post(f"{self.url}/moto-api/reset", timeout=30).raise_for_status()
        self.client.create_bucket(Bucket=BUCKET)
        self.set()

    @cached_property
    def client(self) -> Any:
        from botocore.session import get_session

        session = get_session()
        session.set_credentials("test", "test")
        return session.create_client("s3", region_name="us-east-1", endpoint_url=self.url)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server in a process of its own, with an empty bucket."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.s3_server"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            server = S3Server(process.stdout.readline().strip())
            server.reset()
            yield server
        finally:
            process.kill()


def main() -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
