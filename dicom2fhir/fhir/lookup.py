"""Which resource on a server is ours, and which of them are being written just now."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from dicom2fhir.errors import Ambiguous, EditConflict, ServerUnavailable
from dicom2fhir.fhir.client import FhirClient
from dicom2fhir.fhir.merge import DICOM_UID_SYSTEM
from dicom2fhir.model import Entry, Resource, Write

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""https://hl7.org/fhir/R4/datatypes.html#id"""


class Lookup:
    """Finds resources for one delivery, which has until ``deadline`` (of ``time.monotonic``)."""

    def __init__(self, client: FhirClient, deadline: float) -> None:
        self._client = client
        self.deadline = deadline

    def check_time(self) -> None:
        """Give up a delivery that takes too long, whose claim may end before it does."""
        if time.monotonic() > self.deadline:
            raise ServerUnavailable("the FHIR server is too slow: a study takes longer than its time limit")

    def find(self, entry: Entry, known_id: str = "") -> Resource | None:
        """What the server holds of an entry: under the id it had last time, by its search, or under our own id.

        Raises
        ------
        Ambiguous
            Several resources on the server match.
        """
        resource_type = entry.resource["resourceType"]
        self.check_time()
        found = self._client.read(resource_type, known_id) if known_id else None
        # an id that the server chose is another study's on another server
        if found is not None and (known_id == entry.resource["id"] or _is_same(entry.resource, found)):
            return found
        if entry.search:
            self.check_time()
            matches = [
                item for item in self._client.search(resource_type, entry.search) if _is_same(entry.resource, item)
            ]
            if len(matches) > 1:
                ids = ", ".join(id_of(match) for match in matches)
                raise Ambiguous(f"several {resource_type} resources on the server match: {ids}")
            if matches:
                return matches[0]
        if entry.write is Write.LINK or entry.resource["id"] == known_id:
            return None
        self.check_time()
        return self._client.read(resource_type, entry.resource["id"])

    def predecessor(self, resource_type: str, resource_id: str, version: str) -> Resource | None:
        """What a version of a resource replaced; see :meth:`FhirClient.predecessor`."""
        self.check_time()
        return self._client.predecessor(resource_type, resource_id, version)


def identity(entry: Entry) -> str:
    """What a resource is known by, whatever its id is on a server."""
    return f"{entry.resource['resourceType']}?{entry.search or entry.resource['id']}"


def id_of(resource: Resource) -> str:
    """The ``id`` that a server gave."""
    found = resource.get("id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise ServerUnavailable(f"the server sends a {resource.get('resourceType')} without a usable id")
    return found


def version_of(resource: Resource) -> str:
    """The ``meta.versionId`` that a server gave; empty when it gives none."""
    return str((resource.get("meta") or {}).get("versionId") or "")


def id_in(location: object, resource_type: str) -> str:
    """The id in the ``location`` of a response (``[base/]Type/id[/_history/version]``); empty when there is none."""
    found = re.search(rf"(?:^|/){resource_type}/({_ID.pattern})(?:/_history/|$)", str(location))
    return found[1] if found else ""


def _is_same(ours: Resource, theirs: Resource) -> bool:
    """Whether a match shares an identifier with ours: a server that ignores a parameter matches everything."""
    wanted = _identifiers(ours)
    return not wanted or bool(wanted & _identifiers(theirs))


def _identifiers(resource: Resource) -> set[tuple[str, str]]:
    found = resource.get("identifier")
    items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    if isinstance(uid := resource.get("uid"), str):  # an ImagingStudy up to 3.2.0
        items.append({"system": DICOM_UID_SYSTEM, "value": uid})
    return {(str(item.get("system", "")), _bare(item)) for item in items if isinstance(item.get("value"), str)}


def _bare(identifier: Resource) -> str:
    value = str(identifier["value"])
    return value.removeprefix("urn:oid:") if identifier.get("system") == DICOM_UID_SYSTEM else value


class Writing:
    """The identities that are being written, so that no two threads write the same one at once.

    HAPI stores duplicates when conditional updates of one new identifier meet, and so may any server.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()

    @contextmanager
    def hold(self, keys: Collection[str], deadline: float) -> Iterator[None]:
        """Have all of ``keys`` alone; all at once, so that nobody waits while holding some."""
        with self._changed:
            remaining = max(deadline - time.monotonic(), 0.0)
            if not self._changed.wait_for(lambda: self._held.isdisjoint(keys), remaining):
                raise EditConflict("another study that shares a resource with this one is being written for long")
            self._held.update(keys)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(keys)
                self._changed.notify_all()
