"""FHIR servers that are reached through proxies and TLS, and those that are not: each failure says where and what."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dicom2fhir.errors import NotAuthorised, ServerUnavailable
from dicom2fhir.fhir.send.auth import Basic
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.tls_and_proxy import TlsFiles, origin_of, proxies_for
from tests.pki import Pki
from tests.proxy import Proxy

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ENVIRONMENT = (*PROXIES, "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Fhir(BaseHTTPRequestHandler):
    """Answers everything with a CapabilityStatement, or with the status and Location that the path asks for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        status = int(self.path.split("/")[1]) if self.path[1:4].isdecimal() else 200
        body = json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json" if status == 200 else "text/html")
        self.send_header("Content-Length", str(len(body)))
        if 300 <= status < 400:
            self.send_header("Location", "https://user:secret@elsewhere.test/fhir/metadata?session=secret#x")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Handshakes that fail are meant to."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.make()
    made.certificate("elsewhere", "DNS:elsewhere.test")
    made.certificate("expired", "DNS:localhost", "IP:127.0.0.1", days=-1)
    made.certificate("named", "DNS:fhir.test")
    return made


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """``serve(context)`` starts a server, with TLS where a context is given, and gives its port."""
    servers: list[Server] = []

    def start(context: ssl.SSLContext | None = None) -> int:
        server = Server(("127.0.0.1", 0), Fhir)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    proxies: list[Proxy] = []

    def start(user: str = "", refusal: int = 0) -> Proxy:
        proxies.append(Proxy(user, refusal))
        return proxies[-1]

    yield start
    for each in proxies:
        each.close()


def tls(pki: Pki, who: str = "receiver", client_ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.folder / f"{who}.crt", pki.folder / f"{who}.key")
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def version(url: str, ca_file: Path | None = None) -> str:
    return FhirClient(url, tls=TlsFiles(ca_file), timeout_s=10).capabilities().fhir_version


def failure(url: str, ca_file: Path | None = None, timeout_s: float = 10) -> str:
    with pytest.raises(ServerUnavailable) as caught:
        FhirClient(url, tls=TlsFiles(ca_file), timeout_s=timeout_s).capabilities()
    return str(caught.value)


# Certificates


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificates_of_the_environment_are_trusted(
    serve: Callable[..., int], pki: Pki, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    url = f"https://localhost:{serve(tls(pki))}/fhir"
    assert "an authority that this machine does not trust" in failure(url)
    monkeypatch.setenv(variable, str(pki.ca_crt))
    assert version(url) == "4.0.1"


@pytest.mark.needs("openssl")
def test_a_ca_file_is_trusted_instead_of_the_environment(
    serve: Callable[..., int], pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://localhost:{serve(tls(pki))}/fhir"
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(pki.stranger_crt))
    assert "an authority that this machine does not trust" in failure(url)
    assert version(url, pki.ca_crt) == "4.0.1"
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca_crt))
    assert "an authority that this machine does not trust" in failure(url, pki.stranger_crt)


@pytest.mark.needs("openssl")
def test_a_folder_of_certificates_is_trusted(
    serve: Callable[..., int], pki: Pki, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_bytes(pki.ca_crt.read_bytes())
    pki.rehash(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert version(f"https://localhost:{serve(tls(pki))}/fhir") == "4.0.1"


@pytest.mark.needs("openssl")
def test_what_is_wrong_with_a_certificate_is_said(serve: Callable[..., int], pki: Pki, tmp_path: Path) -> None:
    for who, words in (
        ("elsewhere", "is for another name"),
        ("expired", "has expired"),
        ("stranger", "an authority that this machine does not trust"),
    ):
        port = serve(tls(pki, who))
        said = failure(f"https://localhost:{port}/fhir", pki.ca_crt)
        assert said.startswith(f"localhost:{port}: TLS: "), said
        assert words in said
    (tmp_path / "empty.pem").write_text("nothing\n")
    for ca_file, words in ((tmp_path / "gone.pem", "No such file"), (tmp_path / "empty.pem", "no certificates")):
        said = failure(f"https://localhost:{port}/fhir", ca_file)
        assert str(ca_file) in said
        assert words in said


@pytest.mark.needs("openssl")
def test_a_server_that_wants_a_certificate_of_ours(serve: Callable[..., int], pki: Pki) -> None:
    port = serve(tls(pki, client_ca=pki.ca_crt))
    said = failure(f"https://localhost:{port}/fhir", pki.ca_crt)
    assert said.startswith(f"localhost:{port}: ")
    assert "client certificate" in said or "closed the connection" in said


@pytest.mark.needs("openssl")
def test_a_client_certificate_is_shown(serve: Callable[..., int], pki: Pki, tmp_path: Path) -> None:
    url = f"https://localhost:{serve(tls(pki, client_ca=pki.ca_crt))}/fhir"
    one_file = tmp_path / "both.pem"
    one_file.write_bytes(pki.sender_crt.read_bytes() + pki.sender_key.read_bytes())
    for files in (TlsFiles(pki.ca_crt, pki.sender_crt, pki.sender_key), TlsFiles(pki.ca_crt, one_file)):
        assert FhirClient(url, tls=files, timeout_s=10).capabilities().fhir_version == "4.0.1"


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("sender.crt", "receiver.key", "PEM files that belong together"),
        ("sender.crt", None, "PEM files that belong together"),
        ("sender.crt", "locked.key", "the key without a passphrase"),
        ("gone.crt", "sender.key", "No such file"),
    ],
)
def test_why_a_client_certificate_cannot_be_used_is_said(
    pki: Pki, certificate: str, key: str | None, words: str
) -> None:
    pki.lock("sender.key", "locked.key")
    files = TlsFiles(pki.ca_crt, pki.folder / certificate, pki.folder / key if key else None)
    with pytest.raises(ServerUnavailable) as caught:
        FhirClient("https://localhost:1/fhir", tls=files, timeout_s=10).capabilities()
    assert f"localhost:1: TLS: tls_certificate {pki.folder / certificate}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.needs("openssl")
def test_http_and_https_taken_for_each_other(serve: Callable[..., int], pki: Pki) -> None:
    port = serve()
    said = failure(f"https://localhost:{port}/fhir")
    assert (
        said == f"localhost:{port}: it does not use TLS on this port; check the port, and whether to use https or http"
    )
    port = serve(tls(pki))
    assert failure(f"http://localhost:{port}/fhir").startswith(f"localhost:{port}: ")


# Names and ports


def test_a_name_that_nobody_knows_is_told() -> None:
    said = failure("http://no-such-host.invalid/fhir")
    assert said.startswith("no-such-host.invalid:80: its name cannot be resolved (DNS)")


def test_a_port_where_nobody_listens_is_told(free_port: int) -> None:
    assert failure(f"http://127.0.0.1:{free_port}/fhir").startswith(f"127.0.0.1:{free_port}: connection refused")


# Answers


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "HTTP 401: the credentials are not accepted"),
        (403, "HTTP 403: access is forbidden"),
        (404, "HTTP 404, not from a FHIR server (text/html)"),
        (407, "HTTP 407: the proxy requires credentials"),
        (500, "HTTP 500: the server failed"),
        (502, "HTTP 502: its proxy cannot reach"),
        (503, "HTTP 503: the server is unavailable"),
        (302, "HTTP 302, a redirect to https://elsewhere.test, which is not followed"),
    ],
)
def test_what_a_status_means_is_said(serve: Callable[..., int], status: int, words: str) -> None:
    base = f"http://127.0.0.1:{serve()}/{status}"
    with pytest.raises(ServerUnavailable) as caught:
        FhirClient(base, auth=Basic("user", lambda: "secret")).capabilities()
    assert f"{base}: {words}" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, NotAuthorised) == (status in (401, 403))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://a:b@h:1/p?q=1#f", "https://h:1"),
        ("/p?q", "http://base"),
        ("https://[::1]:2/Doe", "https://[::1]:2"),
        ("http://[x", "what is no URL"),
        ("http://h:port/", "what is no URL"),
        ("http://Doe Jane/", "what is no URL"),
        ("Jane:Doe", "what is no URL"),
    ],
)
def test_of_a_url_its_origin_is_shown(url: str, text: str) -> None:
    assert origin_of(url, "http://base/fhir") == text


# Proxies


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_is_used(
    serve: Callable[..., int], proxy: Callable[..., Proxy], pki: Pki, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    port, between = serve(tls(pki, "named")), proxy()
    monkeypatch.setenv(variable, f"http://{between.address}")
    assert version(f"https://fhir.test:{port}/fhir", pki.ca_crt) == "4.0.1"
    assert [line.rpartition(" ")[0] for line in between.asked] == [f"CONNECT fhir.test:{port}"]


def test_a_proxy_is_used_for_plain_http(
    serve: Callable[..., int], proxy: Callable[..., Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, between = serve(), proxy("name:password")
    monkeypatch.setenv("http_proxy", f"http://name:password@{between.address}")
    assert version(f"http://fhir.test:{port}/fhir") == "4.0.1"
    assert between.asked == [f"GET http://fhir.test:{port}/fhir/metadata HTTP/1.1"]


@pytest.mark.parametrize("exempt", ["fhir.test", ".test", "*"])
def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch, exempt: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert proxies_for("http://fhir.test/fhir")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert not proxies_for("http://fhir.test/fhir")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.8.9.10"])
def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert not proxies_for(f"http://{host}:8080/fhir")


def test_a_proxy_that_fails_is_told_apart_from_the_server(
    proxy: Callable[..., Proxy], monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    def said(address: str, url: str = "https://fhir.test/fhir") -> str:
        monkeypatch.setenv("ALL_PROXY", address)
        text = failure(url)
        assert "secret" not in text
        return text

    nobody = f"127.0.0.1:{free_port}"
    assert said(f"http://name:secret@{nobody}").startswith(f"the proxy {nobody}: connection refused")
    assert said("http://no-such-proxy.invalid:3128").startswith("the proxy no-such-proxy.invalid:3128: its name cannot")
    assert "HTTP 407: the proxy requires credentials" in said(f"http://{proxy('name:password').address}")
    assert "HTTP 407: the proxy requires credentials" in said(f"http://name:secret@{proxy('name:password').address}")
    assert "HTTP 407: the proxy requires credentials" in said(f"http://{proxy('a:b').address}", "http://fhir.test/fhir")
    assert "HTTP 403: the proxy does not connect" in said(f"http://{proxy(refusal=403).address}")
    assert "not supported" in said("socks5://127.0.0.1:1080")


@pytest.mark.timeout(30)
def test_a_proxy_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        assert failure("https://fhir.test/fhir", timeout_s=0.5).startswith(f"the proxy {address}: no complete response")
