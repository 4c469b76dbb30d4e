"""A destination that is a FHIR server: find what it holds, merge, and write what differs in one transaction.

One delivery goes like this:

1. Map the study. The same as last time? Then nothing is sent and the server is not even asked.
2. Look up the ImagingStudy and the other resources (patient, endpoint...) at once: :mod:`dicom2fhir.fhir.send.find`.
   Nobody else creates these others meanwhile (in this process). Those that were seen there lately are not looked up,
   unless the study is to be sent again.
3. Merge ours with what is there: :mod:`dicom2fhir.fhir.send.merge`. What comes out as it was is not written.
4. Send the rest as one transaction. Existing resources are named with the version that was read, and new ones are
   created as in :mod:`dicom2fhir.fhir.send.creation`; a conflict means to begin again at 2. A refusal may mean that a
   linked resource has gone since it was looked up: so it is believed the second time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic

import structlog

from dicom2fhir.errors import (
    Ambiguous,
    EditConflict,
    Misshapen,
    NotExpressible,
    ServerRefused,
    ServerUnavailable,
)
from dicom2fhir.fhir.send import bundle
from dicom2fhir.fhir.send.answer_shape import require_id
from dicom2fhir.fhir.send.capabilities import Capabilities
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.creation import Course
from dicom2fhir.fhir.send.find import Lookup, Wanted, Writing, id_in, identity, version_of
from dicom2fhir.fhir.send.last_sent import Base, digest
from dicom2fhir.fhir.send.merge import canonical, has_marks, marked, marked_as, merge, without_version
from dicom2fhir.fhir.send.recognition import Dialect, Recognised, Recognition
from dicom2fhir.fhir.version.formats import Format
from dicom2fhir.model import Delivered, Entry, Mapped, Outcome, Refused, Resource, Retry, Study, Write

_CONFLICT_TRIES = 7
_CONFLICT_PAUSE_S = 0.05
"""HAPI under eight concurrent writers lets everybody through within 7 tries, 50 ms x try apart."""
_REMEMBERED = 10_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Plan:
    """What is to be written in one transaction, and what it refers to."""

    links: Mapping[str, str]
    """Of the last delivery (:class:`Base`)."""
    patient: Entry | None
    """Who was examined, where the study refers to a Patient."""
    targets: dict[str, str | None] = field(default_factory=dict)
    """Placeholder -> literal reference, or None for a reference by identifier."""
    steps: list[tuple[Entry, Resource | None]] = field(default_factory=list)
    """Entries to be created (None) or merged with what the server has."""

    def missing(self) -> frozenset[str]:
        """The identities that are not there, and that other studies may be creating too."""
        return frozenset(identity(entry) for entry, found in self.steps[1:] if found is None)


class FhirDestination(Generic[Dialect]):
    """Writes studies to one FHIR server. May be used from several threads, for one study by one at a time.

    Parameters
    ----------
    map_study
        Maps a study to resources in a FHIR version.
    dialect_for
        Gives the dialect for the ``fhirVersion`` of the server's ``/metadata``; raises LookupError or ValueError when
        there is none, ConfigError to say it in its own words. Then nothing is sent, and studies wait.
    budget_s
        After this time no further request of a delivery is begun: with the client's ``timeout_s``, the longest that
        :meth:`deliver` takes.
    format_
        Of what is sent; answers are asked for in JSON.
    """

    def __init__(
        self,
        name: str,
        client: FhirClient,
        map_study: Callable[[Study, Dialect], Mapped],
        dialect_for: Callable[[str], Dialect],
        *,
        budget_s: float = 240.0,
        format_: Format = "json",
    ) -> None:
        self.name = name
        self._client = client
        self._map_study = map_study
        self._recognition = Recognition(name, client, dialect_for, format_)
        self._budget_s = budget_s
        self._ids_by_server = False
        self._writing = Writing()

    def deliver(self, study: Study, base: bytes, again: bool = False) -> Outcome:
        """Bring the server up to this revision. What ``map_study`` raises is let through.

        Parameters
        ----------
        base
            From the last :class:`Delivered`; empty the first time.
        again
            Look at the server even when nothing changed since then: somebody may have changed or deleted it there.
        """
        if study.conflict:
            return Refused((study.conflict,), answered=False)
        try:
            server = self._recognition.server()
            mapped = self._map_study(study, server.dialect)
            last = Base.from_bytes(base, server.dialect.name)
            if last.digest == digest(mapped) and not again:
                unlinked = last.unlinked(mapped)
                return Delivered(base, False, mapped.fingerprint, answered=False, unlinked=unlinked)
            return self._try_until_settled(mapped, last, server, again)
        except ServerUnavailable as error:  # NotAuthorised too
            self._recognition.forget()
            return Retry(str(error), error.after_s, not error.alive, unclear=error.unclear, issues=error.issues)
        except EditConflict as error:
            return Retry(str(error), issues=error.issues)
        except ServerRefused as error:
            return Refused(error.issues)
        except (Ambiguous, Misshapen) as error:
            return Refused((str(error), *error.issues))
        except NotExpressible as error:
            return Refused((str(error),), answered=False)

    def _try_until_settled(self, mapped: Mapped, last: Base, server: Recognised[Dialect], again: bool) -> Delivered:
        lookup = Lookup(self._client, time.monotonic() + self._budget_s, server.batches)
        course = Course(ids_by_server=self._ids_by_server, looks_again=again)
        conflicts = 0
        refusal: ServerRefused | None = None
        while True:
            try:
                delivered = self._try_once(mapped, last, server, lookup, course)
            except EditConflict:
                conflicts += 1
                course.failures += 1
                if conflicts == _CONFLICT_TRIES:
                    raise
                time.sleep(_CONFLICT_PAUSE_S * conflicts * (1 + random.random()))  # noqa: S311 (no secret)
            except ServerRefused as error:
                server.shared.clear()
                last = replace(last, links={})  # one that could not be looked up again may be what is refused
                course.failures += 1
                if course.ids_by_server and refusal:
                    raise refusal from error
                if refusal and not course.guessed_ids:
                    raise
                course.ids_by_server = course.ids_by_server or refusal is not None
                refusal = error
            else:
                if course.ids_by_server and not self._ids_by_server:
                    self._ids_by_server = True
                    log.warning("server.ids_refused", destination=self.name)
                return delivered

    def _try_once(
        self, mapped: Mapped, last: Base, server: Recognised[Dialect], lookup: Lookup, course: Course
    ) -> Delivered:
        others = mapped.entries[1:]
        alone = frozenset(
            identity(entry) for entry in others if entry.write is not Write.LINK and not _seen(entry, server)
        )
        while True:
            with self._writing.hold(alone, lookup.deadline):
                plan = self._plan(mapped, last, server, lookup, course)
                if plan.missing() <= alone:
                    return self._carry_out(plan, mapped, server, lookup, course, last)
            alone |= plan.missing()  # gone, or forgotten meanwhile: somebody may be creating it just now

    def _plan(self, mapped: Mapped, last: Base, server: Recognised[Dialect], lookup: Lookup, course: Course) -> _Plan:
        study, *others = mapped.entries
        patient = next((entry for entry in others if entry.resource["resourceType"] == "Patient"), None)
        earlier = last.links or {}
        plan = _Plan(earlier, patient, _not_offered(others, server.capabilities, earlier))
        others = [entry for entry in others if entry.placeholder not in plan.targets]

        def wanted(entry: Entry, known_id: str = "") -> Wanted:
            return Wanted(entry, known_id, course.looks_by_own_id(entry, server.capabilities))

        unknown = [entry for entry in others if not _believed(entry, server, course)]
        lookup.prepare([wanted(study, last.remote_id), *map(wanted, unknown)])
        found = lookup.find(wanted(study, last.remote_id))
        plan.steps.append((study, found))
        if found is not None:
            plan.targets[study.placeholder] = _literal(found)
        for entry in {other.placeholder: other for other in others}.values():
            self._plan_other(plan, wanted(entry), server, lookup, course)
        return plan

    def _plan_other(
        self, plan: _Plan, wanted: Wanted, server: Recognised[Dialect], lookup: Lookup, course: Course
    ) -> None:
        entry = wanted.entry
        if believed := _believed(entry, server, course):
            plan.targets[entry.placeholder] = believed
            return
        try:
            found = lookup.find(wanted)
            if found is not None and entry.write is Write.LINK and _is_of_another(found, plan, lookup):
                log.warning(
                    "resource.not_linked", destination=self.name, type=found["resourceType"], kind="another-patient"
                )
                found = None
        except (Ambiguous, Misshapen, ServerRefused, ServerUnavailable) as error:
            if not _may_stay_unlinked(entry, error):
                raise
            kind = entry.resource["resourceType"]
            log.warning("resource.not_linked", destination=self.name, type=kind, kind=error.kind)
            earlier = None if isinstance(error, Ambiguous) else plan.links.get(entry.resource["id"])
            plan.targets[entry.placeholder] = earlier or bundle.unlinked(entry)
            return
        if found is not None:
            plan.targets[entry.placeholder] = _literal(found)
        if entry.write is Write.LINK:
            plan.targets.setdefault(entry.placeholder, bundle.unlinked(entry))
        elif found is not None and entry.write is Write.ENSURE and not course.has_replaced(entry):
            _remember(entry, _literal(found), server)
        elif found is None and entry.inside and not course.can_create(entry, server.capabilities):
            plan.targets[entry.placeholder] = bundle.unlinked(entry)
        else:
            plan.steps.append((entry, found))

    def _carry_out(
        self,
        plan: _Plan,
        mapped: Mapped,
        server: Recognised[Dialect],
        lookup: Lookup,
        course: Course,
        last: Base,
    ) -> Delivered:
        """Send what differs from what the server has."""
        requests: list[tuple[Entry, Resource]] = []
        created: set[str] = set()
        for entry, found in plan.steps:
            ours = bundle.refer(entry.resource, plan.targets, mapped.entries)
            if entry.write is Write.UPSERT:
                ours = marked(ours)
            if found is None:
                created.add(entry.placeholder)
                offered = server.capabilities.of(ours["resourceType"])
                requests.append((entry, course.creation(entry, ours, offered)))
                continue
            acquisition_only = server.dialect.acquisition_only
            merged = theirs = course.restored(entry, found, acquisition_only)
            if has_marks(ours) and not has_marks(theirs) and require_id(found) == entry.resource["id"]:
                # created under our id by a bridge that set no marks: its first version tells what is ours
                first = lookup.first(found)
                theirs = marked_as({name: first[name] for name in ours.keys() & first.keys()}, theirs)
            if entry.write is not Write.ENSURE:
                base = last.sent.get(entry.resource["id"])
                merged = merge(base, {**ours, "id": require_id(theirs)}, theirs, acquisition_only=acquisition_only)
            if canonical(without_version(merged)) != canonical(without_version(found)):
                update = bundle.update(without_version(merged), entry.placeholder, version_of(found))
                requests.append((entry, update))
        if requests:
            self._send(requests, created, plan, lookup, course)
        for entry, _ in plan.steps[1:]:
            if target := plan.targets.get(entry.placeholder):
                _remember(entry, target, server)
        remote = plan.targets.get(mapped.entries[0].placeholder) or ""
        sent = _base(plan, mapped, remote, last)
        return Delivered(sent.to_bytes(), course.written, mapped.fingerprint, unlinked=sent.unlinked(mapped))

    def _send(
        self,
        requests: list[tuple[Entry, Resource]],
        created: set[str],
        plan: _Plan,
        lookup: Lookup,
        course: Course,
    ) -> None:
        """Send one transaction, and note the ids of what it created."""
        lookup.check_time()
        responses = self._client.transaction(bundle.transaction(request for _, request in requests))
        course.written = True
        is_certain = True
        for (entry, request), response in zip(requests, responses, strict=True):
            resource_type = entry.resource["resourceType"]
            new_id = id_in(response.get("location"), resource_type) or request["resource"].get("id", "")
            if new_id:
                plan.targets[entry.placeholder] = f"{resource_type}/{new_id}"
            if entry.placeholder in created and not course.check(entry, request, response, lookup):
                is_certain = False
        if not is_certain:
            raise EditConflict("the server does not say that it created what was not there before")


def _seen(entry: Entry, server: Recognised[Dialect]) -> str:
    """The literal reference to a shared resource that the server is known to have as it is to be; else empty."""
    target, content = server.shared.get(identity(entry), ("", b""))
    is_as_wanted = target and (entry.write is Write.ENSURE or content == canonical(entry.resource))
    return target if is_as_wanted else ""


def _believed(entry: Entry, server: Recognised[Dialect], course: Course) -> str:
    """As :func:`_seen`, but empty where somebody wants the server to be looked at again."""
    return "" if course.looks_again else _seen(entry, server)


def _remember(entry: Entry, target: str, server: Recognised[Dialect]) -> None:
    if len(server.shared) >= _REMEMBERED:
        server.shared.clear()
    server.shared[identity(entry)] = (target, canonical(entry.resource))


def _may_stay_unlinked(entry: Entry, error: Exception) -> bool:
    """Whether the study can be written although a resource was not found because of this."""
    if isinstance(error, Ambiguous):
        return bool(entry.resource.get("identifier"))
    if isinstance(error, ServerUnavailable) and (error.after_s or not error.unclear):
        return False
    return _is_dispensable(entry)


def _is_of_another(found: Resource, plan: _Plan, lookup: Lookup) -> bool:
    """Whether an order or encounter is another patient's: issuers use the same numbers where they name no system."""
    if plan.patient is None or found["resourceType"] == "Patient":
        return False
    known = plan.targets.get(plan.patient.placeholder) or ""
    return lookup.is_of_another(found, plan.patient.resource, known.removeprefix("Patient/"))


def _is_dispensable(entry: Entry) -> bool:
    """Whether a study can do without finding what it refers to: not every server offers each type to everybody."""
    return entry.write is Write.LINK and (bool(entry.inside) or entry.resource["resourceType"] != "Patient")


def _not_offered(entries: Iterable[Entry], offered: Capabilities, earlier: Mapping[str, str]) -> dict[str, str | None]:
    """The placeholders of what a server without such resources need not be asked for, and what stands for them."""
    return {
        entry.placeholder: earlier.get(entry.resource["id"]) or bundle.unlinked(entry)
        for entry in entries
        if _is_dispensable(entry) and not offered.may_have(entry.resource["resourceType"])
    }


def _literal(resource: Resource) -> str:
    return f"{resource['resourceType']}/{require_id(resource)}"


def _base(plan: _Plan, mapped: Mapped, remote: str, last: Base) -> Base:
    # What was not looked at this time (it was known to be there) is as it was sent before.
    mapped_ids = {entry.resource["id"] for entry in mapped.entries}
    sent = {resource_id: resource for resource_id, resource in last.sent.items() if resource_id in mapped_ids}
    for entry, _ in plan.steps:
        ours = bundle.refer(entry.resource, plan.targets, mapped.entries)
        target = plan.targets.get(entry.placeholder)
        sent[entry.resource["id"]] = {**ours, "id": target.split("/")[1]} if target else ours
    links = {
        entry.resource["id"]: target
        for entry in mapped.entries
        if entry.write is Write.LINK and (target := plan.targets.get(entry.placeholder)) and target[0] != "#"
    }
    return Base(remote.partition("/")[2], digest(mapped), sent, last.dialect, links)
