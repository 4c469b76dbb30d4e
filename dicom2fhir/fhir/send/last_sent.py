"""The state of a study's last delivery to a FHIR destination; the store keeps it as bytes.

It is optional: without it (or if it cannot be read) the server is asked, and all content on the server counts as
written by other clients.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from dicom2fhir.fhir.send.merge import canonical
from dicom2fhir.fhir.version.retraction import retracted
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Base:
    """The last delivery.

    Attributes
    ----------
    remote_id
        ``id`` of the ImagingStudy on the server.
    digest
        Of the mapped resources (:func:`digest`).
    sent
        The resources that we wrote, by their ``id`` in the mapping: our content only, with references resolved.
    dialect
        Name of the FHIR version of all this; empty if it was not kept.
    links
        The literal references to linked resources, by their ``id`` in the mapping; None if they were not kept.
    secondary
        ``id`` of each secondary resource on the server, by its ``id`` in the mapping, also of those that were marked as
        entered in error.
    refused
        The secondary resources that were refused, see :class:`~dicom2fhir.outcomes.Delivered`.
    """

    remote_id: str = ""
    digest: str = ""
    sent: Mapping[str, Resource] = field(default_factory=dict)
    dialect: str = ""
    links: Mapping[str, str] | None = None
    secondary: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Compressed JSON."""
        content = {"format": _FORMAT, "id": self.remote_id, "digest": self.digest, "sent": dict(self.sent)}
        content |= {"dialect": self.dialect, "links": self.links}
        content |= {"secondary": dict(self.secondary), "refused": list(self.refused)}
        return zlib.compress(canonical(content))

    @classmethod
    def from_bytes(cls, data: bytes, dialect: str = "") -> Base:
        """Read the result of :meth:`to_bytes`, to be used with ``dialect``.

        Empty if it cannot be read, or if it is in another FHIR version: its elements have other names and datatypes,
        and the server is another one or was emptied.
        """
        nothing = cls(dialect=dialect)
        try:
            content = orjson.loads(zlib.decompress(data)) if data else {}
        except (zlib.error, orjson.JSONDecodeError):
            return nothing
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            return nothing
        if content.get("dialect", "") not in ("", dialect):
            return nothing
        return cls(
            content["id"],
            content["digest"],
            content["sent"],
            dialect,
            content.get("links"),
            content.get("secondary", {}),
            tuple(content.get("refused", ())),
        )

    def id_of(self, entry: Entry) -> str:
        """The ``id`` of a resource on the server at the last delivery; empty if it is not known."""
        if entry.resource["resourceType"] == "ImagingStudy":
            return self.remote_id
        return self.secondary.get(entry.resource["id"], "")

    def retractions(self, mapped: Mapped) -> list[Entry]:
        """The secondary resources that are no longer made."""
        made = {one.entries[0].resource["id"] for one in mapped.secondary}
        return [
            Entry({**retracted(self.sent[resource_id]), "id": resource_id}, Write.RETRACT)
            for resource_id in self.secondary
            if resource_id not in made and resource_id in self.sent
        ]

    def unlinked(self, mapped: Mapped) -> tuple[str, ...]:
        """The types of the resources that were looked up and not found, as far as known."""
        if self.links is None:
            return ()
        sought = (entry for entry in mapped.everything if entry.write is Write.LINK and entry.search)
        missing = {entry.resource["resourceType"] for entry in sought if entry.resource["id"] not in self.links}
        return tuple(sorted(missing))


def digest(mapped: Mapped) -> str:
    """A digest that is equal for mappings that would write the same resources."""
    entries = [[entry.resource, entry.write, entry.search] for entry in mapped.everything]
    return hashlib.sha256(canonical(entries)).hexdigest()
