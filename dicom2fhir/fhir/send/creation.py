"""Creating a resource that others may create at the same moment, so that nothing of theirs is lost.

1. A creation under an id of ours is sent so that the server refuses it when the resource is there already. Servers that
   check versions take version 0 for that, which no resource has (HAPI ignores ``If-None-Match``, and ``If-Match`` where
   there is nothing); all others, and everybody at the second try, take ``If-None-Match: *`` (RFC 9110 section 13.1.2).
   A refusal is an edit conflict.
2. A server may ignore both. Then it answers 200 in place of 201, and what was there is in the history: ours is merged
   with it, as if it had been found before.
3. An answer that does not say whether something was created counts as 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dicom2fhir.errors import EditConflict, ServerRefused
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.send.answer_shape import require_sound
from dicom2fhir.fhir.send.capabilities import Capabilities, TypeCapabilities
from dicom2fhir.fhir.send.find import Lookup, id_in, identity, version_of
from dicom2fhir.fhir.send.merge import merge
from dicom2fhir.model import Entry, Resource, Write

_NO_VERSION = "0"
_VERSION = re.compile(r'(?:/_history/|^(?:W/)?"?)([A-Za-z0-9\-.]{1,64})"?$')
"""In a ``location``, or in an ``etag`` with or without its quotes (HAPI has none)."""


@dataclass(frozen=True, slots=True)
class _Replaced:
    """What our creation stands in place of on the server."""

    theirs: Resource
    version: str
    """Of ours on the server; empty when it did not say."""


@dataclass(slots=True)
class Course:
    """How one delivery is to be tried; changed by what the server answers.

    Attributes
    ----------
    ids_by_server
        Let the server choose the id of what is created.
    looks_again
        Look even at what the server is known to have: somebody may have changed or deleted it there.
    guessed_ids
        Whether our own ids were used with a server that does not say if it takes them.
    failures
        Tries that the server did not take.
    written
        Whether the server took a transaction.
    """

    ids_by_server: bool
    looks_again: bool = False
    guessed_ids: bool = False
    failures: int = 0
    written: bool = False
    _doubtful: set[str] = field(default_factory=set)
    """Identities that the server must have, whether we created them or not."""
    _replaced: dict[str, _Replaced] = field(default_factory=dict)

    def _takes_ids(self, offered: TypeCapabilities) -> bool:
        return offered.update_create or (offered.update_create is None and not self.ids_by_server)

    def _creates_by_version(self, offered: TypeCapabilities) -> bool:
        return offered.checks_versions and not self.failures

    def looks_by_own_id(self, entry: Entry, capabilities: Capabilities) -> bool:
        """Whether to ask for our id besides searching: not where a creation under it is refused if it is taken."""
        if entry.write is Write.LINK:
            return False
        offered = capabilities.of(entry.resource["resourceType"])
        return not entry.search or (self._takes_ids(offered) and not self._creates_by_version(offered))

    def can_create(self, entry: Entry, capabilities: Capabilities) -> bool:
        """Whether the server can be given a resource that will be found again: by an id of ours, or by a search."""
        return bool(entry.search) or self._takes_ids(capabilities.of(entry.resource["resourceType"]))

    def creation(self, entry: Entry, resource: Resource, offered: TypeCapabilities) -> Resource:
        """The Bundle entry that creates a resource without ever making a second one."""
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

    def check(self, entry: Entry, request: Resource, response: Resource, lookup: Lookup) -> bool:
        """Whether a creation was one, by its ``response``; if not, the resource has to be looked at again."""
        if response.get("status") == "201":
            return True
        resource, resource_type = request["resource"], entry.resource["resourceType"]
        known_id = id_in(response.get("location"), resource_type) or resource.get("id", "")
        leaves_alone = request["request"]["method"] == "POST"
        if leaves_alone and entry.write is Write.ENSURE and known_id:
            return True
        self._doubtful.add(identity(entry))
        if known_id and not leaves_alone:
            version = _version_in(response)
            theirs = lookup.predecessor(resource, known_id, version)
            if theirs is not None:
                self._replaced[identity(entry)] = _Replaced(theirs, version)
        return False

    def has_replaced(self, entry: Entry) -> bool:
        """Whether our creation of a resource stands in place of somebody else's."""
        return identity(entry) in self._replaced

    def restored(self, entry: Entry, found: Resource, acquisition_only: bool) -> Resource:
        """What the server would hold if our creation had not replaced anything."""
        replaced = self._replaced.get(identity(entry))
        if replaced is None:
            return found
        if version_of(found) == replaced.version:
            return replaced.theirs
        require_sound(replaced.theirs, found)
        # Somebody went on from ours meanwhile: what they wrote stands, and only what is missing comes back.
        return merge(None, found, replaced.theirs, acquisition_only=acquisition_only)


def _version_in(response: Resource) -> str:
    """The version that a response names."""
    for name in ("etag", "location"):
        if found := _VERSION.search(str(response.get(name, ""))):
            return found[1]
    return ""
