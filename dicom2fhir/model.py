"""The values that pass between the stages of the bridge; standard library only.

A DICOM attribute is known by its keyword (PS3.6) and its value is plain Python: text as decoded by the data set's
character set and stripped of padding, a list where several values stood, a list of dicts where a sequence stood.
Numbers, dates, person names and codes stay in DICOM's own notation until :mod:`dicom2fhir.fhir.version.datatypes` reads
them, so that a record is JSON as it stands and nothing is lost on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Value: TypeAlias = "str | list[str] | list[Attrs]"
"""One value, several values, or the items of a sequence."""

Attrs: TypeAlias = Mapping[str, Value]
"""Keyword -> value. An empty value is left out."""


def texts_of(value: Iterable[str | Attrs] | None) -> list[str]:
    """The values of an attribute that is no sequence."""
    if isinstance(value, str):
        return [value] if value else []
    return [text for text in value or () if isinstance(text, str)]


def items_of(value: Iterable[str | Attrs] | None) -> list[Attrs]:
    """The items of a sequence."""
    if value is None or isinstance(value, str):
        return []
    return [item for item in value if not isinstance(item, str)]


Raw = dict[int, "bytes | list[Raw]"]
"""Tag -> undecoded value, or the items of a sequence. Instances may share values, so nobody changes them."""

Json: TypeAlias = "bool | int | float | Decimal | str | list[Json] | dict[str, Json] | None"
"""A value of JSON, of any shape: what a server sends, or what a profile's file holds."""

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
    association: str = ""
    """Names one association of this process; the quiet time of its studies waits for its end."""


@dataclass(frozen=True, slots=True)
class Received:
    """One SOP instance as a receiver hands it over.

    Attributes
    ----------
    taken
        The values of the data set that the bridge wants, as they stand in it.
    transfer_syntax
        Transfer Syntax UID that the data set is encoded in (PS3.5 section 10).
    sop_class, sop_instance
        What the C-STORE command (0000,0002)/(0000,1000) or the file meta information (0002,0002)/(0002,0003) claims;
        empty when it says nothing.
    notes
        What the receiver noticed.
    """

    taken: Raw
    transfer_syntax: str
    origin: Origin
    sop_class: str = ""
    sop_instance: str = ""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class FileMark:
    """What became of one file of a watched folder; a file with another size or time is looked at again."""

    path: str
    size_bytes: int
    mtime_ns: int
    outcome: str
    """``"taken"``, ``"skipped"`` (not a SOP instance) or ``"rejected"``."""
    reason: str = ""
    by_other_reader: bool = False
    """Whether another version of the program looked at the file, one that may have read less."""

    def holds_for(self, size_bytes: int, mtime_ns: int) -> bool:
        """Whether the file, as it looks now, need not be read.

        One that was taken need not as long as it has not changed; one that was not, another version may understand.
        """
        is_same = (self.size_bytes, self.mtime_ns) == (size_bytes, mtime_ns)
        return is_same and (self.outcome == "taken" or not self.by_other_reader)


NoteLevel = Literal["info", "warning", "version"]
"""``version``: the FHIR version has no place for it."""


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
    """What the bridge keeps of one SOP instance; DICOM parsing ends here.

    The four mappings hold the attributes of each level of the information model. Records of one study share equal
    mappings (the same object) where their maker can arrange it: it saves memory and makes assembling quick.
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
class Instance:
    """A SOP instance of a :class:`Series`; ``attrs`` always holds ``SOPClassUID``."""

    uid: str
    attrs: Attrs


@dataclass(frozen=True, slots=True)
class Series:
    """A series with the attributes that its instances agree on, ``instances`` in the order of (number, UID)."""

    uid: str
    attrs: Attrs
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """A study as one immutable value, the same whatever order its instances came in.

    Attributes
    ----------
    conflict
        Why the study must not be written as it is (its instances name different patients); empty when all is well.
    """

    uid: str
    revision: int
    patient: Attrs
    attrs: Attrs
    series: tuple[Series, ...]
    notes: tuple[Note, ...] = ()
    conflict: str = ""


class Write(StrEnum):
    """How a resource may be written to a server."""

    OWN = "own"
    """The bridge's own resource: full state, merged with what others added."""
    ENSURE = "ensure"
    """Created when absent, never changed afterwards."""
    UPSERT = "upsert"
    """Created when absent, else updated."""
    LINK = "link"
    """Looked up and referred to, never written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of a :class:`Mapped`.

    Attributes
    ----------
    resource
        With its deterministic ``id``. Other entries refer to it as ``urn:uuid:<id>``.
    search
        Query that finds this resource on a server whatever its id is there, e.g.
        ``identifier=urn:dicom:uid|urn:oid:1.2``, percent-encoded; empty when nothing but the id identifies it.
    inside
        Id under which the resource is contained when the server does not have it, and it is only linked to or cannot be
        created there. Empty: then a reference by identifier stands for a linked resource.
    """

    resource: Resource
    write: Write
    search: str = ""
    inside: str = ""

    @property
    def may_be_written(self) -> bool:
        """Whether the resource may be sent, by itself or inside another one."""
        return self.write is not Write.LINK or bool(self.inside)

    @property
    def placeholder(self) -> str:
        """The reference by which other entries of the same study refer to this one."""
        return f"urn:uuid:{self.resource['id']}"


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a study becomes; the ImagingStudy comes first.

    Attributes
    ----------
    fingerprint
        The mapping fingerprint (``R4 base@1f0c9a2b``): a short text for the FHIR version, the profile and whatever else
        shapes the output. With equal fingerprints, equal studies become equal resources. Empty where nobody asks.
    """

    entries: tuple[Entry, ...]
    notes: tuple[Note, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A study to be delivered.

    Attributes
    ----------
    base
        Of the last :class:`Delivered`; empty the first time.
    again
        Look at the destination even when nothing changed since then: somebody may have changed or deleted it there.
    """

    study: Study
    base: bytes
    again: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """The destination holds the revision.

    ``base`` is what was sent, for the merge of the next revision (opaque to the store).
    """

    base: bytes
    written: bool = True
    """False when the destination held it already and nothing was sent."""
    fingerprint: str = ""
    """Of :class:`Mapped`."""
    answered: bool = True
    """False when the destination was not asked anything, so that this says nothing about it."""
    unlinked: tuple[str, ...] = ()
    """Types of the resources that were looked for and not found there: they are referred to by identifier."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: try again, at the earliest after ``after_s`` seconds."""

    reason: str
    after_s: float = 0.0
    whole_destination: bool = False
    """True when the destination is at fault and not this study."""
    answered: bool = True
    """False when the bridge itself is at fault, so that this says nothing about the destination."""
    unclear: bool = False
    """With ``whole_destination``: True when this study may be at fault all the same."""
    issues: tuple[str, ...] = ()
    """The destination's own words. ``reason`` is logged, these are not: they may echo patient data."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Never as it is; a person has to look. ``issues`` are the destination's own words."""

    issues: tuple[str, ...] = field(default=())
    answered: bool = True
    """False when the bridge itself refuses, so that this says nothing about the destination."""


Outcome = Delivered | Retry | Refused
