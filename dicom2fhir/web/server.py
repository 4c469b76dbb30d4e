"""The web server: its thread with the event loop, its socket, and waiting for a port that is in use.

Nothing else in the bridge uses asyncio. What the server needs is imported by its thread, so that neither a command nor
reception waits for it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from dicom2fhir.errors import BridgeError, BridgeFault, log_fields
from dicom2fhir.web.options import Face

if TYPE_CHECKING:
    from uvicorn import Server

    from dicom2fhir.ops.metrics import Metrics
    from dicom2fhir.ops.previews import Previewer
    from dicom2fhir.system.memory_budget import HeaderSpace
    from dicom2fhir.web.facts import WebStore

_AGAIN_S = 5.0
"""Pause before listening is tried again."""
_MAX_CONNECTIONS = 64
_KEEP_ALIVE_S = 15
_BACKLOG = 64
_THREADS = 4
"""For calls of the store; more requests wait."""
_FINISH_S = 2
"""For open requests, when the server stops."""

log = structlog.get_logger(__name__)


class WebServer:
    """Serves the page and the API until it is stopped; a failure of its own is logged and harms nothing else.

    Parameters
    ----------
    space
        The memory for the bodies of requests.
    """

    def __init__(self, face: Face, store: WebStore, previewer: Previewer, metrics: Metrics, space: HeaderSpace) -> None:
        self._face = face
        self._store = store
        self._previewer = previewer
        self._metrics = metrics
        self._space = space
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._url = ""
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def url(self) -> str:
        """Where the page is; empty while the server does not listen."""
        return self._url

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def wait_until_listening(self, timeout_s: float) -> bool:
        """Whether it listens, at the latest after this time."""
        return self._listening.wait(timeout_s)

    def stop(self, timeout_s: float) -> None:
        """Finish open requests and close the socket."""
        with self._lock:
            self._stop.set()
            if self._server:
                self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                self._serve()
                return
            except (BridgeError, OSError) as error:
                reason = str(error) if isinstance(error, BridgeError) else _why_not(self._face, error)
            except Exception as error:  # the rest of the bridge continues in any case
                log.error("web.failed", **log_fields(BridgeFault(error)))
                reason = ""
            if reason and reason != told:
                told = reason
                log.warning("web.not_listening", reason=reason)
            self._stop.wait(_AGAIN_S)

    def _serve(self) -> None:
        """Listen and serve until the server is stopped."""
        from dicom2fhir.web.app import make_app
        from dicom2fhir.web.connection import make_server

        context = self._face.tls() if self._face.tls else None
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="web-store")
        app = make_app(self._face, self._store, self._previewer, pool, self._metrics, self._space)
        with _bound(self._face) as listener:
            server = make_server(app, context, _MAX_CONNECTIONS, _KEEP_ALIVE_S, _FINISH_S)
            with self._lock:
                self._server = server
                server.should_exit = self._stop.is_set()
            self._url = _url(listener, secured=context is not None)
            self._listening.set()
            log.info("web.listening", url=self._url)
            try:
                asyncio.run(server.serve(sockets=[listener]))
            finally:
                self._url = ""
                self._listening.clear()
                pool.shutdown(cancel_futures=True)


def _bound(face: Face) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(face.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    both = face.host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((str(where[0]), face.port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)


def _url(listener: socket.socket, secured: bool) -> str:
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    shown = f"[{host}]" if address.version == 6 else host
    return f"{'https' if secured else 'http'}://{shown}:{port}/"


def _why_not(face: Face, error: OSError) -> str:
    return (
        f"Cannot listen on {face.host}:{face.port}: {error.strerror or type(error).__name__}. The bridge works without"
        " its web page and tries again; choose another web.port, or set web.enabled = false."
    )
