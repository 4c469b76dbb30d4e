"""Builds the mapping of studies from the settings.

Only this module and :mod:`dicom2fhir.wiring.parts` know both the settings and the arguments of the rooms. Nothing here
imports the network or the store, so that commands that only convert start quickly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from hashlib import blake2b
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dicom2fhir.config import PatientMode, Settings
from dicom2fhir.dicom.attributes import taken
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.fhir.mapper import StudyMapper, check_version, log_finding
from dicom2fhir.fhir.mapping.engine import MAPPING_REVISION, MappingOptions
from dicom2fhir.fhir.version.datatypes import NamingSystems
from dicom2fhir.fhir.version.dialects import DIALECTS, Dialect
from dicom2fhir.fhir.version.validate import Validator
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Note

if TYPE_CHECKING:
    from dicom2fhir.fhir.profile.model import Profile


def budgets(settings: Settings) -> Budgets:
    """The limits for reading a data set."""
    receiver = settings.receiver
    return Budgets(
        header_bytes=receiver.max_header_bytes,
        elements=receiver.max_elements,
        depth=receiver.max_sequence_depth,
        value_bytes=receiver.max_value_bytes,
        inflated_bytes=receiver.max_inflated_bytes,
        document_bytes=settings.fhir.embed_documents,
    )


def mapping_options(settings: Settings, patient: PatientMode, destination: str = "") -> MappingOptions:
    """The options of the mapping, for a destination if one is named."""
    fhir, systems = settings.fhir, settings.systems
    places = {
        "Practitioner": fhir.practitioner,
        "Organization": fhir.organization,
        "Location": fhir.location,
        "Device": fhir.device,
    }
    resources = settings.resources_of(destination) if destination else settings.resources
    references = {"order": fhir.order, "encounter": fhir.encounter}
    return MappingOptions(
        time_zone=ZoneInfo(fhir.time_zone) if fhir.time_zone else None,
        systems=NamingSystems(
            patient_id=systems.with_default("patient_id"),
            accession_number=systems.with_default("accession_number"),
            admission_id=systems.with_default("admission_id"),
            specimen=systems.with_default("specimen"),
            study_id=systems.study_id,
            organization=systems.with_default("organization"),
            coding_schemes=systems.coding_schemes,
        ),
        patient=Write(patient),
        linked=frozenset(name for name, mode in references.items() if mode == "link"),
        referenced=frozenset(type_ for type_, place in places.items() if place == "referenced"),
        dicomweb_url=settings.pacs.dicomweb_url,
        endpoint_name=settings.pacs.endpoint_name,
        retrieve_location_uid=settings.pacs.retrieve_location_uid,
        viewer_url=settings.pacs.viewer_url,
        availability=_availability(settings),
        accession_identifier=fhir.accession_identifier,
        max_instances=fhir.max_instances,
        embed_documents=fhir.embed_documents,
        key_objects=resources.key_objects,
        documents=resources.documents,
        diagnostic_reports=resources.diagnostic_reports,
        ian=resources.ian,
        rejection_notes=resources.rejection_notes,
        dose_reports=resources.dose_reports,
        measurements=resources.measurements,
        procedures=resources.procedures,
    )


def _names_of_attributes() -> Iterator[str]:
    for attribute in taken():
        yield attribute.keyword
        yield from (f"{attribute.keyword}/{item.keyword}" for item in attribute.items)


def load_profile(name: str) -> Profile | None:
    """A profile by its name or its file's path; None for ``none``.

    Raises
    ------
    ConfigError
        As :func:`dicom2fhir.fhir.profile.load.load`.
    """
    return None if name == "none" else profile(name)


def profile(name: str) -> Profile:
    """A profile by its name or its file's path.

    Raises
    ------
    ConfigError
        As :func:`dicom2fhir.fhir.profile.load.load`.
    """
    from dicom2fhir.fhir.profile import load  # imported here and below: not needed without a profile

    return load.load(name, set(_names_of_attributes()))


def profile_names() -> list[str]:
    """The names of the profiles that are included."""
    from dicom2fhir.fhir.profile import load

    return load.names()


def dialect(version: str, profile: Profile | None) -> Dialect:
    """The dialect of a configured version; ``auto`` means the profile's first, or R4.

    Raises
    ------
    ConfigError
        The profile does not support the version.
    """
    if version == "auto":
        return DIALECTS[next(iter(profile.versions)) if profile else "R4"]
    check_version(version, profile)
    return DIALECTS[version]


def _availability(settings: Settings) -> str | None:
    """Instance Availability of instances that do not state it."""
    said = settings.pacs.availability
    if said == "auto":
        return "ONLINE" if settings.pacs.dicomweb_url else None
    return None if said == "none" else said


def mapper(
    settings: Settings,
    patient: PatientMode,
    profile: Profile | None = None,
    on_finding: Callable[[str, Note], None] = log_finding,
    destination: str = "",
) -> StudyMapper:
    """The mapping as the operator wants it, with fhir.resources checking what comes out.

    Parameters
    ----------
    destination
        Its name, if it is for one.
    on_finding
        Called with the Study Instance UID and what is wrong with the resources.
    """
    missing = settings.fhir.profile_missing
    return StudyMapper(
        mapping_options(settings, patient, destination),
        profile,
        None if missing == "default" else missing,
        Validator(settings.fhir.validation, first=settings.configures_mapping),
        mapping_fingerprint(settings, patient, profile, destination),
        on_finding,
    )


def mapping_fingerprint(
    settings: Settings, patient: PatientMode, profile: Profile | None = None, destination: str = ""
) -> str:
    """The mapping's fingerprint in every FHIR version, such as ``osiris@1f0c9a2b``.

    It changes with the mapping itself (:data:`~dicom2fhir.fhir.mapping.engine.MAPPING_REVISION`), with the options that
    shape its output, and with the content of the profile.
    """
    content = [
        MAPPING_REVISION,
        asdict(mapping_options(settings, patient, destination)),
        profile and profile.content(),
        settings.fhir.profile_missing,
    ]
    text = json.dumps(content, default=_as_json, sort_keys=True).encode()
    return f"{profile.name if profile else 'base'}@{blake2b(text, digest_size=4).hexdigest()}"


def _as_json(value: object) -> object:
    """What JSON does not know in a :class:`dicom2fhir.fhir.mapping.engine.MappingOptions`."""
    return sorted(value) if isinstance(value, frozenset) else str(value)
