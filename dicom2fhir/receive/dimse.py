"""What a C-STORE is answered with: the one place where an outcome becomes a DIMSE status."""

from __future__ import annotations

from dataclasses import dataclass

from dicom2fhir.errors import BridgeError, CannotUnderstand, Mismatch, NotDicom, Transient


@dataclass(frozen=True, slots=True)
class Answer:
    """A Status (0000,0900) and, where something is wrong, an Error Comment (0000,0902)."""

    status: int
    comment: str = ""
    """At most 64 characters (LO); never holds anything of the data set."""


SUCCESS = Answer(0x0000)
"""PS3.4 table B.2-1: the instance is on disk."""

SOP_CLASS_NOT_SUPPORTED = Answer(0x0122, "This presentation context is not one for storage.")
"""PS3.7 C.5.6, PS3.7 9.1.1.1.9."""

UNRECOGNIZED_OPERATION = Answer(0x0211)
"""PS3.7 C.5.20: any service but C-ECHO and C-STORE."""

UNEXPECTED = Answer(0x0110, "Processing failure")
"""PS3.7 C.5.13: an error of our own making, which says nothing about the instance."""

STATUSES: tuple[tuple[type[BridgeError], int, str], ...] = (
    (Mismatch, 0xA900, "Data Set does not match SOP Class"),
    (CannotUnderstand, 0xC000, "Cannot understand"),
    (NotDicom, 0xC000, "Cannot understand"),
    (Transient, 0xA700, "Out of resources"),
)
"""Error class -> status and its meaning in PS3.4 table B.2-1; the first that fits.

Never 0111 (Duplicate SOP Instance): a sender that repeats itself is told Success, so that it stops.
"""

_COMMENT_CHARACTERS = 64


def answer_to(error: BaseException) -> Answer:
    """Say what a failed C-STORE is answered with.

    The comment is the description of the error's class and not its message, which may name paths of this machine.
    """
    for kind, status, _ in STATUSES:
        if isinstance(error, kind):
            return Answer(status, (type(error).__doc__ or "").strip().partition("\n")[0][:_COMMENT_CHARACTERS])
    return UNEXPECTED
