"""Profiles as data: one TOML file says what a country or a project asks of an ImagingStudy beyond its FHIR version.

The files that come along lie in ``profiles/``; an operator may name one of their own. ``Field(description=...)`` is the
only place where a key is documented: ``docs/profile-format.md`` is made from it. :mod:`dicom2fhir.fhir.profile.apply`
applies a profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dicom2fhir.fhir.profile.template import (
    Extension,
    ExtensionPart,
    FhirType,
    Sources,
    Table,
    Template,
    dates_are_typed,
    sources_in,
    values_in,
)
from dicom2fhir.fhir.version.names import canonical
from dicom2fhir.model import Resource

Missing = Literal["omit", "sentinel", "refuse"]
"""When a required value is not there: leave out what it belongs to (and the claim to the profile, where that is the
resource), write the profile's placeholder, or write nothing of the study."""

VERSIONS = ("R4", "R4B", "R5")
"""Those whose elements a profile may speak of."""


def _of(*known: str) -> AfterValidator:
    def check(table: dict[str, object]) -> dict[str, object]:
        if wrong := table.keys() - set(known):
            raise ValueError(f"{', '.join(sorted(wrong))}: must be of {', '.join(known)}")
        return table

    return AfterValidator(check)


class Code(Table):
    """A code of a code system."""

    system: str = Field(description="URI of the code system.")
    code: str = Field(description="The code.")
    display: str = Field("", description="Its display.")

    def as_json(self) -> Resource:
        """Its Coding."""
        return {key: value for key, value in self.model_dump().items() if value}


class ElementRule(Table):
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

    _typed = model_validator(mode="after")(dates_are_typed)


class Include(Table):
    """Codes of one system that may stand in an element, as in ``ValueSet.compose.include``."""

    system: str = Field(description="URI of the code system, as the profile writes it.")
    codes: tuple[str, ...] = Field((), description="The codes; empty: all of the system.")
    from_system: str = Field("", description="The system that the mapping writes them in; empty: the same.")
    rename: dict[str, str] = Field({}, description="The mapping's code -> the profile's.")
    words: dict[str, str] = Field({}, description="Text in capital letters -> the code that it stands for.")
    displays: dict[str, str] = Field({}, description="Code -> its display, where the profile prescribes one.")


class CodeTable(Table):
    """The codes that an element may have."""

    include: tuple[Include, ...] = Field(min_length=1, description="The codes, system by system.")
    otherwise: Missing | Code = Field(
        description="What becomes of any other code: `omit`, `sentinel` or `refuse` as a missing value, or a code that"
        " stands in its place."
    )


class IdentifierRules(Table):
    """Which identifiers the study has, and what else their types say."""

    allowed: tuple[Literal["uid", "accession", "study-id"], ...] = Field(
        ("uid", "accession", "study-id"), description="The identifiers that are kept."
    )
    coding: Annotated[dict[str, Code], _of("uid", "accession")] = Field(
        {}, description="`uid` or `accession` -> a code that is added to the type of that identifier."
    )


class OrderRules(Table):
    """The accession numbers in ``basedOn``: only the first one with a system keeps a type."""

    coding: tuple[Code, ...] = Field((), description="Codes that are added to that type.")


class AddedResource(Table):
    """A resource that the profile adds. It is contained in what refers to it."""

    type: str = Field(pattern="^[A-Z][A-Za-z]+$", description="Resource type.")
    profile: str = Field("", description="Canonical URL that it claims (`meta.profile`); empty: none.")
    value: Template = Field(description="Its elements: a template.")


class PatientProfile(Table):
    """What is asked of the Patient that is written beside the study.

    With ``fhir.patient = "upsert"`` no placeholder stands for what is missing: it would replace what the server knows.
    """

    profile: str = Field("", description="Canonical URL that the Patient claims; empty: none.")
    element: tuple[ElementRule, ...] = Field((), description="Rules for elements of the Patient.")
    extension: tuple[ExtensionPart, ...] = Field((), description="Extensions of the Patient.")


class Profile(Table):
    """A whole file."""

    name: str = Field("", description="Name of the profile; by default that of the file.")
    title: str = Field(description="One line for people.")
    doc: str = Field(description="What the profile is, and what is done where it leaves something open.")
    versions: Annotated[dict[Annotated[str, BeforeValidator(canonical)], str], _of(*VERSIONS)] = Field(
        min_length=1,
        description="FHIR version (`R4`, `R4B`, `R5`) -> canonical URL of the profile, which a study that has all that"
        " is required claims in `meta.profile`; empty: none. Where `fhir.version` is `auto`, files are written in the"
        " first.",
    )
    missing: Missing = Field(
        "omit",
        description="What to do when a required value is missing, unless `fhir.profile_missing` says otherwise: `omit`"
        " leaves out what it belongs to, the claim to the profile with it where that is the whole resource; `sentinel`"
        " writes a placeholder; `refuse` writes nothing of the study.",
    )
    sentinels: Annotated[dict[str, object], _of(*get_args(FhirType))] = Field(
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

    def _templates(self) -> Iterator[tuple[str, object]]:
        for rule in self.rules:
            yield from ((f"element {rule.path}", template) for template in (rule, rule.value, rule.default))
        for extension in self.extensions:
            yield f"extension {extension.url}", extension
        for name, made in self.resource.items():
            yield f"resource.{name}", made.value
