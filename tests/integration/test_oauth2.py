"""Access tokens: where they come from, how long they are kept, and what becomes of studies when there are none."""

from __future__ import annotations

import base64
import json
import math
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from requests import PreparedRequest

from dicom2fhir import config
from dicom2fhir.config import FhirDestinationSettings
from dicom2fhir.errors import ConfigError, NotAuthorised, ServerUnavailable
from dicom2fhir.fhir.send.access_tokens import AccessToken, AccessTokens
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.store.statuses import State
from dicom2fhir.wiring import credentials, parts
from dicom2fhir.wiring.reload import blueprint, difference
from tests.authorization_server import AuthorizationServer, authorization_server
from tests.command_line import Run
from tests.daemon_process import DaemonProcess, folder_to_files, run_command, wait_until
from tests.pki import Pki
from tests.scripted_server import ScriptedServer, scripted_server

SECRET = "s+cret/of: the bridge"


@pytest.fixture
def authority() -> Iterator[AuthorizationServer]:
    with authorization_server() as server:
        yield server


@pytest.fixture
def fhir(authority: AuthorizationServer) -> Iterator[ScriptedServer]:
    """A FHIR server that accepts the tokens of the authorization server."""
    with scripted_server() as server:
        server.accepts = authority.accepts
        yield server


def toml(fhir: ScriptedServer, **options: object) -> str:
    lines = "".join(f"{name} = {json.dumps(str(value))}\n" for name, value in options.items())
    return f'[destinations.main]\nurl = "{fhir.url}"\nauth = "oauth2"\n[destinations.main.oauth2]\n{lines}'


def destination(fhir: ScriptedServer, more: dict[str, Any] | None = None, **options: Any) -> FhirDestinationSettings:
    table = {"url": fhir.url, "auth": "oauth2", "timeout_s": 20, "oauth2": {"client_id": "bridge", **options}}
    made = config.load(overrides={"destinations": {"main": table | (more or {})}}, environ={}).destinations["main"]
    assert isinstance(made, FhirDestinationSettings)
    return made


def client(fhir: ScriptedServer, authority: AuthorizationServer, **options: Any) -> FhirClient:
    return parts.client(destination(fhir, token_url=authority.url, client_secret=SECRET, **options))


def failure(of: FhirClient) -> ServerUnavailable:
    with pytest.raises(ServerUnavailable) as caught:
        of.check_access()
    assert not caught.value.unclear  # no study is the cause
    assert SECRET not in f"{caught.value} {caught.value.issues}"
    return caught.value


# Who the bridge is


def test_a_client_secret_is_sent_in_the_header(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    client(fhir, authority, scope="system/*.cruds", audience="https://fhir.example", resource="urn:x:y").check_access()
    ((form, authorization),) = authority.asked
    assert form == {
        "grant_type": "client_credentials",
        "scope": "system/*.cruds",
        "audience": "https://fhir.example",
        "resource": "urn:x:y",
    }
    # encoded before it is put together (RFC 6749 section 2.3.1)
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"bridge:s%2Bcret%2Fof%3A+the+bridge"


def test_a_client_secret_is_sent_in_the_body(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    client(fhir, authority, client_authentication="client_secret_post").check_access()
    expected = {"grant_type": "client_credentials", "client_id": "bridge", "client_secret": SECRET}
    assert authority.asked == [(expected, "")]


def test_a_client_secret_file_is_read_again(
    fhir: ScriptedServer, authority: AuthorizationServer, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("one\n")
    options: dict[str, Any] = {"token_url": authority.url, "client_secret_file": tmp_path / "secret"}
    made = parts.client(destination(fhir, **options, client_authentication="client_secret_post"))
    made.check_access()
    (tmp_path / "secret").write_text("two\n")
    authority.valid.clear()
    made.check_access()
    assert [form["client_secret"] for form, _ in authority.asked] == ["one", "two"]


def keys(kind: str) -> RSAKey | ECKey:
    return RSAKey.generate_key(2048) if kind == "RSA" else ECKey.generate_key("P-384")


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RS384"), ("EC", "ES384")])
@pytest.mark.parametrize("form", ["PEM", "JWK"])
def test_what_the_private_key_signs_is_verified_with_what_jwks_prints(
    fhir: ScriptedServer,
    authority: AuthorizationServer,
    tmp_path: Path,
    run: Run,
    kind: str,
    algorithm: str,
    form: str,
) -> None:
    key = keys(kind)
    file = tmp_path / "key"
    file.write_bytes(key.as_pem(private=True) if form == "PEM" else json.dumps(key.as_dict(private=True)).encode())
    (tmp_path / "config.toml").write_text(
        toml(fhir, token_url=authority.url, client_id="bridge", private_key_file=file, scope="system/*.cruds")
    )
    shown = run("jwks", "--config", tmp_path / "config.toml")
    assert (shown.status, shown.stderr) == (0, "")
    (public,) = shown.json["keys"]
    assert (public["alg"], public["use"], public["kid"]) == (algorithm, "sig", key.thumbprint())
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(public)

    settings = config.load(tmp_path / "config.toml", environ={}).destinations["main"]
    assert isinstance(settings, FhirDestinationSettings)
    for _ in range(2):
        parts.client(settings).check_access()
    identities = set()
    for sent, authorization in authority.asked:
        assert (authorization, sent["grant_type"]) == ("", "client_credentials")
        assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        token = jwt.decode(sent["client_assertion"], KeySet.import_key_set(shown.json), algorithms=[algorithm])
        assert token.header["kid"] == public["kid"]
        claims = token.claims
        assert (claims["iss"], claims["sub"], claims["aud"]) == ("bridge", "bridge", authority.url)
        assert 0 < claims["exp"] - time.time() <= 300
        identities.add(claims["jti"])
    assert len(identities) == 2


def test_the_audience_of_the_signed_statement_and_the_id_of_the_key_can_be_set(
    fhir: ScriptedServer, authority: AuthorizationServer, tmp_path: Path
) -> None:
    key = keys("EC")
    (tmp_path / "key.pem").write_bytes(key.as_pem(private=True))
    options: dict[str, Any] = {
        "private_key_file": tmp_path / "key.pem",
        "key_id": "2026",
        "assertion_audience": "https://issuer",
    }
    parts.client(destination(fhir, token_url=authority.url, **options)).check_access()
    token = jwt.decode(authority.asked[0][0]["client_assertion"], key, algorithms=["ES384"])
    assert (token.header["kid"], token.claims["aud"]) == ("2026", "https://issuer")


def short_key() -> bytes:
    key = rsa.generate_private_key(65537, 1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.filterwarnings("ignore:Key size")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (short_key(), "must be an RSA key of at least 2048 bits"),
        (ECKey.generate_key("P-256").as_pem(private=True), "an EC key on P-384"),
        (ECKey.generate_key("P-384").as_pem(private=False), "is a public key"),
        (ECKey.generate_key("P-384").as_pem(private=True, password="x"), "without a passphrase"),
        (b"nothing", "no private key"),
        (b"{}", "no private key"),
        (b"\xff\xfe", "neither PEM nor"),
        (None, "No such file"),
    ],
    ids=range(8),
)
def test_why_a_private_key_cannot_be_used_is_said(
    fhir: ScriptedServer, authority: AuthorizationServer, tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    options = destination(fhir, token_url=authority.url, private_key_file=tmp_path / "key")
    error = failure(parts.client(options))
    assert isinstance(error, NotAuthorised)
    assert words in str(error)
    assert str(tmp_path / "key") in str(error)
    with pytest.raises(ConfigError, match="private_key_file"):
        credentials.client_key(options).public()
    assert authority.asked == []


def test_without_the_extra_the_next_step_is_said(
    run: Run, fhir: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "find_spec", lambda name: None)
    path = tmp_path / "config.toml"
    path.write_text(toml(fhir, client_id="bridge", private_key_file=tmp_path / "key"))
    for command in ("check-config", "jwks", "serve"):
        done = run(command, "--config", path)
        assert done.status == 78
        assert "pip install 'dicom2fhir-bridge[oauth]'" in done.stderr


# Where the token endpoint is


def test_the_fhir_server_names_its_token_endpoint(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    fhir.smart_configuration = {"token_endpoint": authority.url}
    parts.client(destination(fhir, client_secret=SECRET)).check_access()
    assert len(authority.asked) == 1


@pytest.mark.parametrize("named", [None, {}, {"token_endpoint": 7}, {"token_endpoint": "https://a b"}])
def test_a_fhir_server_that_does_not_name_it(fhir: ScriptedServer, named: dict[str, Any] | None) -> None:
    fhir.smart_configuration = named
    assert "set token_url" in str(failure(parts.client(destination(fhir, client_secret=SECRET))))


@pytest.mark.needs("openssl")
def test_no_credentials_are_sent_in_plain_text_to_where_a_server_with_tls_points(
    pki: Pki, authority: AuthorizationServer
) -> None:
    with scripted_server(context=tls(pki)) as fhir:
        fhir.smart_configuration = {"token_endpoint": authority.url}
        files = {"ca_file": pki.ca_crt, "tls_certificate": pki.sender_crt, "tls_key": pki.sender_key}
        error = failure(parts.client(destination(fhir, files, client_secret=SECRET)))
    assert "does not use https, so no credentials are sent; set token_url" in str(error)
    assert authority.asked == []


# How long a token is kept


def test_many_threads_share_one_token(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    together = threading.Barrier(8)
    made = client(fhir, authority)

    def work(_: int) -> None:
        together.wait(20)
        made.check_access()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(authority.asked) == 1


def test_a_token_that_expires_costs_one_request_for_another(
    fhir: ScriptedServer, authority: AuthorizationServer
) -> None:
    made = client(fhir, authority)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: made.check_access(), range(8)))
        authority.valid.clear()
        list(pool.map(lambda _: made.check_access(), range(8)))
    assert len(authority.asked) == 2


def test_threads_that_wait_for_a_token_share_its_failure(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    """Else each would wait its turn for the token endpoint to fail, longer than a study may be held."""
    together = threading.Barrier(8)
    all_came = threading.Event()
    authority.answer = 503, b"", {}
    authority.before = lambda: all_came.wait(20)
    made = client(fhir, authority)
    tokens = made._http._auth
    assert isinstance(tokens, AccessTokens)
    lock = tokens._lock = Counting(8, all_came)  # type: ignore[assignment]

    def work(_: int) -> str:
        together.wait(20)
        return str(failure(made))

    with ThreadPoolExecutor(8) as pool:
        said = set(pool.map(work, range(8)))
    assert len(said) == 1
    assert len(authority.asked) == 1
    assert lock is not None


class Counting:
    """A lock that tells when so many threads want it."""

    def __init__(self, threads: int, all_came: threading.Event) -> None:
        self._lock = threading.Lock()
        self._left = threads
        self._all_came = all_came

    def __enter__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._all_came.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def sent_with(tokens: AccessTokens) -> str:
    request = PreparedRequest()
    request.prepare("GET", "http://a.example", auth=tokens)
    return request.headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(("lifetime_s", "kept_s"), [(300, 270), (60, 54), (math.inf, 1e9)])
def test_a_token_is_renewed_shortly_before_its_end(lifetime_s: float, kept_s: float) -> None:
    clock, given = Clock(), iter("abc")
    tokens = AccessTokens(lambda: AccessToken(next(given), lifetime_s), clock)
    assert sent_with(tokens) == "a"
    clock.now = kept_s - 1
    assert sent_with(tokens) == "a"
    if lifetime_s < math.inf:
        clock.now = kept_s
        assert sent_with(tokens) == "b"


def test_while_a_token_is_valid_a_renewal_that_fails_is_no_failure() -> None:
    clock = Clock()
    answers: Iterator[AccessToken | None] = iter([AccessToken("a", 100), None, None, AccessToken("b", 100)])

    def fetch() -> AccessToken:
        token = next(answers)
        if token is None:
            raise ServerUnavailable("gone")
        return token

    tokens = AccessTokens(fetch, clock)
    assert sent_with(tokens) == "a"
    clock.now = 95
    assert [sent_with(tokens) for _ in range(3)] == ["a"] * 3  # one attempt
    clock.now = 100
    with pytest.raises(ServerUnavailable, match="gone"):
        sent_with(tokens)
    assert sent_with(tokens) == "b"


@pytest.mark.parametrize("stated", [None, "never", [], True, -5, "1e999"])
def test_a_lifetime_that_is_no_number_does_not_matter(
    fhir: ScriptedServer, authority: AuthorizationServer, stated: object
) -> None:
    authority.lifetime_s = stated
    made = client(fhir, authority)
    for _ in range(2):
        made.check_access()
    assert len(authority.asked) == (2 if stated == -5 else 1)


def test_a_token_that_was_never_accepted_is_not_exchanged_at_once(
    fhir: ScriptedServer, authority: AuthorizationServer
) -> None:
    fhir.accepts = lambda headers: False
    error = failure(client(fhir, authority))
    assert isinstance(error, NotAuthorised)
    assert "HTTP 401" in str(error)
    assert "scope" in str(error)
    assert len(authority.asked) == 1


# What the token endpoint answers


JSON = {"Content-Type": "application/json"}


def refusal(code: str, **more: str) -> bytes:
    return json.dumps({"error": code, **more}).encode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, refusal("invalid_client"), JSON), "HTTP 401, invalid_client: the client is unknown"),
        ((400, refusal("invalid_scope"), JSON), "check scope"),
        ((400, refusal("unauthorized_client"), JSON), "may not use client credentials"),
        ((400, refusal("unsupported_grant_type"), JSON), "does not support client credentials"),
        ((403, b"<html>", {}), "HTTP 403: no access token is given"),
        ((404, b"<html>", {}), "HTTP 404 instead of an access token; check token_url"),
        ((503, b"", {}), "the authorization server is not available"),
        ((200, b"[]", JSON), "no access_token"),
        ((200, b'{"access_token": "a b", "token_type": "Bearer"}', JSON), "no access_token"),
        ((200, b'{"access_token": "a", "token_type": "mac"}', JSON), "no bearer token"),
        ((200, b" " * 70_000, JSON), "larger than 65536 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_token_endpoint_answers_is_said_in_words(
    fhir: ScriptedServer, authority: AuthorizationServer, answer: tuple[int, bytes, dict[str, str]], words: str
) -> None:
    authority.answer = answer
    assert words in str(failure(client(fhir, authority)))


def test_a_redirect_is_not_followed(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    with authorization_server() as elsewhere:
        authority.answer = 307, b"", {"Location": f"{elsewhere.url}?x=1"}
        said = str(failure(client(fhir, authority)))
        assert f"a redirect to http://localhost:{elsewhere.port}, which is not followed" in said
        assert elsewhere.asked == []


def test_an_answer_that_does_not_come_is_not_waited_for(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    released = threading.Event()
    authority.before = lambda: released.wait(60)
    settings = destination(fhir, {"timeout_s": 0.3}, token_url=authority.url, client_secret=SECRET)
    try:
        assert "no complete response within 0.3 s" in str(failure(parts.client(settings)))
    finally:
        released.set()


def test_the_pause_that_it_asks_for_is_kept(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    authority.answer = 429, b"", {"Retry-After": "70"}
    assert failure(client(fhir, authority)).after_s == 70


def test_what_it_says_is_shown_and_not_logged(fhir: ScriptedServer, authority: AuthorizationServer) -> None:
    authority.answer = 401, refusal("invalid_client", error_description="Unknown\x1b[2J client"), JSON
    error = failure(client(fhir, authority))
    assert error.issues == ("Unknown [2J client",)
    assert "Unknown" not in str(error)


# Commands and the daemon


def test_check_config_says_what_failed(
    run: Run, fhir: ScriptedServer, authority: AuthorizationServer, tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(toml(fhir, token_url=authority.url, client_id="bridge", client_secret=SECRET))
    assert run("check-config", "--config", path, "--online").status == 0
    authority.answer = 401, refusal("invalid_client", error_description="Unknown client"), JSON
    done = run("check-config", "--config", path, "--online", "--json")
    assert done.status == 69
    said = done.json["destinations"][0]["error"]
    assert "invalid_client: the client is unknown" in said
    assert "Unknown client" in said
    assert SECRET not in done.stdout.decode() + done.stderr


ASKED = "system/ImagingStudy.cruds system/Patient.rs"


@pytest.mark.parametrize(
    ("granted", "lifetime_s", "said", "warned"),
    [
        ("", 300, "access token valid for 300 s, scope as requested", ""),
        (f"openid {ASKED}", 300, f"access token valid for 300 s, scope: openid {ASKED}", ""),
        ("system/Patient.rs", None, "access token of unknown lifetime, scope: system/Patient.rs", "ImagingStudy.cruds"),
    ],
)
def test_check_config_says_how_long_a_token_is_valid_and_what_its_scope_lacks(
    run: Run,
    fhir: ScriptedServer,
    authority: AuthorizationServer,
    tmp_path: Path,
    granted: str,
    lifetime_s: float | None,
    said: str,
    warned: str,
) -> None:
    authority.scope, authority.lifetime_s = granted, lifetime_s
    path = tmp_path / "config.toml"
    path.write_text(toml(fhir, token_url=authority.url, client_id="bridge", client_secret=SECRET, scope=ASKED))
    done = run("check-config", "--config", path, "--online", "--json")
    assert done.status == 0, done.stderr
    (plan,) = done.json["destinations"]
    assert plan["token"] == said
    assert (f"without system/{warned};" in plan["warning"]) if warned else plan["warning"] == ""
    shown = " ".join(run("check-config", "--config", path, "--online").stdout.decode().split())
    assert said.partition(",")[0] in shown and ("without" in shown) == bool(warned)
    assert "token-" not in shown + done.stdout.decode()


@pytest.mark.parametrize("online", [True, False])
def test_only_a_check_of_the_servers_requests_a_token(
    run: Run, fhir: ScriptedServer, authority: AuthorizationServer, tmp_path: Path, online: bool
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(toml(fhir, token_url=authority.url, client_id="bridge", client_secret=SECRET))
    assert run("check-config", "--config", path, *(["--online"] if online else [])).status == 0
    assert bool(authority.asked) is online


def test_a_token_that_is_not_accepted_pauses_the_destination_and_loses_nothing(
    fhir: ScriptedServer, authority: AuthorizationServer, generated: Path, tmp_path: Path
) -> None:
    fhir.accepts = lambda headers: False
    to_server = toml(fhir, token_url=authority.url, client_id="bridge", client_secret=SECRET)
    to_server = to_server.replace("[destinations.main.oauth2]", "retry_max_s = 0.2\n[destinations.main.oauth2]")
    daemon = DaemonProcess(tmp_path / "daemon", (), folder_to_files(tmp_path) + to_server)
    try:
        daemon.start()
        (tmp_path / "inbox" / "a.dcm").write_bytes((generated / "cr" / "0001.dcm").read_bytes())
        down = wait_until(lambda: standing(daemon, "down"), 60, "the destination is down")
        assert "HTTP 401: the credentials are not accepted" in down["reason"]
        fhir.accepts = authority.accepts
        wait_until(lambda: fhir.studies, 60, "the study is delivered")
        daemon.settled()
        (study,) = daemon.studies().values()
        assert {delivery.state for delivery in study.deliveries} == {State.DELIVERED}
        assert daemon.terminate() == 0
        logged = daemon.log_path.read_text()
        assert SECRET not in logged
        assert "token-" not in logged
    finally:
        daemon.clean_up()


def standing(daemon: DaemonProcess, state: str) -> dict[str, Any] | None:
    status = json.loads(run_command("status", "--json", "--state-dir", daemon.state_dir).stdout)
    found: dict[str, Any] = next(one for one in status["destinations"] if one["name"] == "main")
    return found if found.get("state") == state else None


# Mutual TLS


def tls(pki: Pki) -> ssl.SSLContext:
    """The context of a server that requires a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.receiver_crt, pki.receiver_key)
    context.load_verify_locations(pki.ca_crt)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.needs("openssl")
def test_the_token_endpoint_gets_the_client_certificate(pki: Pki) -> None:
    with authorization_server(tls(pki)) as authority, scripted_server() as fhir:
        fhir.accepts = authority.accepts
        of_server = {"ca_file": pki.ca_crt, "tls_certificate": pki.sender_crt, "tls_key": pki.sender_key}
        made = {"token_url": authority.url, "client_authentication": "tls_client_auth"}
        parts.client(destination(fhir, of_server, **made)).check_access()
        assert authority.asked == [({"grant_type": "client_credentials", "client_id": "bridge"}, "")]
        of_other = of_server | {"ca_file": pki.stranger_crt}
        assert "TLS" in str(failure(parts.client(destination(fhir, of_other, **made))))
        parts.client(destination(fhir, of_other, **made, ca_file=pki.ca_crt)).check_access()


@pytest.mark.parametrize("option", ["ca_file", "tls_certificate", "tls_key", "oauth2.ca_file"])
def test_a_file_for_tls_that_was_replaced_is_a_change_of_the_destination(tmp_path: Path, option: str) -> None:
    """So that SIGHUP has it used, also for connections that are open."""
    file, other = tmp_path / "file.pem", tmp_path / "other.pem"
    names = ("ca_file", "tls_certificate", "tls_key")
    table: dict[str, Any] = {name: file if name == option else other for name in names}
    oauth2 = {"client_id": "a", "client_secret": "b", "ca_file": file if option == "oauth2.ca_file" else other}
    table |= {"url": "https://a.example", "auth": "oauth2", "oauth2": oauth2}
    settings = config.load(overrides={"destinations": {"main": table}}, environ={})
    file.write_text("one")
    before = blueprint(settings).routes
    assert difference(before, blueprint(settings).routes).changed == ()
    file.write_text("another")
    assert difference(before, blueprint(settings).routes).changed == ("main",)


# Other headers


def test_other_headers_are_sent_and_their_files_read_again(fhir: ScriptedServer, tmp_path: Path) -> None:
    seen: list[tuple[str | None, ...]] = []

    def accepts(headers: Message) -> bool:
        seen.append((headers["X-Tenant"], headers["X-Api-Key"], headers["Authorization"]))
        return True

    fhir.accepts = accepts
    file = tmp_path / "key"
    table = {"auth": "bearer", "token": "t", "headers": {"X-Tenant": "r1"}, "header_files": {"X-Api-Key": file}}
    settings = config.load(overrides={"destinations": {"main": {"url": fhir.url, **table}}}, environ={})
    made = settings.destinations["main"]
    assert isinstance(made, FhirDestinationSettings)
    http = parts.client(made)
    for key in ("one", "two"):
        file.write_text(f"{key}\n")
        http.check_access()
    assert seen == [("r1", "one", "Bearer t"), ("r1", "two", "Bearer t")]
    for content, words in (("a\u00e9", "contains invalid characters"), ("", "is empty"), ("a\nb", "invalid")):
        file.write_text(content)
        with pytest.raises(NotAuthorised, match=words) as caught:
            http.check_access()
        assert "X-Api-Key" in str(caught.value)
    assert "r1" not in repr(made)
