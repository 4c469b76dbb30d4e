"""What documents say of other instances (PS3.3 C.17.2.1), as far as the store needs it."""

from __future__ import annotations

from dicom2fhir.document_references import EVIDENCE, referenced_by
from dicom2fhir.model import InstanceRecord


def mentioned_studies(record: InstanceRecord) -> tuple[str, ...]:
    """The Study Instance UIDs of the other studies that an instance names as its evidence."""
    named = {reference.study_uid for reference in referenced_by(record.instance, EVIDENCE)}
    return tuple(sorted(named - {"", record.study_uid}))
