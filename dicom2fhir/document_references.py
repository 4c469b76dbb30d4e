"""The instances that a document names by study and series (PS3.3 table C.17-3, Hierarchical SOP Instance Reference)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dicom2fhir.model import Attrs, items_of, texts_of

EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
"""What a document is about, or was made from (PS3.3 C.17.2.1)."""
PREDECESSORS = ("PredecessorDocumentsSequence",)
"""The documents that a document replaces."""


@dataclass(frozen=True, slots=True)
class Referenced:
    """An instance that a document names; the UIDs of its study and series are empty in content items."""

    uid: str
    sop_class: str
    study_uid: str = ""
    series_uid: str = ""
    frames: tuple[int, ...] = ()
    """Empty: all of it."""


def referenced_by(attrs: Attrs, keywords: Iterable[str]) -> Iterator[Referenced]:
    """The instances in the sequences ``keywords``; a UID that is missing is empty."""
    for keyword in keywords:
        for study in items_of(attrs.get(keyword)):
            for series in items_of(study.get("ReferencedSeriesSequence")):
                for item in items_of(series.get("ReferencedSOPSequence")):
                    yield Referenced(
                        _uid(item, "ReferencedSOPInstanceUID"),
                        _uid(item, "ReferencedSOPClassUID"),
                        _uid(study, "StudyInstanceUID"),
                        _uid(series, "SeriesInstanceUID"),
                    )


def _uid(item: Attrs, keyword: str) -> str:
    return next(filter(None, texts_of(item.get(keyword))), "")
