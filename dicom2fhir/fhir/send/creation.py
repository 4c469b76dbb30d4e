"""Create a resource that other clients may create at the same time, without losing their content.

1. A creation under our id is conditional: the server refuses it if the resource exists. If the server checks versions,
   the condition is version 0, which no resource has (HAPI ignores ``If-None-Match``, and ``If-Match`` if there is no
   resource); for all others, and for all servers at the second try, it is ``If-None-Match: *`` (RFC 9110 section
   13.1.2). A refusal is an edit conflict.
2. A server may ignore both. Then it answers 200 instead of 201, and the replaced resource is in the history: ours is
   merged with it, as if it had been found before.
3. An answer that does not say whether the resource was created is treated as in 2.
4. So is a lost answer: our resource may be on the server and have replaced another client's. The next delivery of the
   study finds it in the history by its content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from dicom2fhir.errors import EditConflict, ServerRefused
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.send.answer_shape import require_id, require_sound
from dicom2fhir.fhir.send.capabilities import Capabilities, TypeCapabilities
from dicom2fhir.fhir.send.find import Lookup, id_in, identity, version_of
from dicom2fhir.fhir.send.merge import merge
from dicom2fhir.fhir.send.unsettled import Creation, Unsettled
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Resource

_NO_VERSION = "0"
_VERSION = re.compile(r'(?:/_history/|^(?:W/)?"?)([A-Za-z0-9\-.]{1,64})"?$')
"""The version in a ``location``, or in an ``etag`` with or without quotes (HAPI sends none)."""


@dataclass(slots=True)
class Course:
    """How the next try of one delivery is made; the server's answers change it.

    Attributes
    ----------
    unsettled
        The creations of all deliveries to this server that may have replaced other clients' resources.
    ids_by_server
        Let the server assign the ids of new resources.
    looks_again
        Look up also the resources that the server is known to have: they may have been changed or deleted there.
    guessed_ids
        Whether our ids were used with a server that does not say if it accepts them.
    failures
        Number of failed tries.
    written
        Whether the server accepted a transaction.
    """

    unsettled: Unsettled
    ids_by_server: bool
    looks_again: bool = False
    guessed_ids: bool = False
    failures: int = 0
    written: bool = False
    _doubtful: set[str] = field(default_factory=set)
    """Identities that the server must have, created by us or by others."""

    def _takes_ids(self, offered: TypeCapabilities) -> bool:
        return offered.update_create or (offered.update_create is None and not self.ids_by_server)

    def _creates_by_version(self, offered: TypeCapabilities) -> bool:
        return offered.checks_versions and not self.failures

    def looks_by_own_id(self, entry: Entry, capabilities: Capabilities) -> bool:
        """Whether to read by our id besides searching: not needed if the server refuses to create an id that exists."""
        if entry.write is Write.LINK:
            return False
        offered = capabilities.of(entry.resource["resourceType"])
        return not entry.search or (self._takes_ids(offered) and not self._creates_by_version(offered))

    def can_create(self, entry: Entry, capabilities: Capabilities) -> bool:
        """Whether a resource created on the server can be found again: by our id, or by a search."""
        return bool(entry.search) or self._takes_ids(capabilities.of(entry.resource["resourceType"]))

    def creation(self, entry: Entry, resource: Resource, offered: TypeCapabilities) -> Resource:
        """The Bundle entry that creates a resource and never a duplicate."""
        if identity(entry) in self._doubtful:
            raise EditConflict(
                f"the server reported that it stored the {resource['resourceType']}, but does not find it"
            )
        if self._takes_ids(offered):
            self.guessed_ids |= offered.update_create is None
            if self._creates_by_version(offered):
                return bundle.update(resource, entry.placeholder, _NO_VERSION)
            return bundle.create_as(resource, entry.placeholder)
        if not entry.search:
            kind = resource["resourceType"]
            raise ServerRefused(
                f"the server does not accept client-assigned ids, and nothing else identifies the {kind}"
            )
        nameless = {name: value for name, value in resource.items() if name != "id"}
        if offered.conditional_update and not offered.conditional_create and entry.write is not Write.ENSURE:
            return bundle.conditional_update(nameless, entry.placeholder, entry.search)
        return bundle.create(nameless, entry.placeholder, entry.search)

    def check(self, entry: Entry, request: Resource, response: Resource) -> bool:
        """Whether the resource was created, by its ``response``; if not, it has to be looked up again."""
        if response.get("status") == "201":
            return True
        resource, resource_type = request["resource"], entry.resource["resourceType"]
        known_id = id_in(response.get("location"), resource_type) or resource.get("id", "")
        leaves_alone = request["request"]["method"] == "POST"
        if leaves_alone and entry.write is Write.ENSURE and known_id:
            return True
        self._doubtful.add(identity(entry))
        if known_id and not leaves_alone:
            self.unsettled.add(identity(entry), Creation(resource, _version_in(response), is_answered=True))
        return False

    def not_answered(self, entry: Entry, request: Resource) -> None:
        """Record a creation that the server may have carried out."""
        if request["request"]["method"] != "POST":
            self.unsettled.add(identity(entry), Creation(request["resource"], "", is_answered=False))

    def may_have_replaced(self, entry: Entry) -> bool:
        """Whether our creation of a resource may have replaced another client's."""
        return self.unsettled.get(identity(entry)) is not None

    def restored(self, entry: Entry, found: Resource, lookup: Lookup, acquisition_only: bool) -> Resource:
        """The resource that the server would have if our creation had not replaced anything."""
        creation = self.unsettled.get(identity(entry))
        if creation is None:
            return found
        version = creation.version or lookup.version_with(creation.resource, require_id(found))
        if not version and not creation.is_answered:
            return found
        theirs = lookup.predecessor(creation.resource, require_id(found), version)
        if theirs is None:
            return found
        if version_of(found) == version:
            return theirs
        require_sound(theirs, found)
        # Another client has changed ours since: its changes are kept, and only what is missing is restored.
        return merge(None, found, theirs, acquisition_only=acquisition_only)

    def settle(self, entries: Iterable[Entry]) -> None:
        """Record that these resources are on the server, with what our creation may have replaced."""
        for entry in entries:
            self.unsettled.remove(identity(entry))


def _version_in(response: Resource) -> str:
    """The version in a response."""
    for name in ("etag", "location"):
        if found := _VERSION.search(str(response.get(name, ""))):
            return found[1]
    return ""
