"""What a destination got last of a study, beside what it would get now; for people to look at."""

from __future__ import annotations

from collections.abc import Iterator

from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.send.last_sent import Base, digest
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource

Pair = tuple[Resource, Resource]
"""A resource as it was delivered last, empty if it was not, and as it is made now."""


def compared(last: Base, mapped: Mapped) -> tuple[Pair, ...] | None:
    """The resources that may differ from those of the last delivery.

    A resource that other studies share, and that this delivery did not write, is not compared.

    Returns
    -------
    tuple[Pair, ...] | None
        None if the last delivery was not kept.
    """
    if last.digest == digest(mapped):
        return ()
    if mapped.entries[0].resource["id"] not in last.sent:
        return None
    return tuple(_pairs(last, mapped))


def _pairs(last: Base, mapped: Mapped) -> Iterator[Pair]:
    targets = _targets(last, mapped)
    for entry in (*mapped.everything, *last.retractions(mapped)):
        before = last.sent.get(entry.resource["id"], {})
        if before or entry.write is Write.OWN:
            now = bundle.refer(entry.resource, targets, mapped.everything)
            yield before, now | {"id": before.get("id", now["id"])}


def _targets(last: Base, mapped: Mapped) -> dict[str, str | None]:
    """Placeholder -> target of the references in :attr:`Base.sent`; a directory got the placeholders themselves."""
    if last.links is None:
        return {}
    return {entry.placeholder: target for entry in mapped.everything if (target := _target(last, entry)) != ""}


def _target(last: Base, entry: Entry) -> str | None:
    """Empty if it was not kept."""
    mapped_id, links = entry.resource["id"], last.links or {}
    if entry.write is Write.LINK:
        return links.get(mapped_id) or bundle.unlinked(entry)
    remote_id = last.id_of(entry) or last.sent.get(mapped_id, {}).get("id", "")
    return f"{entry.resource['resourceType']}/{remote_id}" if remote_id else ""
