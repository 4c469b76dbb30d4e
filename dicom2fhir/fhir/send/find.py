"""Find our resources on a server, and lock the identities that are being written."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from dicom2fhir.errors import Ambiguous, EditConflict, NotAuthorised, ServerRefused, ServerUnavailable
from dicom2fhir.fhir.send.answer_shape import require_id, require_sound
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.merge import DICOM_UID_SYSTEM, canonical, without_version
from dicom2fhir.fhir.send.queries import Question, joined, sought
from dicom2fhir.mapped_resources import Entry, Write
from dicom2fhir.model import Json, Resource

_BATCH_TRIES = 3
"""Batches in a row that may fail while single requests succeed: a failure may be a temporary fault of the server."""
_BATCH_SIZE = 50

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WantedResource:
    """A resource to look up.

    Attributes
    ----------
    known_id
        Its id at the last delivery; empty if not known.
    by_own_id
        Whether the server may have it under our id although its search does not find it.
    """

    entry: Entry
    known_id: str = ""
    by_own_id: bool = False

    def questions(self) -> Iterator[Question]:
        """The questions that do not depend on an answer."""
        resource_type = self.entry.resource["resourceType"]
        if self.known_id:
            yield Question(resource_type, self.known_id)
            return
        if self.entry.search:
            yield Question(resource_type, query=self.entry.search)
        if self.by_own_id:
            yield Question(resource_type, self.entry.resource["id"])


class Batches:
    """Whether a server supports batches; thread-safe."""

    def __init__(self, destination: str, offered: bool) -> None:
        self._destination = destination
        self._tries = _BATCH_TRIES if offered else 0
        self._lock = threading.Lock()

    @property
    def are_taken(self) -> bool:
        """False once the server is known not to support them; this does not change again."""
        return self._tries > 0

    def succeeded(self) -> None:
        """Record that a batch was answered."""
        with self._lock:
            if self._tries:
                self._tries = _BATCH_TRIES

    def failed(self, is_refusal: bool) -> None:
        """Record that a batch was not answered, but its questions were answered one by one."""
        with self._lock:
            if not self._tries:
                return
            self._tries = 0 if is_refusal else self._tries - 1
            if not self._tries:
                log.warning("server.batch_refused", destination=self._destination)


class Lookup:
    """Finds resources for one delivery, which has until ``deadline`` (of ``time.monotonic``)."""

    def __init__(self, client: FhirClient, deadline: float, batches: Batches) -> None:
        self._client = client
        self.deadline = deadline
        self._batches = batches
        self._answers: dict[Question, list[Resource]] = {}
        self._unanswered: dict[Question, bool] = {}
        """Questions that a batch did not answer; whether it was refused."""

    def check_time(self) -> None:
        """Stop a delivery that takes too long: its claim may expire before it ends."""
        if time.monotonic() > self.deadline:
            raise ServerUnavailable(
                "the FHIR server is too slow: the delivery of a study exceeded its time limit", unclear=True
            )

    def forget(self) -> None:
        """Discard all answers: they may be outdated."""
        self._answers.clear()
        self._unanswered.clear()

    def know(self, earlier: Lookup) -> None:
        """Use the answers of another look-up, until :meth:`forget`."""
        self._answers |= earlier._answers

    def prepare(self, wanted: Iterable[WantedResource]) -> None:
        """Send in one batch the questions of :meth:`find` that have no answer yet.

        A failure is not raised: single requests show whether the server or its batches are at fault.
        """
        asked: dict[Question, list[Entry]] = {}
        for one in wanted:
            for question in one.questions():
                if question not in self._answers:
                    asked.setdefault(question, []).append(one.entry)
        questions = joined(asked)
        if len(asked) < 2:
            return
        for start in range(0, len(questions), _BATCH_SIZE):
            if self._batches.are_taken:
                some = list(questions)[start : start + _BATCH_SIZE]
                self._ask_all({question: questions[question] for question in some}, asked)

    def find(self, wanted: WantedResource) -> Resource | None:
        """The resource of an entry on the server: by its id at the last delivery, by its search, or by our id.

        Raises
        ------
        Ambiguous
            Several resources on the server match.
        Misshapen
            The resource on the server is not valid FHIR.
        """
        entry, known_id = wanted.entry, wanted.known_id
        resource_type, own_id = entry.resource["resourceType"], entry.resource["id"]
        found = self._ask(Question(resource_type, known_id), entry) if known_id else []
        # an id that one server assigned may belong to another study on another server
        if found and (known_id == own_id or _is_same(entry, found[0])):
            return found[0]
        if entry.search:
            matches = self._ask(Question(resource_type, query=entry.search), entry)
            matches = [item for item in matches if _is_same(entry, item) and not _is_void(entry, item)]
            if len(matches) > 1:
                ids = ", ".join(require_id(match) for match in matches)
                raise Ambiguous(f"several {resource_type} resources on the server match: {ids}")
            if matches:
                return matches[0]
        if not wanted.by_own_id or own_id == known_id:
            return None
        return next(iter(self._ask(Question(resource_type, own_id), entry)), None)

    def is_of_another(self, found: Resource, patient: Resource, known_id: str) -> bool:
        """Whether the subject of a resource has another identifier than this patient from the same issuer.

        Parameters
        ----------
        known_id
            The id of the Patient on the server; empty if not known.
        """
        subject = found.get("subject") or found.get("patient")  # Encounter.patient in DSTU2
        if not isinstance(subject, dict):
            return False
        subject_id = id_in(subject.get("reference"), "Patient")
        if subject_id and subject_id == known_id:
            return False
        self.check_time()
        theirs = self._client.read("Patient", subject_id) if subject_id else {"identifier": [subject.get("identifier")]}
        return _are_different(_identifiers(patient), _identifiers(theirs or {}))

    def _ask(self, question: Question, entry: Entry) -> list[Resource]:
        found = self._answers.get(question)
        if found is None:
            self.check_time()
            found = self._client.ask(question)
            if question in self._unanswered:
                self._batches.failed(self._unanswered[question])
                self._unanswered.clear()
        is_merged = entry.write in (Write.OWN, Write.UPSERT)
        for item in found:
            require_sound(item, entry.resource if is_merged else {})
        return found

    def _ask_all(self, questions: Mapping[Question, list[Question]], entries: Mapping[Question, list[Entry]]) -> None:
        """Send ``questions``, each for several (:func:`joined`), in one batch."""
        self.check_time()
        meant = [question for members in questions.values() for question in members]
        try:
            answers = self._client.ask_all(list(questions))
        except ServerUnavailable as error:  # NotAuthorised too
            if error.after_s:
                raise
            self._unanswered |= dict.fromkeys(meant, isinstance(error, NotAuthorised))
            return
        except (ServerRefused, EditConflict):
            self._unanswered |= dict.fromkeys(meant, True)
            return
        for (question, members), found in zip(questions.items(), answers, strict=True):
            shares = _shares(question, members, found or [], entries)
            # An ignored search parameter matches everything; a single search is refused then, by handling=strict.
            if found is None or any(all(item not in share for share in shares) for item in found):
                self._unanswered |= dict.fromkeys(members, False)
                continue
            self._answers |= zip(members, shares, strict=True)
        if not self._unanswered:
            self._batches.succeeded()

    def predecessor(self, ours: Resource, resource_id: str, version: str) -> Resource | None:
        """The resource that our version of a resource replaced, from its history.

        Parameters
        ----------
        version
            ``meta.versionId`` of ours; if it is empty or not in the history, the newest version is used.

        Returns
        -------
        Resource | None
            None if it replaced nothing, followed a deletion, or there is no history.
        """
        self.check_time()
        versions, _ = self._client.history(ours["resourceType"], resource_id)
        replaced = _version_before(version, versions)
        if replaced.get("resourceType") != ours["resourceType"]:
            return None
        require_sound(replaced, ours)
        return replaced

    def version_with(self, resource: Resource, resource_id: str) -> str:
        """The newest version with the content that we sent, from the history; empty if there is none."""
        self.check_time()
        versions, _ = self._client.history(resource["resourceType"], resource_id)
        sent = _content({**resource, "id": resource_id})
        return next((version_of(one) for one in versions if _content(one) == sent), "")

    def first(self, resource: Resource) -> Resource:
        """The first version of a resource on the server; empty if the server does not return it."""
        self.check_time()
        versions, are_all = self._client.history(resource["resourceType"], require_id(resource))
        if not versions or not are_all:
            return {}
        if all(version_of(found).isdecimal() for found in versions):
            return min(versions, key=lambda found: int(version_of(found)))  # as in _version_before
        return versions[-1]


def _content(resource: Resource) -> bytes:
    """What stays the same when a server stores a resource: in a transaction it replaces references."""
    return canonical(_without_targets(without_version(resource)))


def _without_targets(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _without_targets(item) for name, item in value.items() if name != "reference"}
    return [_without_targets(item) for item in value] if isinstance(value, list) else value


def _version_before(version: str, versions: Sequence[Resource]) -> Resource:
    """The version that another one replaced, from a history with the newest first; empty if there is none.

    The order of a history is that of times, and HAPI gives a version the time at which its request began: of two
    requests at the same moment, the one that is carried out last may have begun first. Numbers of versions decide,
    where a server counts them.
    """
    numbers = [version_of(found) for found in versions]
    if version.isdecimal() and (before := str(int(version) - 1)) in numbers:
        return versions[numbers.index(before)]
    at = numbers.index(version) if version in numbers else 0
    return versions[at + 1] if at + 1 < len(versions) else {}


def _shares(
    question: Question, members: Sequence[Question], found: list[Resource], entries: Mapping[Question, list[Entry]]
) -> list[list[Resource]]:
    """Of what a combined question found, the part that answers each of its members.

    Only the identifier that a member asks for decides: studies may have others in common, such as an accession number.
    """
    if not question.query:
        return [found]
    if len(members) == 1:
        ours = entries[members[0]]
        return [[item for item in found if any(_is_same(entry, item) for entry in ours)]]
    asked = [_asked(member) for member in members]
    return [[item for item in found if identifiers & _identifiers(item)] for identifiers in asked]


def identity(entry: Entry) -> str:
    """The key of a resource, independent of its id on a server."""
    return f"{entry.resource['resourceType']}?{entry.search or entry.resource['id']}"


def version_of(resource: Resource) -> str:
    """The ``meta.versionId`` from a server; empty if there is none."""
    return str(resource.get("meta", {}).get("versionId") or "")


def id_in(location: object, resource_type: str) -> str:
    """The id in the ``location`` of a response (``[base/]Type/id[/_history/version]``); empty if there is none."""
    found = re.search(rf"(?:^|/){resource_type}/([A-Za-z0-9\-.]{{1,64}})(?:/_history/|$)", str(location))
    return found[1] if found else ""


def _is_same(entry: Entry, theirs: Resource) -> bool:
    """Whether a match has an identifier that was searched for: a server that ignores a parameter matches everything.

    The other identifiers do not count: the resources of one document have its UID in common.
    """
    by_identifier = Question(entry.resource["resourceType"], query=entry.search)
    wanted = _asked(by_identifier) if entry.search.startswith("identifier=") else _identifiers(entry.resource)
    return not wanted or bool(wanted & _identifiers(theirs))


def _asked(question: Question) -> set[tuple[str, str]]:
    return {(system, _bare(system, value)) for system, value in sought(question)}


def _is_void(entry: Entry, found: Resource) -> bool:
    """Whether an order or encounter is "entered in error": https://hl7.org/fhir/R4/valueset-request-status.html."""
    return entry.write is Write.LINK and found.get("status") == "entered-in-error"


def _are_different(ours: set[tuple[str, str]], theirs: set[tuple[str, str]]) -> bool:
    """Whether the two sets have no common identifier and different values for some system."""
    return not ours & theirs and not {system for system, _ in ours}.isdisjoint(system for system, _ in theirs)


def _identifiers(resource: Resource) -> set[tuple[str, str]]:
    found = resource.get("identifier")
    several = found if isinstance(found, list) else [found]  # an ImagingManifest has one
    items = [item for item in several if isinstance(item, dict)]
    if isinstance(uid := resource.get("uid"), str):  # an ImagingStudy up to 3.2.0
        items.append({"system": DICOM_UID_SYSTEM, "value": uid})
    pairs = ((str(item.get("system", "")), item.get("value")) for item in items)
    return {(system, _bare(system, value)) for system, value in pairs if isinstance(value, str)}


def _bare(system: str, value: str) -> str:
    return value.removeprefix("urn:oid:") if system == DICOM_UID_SYSTEM else value


class Writing:
    """The identities that are being written, so that two threads never write the same one at the same time.

    HAPI stores duplicates if it gets concurrent conditional updates of one new identifier; so may other servers.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()

    @contextmanager
    def hold(self, keys: Collection[str], deadline: float) -> Iterator[None]:
        """Lock all of ``keys``; all at once, so that no thread waits while it holds some."""
        with self._changed:
            remaining = max(deadline - time.monotonic(), 0.0)
            if not self._changed.wait_for(lambda: self._held.isdisjoint(keys), remaining):
                raise EditConflict("timeout while waiting for another study that shares a resource with this one")
            self._held.update(keys)
        try:
            yield
        finally:
            with self._changed:
                self._held.difference_update(keys)
                self._changed.notify_all()
