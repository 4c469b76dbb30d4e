"""References to ImagingStudies: to the one of the study that is mapped, and to those of other studies."""

from __future__ import annotations

from urllib.parse import quote

from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.mapping.related import search_by
from dicom2fhir.fhir.version.datatypes import DICOM_UID, deterministic_id, identifier, oid
from dicom2fhir.fhir.version.dialects import Dialect
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Resource


def imaging_study_id(study_uid: str) -> str:
    """The deterministic id of a study's ImagingStudy, the same on every server and in every file."""
    return deterministic_id("ImagingStudy", study_uid)


def found_by(uid: str, dialect: Dialect) -> str:
    """The search for the study; it also finds a UID that other systems wrote without ``urn:oid:``."""
    if dialect.search_by == "identifier":
        return search_by(identifier(oid(uid), DICOM_UID), identifier(uid, DICOM_UID))
    return f"{dialect.search_by}={quote(oid(uid), safe='')}"


def study_reference(context: MappingContext, uid: str) -> Resource | None:
    """A reference to the ImagingStudy of a study.

    That of another study is the one that the server has, which this study never writes; else a reference by identifier.
    None if the version has no references by identifier.
    """
    if uid == context.study.uid:
        return {"reference": f"urn:uuid:{imaging_study_id(uid)}", "type": "ImagingStudy"}
    dialect = context.dialect
    if "identifier" not in dialect.reference_parts:
        return None
    own = identifier(oid(uid), DICOM_UID)
    resource: Resource = {"resourceType": "ImagingStudy", "id": imaging_study_id(uid)}
    if dialect.put(resource, "uid", uid) is None:
        resource["identifier"] = [own]
    return {**context.add(Entry(resource, Write.LINK, found_by(uid, dialect))), "identifier": own}
