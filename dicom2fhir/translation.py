"""From settings to the mapping of studies.

This and :mod:`dicom2fhir.assembly` alone know both what the operator wrote and what the rooms take. Nothing here needs
network or store, so that commands which only make FHIR start quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import structlog

from dicom2fhir.config import Settings
from dicom2fhir.dicom.header import Budgets
from dicom2fhir.fhir.dialects import Dialect
from dicom2fhir.fhir.mapping import Policy, map_study
from dicom2fhir.fhir.validate import Validator
from dicom2fhir.fhir.values import Systems
from dicom2fhir.model import Mapped, Study, Write

log = structlog.get_logger()

PatientMode = Literal["link", "ensure", "upsert"]


def store_path(settings: Settings) -> Path:
    """The store's file."""
    return settings.store.directory / "store.db"


def budgets(settings: Settings) -> Budgets:
    """How much of a data set is looked at."""
    return Budgets(header_bytes=settings.receiver.max_header_bytes)


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
