"""What a profile takes from a study: values, references, templates of JSON with places for them, and extensions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
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

FhirType = Literal[
    "boolean", "code", "CodeableConcept", "Coding", "date", "dateTime", "decimal", "HumanName", "Identifier", "integer",
    "Period", "Quantity", "Reference", "string", "url",
]  # fmt: skip

OPTIONS = (
    "pacs.dicomweb_url",
    "pacs.endpoint_name",
    "pacs.retrieve_location_uid",
    "pacs.viewer_url",
    "systems.organization",
)
"""Options of the configuration that are sources of values."""

_KEYWORD = r"[A-Za-z][A-Za-z0-9]*"
_SOURCE = re.compile(rf"@[a-zA-Z.]+|\$[a-z_]+\.[a-z_]+|{_KEYWORD}(/{_KEYWORD})?(\+{_KEYWORD}(/{_KEYWORD})?)?")


class ProfileTable(BaseModel):
    """A table of a profile file: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _sources(value: object) -> object:
    values = (value,) if isinstance(value, str) else value
    if isinstance(values, list | tuple):
        for one in values:
            if not isinstance(one, str) or not _SOURCE.fullmatch(one):
                raise ValueError(
                    'must be DICOM keywords such as "KVP", "StudyDate+StudyTime" or "Sequence/Keyword", "@element" or'
                    ' "$section.option"'
                )
            if one.startswith("$") and one[1:] not in OPTIONS:
                raise ValueError(f"{one}: must be of {', '.join(f'${name}' for name in OPTIONS)}")
    return values


Sources = Annotated[tuple[str, ...], BeforeValidator(_sources)]
Source = Annotated[str, BeforeValidator(lambda value: (_sources(value) or ("",))[0])]

VERSIONS = ("R4", "R4B", "R5")
"""The FHIR versions whose elements a profile may name."""


def _version(text: str) -> str:
    if (name := canonical(text)) not in VERSIONS:
        raise ValueError(f"{text}: must be of {', '.join(VERSIONS)}")
    return name


Version = Annotated[str, AfterValidator(_version)]
"""The name of one of them; a number or a name in any case is accepted."""


def is_attribute(source: str) -> bool:
    """Whether a source names attributes, and not an element or an option."""
    return source[:1] not in ("@", "$")


def dates_are_typed(table: Any) -> Any:
    """Hold that a date with its time is written as one."""
    is_time = table.type == "dateTime" or getattr(table, "since", ())
    if not is_time and any("+" in source for source in table.from_):
        raise ValueError('a date with its time needs type = "dateTime"')
    return table


def quantity_by_unit(table: object) -> object:
    """A value with a unit is a Quantity unless its type is set."""
    return {"type": "Quantity", **table} if isinstance(table, dict) and table.get("unit") else table


class ValueSource(ProfileTable):
    """A value that is taken from DICOM attributes."""

    from_: Sources = Field(
        (),
        alias="from",
        description="Sources of the value, in order of preference: a keyword (`KVP`), a date with its time"
        " (`StudyDate+StudyTime`), an attribute in the items of a sequence (`Sequence/Keyword`),"
        " `@element`, `@series.element` and `@series.instance.element`: the present value of that element in"
        " the ImagingStudy, the current series or the current instance, or `$section.option`: the value of an"
        " option of the configuration"
        f" ({', '.join(f'`${name}`' for name in OPTIONS)}; the latter for the institution of the series).",
    )
    type: FhirType = Field(
        "string",
        description=f"FHIR datatype of the value: {', '.join(f'`{name}`' for name in get_args(FhirType))}. With a"
        " `unit`, `Quantity` is the default. An `Identifier` is a code in the system of its coding scheme.",
    )
    unit: str = Field("", description="For a Quantity: its UCUM code.")
    factor: float = Field(1, description="Factor by which a number is multiplied.")
    index: int | None = Field(
        None, ge=0, description="For an attribute with several values: the index of the value, from 0."
    )
    listed: bool = Field(False, description="`true` writes all values as one text, `[a, b]`.")
    present: bool = Field(False, description="`true` writes the boolean `true` if any of the sources has a value.")
    since: Sources = Field(
        (),
        description="Sources of a start, in order of preference: the value is the number of seconds from the start to"
        " the time in `from`.",
    )
    until: Source = Field(
        "", description="For a Period: source of the time of day of its end, within half a day after its start."
    )
    not_after: Sources = Field(
        (),
        description="For a time without a date (TM): sources of the latest possible moment, in order of preference."
        " The time is taken as on that day, or on the day before if it is later. Without such a moment it"
        " is taken as on the day of the series.",
    )
    lasting: Source = Field(
        "", description="Source of a duration in seconds that is added to the moment of `not_after`."
    )
    many: bool = Field(
        False, description="`true` writes one extension, or one item of a list, for each value of the attribute."
    )
    codes: str = Field(
        "",
        description="For a Coding, CodeableConcept or Identifier: table in `codes` that contains the allowed codes, or"
        " the allowed systems.",
    )
    modalities: tuple[str, ...] = Field((), description="Only for series of these modalities; empty: for all.")
    required: bool = Field(False, description="Whether the value is required; see `missing`.")
    required_for: tuple[str, ...] = Field((), description="Modalities of series for which the value is required.")

    _of_unit = model_validator(mode="before")(quantity_by_unit)
    _typed = model_validator(mode="after")(dates_are_typed)


class ReferenceTo(ProfileTable):
    """A reference to a resource that the profile adds."""

    resource: tuple[str, ...] = Field(
        description="Names of tables in `resource`: the first one for which the data set has a value is used."
    )
    required: bool = Field(
        False, description="`true` writes the first one even if the data set has no value for any of them."
    )


class FirstValue(ProfileTable):
    """The first of several values that exists."""

    first: tuple[ValueSource, ...] = Field(description="The values, in order of preference.")
    type: FhirType = Field("string", description="FHIR datatype of the placeholder for a missing value.")
    required: bool = Field(False, description="Whether one of them is required; see `missing`.")


class TemplateObject(dict[str, object]):
    """A JSON object of a template; ``when_known``: left out when the data set says nothing of what is in it."""

    when_known = False


def _template(value: object) -> object:
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


def _written(value: object) -> object:
    """A template as it stands in a file."""
    if isinstance(value, TemplateObject):
        inner = {key: _written(item) for key, item in value.items()}
        return {**inner, "when_known": True} if value.when_known else inner
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return [_written(item) for item in value] if isinstance(value, list) else value


Template = Annotated[object, PlainValidator(_template), PlainSerializer(_written)]


class ExtensionPart(ValueSource):
    """An extension of a related resource, or a part of an extension."""

    url: str = Field(
        min_length=1,
        description="URL of the extension, which may be relative to the canonical URL of the profile (`kvp`); of a"
        " part, its name.",
    )
    versions: tuple[Version, ...] = Field((), description="Only in these FHIR versions; empty: in all.")
    value: Template = Field(None, description="Fixed value, in place of `from`: a template.")
    resource: tuple[str, ...] = Field(
        (),
        description="Instead of a value: a reference to the first of these tables in `resource` for which the data"
        " set has a value.",
    )
    part: tuple[ExtensionPart, ...] = Field(
        (),
        description="Instead of a value: the parts of an extension that has several. The name of a table in `parts`"
        " stands for that part.",
    )


def with_named_parts(file: object) -> object:
    """What a file says, with each part that an extension names in the place of the name."""
    if not isinstance(file, dict) or not isinstance(parts := file.get("parts", {}), dict):
        return file
    named = {name: {"url": name, **part} if isinstance(part, dict) else part for name, part in parts.items()}
    return _with_parts({**file, "parts": named}, named)


def _with_parts(given: object, parts: Mapping[str, object], within: tuple[str, ...] = ()) -> object:
    if isinstance(given, list):
        return [_with_parts(one, parts, within) for one in given]
    if not isinstance(given, dict):
        return given
    filled = {key: _with_parts(inner, parts, within) for key, inner in given.items()}
    if isinstance(given.get("part"), list):
        filled["part"] = [
            _named(one, parts, within) if isinstance(one, str) else _with_parts(one, parts, within)
            for one in given["part"]
        ]
    return filled


def _named(name: str, parts: Mapping[str, object], within: tuple[str, ...]) -> object:
    if name not in parts:
        raise ValueError(f"there is no table parts.{name}")
    if name in within:
        raise ValueError(f"parts.{name}: contains itself")
    return _with_parts(parts[name], parts, (*within, name))


class Extension(ExtensionPart):
    """An extension contains a value, with the keys of a value, or parts, or a reference."""

    at: Literal["study", "series", "instance"] = Field(
        description="Level of the extension. Only `[[extension]]` has this key."
    )


def values_in(template: object) -> Iterator[ValueSource]:
    """Every value that a template or an extension takes from attributes."""
    if isinstance(template, ValueSource):
        yield template
    inner: Iterable[object] = ()
    match template:
        case ExtensionPart():
            inner = (*template.part, template.value)
        case FirstValue():
            inner = template.first
        case dict():
            inner = template.values()
        case list():
            inner = template
    for one in inner:
        yield from values_in(one)


def sources_in(template: object) -> Iterator[str]:
    """Every source that a template or an extension names, as it is written there."""
    for value in values_in(template):
        yield from (*value.from_, *value.since, *value.not_after)
        yield from (source for source in (value.until, value.lasting) if source)
