"""A FHIR server that takes everything, says which version it is of, and remembers what it was sent."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Resource = dict[str, Any]


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ScriptedServer:
    """Answers every read and search with nothing found, also in a batch, and every transaction with success.

    Attributes
    ----------
    fhir_version
        Of its CapabilityStatement.
    status
        HTTP status of the answer to a transaction; anything but 200 comes with an OperationOutcome.
    is_away
        Whether every request is answered with 503.
    studies
        The ImagingStudy resources of all transactions.
    asked
        How often its CapabilityStatement was read.
    accepts
        Whether it accepts a request with these headers; it answers 401 otherwise. Not asked for /metadata.
    smart_configuration
        What is at ``.well-known/smart-configuration``, if anything.
    """

    def __init__(self, fhir_version: str = "4.0.1", context: ssl.SSLContext | None = None) -> None:
        self.fhir_version = fhir_version
        self.status = 200
        self.is_away = False
        self.studies: list[Resource] = []
        self.asked = 0
        self.accepts: Callable[[Message], bool] = lambda headers: True
        self.smart_configuration: Resource | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its head

            def do_GET(self) -> None:
                is_open = self.path.endswith(("/metadata", "/.well-known/smart-configuration"))
                self._answer(*(server.get(self.path) if is_open or server.accepts(self.headers) else _NOT_ACCEPTED))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the bridge was killed
                    self.close_connection = True
                    return None
                bundle = json.loads(body)
                if not server.accepts(self.headers):
                    return self._answer(*_NOT_ACCEPTED)
                is_batch = bundle["type"] == "batch"
                self._answer(*(server.batch(bundle) if is_batch else server.post(bundle)))

            def _answer(self, status: int, body: Resource | bytes) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/fhir+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = _Http(("127.0.0.1", 0), Handler)
        if context:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._http.server_address[1]}/fhir"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def get(self, path: str) -> tuple[int, Resource]:
        """The answer to a GET."""
        if self.is_away:
            return 503, _outcome("away")
        if path.endswith("/metadata"):
            self.asked += 1
            rest = [{"mode": "server", "interaction": [{"code": "transaction"}]}]
            return 200, {"resourceType": "CapabilityStatement", "fhirVersion": self.fhir_version, "rest": rest}
        if path.endswith("/.well-known/smart-configuration") and self.smart_configuration:
            return 200, self.smart_configuration
        if "?" not in path:
            return 404, _outcome("not there")
        return 200, {"resourceType": "Bundle", "type": "searchset", "total": 0}

    def batch(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        """The answer to a batch of questions."""
        if self.is_away:
            return 503, _outcome("away")
        answers = [self.get(f"/fhir/{entry['request']['url']}") for entry in bundle["entry"]]
        entries = [{"resource": body, "response": {"status": str(status)}} for status, body in answers]
        return 200, {"resourceType": "Bundle", "type": "batch-response", "entry": entries}

    def post(self, bundle: Resource) -> tuple[int, Resource | bytes]:
        """The answer to a transaction."""
        if self.is_away:
            return 503, _outcome("away")
        if self.status != 200:
            return self.status, _outcome("refused")
        entries = bundle["entry"]
        self.studies += [e["resource"] for e in entries if e["resource"]["resourceType"] == "ImagingStudy"]
        return 200, {
            "resourceType": "Bundle",
            "type": "transaction-response",
            "entry": [
                {"response": {"status": "201", "location": f"{e['resource']['resourceType']}/{e['resource']['id']}"}}
                for e in entries
            ],
        }

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


def _outcome(text: str) -> Resource:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": text}],
    }


_NOT_ACCEPTED = 401, _outcome("who are you?")


@contextmanager
def scripted_server(fhir_version: str = "4.0.1", context: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Such a server while the block runs."""
    server = ScriptedServer(fhir_version, context)
    try:
        yield server
    finally:
        server.close()
