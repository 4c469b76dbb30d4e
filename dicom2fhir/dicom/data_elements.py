"""Constants for readers of data sets: transfer syntaxes, VRs, tags where reading ends, budgets (PS3.5 section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Deflated Explicit VR Little Endian, JPIP Referenced Deflate and JPIP HTJ2K Referenced Deflate: the data set itself is
deflated (PS3.5 A.5, A.7). Deflated Image Frame Compression deflates frames only."""

Wanted = Mapping[int, "Wanted | WantedOfClasses | WantedOfConcepts | bytes | None"]
"""Tag -> for a sequence what is wanted from each item; for a value its VR, or None to take it unchanged."""


class WantedContent(dict[int, "Wanted | WantedOfClasses | WantedOfConcepts | bytes | None"]):
    """What is wanted from the items of a sequence of content, of which there may be many (PS3.3 C.17.3).

    Their number is not limited for each sequence: all of them together take a part of the budget, so that no data set
    is refused because of it; the rest of them is skipped, at a lower cost.
    """

    left = 1 / 3
    """Part of the budget that is left over."""


class WantedDetails(WantedContent):
    """Content that leaves a part of the budget for the content that follows it, too."""

    left = 1 / 2


@dataclass(frozen=True, slots=True)
class WantedOfClasses:
    """A sequence, or Encapsulated Document, that is taken at the top level from data sets of some SOP classes only.

    Attributes
    ----------
    items
        SOP Class UID, without padding -> what is wanted from each item.
    """

    items: Mapping[bytes, WantedContent | WantedOfDocuments]

    def of(self, taken: Mapping[int, object], item: Mapping[int, object]) -> Wanted:
        """What is wanted by the SOP Class UID that was taken before."""
        sop_class = taken.get(_SOP_CLASS_UID)
        found = self.items.get(sop_class.rstrip(b"\0 "), _NOTHING) if isinstance(sop_class, bytes) else _NOTHING
        return found.of(taken) if isinstance(found, WantedOfDocuments) else found


@dataclass(frozen=True, slots=True)
class WantedOfDocuments:
    """A sequence of content that is wanted of some documents of a SOP class only.

    Attributes
    ----------
    template
        Template Identifier of these documents.
    titles
        Code Values of the titles of these documents.
    items
        What is wanted from each item.
    """

    template: bytes
    titles: frozenset[bytes]
    items: WantedContent

    def of(self, taken: Mapping[int, object]) -> Wanted:
        """What is wanted by the title and the template that were taken before."""
        title = _in_first_item(taken.get(_CONCEPT_NAME), _CODE_VALUE)
        template = _in_first_item(taken.get(_CONTENT_TEMPLATE), _TEMPLATE_IDENTIFIER)
        return self.items if title in self.titles or template == self.template else _NOTHING


def _in_first_item(items: object, tag: int) -> bytes:
    """A value of the first item of a sequence that was taken, without padding."""
    value = items[0].get(tag) if isinstance(items, list) and items else None
    return value.strip(b"\0 ") if isinstance(value, bytes) else b""


@dataclass(frozen=True, slots=True)
class WantedOfConcepts:
    """A sequence of content within a content item, whose concept name decides what is taken.

    Attributes
    ----------
    items
        Code Value of the concept name, without padding -> what is wanted from each item.
    others
        What is wanted within items with other concept names.
    """

    items: Mapping[bytes, WantedContent]
    others: WantedContent

    def of(self, taken: Mapping[int, object], item: Mapping[int, object]) -> Wanted:
        """What is wanted by the concept name that was taken from the item before."""
        return self.items.get(_in_first_item(item.get(_CONCEPT_NAME), _CODE_VALUE), self.others)


_NOTHING: Wanted = {}
_SOP_CLASS_UID = 0x00080016
_CONCEPT_NAME, _CODE_VALUE = 0x0040A043, 0x00080100
_CONTENT_TEMPLATE, _TEMPLATE_IDENTIFIER = 0x0040A504, 0x0040DB00

ENCAPSULATED_DOCUMENT = 0x00420011
BULK_DATA = frozenset({ENCAPSULATED_DOCUMENT, 0x54000100, 0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Encapsulated Document, Waveform Sequence, and the three kinds of Pixel Data: no wanted element follows these."""
PER_FRAME_FUNCTIONAL_GROUPS = 0x52009230
"""Has an item for each frame; only the first is taken. With 100,000 frames it is longer than the rest of the header,
and no wanted element follows it (PS3.3 C.7.6.16)."""
LAST_ELEMENTS = BULK_DATA | {PER_FRAME_FUNCTIONAL_GROUPS}
"""Where the header ends."""
ITEM = 0xFFFEE000
ITEM_DELIMITER = 0xFFFEE00D
SEQUENCE_DELIMITER = 0xFFFEE0DD
DELIMITERS = (ITEM, ITEM_DELIMITER, SEQUENCE_DELIMITER)
ITEM_GROUP = 0xFFFE
UNDEFINED = 0xFFFFFFFF
"""Length of a value or item that ends with a delimiter."""
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with a 32-bit length (PS3.5 table 7.1-1)."""
SHORT_VRS = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)
VRS = LONG_VRS | SHORT_VRS
SEQUENCE_VRS = frozenset({b"SQ", b"UN", b""})
"""VRs that a sequence may have; empty in implicit VR."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits beyond which a data set is refused; the standard defines none of them."""

    header_bytes: int = 64 * 1024 * 1024
    """Longest header that is kept in memory."""
    elements: int = 300_000
    """Elements that are walked over, including those in sequences; slower ones count several times. With this limit,
    reading and decoding a header takes at most 0.25 s of CPU time (``bench/hostile.py``)."""
    depth: int = 32
    """Nesting depth of sequences."""
    items: int = 1001
    """Items that are taken of a sequence: one more than are decoded, so that the decoder notes that there are more."""
    value_bytes: int = 1024 * 1024
    """Longest value that is taken; longer ones are skipped."""
    inflated_bytes: int = 64 * 1024 * 1024
    """Inflated size of a deflated data set."""
    document_bytes: int = 0
    """Longest Encapsulated Document that is taken; 0: none. It also takes elements of the budget, like other values."""


DEFAULT_BUDGETS = Budgets()
ELEMENT_BYTES = 40
"""Maximum memory for the values of a header, including the decoded ones, per spent element of the budget
(``bench/hostile.py``)."""
