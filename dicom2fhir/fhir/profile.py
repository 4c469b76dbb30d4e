"""Profiles as data: one TOML file says what a country or a project asks of an ImagingStudy beyond its FHIR version.

The files that come along lie in ``profiles/``; an operator may name one of their own. What the keys mean stands with
each field here, and :mod:`dicom2fhir.fhir.conform` does what a profile says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

from dicom2fhir.model import Resource
from dicom2fhir.versions import canonical

Missing = Literal["omit", "sentinel", "refuse"]
"""When a required value is not there: leave out what it belongs to (and the claim to the profile, where that is the
resource), write the profile's placeholder, or write nothing of the study."""

FhirType = Literal[
    "boolean", "code", "CodeableConcept", "Coding", "date", "dateTime", "decimal", "integer", "Period", "Quantity",
    "Reference", "string", "url",
]  # fmt: skip
VERSIONS = ("R4", "R4B", "R5")
"""Those whose elements a profile may speak of."""

_KEYWORD = r"[A-Za-z][A-Za-z0-9]*"
_SOURCE = re.compile(rf"@[a-zA-Z.]+|{_KEYWORD}(/{_KEYWORD})?(\+{_KEYWORD}(/{_KEYWORD})?)?")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _of(*known: str) -> AfterValidator:
    def check(table: dict[str, Any]) -> dict[str, Any]:
        if wrong := table.keys() - set(known):
            raise ValueError(f"{', '.join(sorted(wrong))}: must be of {', '.join(known)}")
        return table

    return AfterValidator(check)


class Code(_Table):
    """A code."""

    system: str
    code: str
    display: str = ""

    def as_json(self) -> Resource:
        """Its Coding."""
        return {key: value for key, value in self.model_dump().items() if value}


def _sources(value: Any) -> Any:
    values = (value,) if isinstance(value, str) else value
    if isinstance(values, list | tuple):
        for one in values:
            if not isinstance(one, str) or not _SOURCE.fullmatch(one):
                raise ValueError(
                    'must be DICOM keywords such as "KVP", "StudyDate+StudyTime" or "Sequence/Keyword", or "@element"'
                )
    return values


Sources = Annotated[tuple[str, ...], BeforeValidator(_sources)]
Source = Annotated[str, BeforeValidator(lambda value: (_sources(value) or ("",))[0])]


def _dates_are_typed(table: Any) -> Any:
    is_time = table.type == "dateTime" or getattr(table, "since", ())
    if not is_time and any("+" in source for source in table.from_):
        raise ValueError('a date with its time needs type = "dateTime"')
    return table


class Value(_Table):
    """A value taken from attributes.

    Attributes
    ----------
    from_
        ``from``: where it is looked for, the preferred one first: the keyword of an attribute, two as ``DATE+TIME``,
        ``SEQUENCE/KEYWORD`` of a sequence's items, or ``@ELEMENT`` of the ImagingStudy as it stands, and of the series
        at hand ``@series.ELEMENT``.
    unit, factor
        Of a Quantity: its UCUM code; what a number is multiplied by.
    index
        Which one of several values, from 0.
    listed
        All values, as ``[a, b]``.
    present
        ``true`` where any of the attributes has a value.
    since
        The seconds from this moment to the one of ``from``; where it is looked for, the preferred one first.
    until
        Of a Period: the time of day when it ends, within half a day after its start.
    not_after, lasting
        For a time without a date (TM): sources of the latest moment that it can have, the preferred one first, and of
        the duration in seconds to add to that moment. The time lies on that day, or on the day before if it is later.
        Without such a moment it lies on the day of the series.
    codes
        Of a Coding: name of the table in ``codes`` that it must be of.
    modalities
        Only for series of these.
    required, required_for
        Whether it must be there; for series of which modalities.
    """

    from_: Sources = Field((), alias="from")
    type: FhirType = "string"
    unit: str = ""
    factor: float = 1
    index: int | None = Field(None, ge=0)
    listed: bool = False
    present: bool = False
    since: Sources = ()
    until: Source = ""
    not_after: Sources = ()
    lasting: Source = ""
    codes: str = ""
    modalities: tuple[str, ...] = ()
    required: bool = False
    required_for: tuple[str, ...] = ()

    _typed = model_validator(mode="after")(_dates_are_typed)


class Refer(_Table):
    """A reference to the first of some of the profile's resources of which anything is known."""

    resource: tuple[str, ...]
    required: bool = False


class First(_Table):
    """The first of several values that is there."""

    first: tuple[Value, ...]
    type: FhirType = "string"
    required: bool = False


class Group(dict[str, Any]):
    """A table of a template; ``when_known``: left out when nothing in it is known."""

    when_known = False


def _template(value: Any) -> Any:
    """JSON with the places for values marked: a table with ``from``, ``first`` or ``resource`` is such a place."""
    if isinstance(value, dict):
        for key, model in (("from", Value), ("first", First), ("resource", Refer)):
            if key in value:
                given = {**value, key: [value[key]]} if isinstance(value[key], str) else value
                return model.model_validate(given)
        group = Group({key: _template(inner) for key, inner in value.items() if key != "when_known"})
        group.when_known = value.get("when_known") is True
        return group
    return [_template(inner) for inner in value] if isinstance(value, list) else value


def _written(value: Any) -> Any:
    """A template as it stands in a file."""
    if isinstance(value, Group):
        inner = {key: _written(item) for key, item in value.items()}
        return {**inner, "when_known": True} if value.when_known else inner
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return [_written(item) for item in value] if isinstance(value, list) else value


Template = Annotated[Any, PlainValidator(_template), PlainSerializer(_written)]


class Rule(_Table):
    """What a profile says of one element of ImagingStudy.

    Attributes
    ----------
    path
        ``description``, ``series.bodySite``, ``series.instance.title``...
    type
        For the placeholder of a missing value.
    from_
        ``from``: where the value is taken from, instead of from where the mapping took it, if it is there.
    value
        What the element holds, whatever the mapping wrote.
    default
        What it holds when the mapping wrote nothing.
    codes
        Name of the table in ``codes`` that its codes must be of.
    words
        A concept that is but a code gets that code as its text.
    first_by
        Of a list, the first item for each value of this member (``function`` of ``series.performer``).
    placeholder
        ``false``: no placeholder ever stands for a missing value, because none can be true.
    types
        What its references, or those of its items to an ``actor``, may point at. Others are left out of a list;
        anything else of another type breaks the profile.
    """

    path: str = Field(pattern=r"^[a-zA-Z]+(\.[a-zA-Z]+)*$")
    type: FhirType = "string"
    from_: Sources = Field((), alias="from")
    value: Template = None
    default: Template = None
    codes: str = ""
    words: bool = False
    first_by: str = ""
    types: tuple[str, ...] = ()
    at_most: int | None = Field(None, ge=0)
    required: bool = False
    placeholder: bool = True

    _typed = model_validator(mode="after")(_dates_are_typed)


class Part(Value):
    """An extension, or a part of one: its value, or its parts, or a reference to one of the profile's resources.

    Attributes
    ----------
    many
        One for each value of the attribute.
    """

    url: str = Field(min_length=1)
    many: bool = False
    resource: tuple[str, ...] = ()
    part: tuple[Part, ...] = ()


class Extension(Part):
    """An extension of the study, of each series or of each instance."""

    at: Literal["study", "series", "instance"]


class Include(_Table):
    """Codes of one system that may stand in an element.

    Attributes
    ----------
    codes
        Which; empty: all of the system.
    from_system
        The system that the mapping writes them in; empty: the same.
    rename
        The mapping's code -> the profile's.
    words
        Text in capital letters -> the code that it stands for.
    displays
        Code -> its display, where the profile prescribes one.
    """

    system: str
    codes: tuple[str, ...] = ()
    from_system: str = ""
    rename: dict[str, str] = {}
    words: dict[str, str] = {}
    displays: dict[str, str] = {}


class Codes(_Table):
    """The codes that an element may have, and what becomes of all others."""

    include: tuple[Include, ...] = Field(min_length=1)
    otherwise: Missing | Code


class Identifiers(_Table):
    """Which identifiers the study has, and what else their types say."""

    allowed: tuple[Literal["uid", "accession", "study-id"], ...] = ("uid", "accession", "study-id")
    coding: Annotated[dict[str, Code], _of("uid", "accession")] = {}


class Orders(_Table):
    """The accession numbers in ``basedOn``: only the first with a system has a type; the others keep their numbers."""

    coding: tuple[Code, ...] = ()


class Made(_Table):
    """A resource that the profile adds.

    Attributes
    ----------
    profile
        Canonical URL that it claims; empty: none.
    """

    type: str = Field(pattern="^[A-Z][A-Za-z]+$")
    profile: str = ""
    value: Template


class Person(_Table):
    """What is asked of the Patient that is written beside the study.

    Where the operator has patients updated (``upsert``), no placeholder ever stands for what is missing: it would
    replace what the server knows.
    """

    profile: str = ""
    element: tuple[Rule, ...] = ()
    extension: tuple[Part, ...] = ()


class Profile(_Table):
    """A whole file.

    Attributes
    ----------
    versions
        FHIR version -> canonical URL of the profile (``meta.profile``), empty for none.
    missing
        What to do when a required value is missing, unless the operator says otherwise.
    sentinels
        Datatype -> what stands for a value that is required and missing.
    """

    name: str
    title: str
    doc: str
    versions: Annotated[dict[Annotated[str, BeforeValidator(canonical)], str], _of(*VERSIONS)] = Field(min_length=1)
    missing: Missing = "omit"
    sentinels: Annotated[dict[str, Any], _of(*get_args(FhirType))] = {}
    identifiers: Identifiers = Identifiers()
    orders: Orders | None = None
    codes: dict[str, Codes] = {}
    resource: dict[str, Made] = {}
    element: tuple[Rule, ...] = ()
    extension: tuple[Extension, ...] = ()
    patient: Person = Person()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Those of all resources."""
        return (*self.element, *self.patient.element)

    @property
    def extensions(self) -> tuple[Part, ...]:
        """Those of all resources."""
        return (*self.extension, *self.patient.extension)

    def sources(self) -> Iterator[tuple[str, str]]:
        """Every place that names attributes, and the attributes named there (``KVP``, ``Sequence/Keyword``)."""
        for where, template in self._templates():
            for source in template.from_ if isinstance(template, Rule) else sources_in(template):
                if not source.startswith("@"):
                    yield from ((where, keyword) for keyword in source.split("+"))

    def code_tables(self) -> Iterator[tuple[str, str]]:
        """Every place that names a table of codes, and its name."""
        for where, template in self._templates():
            if isinstance(template, Rule):
                yield from ((where, codes) for codes in (template.codes,) if codes)
            else:
                yield from ((where, value.codes) for value in values_in(template) if value.codes)

    def _templates(self) -> Iterator[tuple[str, Any]]:
        for rule in self.rules:
            yield from ((f"element {rule.path}", template) for template in (rule, rule.value, rule.default))
        for extension in self.extensions:
            yield f"extension {extension.url}", extension
        for name, made in self.resource.items():
            yield f"resource.{name}", made.value


def values_in(template: Any) -> Iterator[Value]:
    """Every value that a template or an extension takes from attributes."""
    if isinstance(template, Value):
        yield template
    inner: Any = ()
    match template:
        case Part():
            inner = template.part
        case First():
            inner = template.first
        case dict():
            inner = template.values()
        case list():
            inner = template
    for one in inner:
        yield from values_in(one)


def sources_in(template: Any) -> Iterator[str]:
    """Every source that a template or an extension names, as it is written there."""
    for value in values_in(template):
        yield from (*value.from_, *value.since, *value.not_after)
        yield from (source for source in (value.until, value.lasting) if source)
