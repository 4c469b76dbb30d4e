from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import requests

from tests.servers.hapi.server import HapiServer
from tests.servers.outage_proxy import OutageProxy

FHIR_JSON = {"Content-Type": "application/fhir+json"}
TIMEOUT_S = 60


@pytest.mark.parametrize(
    ("version", "fhir_version"), [("dstu2", "1.0.2"), ("dstu3", "3.0.2"), ("r4", "4.0.1"), ("r5", "5.0.0")]
)
def test_each_version_answers_and_keeps_what_is_put(
    hapi: Callable[[str], str], version: str, fhir_version: str
) -> None:
    base = hapi(version)
    assert requests.get(f"{base}/metadata", timeout=TIMEOUT_S).json()["fhirVersion"] == fhir_version

    url = f"{base}/Patient/{uuid.uuid4()}"
    patient = {"resourceType": "Patient", "id": url.rsplit("/", 1)[1], "active": True}
    put = requests.put(url, json=patient, headers=FHIR_JSON, timeout=TIMEOUT_S)
    assert put.status_code == 201, put.text
    assert requests.get(url, timeout=TIMEOUT_S).json()["active"] is True
    assert hapi(version) == base


def test_an_outage_and_its_end(hapi_r4: str, outage_proxy: Callable[[str], OutageProxy]) -> None:
    proxy = outage_proxy(hapi_r4)
    with requests.Session() as session:  # keeps its connection open, which the outage must cut
        assert session.get(f"{proxy.url}/metadata", timeout=TIMEOUT_S).ok
        proxy.go_away()
        with pytest.raises(requests.ConnectionError):
            session.get(f"{proxy.url}/metadata", timeout=TIMEOUT_S)
        proxy.come_back()
        assert session.get(f"{proxy.url}/metadata", timeout=TIMEOUT_S).ok


def test_a_server_of_ones_own_comes_back_empty_at_the_same_address(
    hapi_process: Callable[..., HapiServer],
) -> None:
    server = hapi_process("r4", HAPI_REFINT="0")
    url = f"{server.base_url}/Patient/one"
    put = requests.put(url, json={"resourceType": "Patient", "id": "one"}, headers=FHIR_JSON, timeout=TIMEOUT_S)
    assert put.status_code == 201, put.text

    server.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=TIMEOUT_S)

    server.start()
    assert requests.get(url, timeout=TIMEOUT_S).status_code == 404


def test_a_server_that_does_not_start_shows_its_log(hapi_process: Callable[..., HapiServer]) -> None:
    with pytest.raises(RuntimeError, match="unknown FHIR version r9"):
        hapi_process("r9")
