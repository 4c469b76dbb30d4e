"""Profiles as data: one TOML file says what a country or a project asks of an ImagingStudy beyond its FHIR version.

The files that come along lie in ``profiles/``; an operator may name one of their own. ``Field(description=...)`` is the
only place where a key is documented: ``docs/profile-format.md`` is made from it. :mod:`dicom2fhir.fhir.profile.apply`
applies a profile.
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

from dicom2fhir.fhir.version.names import canonical
from dicom2fhir.model import Resource

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
    """A code of a code system."""

    system: str = Field(description="URI of the code system.")
    code: str = Field(description="The code.")
    display: str = Field("", description="Its display.")

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


class ValueSource(_Table):
    """A value that is taken from DICOM attributes."""

    from_: Sources = Field(
        (),
        alias="from",
        description="Where the value is looked for, the preferred source first: a keyword (`KVP`), a date with its time"
        " (`StudyDate+StudyTime`), an attribute of a sequence's items (`Sequence/Keyword`), or `@element` and"
        " `@series.element`: what the ImagingStudy, or the series at hand, has in that element so far.",
    )
    type: FhirType = Field(
        "string", description=f"FHIR datatype of the value: {', '.join(f'`{name}`' for name in get_args(FhirType))}."
    )
    unit: str = Field("", description="Of a Quantity: its UCUM code.")
    factor: float = Field(1, description="What a number is multiplied by.")
    index: int | None = Field(None, ge=0, description="Of an attribute with several values: which one, from 0.")
    listed: bool = Field(False, description="`true` writes all values as one text, `[a, b]`.")
    present: bool = Field(False, description="`true` writes the boolean `true` where any of the sources has a value.")
    since: Sources = Field(
        (),
        description="Sources of a start, the preferred one first: the value is the number of seconds from there to the"
        " time in `from`.",
    )
    until: Source = Field(
        "", description="Of a Period: source of the time of day when it ends, within half a day after its start."
    )
    not_after: Sources = Field(
        (),
        description="For a time without a date (TM): sources of the latest moment that it can have, the preferred one"
        " first. The time lies on that day, or on the day before if it is later. Without such a moment it lies on the"
        " day of the series.",
    )
    lasting: Source = Field(
        "", description="Source of a duration in seconds, which is added to the moment of `not_after`."
    )
    codes: str = Field("", description="Of a Coding: the table in `codes` that it must be of.")
    modalities: tuple[str, ...] = Field((), description="Only for series of these modalities; empty: for all.")
    required: bool = Field(False, description="Whether the value must be there; see `missing`.")
    required_for: tuple[str, ...] = Field((), description="The modalities of series for which it must be there.")

    _typed = model_validator(mode="after")(_dates_are_typed)


class ReferenceTo(_Table):
    """A reference to a resource that the profile adds."""

    resource: tuple[str, ...] = Field(
        description="Names of tables in `resource`: the first is taken of which the data set says anything."
    )
    required: bool = Field(
        False, description="`true` writes the first one even where the data set says nothing of any of them."
    )


class FirstValue(_Table):
    """The first of several values that is there."""

    first: tuple[ValueSource, ...] = Field(description="The values, the preferred one first.")
    type: FhirType = Field("string", description="FHIR datatype of the placeholder for a missing value.")
    required: bool = Field(False, description="Whether one of them must be there; see `missing`.")


class TemplateObject(dict[str, Any]):
    """A JSON object of a template; ``when_known``: left out when the data set says nothing of what is in it."""

    when_known = False


def _template(value: Any) -> Any:
    """JSON with the places for values marked: a table with ``from``, ``first`` or ``resource`` is such a place."""
    if isinstance(value, dict):
        for key, model in (("from", ValueSource), ("first", FirstValue), ("resource", ReferenceTo)):
            if key in value:
                given = {**value, key: [value[key]]} if isinstance(value[key], str) else value
                return model.model_validate(given)
        group = TemplateObject({key: _template(inner) for key, inner in value.items() if key != "when_known"})
        group.when_known = value.get("when_known") is True
        return group
    return [_template(inner) for inner in value] if isinstance(value, list) else value


def _written(value: Any) -> Any:
    """A template as it stands in a file."""
    if isinstance(value, TemplateObject):
        inner = {key: _written(item) for key, item in value.items()}
        return {**inner, "when_known": True} if value.when_known else inner
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return [_written(item) for item in value] if isinstance(value, list) else value


Template = Annotated[Any, PlainValidator(_template), PlainSerializer(_written)]


class ElementRule(_Table):
    """What a profile says of one element. The keys act in the order in which they stand here."""

    path: str = Field(
        pattern=r"^[a-zA-Z]+(\.[a-zA-Z]+)*$",
        description="Path of the element without the resource type: `description`, `series.bodySite`,"
        " `series.instance.title`; in `patient.element`, of the Patient.",
    )
    type: FhirType = Field("string", description="FHIR datatype of the value of `from`, and of a placeholder.")
    from_: Sources = Field(
        (),
        alias="from",
        description="Where the value is taken from, if it is there, instead of from where the mapping took it. Sources"
        " are written as those of a value.",
    )
    value: Template = Field(None, description="What the element holds, whatever the mapping wrote: a template.")
    default: Template = Field(None, description="What the element holds when the mapping wrote nothing: a template.")
    codes: str = Field("", description="The table in `codes` that the element's codes must be of.")
    words: bool = Field(
        False, description="`true` gives a CodeableConcept without text and displays its first code as text."
    )
    types: tuple[str, ...] = Field(
        (),
        description="Resource types that its references, or those of its items' `actor`, may point at. Others are left"
        " out of a list; a single reference to another type breaks the profile.",
    )
    first_by: str = Field(
        "",
        description="Of a list: the first item for each value of this member is kept (`function` of"
        " `series.performer`).",
    )
    at_most: int | None = Field(None, ge=0, description="Of a list: how many items are kept, the first ones.")
    required: bool = Field(False, description="Whether the element must be there; see `missing`.")
    placeholder: bool = Field(
        True, description="`false`: no placeholder ever stands for a missing value, because none can be true."
    )

    _typed = model_validator(mode="after")(_dates_are_typed)


class ExtensionPart(ValueSource):
    """An extension of the Patient, or a part of an extension."""

    url: str = Field(min_length=1, description="URL of the extension; of a part, its name.")
    many: bool = Field(False, description="`true` writes one extension for each value of the attribute.")
    resource: tuple[str, ...] = Field(
        (),
        description="Instead of a value: a reference to the first of these tables in `resource` of which the data set"
        " says anything.",
    )
    part: tuple[ExtensionPart, ...] = Field(
        (), description="Instead of a value: the parts of an extension that has several."
    )


class Extension(ExtensionPart):
    """An extension holds a value, with the keys of a value, or parts, or a reference."""

    at: Literal["study", "series", "instance"] = Field(
        description="Where the extension stands. Only `[[extension]]` has this key."
    )


class Include(_Table):
    """Codes of one system that may stand in an element, as in ``ValueSet.compose.include``."""

    system: str = Field(description="URI of the code system, as the profile writes it.")
    codes: tuple[str, ...] = Field((), description="The codes; empty: all of the system.")
    from_system: str = Field("", description="The system that the mapping writes them in; empty: the same.")
    rename: dict[str, str] = Field({}, description="The mapping's code -> the profile's.")
    words: dict[str, str] = Field({}, description="Text in capital letters -> the code that it stands for.")
    displays: dict[str, str] = Field({}, description="Code -> its display, where the profile prescribes one.")


class CodeTable(_Table):
    """The codes that an element may have."""

    include: tuple[Include, ...] = Field(min_length=1, description="The codes, system by system.")
    otherwise: Missing | Code = Field(
        description="What becomes of any other code: `omit`, `sentinel` or `refuse` as a missing value, or a code that"
        " stands in its place."
    )


class IdentifierRules(_Table):
    """Which identifiers the study has, and what else their types say."""

    allowed: tuple[Literal["uid", "accession", "study-id"], ...] = Field(
        ("uid", "accession", "study-id"), description="The identifiers that are kept."
    )
    coding: Annotated[dict[str, Code], _of("uid", "accession")] = Field(
        {}, description="`uid` or `accession` -> a code that is added to the type of that identifier."
    )


class OrderRules(_Table):
    """The accession numbers in ``basedOn``: only the first one with a system keeps a type."""

    coding: tuple[Code, ...] = Field((), description="Codes that are added to that type.")


class AddedResource(_Table):
    """A resource that the profile adds. It is contained in what refers to it."""

    type: str = Field(pattern="^[A-Z][A-Za-z]+$", description="Resource type.")
    profile: str = Field("", description="Canonical URL that it claims (`meta.profile`); empty: none.")
    value: Template = Field(description="Its elements: a template.")


class PatientProfile(_Table):
    """What is asked of the Patient that is written beside the study.

    With ``fhir.patient = "upsert"`` no placeholder stands for what is missing: it would replace what the server knows.
    """

    profile: str = Field("", description="Canonical URL that the Patient claims; empty: none.")
    element: tuple[ElementRule, ...] = Field((), description="Rules for elements of the Patient.")
    extension: tuple[ExtensionPart, ...] = Field((), description="Extensions of the Patient.")


class Profile(_Table):
    """A whole file."""

    name: str = Field("", description="Name of the profile; by default that of the file.")
    title: str = Field(description="One line for people.")
    doc: str = Field(description="What the profile is, and what is done where it leaves something open.")
    versions: Annotated[dict[Annotated[str, BeforeValidator(canonical)], str], _of(*VERSIONS)] = Field(
        min_length=1,
        description="FHIR version (`R4`, `R4B`, `R5`) -> canonical URL of the profile, which a study that has all that"
        " is required claims in `meta.profile`; empty: none. The first is the default of `fhir.version`.",
    )
    missing: Missing = Field(
        "omit",
        description="What to do when a required value is missing, unless `fhir.profile_missing` says otherwise: `omit`"
        " leaves out what it belongs to, the claim to the profile with it where that is the whole resource; `sentinel`"
        " writes a placeholder; `refuse` writes nothing of the study.",
    )
    sentinels: Annotated[dict[str, Any], _of(*get_args(FhirType))] = Field(
        {}, description="FHIR datatype -> the placeholder for a value that is required and missing."
    )
    identifiers: IdentifierRules = Field(IdentifierRules(), description="The study's identifiers.")
    orders: OrderRules | None = Field(
        None, description="The orders in `basedOn`; without this table they stay as they are."
    )
    element: tuple[ElementRule, ...] = Field((), description="Rules for elements of the ImagingStudy.")
    extension: tuple[Extension, ...] = Field(
        (), description="Extensions of the ImagingStudy, its series, its instances."
    )
    patient: PatientProfile = Field(PatientProfile(), description="What is asked of the Patient.")
    resource: dict[str, AddedResource] = Field(
        {}, description="Name -> a resource that templates and extensions refer to."
    )
    codes: dict[str, CodeTable] = Field({}, description="Name -> a table of codes.")

    @property
    def rules(self) -> tuple[ElementRule, ...]:
        """Those of all resources."""
        return (*self.element, *self.patient.element)

    @property
    def extensions(self) -> tuple[ExtensionPart, ...]:
        """Those of all resources."""
        return (*self.extension, *self.patient.extension)

    def sources(self) -> Iterator[tuple[str, str]]:
        """Every place that names attributes, and the attributes named there (``KVP``, ``Sequence/Keyword``)."""
        for where, template in self._templates():
            for source in template.from_ if isinstance(template, ElementRule) else sources_in(template):
                if not source.startswith("@"):
                    yield from ((where, keyword) for keyword in source.split("+"))

    def code_tables(self) -> Iterator[tuple[str, str]]:
        """Every place that names a table of codes, and its name."""
        for where, template in self._templates():
            if isinstance(template, ElementRule):
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


def values_in(template: Any) -> Iterator[ValueSource]:
    """Every value that a template or an extension takes from attributes."""
    if isinstance(template, ValueSource):
        yield template
    inner: Any = ()
    match template:
        case ExtensionPart():
            inner = template.part
        case FirstValue():
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
