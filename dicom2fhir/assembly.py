"""From settings to parts: the one place that knows both what the operator wrote and what the rooms take.

Nothing is started here; :mod:`dicom2fhir.daemon` does that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import structlog
from requests.auth import AuthBase

from dicom2fhir.config import FhirDestination, FileDestination, Settings
from dicom2fhir.config import Folder as FolderSettings
from dicom2fhir.deliver import Deliverer
from dicom2fhir.dicom.header import Budgets
from dicom2fhir.errors import BridgeError
from dicom2fhir.fhir.auth import Basic, Bearer
from dicom2fhir.fhir.client import FhirClient
from dicom2fhir.fhir.dialects import DIALECTS, Dialect, by_fhir_version
from dicom2fhir.fhir.files import FileDestination as Files
from dicom2fhir.fhir.mapping import Policy, map_study
from dicom2fhir.fhir.server import FhirDestination as Server
from dicom2fhir.fhir.validate import Validator
from dicom2fhir.fhir.values import Systems
from dicom2fhir.model import Mapped, Study, Write
from dicom2fhir.receive.intake import Watch
from dicom2fhir.receive.scp import Listen
from dicom2fhir.retry import RetryPolicy
from dicom2fhir.store.base import Store

log = structlog.get_logger()

PatientMode = Literal["link", "ensure", "upsert"]

_REQUESTS_PER_DELIVERY = 8
"""How many exchanges a slow delivery may take before its lease could be taken for lost."""


def store_path(settings: Settings) -> Path:
    """The store's file."""
    return settings.store.directory / "store.db"


def budgets(settings: Settings) -> Budgets:
    """How much of a data set is looked at."""
    return Budgets(header_bytes=settings.receiver.max_header_bytes)


def listen(settings: Settings) -> Listen:
    """Where and to whom the receiver listens."""
    receiver = settings.receiver
    return Listen(
        host=receiver.host,
        port=receiver.port,
        ae_title=receiver.ae_title,
        require_called_ae_title=receiver.require_called_ae_title,
        calling_ae_titles=tuple(receiver.calling_ae_titles),
        networks=tuple(ipaddress.ip_network(network) for network in receiver.networks),
        max_associations=receiver.max_associations,
        acse_timeout_s=receiver.acse_timeout_s,
        dimse_timeout_s=receiver.dimse_timeout_s,
        network_timeout_s=receiver.network_timeout_s,
        max_pdu_bytes=receiver.max_pdu_bytes,
        max_header_bytes=receiver.max_header_bytes,
    )


def watch(folder: FolderSettings) -> Watch:
    """What a folder watcher is told."""
    return Watch(
        path=folder.path,
        mode=folder.watch,
        stable_s=folder.stable_s,
        rescan_s=folder.rescan_s,
        poll_s=folder.poll_s,
        ignore=tuple(folder.ignore),
        afterwards=folder.afterwards,
        move_to=folder.move_to,
        rejected_to=folder.rejected_to,
        max_file_bytes=folder.max_file_bytes,
    )


def policy(settings: Settings, patient: PatientMode) -> Policy:
    """What the operator decides about the mapping."""
    fhir, systems = settings.fhir, settings.systems
    places = {
        "Practitioner": fhir.practitioner,
        "Organization": fhir.organization,
        "Location": fhir.location,
        "Device": fhir.device,
    }
    return Policy(
        time_zone=ZoneInfo(fhir.time_zone) if fhir.time_zone else None,
        systems=Systems(
            patient_id=systems.with_default("patient_id"),
            accession_number=systems.with_default("accession_number"),
            admission_id=systems.with_default("admission_id"),
            specimen=systems.with_default("specimen"),
            study_id=systems.study_id,
            coding_schemes=systems.coding_schemes,
        ),
        patient=Write(patient),
        referenced=frozenset(type_ for type_, place in places.items() if place == "referenced"),
        dicomweb_url=settings.pacs.dicomweb_url,
        endpoint_name=settings.pacs.endpoint_name,
        max_instances=fhir.max_instances,
    )


def mapper(settings: Settings, patient: PatientMode) -> Callable[[Study, Dialect], Mapped]:
    """The mapping as the operator wants it, with fhir.resources looking at what comes out."""
    chosen = policy(settings, patient)
    validator = Validator(settings.fhir.validation)

    def mapped(study: Study, dialect: Dialect) -> Mapped:
        result = map_study(study, dialect, chosen)
        for note in validator(result, dialect.name):
            log.error("resource.invalid", study=study.uid, where=note.where, finding=note.text)
        return result

    return mapped


def dialect_for(version: str) -> Callable[[str], Dialect]:
    """What turns a server's ``fhirVersion`` into a dialect: that one, or always the one that was set."""

    def chosen(fhir_version: str) -> Dialect:
        found = by_fhir_version(fhir_version) if version == "auto" else DIALECTS[version]
        if found is None:
            raise LookupError(fhir_version)
        return found

    return chosen


def client(destination: FhirDestination) -> FhirClient:
    """The HTTP client of a destination."""
    return FhirClient(
        destination.url, auth=_auth(destination), timeout_s=destination.timeout_s, ca_file=destination.ca_file
    )


def _auth(destination: FhirDestination) -> AuthBase | None:
    match destination.auth:
        case "basic":
            return Basic(destination.username, destination.secret())
        case "bearer":
            return Bearer(destination.secret)
        case _:
            return None


def plan(settings: Settings, name: str, online: bool) -> dict[str, Any]:
    """What will be done at a destination, for ``check-config``; with ``online`` the server is asked.

    ``error`` says why the destination cannot be used, or is empty.
    """
    destination = settings.destinations[name]
    version = settings.fhir_version(name)
    facts: dict[str, Any] = {
        "name": name,
        "type": destination.type,
        "target": str(destination.directory if isinstance(destination, FileDestination) else destination.url),
        "version": version,
        "patient": settings.patient_mode(name),
        "server": "",
        "ids": "",
        "error": "",
    }
    if online and isinstance(destination, FhirDestination):
        try:
            found = client(destination).capabilities()
            facts["version"] = dialect_for(version)(found.fhir_version).name
            facts["server"] = f"{found.software} {found.software_version}, FHIR {found.fhir_version}".strip()
            facts["ids"] = found.of("ImagingStudy").ids
            if not found.transaction:
                facts["error"] = "the server does not say that it takes transactions"
        except LookupError:
            facts["error"] = f"it speaks FHIR {found.fhir_version}, which is none of {', '.join(DIALECTS)}"
        except BridgeError as error:
            facts["error"] = str(error)
    return facts


def deliverer(settings: Settings, name: str, store: Store) -> Deliverer:
    """The workers of one destination."""
    destination = settings.destinations[name]
    mapping = mapper(settings, settings.patient_mode(name))
    if isinstance(destination, FileDestination):
        files = Files(name, destination.directory, mapping, DIALECTS[settings.fhir_version(name)])
        return Deliverer(store, files, workers=1)
    budget_s = destination.timeout_s * _REQUESTS_PER_DELIVERY
    server = Server(name, client(destination), mapping, dialect_for(settings.fhir_version(name)), budget_s=budget_s)
    return Deliverer(
        store,
        server,
        workers=destination.workers,
        lease_s=2 * (budget_s + destination.timeout_s),
        policy=RetryPolicy(cap_s=destination.retry_max_s),
    )
