"""What a header reader is to take, as the tags of the attribute tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dicom2fhir.dicom.attributes import HELD, SPECIFIC_CHARACTER_SET, Attribute, Documents, taken
from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.dicom.data_elements import (
    Wanted,
    WantedContent,
    WantedDetails,
    WantedOfClasses,
    WantedOfConcepts,
    WantedOfDocuments,
)
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS, HOLDERS


def wanted(attributes: Iterable[Attribute]) -> dict[int, Wanted | WantedOfClasses | WantedOfConcepts | bytes | None]:
    """The tags of attributes, for a :class:`~dicom2fhir.dicom.reader.HeaderReader`."""
    items: dict[int, list[Attribute]] = {}
    vrs: dict[int, bytes] = {}
    content: set[int] = set()
    in_concepts: dict[int, tuple[tuple[str, tuple[Attribute, ...]], ...]] = {}
    for attribute in attributes:
        items.setdefault(attribute.tag, []).extend(attribute.items)
        items.update((other.tag, []) for other in attribute.instead)
        vrs.update((other.tag, other.vr.encode()) for other in (attribute, *attribute.instead))
        if attribute.is_content:
            content.add(attribute.tag)
        if attribute.in_concepts:
            in_concepts[attribute.tag] = attribute.in_concepts
    found = {tag: _of_items(inner, tag in content) if inner else vrs[tag] for tag, inner in items.items()}
    return {**found, **{tag: _of_concepts(concepts, items[tag]) for tag, concepts in in_concepts.items()}}


def _of_items(attributes: Iterable[Attribute], is_content: bool) -> Wanted:
    return _content_items(attributes) if is_content else wanted((*attributes, SPECIFIC_CHARACTER_SET))


def _content_items(attributes: Iterable[Attribute]) -> WantedContent:
    return WantedContent(wanted((*attributes, SPECIFIC_CHARACTER_SET)))


def _of_concepts(
    concepts: Iterable[tuple[str, tuple[Attribute, ...]]], others: Iterable[Attribute]
) -> WantedOfConcepts:
    details = {code.encode(): WantedDetails(_content_items(own)) for code, own in concepts}
    return WantedOfConcepts(details, _content_items(others))


def _of_documents(documents: Documents, items: WantedContent) -> WantedOfDocuments:
    titles = frozenset(title.encode() for title in documents.titles)
    return WantedOfDocuments(documents.template.encode(), titles, items)


def _all_wanted() -> Wanted:
    held = wanted(HELD)
    of_a_holder = {**held, **dict.fromkeys(FUNCTIONAL_GROUPS.values(), held)}
    own = wanted(taken())
    holders = {holder: {**of_a_holder, **_inner(own.get(holder))} for holder in HOLDERS.values()}
    return own | holders | _content()


def _inner(of_sequence: Wanted | WantedOfClasses | WantedOfConcepts | bytes | None) -> Wanted:
    return of_sequence if isinstance(of_sequence, Mapping) else {}


def _content() -> dict[int, WantedOfClasses]:
    """The sequences of content and Encapsulated Document, each with the SOP classes of which it is wanted."""
    by_tag: dict[int, dict[bytes, WantedContent | WantedOfDocuments]] = {}
    for sop_class, attributes in CONTENT.items():
        for attribute in attributes:
            inner = _content_items(attribute.items)  # of a value never empty: it always has the character set
            documents = attribute.of_documents
            by_tag.setdefault(attribute.tag, {})[sop_class.encode()] = (
                _of_documents(documents, inner) if documents else inner
            )
    return {tag: WantedOfClasses(items) for tag, items in by_tag.items()}


WANTED = _all_wanted()
"""Everything that a record is made from."""
