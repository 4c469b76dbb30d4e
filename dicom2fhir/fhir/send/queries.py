"""Reads and searches, and the resources that their answers contain, alone or as entries of a batch response."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote, unquote

from dicom2fhir.errors import Misshapen
from dicom2fhir.fhir.send.answer_shape import entries_of
from dicom2fhir.fhir.send.lenient import as_object, as_objects
from dicom2fhir.fhir.send.merge import DICOM_UID_SYSTEM
from dicom2fhir.fhir.send.operation_outcome import status_in
from dicom2fhir.model import Resource

NOT_THERE = frozenset({404, 410})
"""Statuses of a read if the resource never existed or was deleted."""
_MATCHES = 5
_BY_IDENTIFIER = re.compile(r"identifier=[^&]+")


@dataclass(frozen=True, slots=True)
class Question:
    """A read by ``resource_id``, or a search by ``query`` (percent-encoded) for at most ``most`` matches."""

    resource_type: str
    resource_id: str = ""
    query: str = ""
    most: int = _MATCHES

    @property
    def url(self) -> str:
        """The URL, relative to the base of the server."""
        if self.query:
            return f"{self.resource_type}?{self.query}&_count={self.most}"
        return f"{self.resource_type}/{quote(self.resource_id, safe='')}"


def joined(questions: Iterable[Question]) -> dict[Question, list[Question]]:
    """Combine questions: combined question -> the questions that it answers.

    Searches of one type by identifier become one: values separated by commas mean any of them
    (https://hl7.org/fhir/R4/search.html#combining).
    """
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        can_join = _BY_IDENTIFIER.fullmatch(question.query)
        groups.setdefault((question.resource_type, "" if can_join else question.url), []).append(question)
    return {_any_of(members): members for members in groups.values()}


def _any_of(questions: Sequence[Question]) -> Question:
    if len(questions) == 1:
        return questions[0]
    values = ",".join(question.query.removeprefix("identifier=") for question in questions)
    most = sum(question.most for question in questions)
    return Question(questions[0].resource_type, query=f"identifier={values}", most=most)


def sought(question: Question) -> set[tuple[str, str]]:
    """Systems and values of the identifiers that a search by identifier asks for.

    A resource with any of them is a match. Escapes are those of
    https://hl7.org/fhir/R4/search.html#escaping. A value alone is a UID (ImagingObjectSelection).
    """
    tokens = question.query.removeprefix("identifier=").split(",")
    pairs = (token.partition("%7C") if "%7C" in token else (DICOM_UID_SYSTEM, "", token) for token in tokens)
    return {(_unescaped(system), _unescaped(value)) for system, _, value in pairs}


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", unquote(text))


def matches(bundle: Resource, question: Question) -> list[Resource]:
    """The resources of a searchset that are matches of the question."""
    found = [
        entry["resource"]
        for entry in entries_of(bundle)
        if as_object(entry.get("resource")).get("resourceType") == question.resource_type
        and as_object(entry.get("search")).get("mode", "match") == "match"
    ]
    return found[: question.most]


def _goes_on(bundle: Resource) -> bool:
    """Whether a searchset has another page."""
    return any(link.get("relation") == "next" for link in as_objects(bundle.get("link")))


def is_of_another(question: Question, entry: Resource) -> bool:
    """Whether an entry of a batch response has resources of another type than the question's."""
    resource = as_object(entry.get("resource"))
    try:
        items = [as_object(item.get("resource")) for item in entries_of(resource)] or [resource]
    except Misshapen:
        return False
    found = {kind for item in items if isinstance(kind := item.get("resourceType"), str)}
    found -= {"Bundle", "OperationOutcome"}
    return bool(found) and question.resource_type not in found


def found_in(question: Question, entry: Resource) -> list[Resource] | None:
    """The resources found by an entry of a batch response; None if it is not a usable answer to the question."""
    resource = as_object(entry.get("resource"))
    try:
        status = status_in(as_object(entry.get("response")))
    except ValueError:
        return None
    if question.resource_id and status in NOT_THERE:
        return []
    if status is None or not 200 <= status < 300:
        return None
    kind = resource.get("resourceType")
    if question.query:
        if kind != "Bundle" or (question.most > _MATCHES and _goes_on(resource)):
            return None
        with suppress(Misshapen):  # a single request shows the reason
            return matches(resource, question)
        return None
    is_it = (kind, resource.get("id")) == (question.resource_type, question.resource_id)
    return [resource] if is_it else None
