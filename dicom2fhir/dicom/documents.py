"""What documents say of other instances (PS3.3 C.17.2.1), as far as the store needs it."""

from __future__ import annotations

from dicom2fhir.document_references import EVIDENCE
from dicom2fhir.model import InstanceRecord, items_of, texts_of


def mentioned_studies(record: InstanceRecord) -> tuple[str, ...]:
    """The Study Instance UIDs of the other studies that an instance names as its evidence."""
    named = {
        uid
        for keyword in EVIDENCE
        for study in items_of(record.instance.get(keyword))
        for uid in texts_of(study.get("StudyInstanceUID"))
    }
    return tuple(sorted(named - {record.study_uid}))
