"""What a FHIR destination remembers of a study's last delivery; the store keeps it as bytes.

It is a help, not a truth: without it (or when it cannot be read) the server is asked, and all that it holds counts as
somebody else's.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from dicom2fhir.fhir.send.merge import canonical
from dicom2fhir.model import Mapped, Resource, Write

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Base:
    """The last delivery.

    Attributes
    ----------
    remote_id
        ``id`` of the ImagingStudy on the server.
    digest
        Of the resources as mapped (:func:`digest`).
    sent
        The resources that we wrote, by the ``id`` they were mapped with: as we emit them, with references resolved and
        without what others added.
    dialect
        Name of the FHIR version that all this is in; empty where it was not kept.
    links
        The literal references to linked resources, by the ``id`` they were mapped with; None where it was not kept.
    """

    remote_id: str = ""
    digest: str = ""
    sent: Mapping[str, Resource] = field(default_factory=dict)
    dialect: str = ""
    links: Mapping[str, str] | None = None

    def to_bytes(self) -> bytes:
        """Compressed JSON."""
        content = {"format": _FORMAT, "id": self.remote_id, "digest": self.digest, "sent": dict(self.sent)}
        content |= {"dialect": self.dialect, "links": self.links}
        return zlib.compress(canonical(content))

    @classmethod
    def from_bytes(cls, data: bytes, dialect: str = "") -> Base:
        """Read what :meth:`to_bytes` wrote, to be used with ``dialect``.

        Empty when it cannot be read, and when it is in another FHIR version: the elements there have other names and
        shapes, and the server is another or was emptied.
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
        return cls(content["id"], content["digest"], content["sent"], dialect, content.get("links"))

    def unlinked(self, mapped: Mapped) -> tuple[str, ...]:
        """The types of the resources that were looked for and not found, as far as is known."""
        if self.links is None:
            return ()
        sought = (entry for entry in mapped.entries if entry.write is Write.LINK and entry.search)
        missing = {entry.resource["resourceType"] for entry in sought if entry.resource["id"] not in self.links}
        return tuple(sorted(missing))


def digest(mapped: Mapped) -> str:
    """Equal for mappings that would be written alike."""
    entries = [[entry.resource, entry.write, entry.search] for entry in mapped.entries]
    return hashlib.sha256(canonical(entries)).hexdigest()
