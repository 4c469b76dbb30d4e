"""The delivery of one study in parts: first its ImagingStudy with what it needs, then its secondary resources.

Secondary resources are written by a transaction of their own, so that one which the server refuses holds nothing back.
They are sent together; if the server refuses that, each is sent alone, and only what is refused then is left out. What
is no longer made is marked as entered in error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.creation import Course
from dicom2fhir.fhir.send.delivery import Delivery, Written
from dicom2fhir.fhir.send.find import Lookup, WantedResource
from dicom2fhir.fhir.send.last_sent import Base
from dicom2fhir.fhir.send.recognition import Recognised
from dicom2fhir.mapped_resources import Entry, Mapped
from dicom2fhir.outcomes import Delivered

Part = tuple[Entry, ...]
"""A secondary resource, then those that it refers to; or a resource that is no longer made."""


@dataclass(slots=True)
class StudyDelivery:
    """The delivery of one study to one server.

    Attributes
    ----------
    destination
        Its name, for the log.
    digest
        Of ``mapped``.
    is_due
        Whether anything may have to be sent: the study differs from the last delivery, or is to be sent again.
    last
        The last delivery.
    course
        How each part begins.
    is_late_part
        As :attr:`dicom2fhir.model.Study.is_late_part`.
    refused
        The secondary resources that are left out, each with the reason.
    """

    destination: str
    client: FhirClient
    server: Recognised
    mapped: Mapped
    digest: str
    is_due: bool
    last: Base
    lookup: Lookup
    course: Course
    is_late_part: bool = False
    refused: list[str] = field(default_factory=list)
    _written: list[tuple[Delivery, Written]] = field(default_factory=list)

    def main(self) -> Delivery:
        """The delivery of the ImagingStudy."""
        delivery = self._delivery(self.mapped.entries, {})
        delivery.later = self.secondary(self.parts()).wanted()
        return delivery

    def parts(self) -> list[Part]:
        """The secondary resources that the server can have."""
        every = [one.entries for one in self.mapped.secondary]
        every += [(entry,) for entry in self.last.retractions(self.mapped)]
        return [part for part in every if self._is_offered(part)]

    def not_offered(self) -> Iterator[str]:
        """The types of secondary resources that the server does not have."""
        left_out = (one.entries[0] for one in self.mapped.secondary if not self._is_offered(one.entries))
        return (f"{type_}: the server does not offer it" for type_ in {e.resource["resourceType"]: 0 for e in left_out})

    def secondary(self, parts: Iterable[Part]) -> Delivery:
        """The delivery of secondary resources together, after the ImagingStudy."""
        entries = {entry.placeholder: entry for part in parts for entry in part}
        # what is not written, because it is refused or not offered, is referred to by identifier
        others = {one.entries[0].placeholder for one in self.mapped.secondary} - entries.keys()
        known: dict[str, str | None] = dict.fromkeys(others)
        for _, written in self._written:
            known |= {one: target for one, target in written.targets.items() if target or one not in entries}
        return self._delivery(tuple(entries.values()), known)

    def _delivery(self, entries: tuple[Entry, ...], known: Mapping[str, str | None]) -> Delivery:
        course = replace(self.course)
        return Delivery(
            self.destination, self.client, self.server, self.mapped, entries, self.last, self.lookup, course, known,
            is_late_part=self.is_late_part,
        )  # fmt: skip

    def _is_offered(self, part: Part) -> bool:
        return self.server.capabilities.may_have(part[0].resource["resourceType"])

    def wanted_ahead(self) -> list[WantedResource]:
        """The resources that may be looked up before other studies are written."""
        return [*self.main().wanted_ahead(), *self.secondary(self.parts()).wanted_ahead()]

    def record(self, delivery: Delivery, written: Written) -> None:
        """Record that a part was written."""
        self._written.append((delivery, written))
        self.course.ids_by_server |= delivery.course.ids_by_server

    @property
    def is_main_written(self) -> bool:
        """Whether the server has accepted a transaction with the ImagingStudy just now."""
        return any(delivery.course.written for delivery, _ in self._written[:1])

    def delivered(self) -> Delivered:
        """The outcome, after all parts."""
        sent = self._sent()
        return Delivered(
            sent.to_bytes(),
            any(delivery.course.written for delivery, _ in self._written),
            self.mapped.fingerprint,
            unlinked=sent.unlinked(self.mapped),
            unclaimed=self.mapped.unclaimed,
            refused=sent.refused,
        )

    def unchanged(self, base: bytes) -> Delivered:
        """The outcome if nothing is due."""
        return Delivered(
            base,
            False,
            self.mapped.fingerprint,
            answered=False,
            unlinked=self.last.unlinked(self.mapped),
            unclaimed=self.mapped.unclaimed,
            refused=self.last.refused,
        )

    def _sent(self) -> Base:
        own = {entry.resource["id"]: entry for part in self.parts() for entry in part[:1]}
        secondary = {resource_id: self.last.secondary.get(resource_id, "") for resource_id in own}
        sent = {resource_id: self.last.sent[resource_id] for resource_id in own if resource_id in self.last.sent}
        links: dict[str, str] = {}
        for delivery, written in self._written:
            sent |= written.sent
            links |= written.links
            mine = (entry.resource["id"] for entry in delivery.entries if entry.resource["id"] in own)
            secondary |= {resource_id: written.id_of(own[resource_id]) for resource_id in mine}
        gone = {resource_id for resource_id, remote_id in secondary.items() if not remote_id}
        return Base(
            self._written[0][1].id_of(self.mapped.entries[0]),
            self.digest,
            {resource_id: item for resource_id, item in sent.items() if resource_id not in gone},
            self.last.dialect,
            links,
            {resource_id: remote_id for resource_id, remote_id in secondary.items() if remote_id},
            tuple(self.refused),
        )
