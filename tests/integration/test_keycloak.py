"""Access tokens of a real authorization server, Keycloak, for a FHIR server that verifies them with Keycloak's keys."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import requests
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from dicom2fhir import config
from dicom2fhir.config import FhirDestinationSettings
from dicom2fhir.errors import NotAuthorised
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.wiring import parts
from tests.command_line import Run
from tests.scripted_server import ScriptedServer, scripted_server
from tests.servers.process import ServerProcess

pytestmark = pytest.mark.needs("keycloak")

ADMIN = "administrator", "of the tests"
SECRET = "a+secret/with: all of it"
LIFETIME_S = 60
_WITHIN_S = 60.0


class Keycloak:
    """Its API, as the administrator."""

    def __init__(self, base_url: str) -> None:
        self.realm = f"{base_url}/realms/hospital"
        self.token_url = f"{self.realm}/protocol/openid-connect/token"
        self._api = f"{base_url}/admin/realms"
        form = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN[0], "password": ADMIN[1]}
        answer = requests.post(f"{base_url}/realms/master/protocol/openid-connect/token", data=form, timeout=_WITHIN_S)
        self._headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        self.call("POST", "", {"realm": "hospital", "enabled": True, "accessTokenLifespan": LIFETIME_S})
        self.keys = KeySet.import_key_set(requests.get(f"{self.realm}/protocol/openid-connect/certs", timeout=9).json())

    def call(self, method: str, path: str, body: object = None) -> None:
        """One request to its API."""
        answer = requests.request(method, self._api + path, json=body, headers=self._headers, timeout=_WITHIN_S)
        assert answer.ok, answer.text

    def client(self, client_id: str, **more: Any) -> None:
        """Register a client that may use client credentials."""
        kind = {"publicClient": False, "serviceAccountsEnabled": True, "standardFlowEnabled": False}
        self.call("POST", "/hospital/clients", {"clientId": client_id, **kind, **more})

    def accepts(self, headers: Message) -> bool:
        """Whether a request has a token of this realm that has not expired."""
        try:
            text = headers.get("Authorization", "").removeprefix("Bearer ")
            claims = jwt.decode(text, self.keys, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return False
        return bool(claims["iss"] == self.realm and claims["exp"] > time.time())


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Keycloak]:
    names = ("KC_BOOTSTRAP_ADMIN_USERNAME", "KC_BOOTSTRAP_ADMIN_PASSWORD")
    process = ServerProcess("keycloak", "26", **dict(zip(names, ADMIN, strict=True)))
    process.start()
    try:
        yield Keycloak(process.base_url)
    finally:
        process.stop()


@pytest.fixture
def fhir(keycloak: Keycloak) -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        server.accepts = keycloak.accepts
        server.smart_configuration = {"token_endpoint": keycloak.token_url}
        yield server


def client(fhir: ScriptedServer, **options: Any) -> FhirClient:
    table = {"url": fhir.url, "auth": "oauth2", "oauth2": options}
    made = config.load(overrides={"destinations": {"main": table}}, environ={}).destinations["main"]
    assert isinstance(made, FhirDestinationSettings)
    return parts.client(made)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_keycloak_accepts_a_client_secret(keycloak: Keycloak, fhir: ScriptedServer, method: str) -> None:
    keycloak.client(method, secret=SECRET)
    client(fhir, client_id=method, client_authentication=method, client_secret=SECRET).check_access()
    with pytest.raises(NotAuthorised, match=r"HTTP 401, \w+"):
        client(fhir, client_id=method, client_authentication=method, client_secret="another").check_access()


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RS384"), ("EC", "ES384")])
def test_keycloak_accepts_what_a_registered_key_signs(
    keycloak: Keycloak, fhir: ScriptedServer, tmp_path: Path, run: Run, kind: str, algorithm: str
) -> None:
    key = RSAKey.generate_key(3072) if kind == "RSA" else ECKey.generate_key("P-384")
    file = tmp_path / "private.pem"
    file.write_bytes(key.as_pem(private=True))
    options = {"client_id": algorithm, "private_key_file": str(file)}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
    (tmp_path / "config.toml").write_text(
        f'[destinations.main]\nurl = "{fhir.url}"\nauth = "oauth2"\n[destinations.main.oauth2]\n{lines}'
    )
    registered = run("jwks", "--config", tmp_path / "config.toml").stdout.decode()
    attributes = {"use.jwks.string": "true", "jwks.string": registered, "token.endpoint.auth.signing.alg": algorithm}
    keycloak.client(algorithm, clientAuthenticatorType="client-jwt", attributes=attributes)

    made = run("check-config", "--config", tmp_path / "config.toml", "--online", "--json")
    assert (made.status, made.json["destinations"][0]["error"]) == (0, "")
    other = RSAKey.generate_key(3072) if kind == "RSA" else ECKey.generate_key("P-384")
    file.write_bytes(other.as_pem(private=True))
    refused = run("check-config", "--config", tmp_path / "config.toml", "--online", "--json")
    assert refused.status == 69
    assert f"{keycloak.token_url}: HTTP 40" in refused.json["destinations"][0]["error"]


def test_the_scope_that_keycloak_does_not_know_is_said(keycloak: Keycloak, fhir: ScriptedServer) -> None:
    keycloak.client("scoped", secret=SECRET)
    with pytest.raises(NotAuthorised, match=r"invalid_scope: .*check scope"):
        client(fhir, client_id="scoped", client_secret=SECRET, scope="system/Nothing.cruds").check_access()
