"""An authorization server of OAuth 2.0 that remembers what it was sent, and misbehaves when told to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Handshakes that fail are meant to, and clients that give up."""


class AuthorizationServer:
    """Gives the tokens ``token-1``, ``token-2``...

    Attributes
    ----------
    asked
        The parameters and the ``Authorization`` of each request.
    valid
        The tokens that a FHIR server should accept, see :meth:`accepts`.
    answer
        Status, body and headers of the answer in place of a token.
    scope
        Stated with each token, unless it is empty.
    before
        Called before each answer.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[dict[str, str], str]] = []
        self.valid: set[str] = set()
        self.lifetime_s: object = 300
        self.scope = ""
        self.answer: tuple[int, bytes, dict[str, str]] | None = None
        self.before: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                status, body, headers = server.take(form, self.headers.get("Authorization", ""))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._http = _Http(("127.0.0.1", 0), Handler)
        if context:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_port
        self.url = f"{'https' if context else 'http'}://localhost:{self.port}/token"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, form: dict[str, str], authorization: str) -> tuple[int, bytes, dict[str, str]]:
        """The answer to a request."""
        with self._lock:
            self.asked.append((form, authorization))
            token = f"token-{len(self.asked)}"
        self.before()
        if self.answer is not None:
            return self.answer
        self.valid.add(token)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s, "scope": self.scope}
        if not self.scope:
            del answer["scope"]
        return 200, json.dumps(answer).encode(), {"Content-Type": "application/json"}

    def accepts(self, headers: Message) -> bool:
        """Whether a request has a token that is valid now."""
        return headers.get("Authorization", "").removeprefix("Bearer ") in self.valid

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def authorization_server(context: ssl.SSLContext | None = None) -> Iterator[AuthorizationServer]:
    """Such a server while the block runs."""
    server = AuthorizationServer(context)
    try:
        yield server
    finally:
        server.close()
