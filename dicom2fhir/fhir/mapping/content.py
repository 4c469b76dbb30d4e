"""The content tree of a structured report or a key object selection (PS3.3 C.17.3), and the instances that it names.

Concept names are compared as codes of the present coding schemes: codes in the style of SNOMED RT are converted first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dicom2fhir.document_references import PREDECESSORS, Referenced, referenced_by
from dicom2fhir.fhir.version.datatypes import DCM, Coding, Concept, Schemes, coding, concept, one, unsigned_int
from dicom2fhir.model import Attrs, Instance, items_of, texts_of

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""What FHIR can hold of a UID, see :mod:`dicom2fhir.dicom.decode`."""


def dcm(code: str) -> Coding:
    """A concept name of DCM."""
    return Coding(code, DCM)


def code_parts(name: Concept) -> tuple[str, str]:
    """The system and the code of a concept; without a code, its text."""
    return next(((code.system, code.code) for code in name.codings), ("", name.text))


@dataclass(frozen=True, slots=True)
class ContentItem:
    """A content item, or the root of the tree."""

    attrs: Attrs
    schemes: Schemes

    @property
    def items(self) -> Iterator[ContentItem]:
        """The content items in this one."""
        return (ContentItem(item, self.schemes) for item in items_of(self.attrs.get("ContentSequence")))

    def named(self, name: Coding, value_type: str) -> Iterator[ContentItem]:
        """The content items in this one with a concept name and a value type."""
        return (item for item in self.items if item.is_named(name) and one(item.attrs.get("ValueType")) == value_type)

    def is_named(self, name: Coding) -> bool:
        """Whether the concept name is this code, whatever its meaning says."""
        own = (coding(item, self.schemes) for item in items_of(self.attrs.get("ConceptNameCodeSequence")))
        return any(code is not None and (code.code, code.system) == (name.code, name.system) for code in own)

    @property
    def name(self) -> Concept | None:
        """The concept name."""
        return self._first("ConceptNameCodeSequence")

    @property
    def code(self) -> Concept | None:
        """The value of a CODE."""
        return self._first("ConceptCodeSequence")

    def _first(self, keyword: str) -> Concept | None:
        found = (concept(item, self.schemes) for item in items_of(self.attrs.get(keyword)))
        return next(filter(None, found), None)

    def coded(self, name: Coding) -> Iterator[Concept]:
        """The values of the CODEs in this item with a concept name."""
        return (code for item in self.named(name, "CODE") if (code := item.code))

    def texts(self, keyword: str) -> list[str]:
        """The value of another type, by the attribute that holds it."""
        return texts_of(self.attrs.get(keyword))


def replaced_by_others(documents: Iterable[Instance]) -> frozenset[str]:
    """SOP Instance UIDs that documents name as their predecessors; no document is its own."""
    return frozenset(
        reference.uid
        for document in documents
        for reference in referenced_by(document.attrs, PREDECESSORS)
        if reference.uid != document.uid
    )


def referenced(item: ContentItem) -> Iterator[Referenced]:
    """The instances in the content items below ``item``."""
    for inner in item.items:
        for reference in items_of(inner.attrs.get("ReferencedSOPSequence")):
            numbers = texts_of(reference.get("ReferencedFrameNumber"))
            yield Referenced(
                one(reference.get("ReferencedSOPInstanceUID")),
                one(reference.get("ReferencedSOPClassUID")),
                frames=tuple(frame for number in numbers if (frame := unsigned_int(number))),
            )
        yield from referenced(inner)


_KEY_OBJECT_DESCRIPTION = dcm("113012")


def key_object_description(root: ContentItem) -> str:
    """What a key object selection says of the selected instances (PS3.16 TID 2010); empty if nothing."""
    items = root.named(_KEY_OBJECT_DESCRIPTION, "TEXT")
    return "\n".join(text for item in items for text in item.texts("TextValue"))
