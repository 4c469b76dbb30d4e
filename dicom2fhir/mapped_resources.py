"""What a study is mapped to: resources, and how each may be written to a server; standard library only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from dicom2fhir.model import Note, Resource


class Write(StrEnum):
    """How a resource may be written to a server."""

    OWN = "own"
    """The bridge's own resource: full state, merged with what others added."""
    ENSURE = "ensure"
    """Created when absent, never changed afterwards."""
    UPSERT = "upsert"
    """Created when absent, else updated."""
    LINK = "link"
    """Looked up and referenced, never written."""
    RETRACT = "retract"
    """No longer made: marked as entered in error where it exists, never created."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of a :class:`Mapped`.

    Attributes
    ----------
    resource
        With its deterministic ``id``. Other entries reference it as ``urn:uuid:<id>``.
    search
        Query that finds this resource on a server under any id, e.g.
        ``identifier=urn:dicom:uid|urn:oid:1.2``, percent-encoded; empty if only the id identifies it.
    inside
        Id of the contained resource that is used when the server does not have the resource, and it is only linked or
        cannot be created there. If empty, a linked resource is referenced by identifier.
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
        """The reference to this entry in other entries of the same study."""
        return f"urn:uuid:{self.resource['id']}"


@dataclass(frozen=True, slots=True)
class SecondaryResource:
    """A resource that is made from a study beside its ImagingStudy, with a lifetime of its own.

    It may be refused without the study, and is marked as entered in error when it is no longer made.

    Attributes
    ----------
    entries
        The resource itself comes first, then the resources that it refers to; some of these may also be entries of the
        study.
    """

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    """The resources made from a study; the ImagingStudy comes first.

    Attributes
    ----------
    secondary
        What else is made from the study; their entries are not in ``entries`` unless the ImagingStudy needs them, too.
    fingerprint
        The mapping fingerprint (``R4 base@1f0c9a2b``): a short text for the FHIR version, the profile and everything
        else that affects the output. With equal fingerprints, equal studies give equal resources. Empty if not needed.
    unclaimed
        Why the ImagingStudy does not claim the profile: a clause without patient data. Empty if it claims the profile,
        or if there is none to claim.
    rejected
        SOP Instance UIDs that rejection notes name: the ImagingStudy must not list them, whoever added them to it.
    """

    entries: tuple[Entry, ...]
    notes: tuple[Note, ...] = ()
    fingerprint: str = ""
    unclaimed: str = ""
    secondary: tuple[SecondaryResource, ...] = ()
    rejected: Collection[str] = ()

    @property
    def everything(self) -> tuple[Entry, ...]:
        """All entries, each once."""
        found = {entry.placeholder: entry for entry in self.entries}
        for one in self.secondary:
            for entry in one.entries:
                found.setdefault(entry.placeholder, entry)
        return tuple(found.values())
