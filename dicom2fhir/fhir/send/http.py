"""An HTTP exchange with limits: on its total time, even if bytes arrive slowly, and on the bytes of the answer."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from dicom2fhir.errors import ServerUnavailable
from dicom2fhir.fhir.send.auth import Credentials
from dicom2fhir.fhir.send.deadlines import Deadlines
from dicom2fhir.fhir.send.metered_response import Meter, MeteredResponse
from dicom2fhir.fhir.send.tls_and_proxy import TlsFault, TlsFiles, peer_of, proxies_for
from dicom2fhir.outcomes import Exchange
from dicom2fhir.system.network import failure

_READ_BYTES = 64 * 1024
_HEADERS = {"User-Agent": requests.utils.default_user_agent(), "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray


class _Line:
    """The socket of a thread's connection, so that it can be shut down while the thread waits for it."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.was_cut = False
        self.meter = Meter()
        self.is_ready = False
        """Whether a request can be sent: the peer and its proxy are connected and the certificate is valid."""

    def opened(self, opened: socket.socket, is_ready: bool) -> None:
        self.socket = opened
        self.is_ready = is_ready
        if self.was_cut:
            raise TimeoutError

    def cut(self) -> None:
        self.was_cut = True
        if self.socket is not None:
            with contextlib.suppress(OSError):  # already closed
                # Not SSLSocket.shutdown, which would remove the TLS state while the other thread reads from it.
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """Passes its socket to its line, and counts the bytes that it receives."""

    def __init__(self, *args: Any, line: _Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = line
        self.response_class = partial(MeteredResponse, line.meter)  # type: ignore[assignment]  # it is only called

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        self._line.opened(opened, is_ready=False)  # a proxy's answer and the TLS handshake may follow
        return opened

    def connect(self) -> None:
        self._line.is_ready = False
        super().connect()
        self._line.opened(self.sock, is_ready=True)


class _SecureConnection(_Connection, HTTPSConnection):
    """:class:`_Connection` over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """Transport over connections that share its line, with the given certificates."""

    def __init__(self, line: _Line, tls: ssl.SSLContext | None) -> None:
        self.line = line
        self._tls = tls
        self._pools = {"http": partial(_Pool, line=line), "https": partial(_SecurePool, line=line)}
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._tls)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: object) -> object:
        # with PySocks installed, requests would go on, and fail on the options for TLS
        if not proxy.startswith(("http:", "https:")):
            raise requests.exceptions.InvalidSchema(proxy)
        manager = super().proxy_manager_for(proxy, **options, ssl_context=self._tls, proxy_ssl_context=self._tls)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"  # verified with the context; requests would add certifi's authorities to it


class Http:
    """Requests over persistent connections, one per calling thread.

    Each request uses a transport adapter directly, without a ``requests.Session``: that would read ``.netrc``, follow
    redirects and keep cookies. Proxies and, without ``ca_file``, certificates come from the environment
    (:mod:`dicom2fhir.fhir.send.tls_and_proxy`).

    Parameters
    ----------
    auth
        Adds the credentials to each request.
    timeout_s
        Time limit of one exchange, including connecting.
    tls
        Certificates to trust and to show.
    max_response_bytes
        Largest body that is read.
    observe
        Called after each exchange, in its thread.
    """

    def __init__(
        self,
        *,
        auth: Credentials | None,
        timeout_s: float,
        tls: TlsFiles,
        max_response_bytes: int,
        observe: Callable[[Exchange], None] = lambda exchange: None,
    ) -> None:
        self._auth = auth
        self._timeout_s = timeout_s
        self._tls_files = tls
        self._max_response_bytes = max_response_bytes
        self._observe = observe
        self._local = threading.local()
        self._deadlines = Deadlines()

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Send a request and read the complete answer, with any status.

        A request whose credentials have expired is sent again with new ones, once: with 401 nothing was done.

        Raises
        ------
        ServerUnavailable
            The answer does not arrive completely and in time.
        NotAuthorised
            There are no credentials to send.
        """
        request = requests.Request(method, url, {**_HEADERS, **headers}, data=body, auth=self._auth)
        sent, answer = self._send(request)
        if self._auth is not None and self._auth.expired(sent, answer.status):
            _, answer = self._send(request)
        return answer

    def _send(self, request: requests.Request) -> tuple[requests.PreparedRequest, Answer]:
        url = request.url
        proxies = proxies_for(url)
        peer = peer_of(url, proxies)
        try:
            # before the time limit begins: a new token may have to be requested
            prepared = request.prepare()
        except (requests.RequestException, ValueError) as error:
            raise ServerUnavailable(_reason(error, peer)) from error
        began, status = time.monotonic(), None
        try:
            answer = self._exchange(prepared, url, proxies, peer)
            status = answer.status
        finally:
            self._observe(Exchange(request.method, status, time.time(), time.monotonic() - began))
        return prepared, answer

    def _exchange(self, request: requests.PreparedRequest, url: str, proxies: Mapping[str, str], peer: str) -> Answer:
        adapter = self._adapter(url, peer)
        line = adapter.line
        line.was_cut = False
        line.meter.begin()
        deadline = time.monotonic() + self._timeout_s
        late = ServerUnavailable(f"{peer}: no complete response within {self._timeout_s:g} s (timeout_s)")
        try:
            with self._deadlines.limit(deadline, line.cut):
                response = adapter.send(request, stream=True, timeout=self._timeout_s, proxies=proxies)
                content = self._content(response, line, deadline, late)
            response.raw.release_conn()
            return Answer(response.status_code, response.headers, content)
        except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
            self._disconnect()
            if line.was_cut or isinstance(error, requests.Timeout):
                late.unclear = line.is_ready
                raise late from None
            raise ServerUnavailable(_reason(error, peer), unclear=line.is_ready) from error
        except ServerUnavailable as error:
            self._disconnect()
            error.unclear = line.is_ready
            raise

    def _content(self, response: requests.Response, line: _Line, deadline: float, late: ServerUnavailable) -> bytearray:
        """The complete body, in time; else the connection is closed, since the rest of the answer is still on it."""
        try:
            content = self._read(response, line.meter)
            if line.was_cut or time.monotonic() > deadline:
                raise late  # an incomplete head looks like a complete one
        except BaseException:
            response.close()
            raise
        return content

    def _read(self, response: requests.Response, meter: Meter) -> bytearray:
        """The body, read into one buffer, so that there is never a second copy."""
        most = self._max_response_bytes
        expected = response.headers.get("Content-Length", "")
        if expected.isdecimal() and int(expected) > most:
            raise ServerUnavailable(f"the response is larger than {most} bytes")
        body = bytearray()
        meter.expect(_READ_BYTES)
        while part := response.raw.read(_READ_BYTES):  # not read1: HAPI sends chunks of 2 KiB or less
            meter.expect(len(part))
            body += part
            if len(body) > most:
                raise ServerUnavailable(f"the response is larger than {most} bytes")
        if expected.isdecimal() and len(body) < int(expected):
            raise ServerUnavailable("the response ends before its Content-Length")
        return body

    def _adapter(self, url: str, peer: str) -> _Adapter:
        found: _Adapter | None = getattr(self._local, "adapter", None)
        if found is None:
            found = self._local.adapter = _Adapter(_Line(), self._tls(peer) if url.startswith("https:") else None)
        return found

    def _tls(self, peer: str) -> ssl.SSLContext:
        try:
            return self._tls_files.context()
        except TlsFault as error:
            raise ServerUnavailable(f"{peer}: TLS: {error}") from None

    def _disconnect(self) -> None:
        """Close the calling thread's connection; the next request opens another."""
        found: _Adapter | None = getattr(self._local, "adapter", None)
        if found is not None:
            found.close()
            del self._local.adapter


def retry_after_s(headers: Mapping[str, str]) -> float:
    """``Retry-After`` (RFC 9110 section 10.2.3: seconds or a date) as seconds from now; 0 if missing or invalid."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:12])
    try:
        when = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(when - time.time(), 0.0)


def _reason(error: Exception, peer: str) -> str:
    """The kind of error and the peer: the text of these exceptions may contain addresses and memory locations."""
    if isinstance(error, requests.exceptions.ProxyError) and (refusal := _refusal_of_proxy(error)):
        return f"{peer}: {refusal}"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return f"{peer}: this type of proxy is not supported; use an HTTP proxy"
    if words := failure(error, peer):
        return words
    if isinstance(error, requests.ConnectionError):
        return f"{peer}: the connection was closed before the response was complete"
    return f"{peer}: the response is not HTTP; check the port ({type(error).__name__})"


def _refusal_of_proxy(error: requests.exceptions.ProxyError) -> str:
    """The status of a proxy's refusal to connect (RFC 9110 section 9.3.6), which is only in the text of the error."""
    found = re.search(r"Tunnel connection failed: (\d{3})", str(error))
    if found is None:
        return ""
    if found[1] == "407":
        return "HTTP 407: the proxy requires credentials; put them into its URL, http://user:password@host:port"
    return f"HTTP {found[1]}: the proxy does not connect to the FHIR server; ask its administrator, or set NO_PROXY"
