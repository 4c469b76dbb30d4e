"""Profiles as data: one TOML file says what a country or a project asks of an ImagingStudy beyond its FHIR version.

The files that come along lie in ``profiles/``; an operator may name one of their own. ``Field(description=...)`` is the
only place where a key is documented: ``docs/profile-format.md`` is made from it. :mod:`dicom2fhir.fhir.profile.apply`
applies a profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, get_args
from urllib.parse import urljoin

from pydantic import AfterValidator, Field, model_validator

from dicom2fhir.fhir.profile.template import (
    OPTIONS,
    Extension,
    ExtensionPart,
    FhirType,
    ProfileTable,
    Sources,
    Template,
    Version,
    dates_are_typed,
    is_attribute,
    sources_in,
    values_in,
    with_named_parts,
)
from dicom2fhir.model import Resource

Missing = Literal["omit", "sentinel", "refuse"]
"""When a required value is not there: leave out what it belongs to (and the claim to the profile, where that is the
resource), write the profile's placeholder, or write nothing of the study."""

Unverified = Literal["", "draft", "facts"]
"""Why no published definition has confirmed a profile; empty: one has, or nobody claims that it has."""

PATH = r"^[a-zA-Z]+(\.[a-zA-Z]+)*$"

ResourceType = Annotated[str, Field(pattern="^[A-Z][A-Za-z]+$")]


def _known_option(value: str) -> str:
    known = [f"${name}" for name in OPTIONS if name.startswith("pacs.")]
    if value.startswith("$") and value not in known:
        raise ValueError(f"{value}: must be of {', '.join(known)}")
    return value


def _of(*known: str) -> AfterValidator:
    def check(table: dict[str, object]) -> dict[str, object]:
        if wrong := table.keys() - set(known):
            raise ValueError(f"{', '.join(sorted(wrong))}: must be of {', '.join(known)}")
        return table

    return AfterValidator(check)


class ProfileCode(ProfileTable):
    """A code of a code system."""

    system: str = Field(description="URI of the code system.")
    code: str = Field(description="The code.")
    display: str = Field("", description="Its display.")

    def as_json(self) -> Resource:
        """Its Coding."""
        return {key: value for key, value in self.model_dump().items() if value}


class ElementRule(ProfileTable):
    """The requirements of a profile for one element. The keys are applied in the order of this table."""

    path: str = Field(
        pattern=PATH,
        description="Path of the element without the resource type: `description`, `series.bodySite`,"
        " `series.instance.title`; in `related.TYPE.element`, path in the related resource. What a path through a list"
        " says holds for each item.",
    )
    versions: tuple[Version, ...] = Field((), description="Only in these FHIR versions; empty: in all.")
    type: FhirType = Field(
        "string",
        description="FHIR datatype of the value of `from`, of what has the `codes`, and of the placeholder: that of the"
        " element. If it differs between versions (`Coding` and `CodeableConcept`), use one rule for each, with"
        " `versions`.",
    )
    from_: Sources = Field(
        (),
        alias="from",
        description="Sources of the value, as in a value. If one of them has a value, it replaces the value of the"
        " mapping.",
    )
    value: Template = Field(None, description="Value of the element, in place of the value of the mapping: a template.")
    default: Template = Field(None, description="Value of the element if the mapping wrote none: a template.")
    add: Template = Field(
        None, description="For a list: items that are added to those of the mapping, unless they are there: a template."
    )
    codes: str = Field("", description="Table in `codes` that contains the allowed codes of the element.")
    words: bool = Field(
        False, description="`true` gives a CodeableConcept without text and displays its first code as text."
    )
    through: dict[str, str] = Field(
        {},
        description="Resource type -> name of a table in `resource`. A reference of the element, or of the `actor` of"
        " its items, to a resource of that type becomes a reference to the added resource, in which `@target` is the"
        " reference to the former.",
    )
    types: tuple[str, ...] = Field(
        (),
        description="Resource types that its references, or those of the `actor` of its items, may refer to. Other"
        " references are removed from a list; a single reference to another type means that the profile is"
        " not met.",
    )
    excluded: tuple[str, ...] = Field(
        (), description="Values of a single code with which the profile is not met, such as a status."
    )
    first_by: str = Field(
        "",
        description="For a list: keep only the first item for each value of this member (`function` of"
        " `series.performer`).",
    )
    others: Literal["drop", "unmark"] = Field(
        "drop",
        description="What happens to the other items: `drop` leaves them out, `unmark` writes them without that"
        " member.",
    )
    at_most: int | None = Field(None, ge=0, description="For a list: keep only this number of items, the first ones.")
    required: bool = Field(False, description="Whether the element is required; see `missing`.")
    or_: tuple[str, ...] = Field(
        (), alias="or", description="Elements beside it that may be there instead of a required one."
    )
    placeholder: bool = Field(
        True, description="`false`: never write a placeholder for a missing value, because no placeholder can be true."
    )

    _typed = model_validator(mode="after")(dates_are_typed)


class Include(ProfileTable):
    """Codes of one system that an element may have, as in ``ValueSet.compose.include``."""

    system: str = Field(description="URI of the code system, as the profile writes it.")
    codes: tuple[str, ...] = Field(
        (),
        description="The codes; empty: all codes of the system. A text that is equal to one of them stands for it.",
    )
    from_system: str = Field(
        "",
        description="System of these codes in the output of the mapping, a URI; empty: the same. The codes of a private"
        " scheme (`99LOCAL`) have the system of `systems.coding_schemes`, otherwise none.",
    )
    rename_by: Literal["", "body-regions"] = Field(
        "",
        description="A table that is included: `body-regions` has the region of the body for each SNOMED CT code of"
        " PS3.16 Annex L. Its codes may be renamed by `rename`.",
    )
    rename: dict[str, str] = Field({}, description="Code of the mapping -> code of the profile.")
    words: dict[str, str] = Field({}, description="Text in capital letters -> its code.")
    modalities: tuple[str, ...] = Field(
        (), description="Only for series of these modalities and their instances; empty: for all."
    )
    displays: dict[str, str] = Field({}, description="Code -> its display, if the profile prescribes one.")


class CodeTable(ProfileTable):
    """The codes that an element may have."""

    include: tuple[Include, ...] = Field(min_length=1, description="The codes, system by system.")
    displayed: bool = Field(False, description="`true` allows only codes that have a display.")
    otherwise: Missing | Literal["keep", "text"] | ProfileCode = Field(
        description="How any other code is handled: `omit`, `sentinel` or `refuse` as for a missing value, `keep`"
        " writes it as it is, `text` adds its display, or the code, to the text of the CodeableConcept, or a code"
        " that replaces it."
    )


class IdentifierRules(ProfileTable):
    """The identifiers that the study has, and additional codes of their types."""

    allowed: tuple[Literal["uid", "accession", "study-id"], ...] = Field(
        ("uid", "accession", "study-id"), description="The identifiers to keep."
    )
    coding: Annotated[dict[str, ProfileCode], _of("uid", "accession")] = Field(
        {}, description="`uid` or `accession` -> a code that is added to the type of that identifier."
    )
    one_accession: bool = Field(
        False,
        description="Whether the profile requires exactly one identifier that is typed as an accession number: without"
        " one it is not met, and further accession numbers have a text as type.",
    )


class OrderRules(ProfileTable):
    """The accession numbers in ``basedOn``: only the first one with a system keeps a type."""

    coding: tuple[ProfileCode, ...] = Field((), description="Codes that are added to that type.")
    others: Literal["untyped", "text", "drop"] = Field(
        "untyped",
        description="What happens to the other accession numbers: `untyped` writes them without a type, `text` writes"
        " them as text in `note`, `drop` leaves them out of `basedOn`.",
    )


class AddedResource(ProfileTable):
    """A resource that the profile adds. It is contained in the resource that refers to it."""

    type: ResourceType = Field(description="Resource type.")
    profile: str = Field(
        "", description="URL of the profile that it claims, which may be relative as for extensions; empty: none."
    )
    value: Template = Field(description="Its elements: a template.")


class RelatedRules(ProfileTable):
    """The requirements for the resources of one type that the study refers to, contained in it or separate.

    If such a resource lacks something required, an item of a list that refers to it (`series.performer`) is left out
    with a note. If it is referred to by an element that is not a list (`subject`), the study does not claim the
    profile. No placeholder is written into a resource that every study updates (a Patient with
    `fhir.patient = "upsert"`): it would replace the value on the server.
    """

    profile: str = Field(
        "",
        description="URL of the profile that the resource claims, which may be relative as for extensions; empty:"
        " none.",
    )
    at: tuple[Annotated[str, Field(pattern=PATH)], ...] = Field(
        (), description="Paths in the ImagingStudy of the references that the table is for; empty: all references."
    )
    where: dict[Annotated[str, Field(pattern=PATH)], Annotated[str, AfterValidator(_known_option)]] = Field(
        {},
        description="Path in the resource -> code or text that it has, or an option (`$pacs.dicomweb_url`): other"
        " resources of the type are not changed. A reference to one of them at a path of `at`, or one that is by"
        " identifier only, is handled as if it lacked something required.",
    )
    named: bool = Field(
        False,
        description="`true` keeps each reference to a resource that lacks something required, by its display alone;"
        " the resource is left out.",
    )
    element: tuple[ElementRule, ...] = Field((), description="Rules for elements of the resource.")
    extension: tuple[ExtensionPart, ...] = Field((), description="Extensions of the resource.")


class Profile(ProfileTable):
    """A whole file."""

    name: str = Field("", description="Name of the profile; by default that of the file.")
    title: str = Field(description="Title in one line.")
    doc: str = Field(description="Description of the profile, and of the choices made where it leaves a choice.")
    unverified: Unverified = Field(
        "",
        description="Why no published definition of the guide has confirmed the profile: `draft` if there is only the"
        " definition of a draft or ballot, `facts` if the definition was not available, so that the profile was made"
        " from descriptions of it. `profiles list` and `profiles show` say so.",
    )
    versions: dict[Version, str] = Field(
        min_length=1,
        description="FHIR version (`R4`, `R4B`, `R5`) -> canonical URL of the profile, which a study with all required"
        " values claims in `meta.profile`; empty: none. If `fhir.version` is `auto`, files are written in the first"
        " one.",
    )
    missing: Missing = Field(
        "omit",
        description="What to do when a required value is missing, unless `fhir.profile_missing` overrides it: `omit`"
        " leaves out the part that contains it, and if that is the whole resource, the claim of the"
        " profile; `sentinel` writes a placeholder; `refuse` does not write the study.",
    )
    sentinels: Annotated[dict[str, object], _of(*get_args(FhirType))] = Field(
        {}, description="FHIR datatype -> the placeholder for a value that is required and missing."
    )
    identifiers: IdentifierRules = Field(IdentifierRules(), description="The identifiers of the study.")
    orders: OrderRules | None = Field(
        None, description="The orders in `basedOn`; without this table they are not changed."
    )
    element: tuple[ElementRule, ...] = Field((), description="Rules for elements of the ImagingStudy.")
    extension: tuple[Extension, ...] = Field(
        (), description="Extensions of the ImagingStudy, its series, its instances."
    )
    related: dict[ResourceType, RelatedRules] = Field(
        {}, description="Resource type -> requirements for resources of that type to which the study refers."
    )
    parts: dict[str, ExtensionPart] = Field(
        {},
        description="Name -> a part of extensions that list it in `part` by its name. Without `url`, the name is its"
        " URL.",
    )
    resource: dict[str, AddedResource] = Field(
        {}, description="Name -> a resource that templates and extensions refer to."
    )
    codes: dict[str, CodeTable] = Field({}, description="Name -> a table of codes.")
    units: dict[str, str] = Field(
        {}, description="UCUM code -> the text of that unit in each Quantity; without an entry, the code itself."
    )

    _parts = model_validator(mode="before")(with_named_parts)

    @property
    def rules(self) -> tuple[ElementRule, ...]:
        """Those of all resources."""
        return (*self.element, *(rule for related in self.related.values() for rule in related.element))

    @property
    def extensions(self) -> tuple[ExtensionPart, ...]:
        """Those of all resources."""
        return (*self.extension, *(one for related in self.related.values() for one in related.extension))

    def urls(self) -> Iterator[str]:
        """The URLs of extensions, and of the profiles that resources claim."""
        yield from (extension.url for extension in self.extensions)
        claimed = [*(one.profile for one in self.related.values()), *(one.profile for one in self.resource.values())]
        yield from filter(None, claimed)

    def canonical(self, url: str, version: Version) -> str:
        """A URL of the profile in a FHIR version: a relative one begins as that of the profile itself."""
        return urljoin(self.versions[version], url) if url else ""

    def content(self) -> Resource:
        """What shapes the output: the file without what only people read."""
        return self.model_dump(mode="json", exclude={"title", "doc", "unverified"}, exclude_defaults=True)

    def sources(self) -> Iterator[tuple[str, str]]:
        """Every place that names attributes, and the attributes named there (``KVP``, ``Sequence/Keyword``)."""
        for where, template in self._templates():
            for source in template.from_ if isinstance(template, ElementRule) else sources_in(template):
                if is_attribute(source):
                    yield from ((where, keyword) for keyword in source.split("+"))

    def code_tables(self) -> Iterator[tuple[str, str, FhirType]]:
        """Every place that names a table of codes, its name, and the datatype of what has the codes."""
        for where, template in self._templates():
            for one in [template] if isinstance(template, ElementRule) else values_in(template):
                if one.codes:
                    yield where, one.codes, one.type

    def _templates(self) -> Iterator[tuple[str, object]]:
        for rule in self.rules:
            yield from ((f"element {rule.path}", template) for template in (rule, rule.value, rule.default, rule.add))
        for extension in self.extensions:
            yield f"extension {extension.url}", extension
        for name, made in self.resource.items():
            yield f"resource.{name}", made.value
