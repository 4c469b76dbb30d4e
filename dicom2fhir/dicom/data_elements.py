"""What all readers of data sets share: transfer syntaxes, VRs, tags where reading ends, budgets (PS3.5 section 7)."""

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

Wanted = Mapping[int, "Wanted | bytes | None"]
"""Tag -> what is wanted of each item of that sequence, or the VR of a value, or None for one taken as it stands."""

BULK_DATA = frozenset({0x00420011, 0x54000100, 0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Encapsulated Document, Waveform Sequence, and the three kinds of Pixel Data: nothing wanted follows one of these."""
PER_FRAME_FUNCTIONAL_GROUPS = 0x52009230
"""Holds an item for each frame, of which the first is taken: with 100,000 frames it is longer than everything else, and
nothing wanted follows it (PS3.3 C.7.6.16)."""
LAST_ELEMENTS = BULK_DATA | {PER_FRAME_FUNCTIONAL_GROUPS}
"""Where the header ends."""
ITEM = 0xFFFEE000
ITEM_DELIMITER = 0xFFFEE00D
SEQUENCE_DELIMITER = 0xFFFEE0DD
DELIMITERS = (ITEM, ITEM_DELIMITER, SEQUENCE_DELIMITER)
ITEM_GROUP = 0xFFFE
UNDEFINED = 0xFFFFFFFF
"""Length of what ends with a delimiter."""
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
"""Those in which a sequence may come; none in implicit VR."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """How much of a data set is looked at before it is refused; none of them has an origin in the standard."""

    header_bytes: int = 64 * 1024 * 1024
    """Longest header that is kept in memory."""
    elements: int = 300_000
    """Elements walked over, those in sequences too; what takes longer counts several times. All that is read and
    decoded of a header then takes at most 0.25 s of a processor (``bench/hostile.py``)."""
    depth: int = 32
    """Sequences within sequences."""
    value_bytes: int = 1024 * 1024
    """Longest single value that is taken; longer ones are passed over."""
    inflated_bytes: int = 64 * 1024 * 1024
    """Of a deflated data set."""


DEFAULT_BUDGETS = Budgets()
ELEMENT_BYTES = 40
"""Memory that the values of a header need at most, decoded too, for each element of the budget that was spent
(``bench/hostile.py``)."""
