"""The values that pass between the stages of the bridge; standard library only.

A DICOM attribute is identified by its keyword (PS3.6). Its value is plain Python: text, decoded with the data set's
character set and without padding; a list for several values; a list of dicts for a sequence. Numbers, dates, person
names and codes keep DICOM's notation until :mod:`dicom2fhir.fhir.version.datatypes` reads them, so that a record can be
written as JSON without loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

Value: TypeAlias = "str | list[str] | list[Attrs]"
"""One value, several values, or the items of a sequence."""

Attrs: TypeAlias = Mapping[str, Value]
"""Keyword -> value. An empty value is left out."""


def texts_of(value: Iterable[str | Attrs] | None) -> list[str]:
    """The values of an attribute that is not a sequence."""
    if isinstance(value, str):
        return [value] if value else []
    return [text for text in value or () if isinstance(text, str)]


def items_of(value: Iterable[str | Attrs] | None) -> list[Attrs]:
    """The items of a sequence."""
    if value is None or isinstance(value, str):
        return []
    return [item for item in value if not isinstance(item, str)]


Raw = dict[int, "bytes | list[Raw]"]
"""Tag -> undecoded value, or the items of a sequence. Instances may share values: do not change them."""

Json: TypeAlias = "bool | int | float | Decimal | str | list[Json] | dict[str, Json] | None"
"""Any JSON value, such as a server's response or the content of a profile file."""

JsonObject: TypeAlias = dict[str, Json]

Resource: TypeAlias = dict[str, Any]
"""A FHIR resource, or an element of it, as a JSON object of known shape."""

OriginKind = Literal["dimse", "folder", "file"]
"""C-STORE, a watched folder, or a file named on the command line."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instance came from."""

    kind: OriginKind
    calling_ae: str = ""
    called_ae: str = ""
    peer: str = ""
    path: str = ""
    folder: str = ""
    """The watched folder that the file came from."""
    association: str = ""
    """Identifies one association of this process. While it is open, the quiet period does not make its studies due."""
    may_reject: bool = False
    """Whether rejection notes from here are applied; else they are key object selections like others."""


@dataclass(frozen=True, slots=True)
class Received:
    """One SOP instance as a receiver passes it on.

    Attributes
    ----------
    taken
        The elements of the data set that the bridge uses, undecoded.
    transfer_syntax
        Transfer Syntax UID of the data set (PS3.5 section 10).
    sop_class, sop_instance
        From the C-STORE command (0000,0002)/(0000,1000) or the file meta information (0002,0002)/(0002,0003); empty if
        they are missing there.
    notes
        The receiver's notes.
    """

    taken: Raw
    transfer_syntax: str
    origin: Origin
    sop_class: str = ""
    sop_instance: str = ""
    notes: tuple[Note, ...] = ()


NoteLevel = Literal["info", "warning", "version"]
"""``version``: the FHIR version has no element for it."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was dropped, replaced or guessed.

    ``where`` is a DICOM keyword or a FHIR element path; ``text`` never holds the value itself, because notes are
    logged.
    """

    level: NoteLevel
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """What the bridge stores of one SOP instance, the result of DICOM decoding.

    The four mappings hold the attributes of each level of the information model. Records of one study share equal
    mappings (the same object) where possible, which saves memory and makes assembling faster.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    patient: Attrs
    study: Attrs
    series: Attrs
    instance: Attrs
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Availability:
    """What an archive states of one SOP instance (an item of Referenced SOP Sequence, PS3.3 C.4.23).

    Attributes
    ----------
    attrs
        ``InstanceAvailability``, and where it may be retrieved: ``RetrieveAETitle``, ``RetrieveLocationUID``, and as
        ``RetrieveURL`` the base URL of the DICOMweb service.
    """

    sop_uid: str
    attrs: Attrs

    @property
    def retrieve_ae(self) -> str:
        """Retrieve AE Title: what is stated holds for it alone. Several titles are separated by backslashes."""
        return "\\".join(texts_of(self.attrs.get("RetrieveAETitle")))


@dataclass(frozen=True, slots=True)
class AvailabilityNotification:
    """An Instance Availability Notification (IAN, PS3.4 annex R)."""

    uid: str
    study_uid: str
    instances: tuple[Availability, ...]


@dataclass(frozen=True, slots=True)
class ProcedureStep:
    """A Modality Performed Procedure Step (MPPS, PS3.4 section F.7).

    Attributes
    ----------
    status
        Performed Procedure Step Status: ``IN PROGRESS``, ``COMPLETED`` or ``DISCONTINUED``.
    instances
        SOP Instance UIDs of the instances that it lists, each once, in order.
    attrs
        The attributes that the others were read from, and those of the patient and of the study.
    """

    uid: str
    study_uid: str
    status: str
    instances: tuple[str, ...]
    attrs: Attrs

    @property
    def has_ended(self) -> bool:
        """Whether it may no longer be updated."""
        return self.status != "IN PROGRESS"


class Code(NamedTuple):
    """A code as a data set states it (PS3.3 table 8.8-1)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class RejectionNote:
    """A rejection note (IHE RAD-66): a key object selection with a title of PS3.16 CID 7031.

    Attributes
    ----------
    code
        Its title, a code of DCM.
    instances
        Study Instance UID -> SOP Instance UIDs of what it rejects; empty if it is not applied.
    is_applied
        Whether its origin may reject instances.
    modifiers
        Its Document Title Modifiers (113011): why the title says so.
    """

    uid: str
    code: str
    instances: Mapping[str, tuple[str, ...]]
    is_applied: bool = True
    modifiers: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectedInstance:
    """What a rejection note states of one SOP instance of a study: of itself, that it is a note."""

    uid: str
    note: str
    code: str
    modifiers: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """A SOP instance of a :class:`Series`; ``attrs`` always holds ``SOPClassUID``.

    Attributes
    ----------
    stated
        What archives state of it, one value for each Retrieve AE Title.
    """

    uid: str
    attrs: Attrs
    stated: tuple[Availability, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A series with the attributes that its instances agree on; ``instances`` are ordered by (number, UID)."""

    uid: str
    attrs: Attrs
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """A study as one immutable value, which does not depend on the order in which its instances arrived.

    Attributes
    ----------
    conflict
        Why the study must not be written (its instances name different patients); empty if it may be written.
    is_announced
        Whether no instance has arrived: the study is known by procedure steps or notifications only.
    steps
        The procedure steps that name the study.
    rejection
        What rejection notes took out of it; None if no note is about it.
    rejected_elsewhere
        Study Instance UID -> SOP Instance UIDs that are rejected, of the other studies that its documents name.
    is_late_part
        Whether this is what came after the store had forgotten the study; every destination in force then has the rest.
    """

    uid: str
    revision: int
    patient: Attrs
    attrs: Attrs
    series: tuple[Series, ...]
    notes: tuple[Note, ...] = ()
    conflict: str = ""
    is_announced: bool = False
    steps: tuple[ProcedureStep, ...] = ()
    rejection: RejectedInstances | None = None
    rejected_elsewhere: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_late_part: bool = False

    @property
    def before_rejection(self) -> Study:
        """The study as if nothing had been rejected, here or in the studies that its documents name."""
        return self.rejection.before if self.rejection else replace(self, rejected_elsewhere={})

    def is_rejected(self, study_uid: str, sop_uid: str) -> bool:
        """Whether an instance of this study, or of one that its documents name, is rejected."""
        if study_uid != self.uid:
            return sop_uid in self.rejected_elsewhere.get(study_uid, ())
        return self.rejection is not None and sop_uid in self.rejection.instances

    @property
    def rejected_for(self) -> str:
        """Why the whole study is rejected: the code of the note; empty if anything remains of it."""
        return self.rejection.code if self.rejection else ""


@dataclass(frozen=True, slots=True)
class RejectedInstances:
    """What rejection notes took out of a study.

    Attributes
    ----------
    code
        The title of the note that rejects it, the gravest of several; empty if any instance remains.
    modifiers
        Those of the notes with this title.
    instances
        SOP Instance UIDs of the rejected instances, arrived or not.
    notes
        SOP Instance UIDs of the notes in this study.
    before
        The study as if nothing had been rejected.
    """

    code: str
    modifiers: tuple[Code, ...]
    instances: frozenset[str]
    notes: frozenset[str]
    before: Study
