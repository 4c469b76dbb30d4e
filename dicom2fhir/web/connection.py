"""uvicorn with a limit on how long a connection may take to send the head of a request."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

_HEAD_S = 10.0
"""From the connection, or the first byte of a further request, to the end of the head."""


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose request does not come; uvicorn itself waits forever, and counts it as open."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a whole head ends the wait."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end_wait()
        elif self._deadline is None:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_wait()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._deadline = self.loop.call_later(_HEAD_S, self.transport.abort)

    def _end_wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def make_server(
    app: ASGIApp, context: ssl.SSLContext | None, max_connections: int, keep_alive_s: int, finish_s: int
) -> Server:
    """The server for an application; it logs nothing itself, because its messages can quote requests."""
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    config = Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=max_connections,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=finish_s,
    )
    config.load()
    config.ssl = context
    return Server(config)
