from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.servers.outage_proxy import OutageProxy
from tests.servers.process import ServerProcess

FHIR_JSON = {"Content-Type": "application/fhir+json"}
MINIMAL = {**FHIR_JSON, "Prefer": "return=minimal"}
TIMEOUT_S = 60
EACH = pytest.mark.parametrize(
    ("name", "version"),
    [
        *(pytest.param("hapi", version, marks=pytest.mark.needs("hapi")) for version in ("dstu2", "dstu3", "r4", "r5")),
        pytest.param("medplum", "r4", marks=pytest.mark.needs("medplum")),
    ],
)
VERSIONS = {"dstu2": "1.0.2", "dstu3": "3.0.2", "r4": "4.0.1", "r5": "5.0.0"}


def post(url: str, resource: dict[str, Any], headers: dict[str, str] = FHIR_JSON) -> requests.Response:
    return requests.post(url, json=resource, headers=headers, timeout=TIMEOUT_S)


@EACH
def test_each_version_answers_and_keeps_what_is_sent(
    fhir_server: Callable[[str, str], str], name: str, version: str
) -> None:
    base = fhir_server(name, version)
    assert requests.get(f"{base}/metadata", timeout=TIMEOUT_S).json()["fhirVersion"] == VERSIONS[version]

    created = post(f"{base}/Patient", {"resourceType": "Patient", "active": True})
    assert created.status_code == 201, created.text
    url = created.headers["Location"].partition("/_history")[0]
    assert requests.get(url, timeout=TIMEOUT_S).json()["active"] is True
    assert fhir_server(name, version) == base


def test_an_outage_and_its_end(hapi_r4: str, outage_proxy: Callable[[str], OutageProxy]) -> None:
    proxy = outage_proxy(hapi_r4)
    with requests.Session() as session:  # keeps its connection open, which the outage must cut
        assert session.get(f"{proxy.url}/metadata", timeout=TIMEOUT_S).ok
        proxy.go_away()
        with pytest.raises(requests.ConnectionError):
            session.get(f"{proxy.url}/metadata", timeout=TIMEOUT_S)
        proxy.come_back()
        assert session.get(f"{proxy.url}/metadata", timeout=TIMEOUT_S).ok


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("hapi", "medplum")],
)
def test_a_server_of_ones_own_comes_back_empty_at_the_same_address(
    server_process: Callable[..., ServerProcess], name: str
) -> None:
    server = server_process(name, "r4")
    url = post(f"{server.base_url}/Patient", {"resourceType": "Patient"}).headers["Location"].partition("/_history")[0]
    assert requests.get(url, timeout=TIMEOUT_S).ok

    server.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=TIMEOUT_S)

    server.start()
    assert requests.get(url, timeout=TIMEOUT_S).status_code == 404


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("hapi", "medplum")],
)
def test_a_server_that_does_not_start_shows_its_log(server_process: Callable[..., ServerProcess], name: str) -> None:
    with pytest.raises(RuntimeError, match="unknown FHIR version r9"):
        server_process(name, "r9")


def patient() -> tuple[dict[str, Any], str]:
    """A new patient, and the search that finds it."""
    value = uuid.uuid4().hex
    return {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": value}]}, f"identifier=urn:x|{value}"


def transaction(base: str, *entries: dict[str, Any], **headers: str) -> requests.Response:
    return post(base, {"resourceType": "Bundle", "type": "transaction", "entry": entries}, {**FHIR_JSON, **headers})


def matches(base: str, query: str) -> list[dict[str, Any]]:
    found = requests.get(f"{base}/{query}", timeout=TIMEOUT_S).json()
    return [entry["resource"] for entry in found.get("entry", [])]


def test_medplum_chooses_ids(medplum: str) -> None:
    resource, query = patient()
    url = f"{medplum}/Patient/{uuid.uuid4()}"
    put = requests.put(url, json={**resource, "id": url.rsplit("/", 1)[1]}, headers=FHIR_JSON, timeout=TIMEOUT_S)
    assert put.status_code == 404
    assert matches(medplum, f"Patient?{query}") == []
    statement = requests.get(f"{medplum}/metadata", timeout=TIMEOUT_S).json()
    assert not any(offered["updateCreate"] for offered in statement["rest"][0]["resource"])


def test_medplum_says_nothing_at_all_when_it_is_asked_for_little(medplum: str) -> None:
    resource, query = patient()
    created = post(f"{medplum}/Patient", resource, MINIMAL)
    refused = post(f"{medplum}/Patient", {**resource, "birthDate": "yesterday"}, MINIMAL)
    assert [(answer.status_code, answer.content) for answer in (created, refused)] == [(201, b""), (400, b"")]
    assert len(matches(medplum, f"Patient?{query}")) == 1


def test_medplum_carries_out_a_transaction_whole_or_not_at_all(medplum: str) -> None:
    resource, query = patient()
    entry = {"resource": resource, "request": {"method": "POST", "url": "Patient", "ifNoneExist": query}}
    bad = {"resource": {"resourceType": "Patient", "birthDate": "x"}, "request": {"method": "POST", "url": "Patient"}}
    assert transaction(medplum, entry, bad).status_code == 400
    assert matches(medplum, f"Patient?{query}") == []
    statuses = [transaction(medplum, entry).json()["entry"][0]["response"]["status"] for _ in range(2)]
    assert statuses == ["201", "200"]
    update = {"resource": {**resource, "active": True}, "request": {"method": "PUT", "url": f"Patient?{query}"}}
    assert transaction(medplum, update).json()["entry"][0]["response"]["status"] == "200"
    (found,) = matches(medplum, f"Patient?{query}")
    assert found["active"] is True


def test_medplum_keeps_versions_and_checks_them(medplum: str) -> None:
    resource, _ = patient()
    first = post(f"{medplum}/Patient", resource).json()
    url = f"{medplum}/Patient/{first['id']}"
    etag = f'W/"{first["meta"]["versionId"]}"'
    changed = {**first, "active": True}
    statuses = [
        requests.put(url, json=changed, headers={**FHIR_JSON, "If-Match": etag}, timeout=TIMEOUT_S).status_code
        for _ in range(2)
    ]
    assert statuses == [200, 412]
    assert requests.put(url, json=changed, headers=FHIR_JSON, timeout=TIMEOUT_S).ok, "the same again: no new version"
    assert requests.delete(url, timeout=TIMEOUT_S).ok
    assert requests.get(url, timeout=TIMEOUT_S).status_code == 410
    for _ in range(2):
        history = requests.get(f"{url}/_history?_count=20", timeout=TIMEOUT_S).json()["entry"]
        assert [entry.get("resource", {}).get("active") for entry in history] == [None, True, None]
        assert [entry["response"]["status"] for entry in history] == ["410", "200", "200"]


def test_medplum_searches_by_identifiers_and_refuses_what_it_does_not_know(medplum: str) -> None:
    resource, query = patient()
    for _ in range(3):
        post(f"{medplum}/Patient", resource)
    assert len(matches(medplum, f"Patient?{query},urn:x|other&_count=2")) == 2
    logical = {"type": "Patient", "identifier": resource["identifier"][0]}
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": logical}
    assert post(f"{medplum}/Observation", observation).status_code == 201
    assert len(matches(medplum, f"Observation?subject:{query}")) == 1
    assert len(matches(medplum, f"Observation?subject:{query}x")) == 0
    assert requests.get(f"{medplum}/Patient?unheard-of=1", timeout=TIMEOUT_S).status_code == 400


def test_medplum_finds_by_each_form_of_an_identifier(medplum: str) -> None:
    (first, query), (second, _) = patient(), patient()
    values = [post(f"{medplum}/Patient", each).json()["identifier"][0]["value"] for each in (first, second)]
    for token in (f"urn:x|{values[0]}", values[0], values[0].upper(), f"urn:x|none,urn:x|{values[0]}"):
        (found,) = matches(medplum, f"Patient?identifier={token}")
        assert found["identifier"] == first["identifier"], token
    assert len(matches(medplum, f"Patient?identifier={','.join(values)}")) == 2
    assert matches(medplum, f"Patient?{query}&identifier={values[1]}") == []
    assert matches(medplum, f"Patient?identifier=urn:y|{values[0]}") == []
    system = {"resourceType": "Patient", "identifier": [{"system": f"urn:{values[0]}", "value": "1"}]}
    post(f"{medplum}/Patient", system)
    assert len(matches(medplum, f"Patient?identifier=urn:{values[0]}|")) == 1


def test_medplum_without_transactions_does_what_it_can(medplum_process: Callable[..., ServerProcess]) -> None:
    base = medplum_process("r4", MEDPLUM_TRANSACTIONS="0").base_url
    resource, query = patient()
    good = {"resource": resource, "request": {"method": "POST", "url": "Patient"}}
    bad = {"resource": {"resourceType": "Patient", "birthDate": "x"}, "request": {"method": "POST", "url": "Patient"}}
    answer = transaction(base, bad, good).json()
    assert [entry["response"]["status"] for entry in answer["entry"]] == ["400", "201"]
    assert len(matches(base, f"Patient?{query}")) == 1
