"""An option that is set reaches the part that it is for; what is used elsewhere is named here."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from dicom2fhir import config
from dicom2fhir.config import FhirDestinationSettings, FolderSettings, Settings
from dicom2fhir.config.destinations import DestinationResourceSettings, option_names
from dicom2fhir.config.inputs import ReceiverSettings
from dicom2fhir.config.sections import (
    FhirSettings,
    PacsSettings,
    ResourceSettings,
    StoreSettings,
    SystemsSettings,
)
from dicom2fhir.config.web import WebSettings
from dicom2fhir.wiring import options, parts
from dicom2fhir.wiring.store_options import StoreAddress, store_address, store_options

URIS = {"X": "urn:oid:1.2.3"}

RECEIVER: dict[str, Any] = {
    "host": "127.0.0.2",
    "port": 104,
    "ae_title": "OTHER",
    "require_called_ae_title": False,
    "calling_ae_titles": ["CT"],
    "networks": ["10.0.0.0/8"],
    "tls_certificate": "/other.crt",
    "tls_key": "/other.key",
    "tls_client_ca": "/other-ca.crt",
    "reuse_port": True,
    "rejection_notes_from": ["ARCHIVE"],
    "ian": False,
    "mpps": True,
    "max_associations": 65,
    "max_associations_per_peer": 49,
    "max_waiting": 513,
    "max_waiting_per_peer": 257,
    "acse_timeout_s": 31,
    "dimse_timeout_s": 31,
    "network_timeout_s": 61,
    "min_bytes_per_s": 1025,
    "max_associate_bytes": 262_145,
    "max_pdu_bytes": 131_073,
    "max_header_bytes": 67_108_865,
    "max_held_bytes": 134_217_729,
    "max_elements": 300_001,
    "max_sequence_depth": 33,
    "max_value_bytes": 1_048_577,
    "max_inflated_bytes": 67_108_865,
}
RECEIVER_ELSEWHERE = {
    "enabled": "daemon.Daemon",
    "open": "config: it allows an address without restrictions",
}
FOLDER: dict[str, Any] = {
    "path": "/other",
    "watch": "poll",
    "stable_s": 3,
    "incomplete_s": 601,
    "rescan_s": 61,
    "poll_s": 6,
    "ignore": ["*.bak"],
    "afterwards": "delete",
    "move_to": "/moved",
    "rejected_to": "/rejected",
    "rejection_notes": False,
    "max_file_bytes": 1,
}
STORE: dict[str, Any] = {
    "directory": "/other",
    "url": "postgresql://db/other",
    "quiet_period_s": 31,
    "max_wait_s": 901,
    "min_free_bytes": 1,
}
STORE_ELSEWHERE = {"forget_after_s": "test_upkeep", "seal_after_s": "test_upkeep"}
FHIR: dict[str, Any] = {
    "time_zone": "Europe/Paris",
    "order": "identifier",
    "encounter": "identifier",
    "practitioner": "referenced",
    "organization": "referenced",
    "location": "referenced",
    "device": "referenced",
    "accession_identifier": True,
    "max_instances": 5,
    "embed_documents": 1024,
}
FHIR_OF_A_DESTINATION: dict[str, Any] = {
    "version": "R5",
    "profile": "osiris",
    "patient": "upsert",
    "format": "xml",
    "give_up_after_s": 86_401,
}
FHIR_ELSEWHERE = {"profile_missing": "options.mapper", "validation": "options.mapper"}
SYSTEMS: dict[str, Any] = {
    **{f"{name}_default": "urn:oid:1.2.3" for name in ("patient_id", "accession_number", "admission_id", "specimen")},
    "organization_default": "urn:oid:1.2.3|7",
    "organization": {"HOSPITAL": "urn:oid:1.2.3|7"},
    **dict.fromkeys(("patient_id", "accession_number", "admission_id", "specimen", "coding_schemes"), URIS),
    "study_id": "urn:oid:1.2.3",
}
PACS: dict[str, Any] = {
    "dicomweb_url": "https://other.example/dicom-web",
    "availability": "NEARLINE",
    "endpoint_name": "Other",
    "retrieve_location_uid": "1.2.3",
    "viewer_url": "https://viewer.example/{study_uid}",
}
RESOURCES: dict[str, Any] = {
    "key_objects": "always",
    "documents": "never",
    "diagnostic_reports": "auto",
    "ian": "never",
    "rejection_notes": "never",
    "dose_reports": "never",
    "measurements": "auto",
    "procedures": "auto",
}
WEB: dict[str, Any] = {
    "host": "127.0.0.2",
    "port": 8113,
    "server_names": ["bridge.example"],
    "show_identifiers": True,
    "tls_certificate": "/other.crt",
}
WEB_ELSEWHERE = {"enabled": "daemon.Daemon", **dict.fromkeys(("token", "token_file", "tls_key"), "test_web")}
RESOURCES_ELSEWHERE = {"registered": "parts.selection"}
DESTINATION: dict[str, Any] = {
    **FHIR_OF_A_DESTINATION,
    "url": "https://other.example/fhir",
    "timeout_s": 31,
    "workers": 3,
    "ca_file": "/other-ca.crt",
    "tls_certificate": "/other.crt",
    "headers": {"X-Tenant": "radiology"},
    "header_files": {"X-Api-Key": "/key"},
    "retry_max_s": 61,
    "resources": {
        "key_objects": "never",
        "documents": "never",
        "ian": "never",
        "dose_reports": "never",
        "measurements": "auto",
        "registered": "never",
    },
    "only": {"modality": ["CT"]},
    "except": {"modality": ["CT"]},
}
DESTINATION_ELSEWHERE = {
    "type": "config: which options there are",
    **dict.fromkeys(("auth", "username", "password", "password_file", "token", "token_file"), "test_config"),
    "oauth2": "test_oauth2",
    "tls_key": "test_reach",
}

SECTIONS: tuple[tuple[type[BaseModel], dict[str, Any]], ...] = (
    (ReceiverSettings, RECEIVER | RECEIVER_ELSEWHERE),
    (FolderSettings, FOLDER),
    (StoreSettings, STORE | STORE_ELSEWHERE),
    (FhirSettings, FHIR | FHIR_OF_A_DESTINATION | FHIR_ELSEWHERE),
    (SystemsSettings, SYSTEMS),
    (PacsSettings, PACS),
    (ResourceSettings, RESOURCES | RESOURCES_ELSEWHERE),
    (DestinationResourceSettings, RESOURCES | RESOURCES_ELSEWHERE),
    (WebSettings, WEB | WEB_ELSEWHERE),
    (FhirDestinationSettings, DESTINATION | DESTINATION_ELSEWHERE),
)


@pytest.mark.parametrize(("section", "named"), SECTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_option_is_named_here(section: type[BaseModel], named: dict[str, Any]) -> None:
    assert set(option_names(section)) == set(named)


def load(**sections: Any) -> Settings:
    return config.load(overrides=sections, environ={})


@pytest.mark.parametrize("option", RECEIVER)
def test_an_option_of_the_receiver_reaches_it(option: str) -> None:
    before = {"tls_certificate": "/a.crt"}
    after = load(receiver={**before, option: RECEIVER[option]})
    assert parts.listen(after) != parts.listen(load(receiver=before))


@pytest.mark.parametrize("option", WEB)
def test_an_option_of_the_web_page_reaches_it(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "WebServer", Recorded)
    monkeypatch.setattr(WebSettings, "secret", "token")  # the methods of two sections are never equal
    other: Any = None
    settings = load(web={option: WEB[option]}), load()
    changed, plain_one = (parts.web_server(made, other, other, other, other) for made in settings)
    assert changed != plain_one


@pytest.mark.parametrize("option", FOLDER)
def test_an_option_of_a_folder_reaches_its_watcher(option: str) -> None:
    before, after = ({"a": {"path": "/a", **more}} for more in ({}, {option: FOLDER[option]}))
    assert parts.watch(load(folders=after).folders["a"]) != parts.watch(load(folders=before).folders["a"])


@pytest.mark.parametrize("option", STORE)
def test_an_option_of_the_store_reaches_it(option: str) -> None:
    def reached(settings: Settings) -> tuple[StoreAddress, dict[str, Any]]:
        return store_address(settings), store_options(settings)

    assert reached(load(store={option: STORE[option]})) != reached(load())


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        (section, option, value)
        for section, others in (("fhir", FHIR), ("systems", SYSTEMS), ("pacs", PACS), ("resources", RESOURCES))
        for option, value in others.items()
    ],
)
def test_an_option_of_the_mapping_reaches_it(section: str, option: str, value: Any) -> None:
    after = load(**{section: {option: value}})
    assert options.mapping_options(after, "link") != options.mapping_options(load(), "link")


class Recorded:
    """Stands for a part: what it was made with."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.made_with = (given, named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recorded) and self.made_with == other.made_with

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize("option", DESTINATION)
def test_an_option_of_a_destination_reaches_its_parts(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    after = {"destinations": {"a": {"url": "https://a.example/fhir", option: DESTINATION[option]}}}
    assert reached_at_a_destination(load(**after), monkeypatch) != reached_at_a_destination(plain(), monkeypatch)


@pytest.mark.parametrize("option", FHIR_OF_A_DESTINATION)
def test_an_option_for_all_destinations_reaches_each(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    after = plain(fhir={option: FHIR_OF_A_DESTINATION[option]})
    assert reached_at_a_destination(after, monkeypatch) != reached_at_a_destination(plain(), monkeypatch)


def plain(**sections: Any) -> Settings:
    return load(destinations={"a": {"url": "https://a.example/fhir"}}, **sections)


def reached_at_a_destination(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    for part in ("FhirClient", "Deliverer"):
        monkeypatch.setattr(parts, part, Recorded)
    monkeypatch.setattr(parts, "FhirDestination", lambda name, client, *_, **named: Recorded(name, client, **named))
    store: Any = None
    made: Any = parts.deliverer(settings, "a", store)
    mapping = options.mapping_options(settings, settings.patient_mode("a"), "a")
    return made, settings.fhir_version("a"), settings.profile("a"), mapping
