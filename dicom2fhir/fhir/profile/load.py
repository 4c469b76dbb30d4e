"""Reading of profiles: finding the file, and every mistake in it named at once."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from dicom2fhir.errors import ConfigError
from dicom2fhir.fhir.profile.element_check import faults
from dicom2fhir.fhir.profile.model import (
    AddedResource,
    CodeTable,
    ElementRule,
    IdentifierRules,
    Include,
    OrderRules,
    Profile,
    ProfileCode,
    RelatedRules,
)
from dicom2fhir.fhir.profile.template import Extension, ExtensionPart, ReferenceTo
from dicom2fhir.system.text import counted


def names() -> list[str]:
    """The profiles that come along."""
    folder = resources.files("dicom2fhir.fhir.profile").joinpath("profiles")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load(name: str, known: Collection[str]) -> Profile:
    """Read a profile.

    Parameters
    ----------
    name
        One of :func:`names`, or the path of a TOML file (with a ``/`` or ``.toml`` in it).
    known
        The attributes that the bridge takes, with ``Sequence/Keyword`` for what it takes of items.

    Raises
    ------
    ConfigError
        There is none, or what it says cannot be used; with every key that is wrong.
    """
    is_own = name.endswith(".toml") or "/" in name
    if is_own:
        path = Path(name)
        name = path.stem
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"The profile {str(path)!r} cannot be read.") from None
    elif name in names():
        text = resources.files("dicom2fhir.fhir.profile").joinpath(f"profiles/{name}.toml").read_text("utf-8")
    else:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(names())}"
        raise ConfigError(f"There is no profile {name!r}{hint} (or give the path of a file that ends in .toml)")
    try:
        made = Profile.model_validate({"name": name, **tomllib.loads(text)})
        wrong = list(_contradictions(made, known))
        if is_own:  # those that come along are checked by a test: it takes longer than to convert a file
            wrong += faults(made)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The profile {name} is not TOML: {error}.") from None
    except ValidationError as error:
        wrong = [_explain(details["loc"], details["type"], details["msg"]) for details in error.errors()]
    if wrong:
        raise ConfigError(
            f"The profile {name} is not usable ({counted(len(wrong), 'error')}):\n"
            + "\n".join(f"  {line}" for line in wrong)
        )
    return made


def _contradictions(profile: Profile, known: Collection[str]) -> Iterator[str]:
    for where, keyword in profile.sources():
        if keyword not in known:
            near = [name for name in known if name.lower() == keyword.lower()]
            near = near or difflib.get_close_matches(keyword, known, n=1)
            yield f"{where}: {keyword} is not an attribute that the bridge reads" + (
                f'; did you mean "{near[0]}"?' if near else ""
            )
    for where, codes, type_ in profile.code_tables():
        if codes not in profile.codes:
            yield f"{where}: there is no table codes.{codes}"
        elif profile.codes[codes].otherwise == "text" and type_ != "CodeableConcept":
            yield f'{where}: codes.{codes} has otherwise = "text", so type must be "CodeableConcept"'
    for referred in dict.fromkeys(_referred(profile)):
        if referred not in profile.resource:
            yield f"there is no table resource.{referred}, but it is referred to"
    for name in profile.resource:
        if name in _reached_from(profile, name):
            yield f"resource.{name}: refers to itself"
    relative = [url for url in profile.urls() if not urlsplit(url).scheme]
    if relative and not all(profile.versions.values()):
        yield f"{relative[0]}: is relative, but not every version has a canonical URL"
    if profile.missing == "sentinel" and not profile.sentinels:
        yield 'missing = "sentinel": no sentinels are defined'


def _referred(profile: Profile) -> Iterator[str]:
    for rule in profile.rules:
        for template in (rule.value, rule.default, rule.add):
            yield from _referred_in(template)
        yield from rule.through.values()
    for extension in profile.extensions:
        yield from _referred_in(extension)
    for made in profile.resource.values():
        yield from _referred_in(made.value)


def _referred_in(template: object) -> Iterator[str]:
    inner: Iterable[object] = ()
    match template:
        case ReferenceTo():
            yield from template.resource
        case ExtensionPart():
            yield from template.resource
            inner = (*template.part, template.value)
        case dict():
            inner = template.values()
        case list():
            inner = template
    for one in inner:
        yield from _referred_in(one)


def _reached_from(profile: Profile, name: str) -> set[str]:
    """The resources that one refers to, and those that they refer to."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        made = profile.resource.get(waiting.pop())
        found = set(_referred_in(made.value)) - reached if made else set()
        reached |= found
        waiting += found
    return reached


_TABLES: Mapping[str, type[BaseModel]] = {
    "element": ElementRule,
    "extension": Extension,
    "related": RelatedRules,
    "part": ExtensionPart,
    "include": Include,
    "codes": CodeTable,
    "identifiers": IdentifierRules,
    "orders": OrderRules,
    "resource": AddedResource,
    "coding": ProfileCode,
}


def _explain(location: tuple[int | str, ...], kind: str, message: str) -> str:
    """One of pydantic's errors in our words."""
    where = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if kind == "extra_forbidden" and location == ("patient",):
        return "patient: is called related.Patient now"
    if kind == "extra_forbidden":
        table = next((_TABLES[str(part)] for part in reversed(location[:-1]) if part in _TABLES), Profile)
        options = [field.alias or name for name, field in table.model_fields.items()]
        near = difflib.get_close_matches(str(location[-1]), options, n=1)
        return f"{where}: unknown key" + (f'; did you mean "{near[0]}"?' if near else "")
    if kind == "missing":
        return f"{where}: must be set"
    said = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{where}: {said}" if where else said
