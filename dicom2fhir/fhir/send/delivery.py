"""The delivery of resources of one study in one transaction: look up, decide which to write, resolve references, send.

Existing resources are updated with the version that was read (``If-Match``), and new ones are created as in
:mod:`dicom2fhir.fhir.send.creation`. A resource that :mod:`dicom2fhir.fhir.send.merge` does not change is not written.
Shared resources that were seen on the server recently are not looked up, unless the study is to be sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from dicom2fhir.errors import Ambiguous, EditConflict, Misshapen, ServerRefused, ServerUnavailable
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.send.answer_shape import require_id
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.creation import Course
from dicom2fhir.fhir.send.find import Lookup, WantedResource, id_in, identity, version_of
from dicom2fhir.fhir.send.last_sent import Base
from dicom2fhir.fhir.send.late_merge import merge_late
from dicom2fhir.fhir.send.merge import (
    canonical,
    has_marks,
    marked,
    marked_as,
    merge,
    without_instances,
    without_version,
)
from dicom2fhir.fhir.send.recognition import Recognised
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource

_REMEMBERED = 10_000

log = structlog.get_logger(__name__)


_OF_THIS_STUDY = (Write.OWN, Write.RETRACT)
"""Resources that no other study writes."""


@dataclass(slots=True)
class Plan:
    """The resources to write in one transaction, and the targets of their references."""

    links: Mapping[str, str]
    """Of the last delivery (:class:`Base`)."""
    patient: Entry | None
    """The Patient, if the study refers to one."""
    targets: dict[str, str | None] = field(default_factory=dict)
    """Placeholder -> literal reference, or None for a reference by identifier."""
    steps: list[tuple[Entry, Resource | None]] = field(default_factory=list)
    """Entries to be created (None) or merged with the resource on the server."""

    def missing(self) -> frozenset[str]:
        """The identities that the server does not have and that other studies may also create."""
        shared = ((entry, found) for entry, found in self.steps if entry.write not in _OF_THIS_STUDY)
        return frozenset(identity(entry) for entry, found in shared if found is None)


@dataclass(frozen=True, slots=True)
class Written:
    """What a delivery has brought about.

    Attributes
    ----------
    sent, links
        As in :class:`Base`.
    targets
        Of :class:`Plan`.
    """

    sent: Mapping[str, Resource]
    links: Mapping[str, str]
    targets: Mapping[str, str | None]

    def id_of(self, entry: Entry) -> str:
        """The ``id`` of a resource on the server; empty if it is not there."""
        return (self.targets.get(entry.placeholder) or "").partition("/")[2]


@dataclass(slots=True)
class Delivery:
    """The delivery of some resources.

    Attributes
    ----------
    destination
        Its name, for the log.
    mapped
        All resources of the study: references may have to be resolved to contained ones.
    entries
        Those that are delivered, and those that they refer to.
    last
        The last delivery of the study.
    lookup
        The known resources of the server; call ``forget`` before another try.
    known
        The targets of references that an earlier delivery of the study has found.
    later
        What a later delivery of the study wants, to be looked up in the same batch.
    is_late_part
        As :attr:`dicom2fhir.model.Study.is_late_part`.
    """

    destination: str
    client: FhirClient
    server: Recognised
    mapped: Mapped
    entries: tuple[Entry, ...]
    last: Base
    lookup: Lookup
    course: Course
    known: Mapping[str, str | None] = field(default_factory=dict)
    later: Sequence[WantedResource] = ()
    is_late_part: bool = False

    def shared(self) -> frozenset[str]:
        """The identities of resources that other studies may create at the same time."""
        others = (entry for entry in self._unknown() if entry.write not in (*_OF_THIS_STUDY, Write.LINK))
        return frozenset(identity(entry) for entry in others if not _seen(entry, self.server))

    def wanted(self) -> list[WantedResource]:
        """The resources to look up."""
        left_out = self._not_offered()
        entries = (entry for entry in self._unknown() if entry.placeholder not in left_out)
        return [self._wanted(entry) for entry in entries if not self._believed(entry)]

    def _unknown(self) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.placeholder not in self.known)

    def wanted_ahead(self) -> list[WantedResource]:
        """The resources that may be looked up before other studies are written.

        If a server does not check versions, a resource that studies update in turn is read just before it is written:
        nothing else would keep what the study before has written.
        """
        return [
            one
            for one in self.wanted()
            if one.entry.write is not Write.UPSERT
            or self.server.capabilities.of(one.entry.resource["resourceType"]).checks_versions
        ]

    def plan(self) -> Plan:
        """Look up the resources that are not known, and decide which to write."""
        everything = self.mapped.everything
        patient = next((entry for entry in everything if entry.resource["resourceType"] == "Patient"), None)
        plan = Plan(self.last.links or {}, patient, {**self._not_offered(), **self.known})
        self.lookup.prepare([*self.wanted(), *self.later])
        for entry in self._unknown():
            if entry.write in _OF_THIS_STUDY:
                self._plan_own(plan, entry)
            elif entry.placeholder not in plan.targets:
                self._plan_other(plan, entry)
        return plan

    def _wanted(self, entry: Entry) -> WantedResource:
        known_id = self.last.id_of(entry) if entry.write in _OF_THIS_STUDY else ""
        return WantedResource(entry, known_id, self.course.looks_by_own_id(entry, self.server.capabilities))

    def _plan_own(self, plan: Plan, entry: Entry) -> None:
        found = self.lookup.find(self._wanted(entry))
        if found is not None:
            plan.targets[entry.placeholder] = _literal(found)
        if found is not None or entry.write is not Write.RETRACT:
            plan.steps.append((entry, found))

    def _plan_other(self, plan: Plan, entry: Entry) -> None:
        if believed := self._believed(entry):
            plan.targets[entry.placeholder] = believed
            return
        try:
            found = self.lookup.find(self._wanted(entry))
            if found is not None and entry.write is Write.LINK and self._is_of_another(found, plan):
                log.warning(
                    "resource.not_linked",
                    destination=self.destination,
                    type=found["resourceType"],
                    kind="another-patient",
                )
                found = None
        except (Ambiguous, Misshapen, ServerRefused, ServerUnavailable) as error:
            if not _may_stay_unlinked(entry, error):
                raise
            kind = entry.resource["resourceType"]
            log.warning("resource.not_linked", destination=self.destination, type=kind, kind=error.kind)
            earlier = None if isinstance(error, Ambiguous) else plan.links.get(entry.resource["id"])
            plan.targets[entry.placeholder] = earlier or bundle.unlinked(entry)
            return
        if found is not None:
            plan.targets[entry.placeholder] = _literal(found)
        if entry.write is Write.LINK:
            plan.targets.setdefault(entry.placeholder, bundle.unlinked(entry))
        elif found is not None and entry.write is Write.ENSURE and not self.course.may_have_replaced(entry):
            _remember(entry, _literal(found), self.server)
        elif found is None and entry.inside and not self.course.can_create(entry, self.server.capabilities):
            plan.targets[entry.placeholder] = bundle.unlinked(entry)
        else:
            plan.steps.append((entry, found))

    def carry_out(self, plan: Plan) -> Written:
        """Send the resources that differ from those on the server."""
        requests: list[tuple[Entry, Resource]] = []
        created: set[str] = set()
        for entry, found in plan.steps:
            ours = bundle.refer(entry.resource, plan.targets, self.mapped.everything)
            if entry.write is Write.UPSERT:
                ours = marked(ours)
            if found is None:
                created.add(entry.placeholder)
                offered = self.server.capabilities.of(ours["resourceType"])
                requests.append((entry, self.course.creation(entry, ours, offered)))
                continue
            acquisition_only = self.server.dialect.acquisition_only
            merged = theirs = self.course.restored(entry, found, self.lookup, acquisition_only)
            if has_marks(ours) and not has_marks(theirs) and require_id(found) == entry.resource["id"]:
                # created under our id by a bridge that did not set marks: its first version shows what is ours
                first = self.lookup.first(found)
                theirs = marked_as({name: first[name] for name in ours.keys() & first.keys()}, theirs)
            if ours["resourceType"] == "ImagingStudy" and self.mapped.rejected:
                theirs = without_instances(theirs, self.mapped.rejected)
            if self.is_late_part and ours["resourceType"] == "ImagingStudy":
                merged = merge_late(ours, theirs, acquisition_only=acquisition_only)
            elif entry.write is not Write.ENSURE:
                base = self.last.sent.get(entry.resource["id"])
                merged = merge(base, {**ours, "id": require_id(theirs)}, theirs, acquisition_only=acquisition_only)
            if canonical(without_version(merged)) != canonical(without_version(found)):
                update = bundle.update(without_version(merged), entry.placeholder, version_of(found))
                requests.append((entry, update))
        if requests:
            self._send(requests, created, plan)
        self.course.settle(entry for entry, _ in plan.steps)
        for entry, _ in plan.steps:
            target = plan.targets.get(entry.placeholder)
            if target and entry.write not in _OF_THIS_STUDY:
                _remember(entry, target, self.server)
        return self._written(plan)

    def _send(self, requests: list[tuple[Entry, Resource]], created: set[str], plan: Plan) -> None:
        """Send one transaction, and record the ids of the created resources."""
        self.lookup.check_time()
        try:
            responses = self.client.transaction(bundle.transaction(request for _, request in requests))
        except ServerUnavailable:
            for entry, request in requests:
                if entry.placeholder in created:
                    self.course.not_answered(entry, request)
            raise
        self.course.written = True
        is_certain = True
        for (entry, request), response in zip(requests, responses, strict=True):
            resource_type = entry.resource["resourceType"]
            new_id = id_in(response.get("location"), resource_type) or request["resource"].get("id", "")
            if new_id:
                plan.targets[entry.placeholder] = f"{resource_type}/{new_id}"
            if entry.placeholder in created and not self.course.check(entry, request, response):
                is_certain = False
        if not is_certain:
            raise EditConflict("the server did not confirm that it created a new resource")

    def _written(self, plan: Plan) -> Written:
        # Resources that were not looked up this time (known to exist) are as they were sent before.
        ids = {entry.resource["id"] for entry in self.entries}
        sent = {resource_id: item for resource_id, item in self.last.sent.items() if resource_id in ids}
        for entry, _ in plan.steps:
            ours = bundle.refer(entry.resource, plan.targets, self.mapped.everything)
            target = plan.targets.get(entry.placeholder)
            sent[entry.resource["id"]] = {**ours, "id": target.split("/")[1]} if target else ours
        links = {
            entry.resource["id"]: target
            for entry in self.entries
            if entry.write is Write.LINK and (target := plan.targets.get(entry.placeholder)) and target[0] != "#"
        }
        return Written(sent, links, plan.targets)

    def _believed(self, entry: Entry) -> str:
        """Like :func:`_seen`, but empty if the server's resources are to be looked up again."""
        return "" if self.course.looks_again else _seen(entry, self.server)

    def _is_of_another(self, found: Resource, plan: Plan) -> bool:
        """Whether an order or encounter belongs to another patient: numbers without a system are not unique."""
        if plan.patient is None or found["resourceType"] == "Patient":
            return False
        known = plan.targets.get(plan.patient.placeholder) or ""
        return self.lookup.is_of_another(found, plan.patient.resource, known.removeprefix("Patient/"))

    def _not_offered(self) -> dict[str, str | None]:
        """Resources of types that the server does not have, which are not looked up: placeholder -> target."""
        earlier = self.last.links or {}
        return {
            entry.placeholder: earlier.get(entry.resource["id"]) or bundle.unlinked(entry)
            for entry in self.entries
            if _is_dispensable(entry) and not self.server.capabilities.may_have(entry.resource["resourceType"])
        }


def _seen(entry: Entry, server: Recognised) -> str:
    """The literal reference to a shared resource that is known to be up to date on the server; else empty."""
    target, content = server.shared.get(identity(entry), ("", b""))
    is_as_wanted = target and (entry.write is Write.ENSURE or content == canonical(entry.resource))
    return target if is_as_wanted else ""


def _remember(entry: Entry, target: str, server: Recognised) -> None:
    if len(server.shared) >= _REMEMBERED:
        server.shared.clear()
    server.shared[identity(entry)] = (target, canonical(entry.resource))


def _may_stay_unlinked(entry: Entry, error: Exception) -> bool:
    """Whether the study can be written although this error prevented the look-up of a resource."""
    if isinstance(error, Ambiguous):
        return bool(entry.resource.get("identifier"))
    if isinstance(error, ServerUnavailable) and (error.after_s or not error.unclear):
        return False
    return _is_dispensable(entry)


def _is_dispensable(entry: Entry) -> bool:
    """Whether a study can be written without the look-up: not every server offers each type to each client."""
    return entry.write is Write.LINK and (bool(entry.inside) or entry.resource["resourceType"] != "Patient")


def _literal(resource: Resource) -> str:
    return f"{resource['resourceType']}/{require_id(resource)}"
