"""Hides who a patient is in FHIR resources and in texts about a study."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from dicom2fhir.model import Attrs, Json, JsonObject, Resource, items_of, texts_of

MASK = "***"
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")

_IDENTIFYING = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientBirthName", "PatientMotherBirthName", "OtherPatientIDs"),
    *("OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers", "AccessionNumber", "AdmissionID", "StudyID"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy"),
)
"""Attributes whose values are hidden wherever they are repeated."""
_PERSONAL = frozenset(
    ("birthDate", "address", "telecom", "contact", "photo", "deceasedDateTime", "multipleBirthInteger", "data", "div")
)
"""Elements that are hidden as a whole; ``data`` is the content of an attachment."""
_WORD_CHARACTERS = 3
"""Shorter words of a name are too common to be looked for."""
_BEGINS = "(?:(?<!\\w)|(?<=%[0-9A-Fa-f]{2}))"
"""Where a word can begin, also in a URL."""
_PUBLIC = ("urn:oid:", "urn:uuid:", "urn:dicom:")
"""Identifiers that start like this are UIDs."""


class Masking:
    """Hides the values of one study.

    Parameters
    ----------
    attrs
        Its patient and study attributes, or several of them.
    """

    def __init__(self, *attrs: Attrs) -> None:
        self._attrs = attrs
        words = {word for one in attrs for word in _words(one)}
        alternatives = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
        self._pattern = re.compile(rf"{_BEGINS}(?:{alternatives})(?!\w)", re.IGNORECASE) if words else None

    def with_texts(self, texts: Iterable[str]) -> Masking:
        """One that also hides these texts."""
        return Masking(*self._attrs, {"OtherPatientNames": list(texts)})

    def text(self, text: str) -> str:
        """A text without the values of the study."""
        return self._pattern.sub(MASK, text) if self._pattern and not _UID.fullmatch(text) else text

    def resource(self, resource: Resource) -> Resource:
        """A resource without names, birth dates and identifiers of people, orders and admissions."""
        return {key: self._element(key, value, resource) for key, value in resource.items()}

    def _part(self, value: Json) -> Json:
        match value:
            case list():
                return [self._part(one) for one in value]
            case dict():
                return self.resource(value)
            case str():
                return value if value.startswith(_PUBLIC) else self.text(value)
            case _:
                return value

    def _element(self, key: str, value: Json, parent: JsonObject) -> Json:
        if key in _PERSONAL:
            return MASK
        if key == "name" and isinstance(value, list):  # of a person; an organization has a text
            return MASK
        if key == "value" and isinstance(value, str) and not value.startswith(_PUBLIC) and _is_identifier(parent):
            return MASK
        if key == "display" and ("reference" in parent or "identifier" in parent):
            return MASK
        return self._part(value)


def _is_identifier(element: JsonObject) -> bool:
    """Whether it is an Identifier: of the datatypes with a text in ``value``, the others have a unit or a code."""
    return not {"unit", "code", "comparator"} & element.keys()


def names_in(value: Json) -> Iterator[str]:
    """Names, birth dates and identifiers in a resource; one that was delivered may have others than the study now."""
    match value:
        case list():
            for one in value:
                yield from names_in(one)
        case dict():
            for key, one in value.items():
                is_number = key == "value" and isinstance(one, str) and _is_identifier(value)
                is_name = key == "birthDate" or (key == "name" and isinstance(one, list))
                yield from (_texts(one) if is_number or is_name else names_in(one))


def _texts(value: Json) -> Iterator[str]:
    match value:
        case list():
            for one in value:
                yield from _texts(one)
        case dict():
            yield from _texts(list(value.values()))
        case str() if not value.startswith(_PUBLIC):
            yield value


def _words(attrs: Attrs) -> Iterator[str]:
    for keyword in _IDENTIFYING:
        for text in texts_of(attrs.get(keyword)):
            words = [word for word in re.split(r"[\^=\s]+", text) if len(word) >= _WORD_CHARACTERS]
            yield from words
            yield from (quote(word, safe="") for word in words)
            yield from (f"{date[1]}-{date[2]}-{date[3]}" for word in words if (date := _DATE.fullmatch(word)))
    for value in attrs.values():
        for item in items_of(value):
            yield from _words(item)
