"""What a profile says, for people: the documents and ``profiles show``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dicom2fhir.fhir.profile.model import CodeTable, ElementRule, Profile, ProfileCode, RelatedRules, Unverified
from dicom2fhir.fhir.profile.template import ExtensionPart, sources_in

_UNVERIFIED: Mapping[Unverified, str] = {
    "": "",
    "draft": "unverified: its definition is a draft or ballot",
    "facts": "unverified: its definition was not available",
}


def unverified(profile: Profile) -> str:
    """Why a profile is unverified, in words; empty if it is not."""
    return _UNVERIFIED[profile.unverified]


def sources_of(rule: ElementRule) -> tuple[str, ...]:
    """Every source of an element, each once."""
    return tuple(
        dict.fromkeys((*rule.from_, *sources_in(rule.value), *sources_in(rule.default), *sources_in(rule.add)))
    )


def asked_of(rule: ElementRule) -> list[str]:
    """What is asked of an element, in words."""
    required = f"required, unless there is {' or '.join(rule.or_)}" if rule.or_ else "required"
    said = [required if rule.placeholder else f"{required}, without placeholder"] if rule.required else []
    said += ["set by the profile"] if rule.value is not None else []
    said += ["set by the profile if the mapping has none"] if rule.default is not None else []
    said += ["items added by the profile"] if rule.add is not None else []
    said += [f"codes of {rule.codes}"] if rule.codes else []
    said += ["text added when there is only a code"] if rule.words else []
    said += [f"only the first for each {rule.first_by}"] if rule.first_by else []
    said += [f"references to {type_} through {made}" for type_, made in rule.through.items()]
    said += [f"only references to {' or '.join(rule.types)}"] if rule.types else []
    said += [f"at most {rule.at_most}"] if rule.at_most is not None else []
    return [*said, f"in FHIR {' and '.join(rule.versions)}"] if rule.versions else said


def elements_of(profile: Profile) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """The path, the sources and what is asked of each element, of the ImagingStudy and of the related resources."""
    for rule in profile.element:
        yield rule.path, sources_of(rule), asked_of(rule)
    for type_, rules in profile.related.items():
        yield type_, (), _asked_of_related(rules)
        for rule in rules.element:
            yield f"{type_}.{rule.path}", sources_of(rule), asked_of(rule)


def _asked_of_related(rules: RelatedRules) -> list[str]:
    """What is asked of the related resources of one type, besides their elements, in words."""
    said = [f"referred to by {' or '.join(rules.at)}"] if rules.at else []
    said += [f"with {path} {value}" for path, value in rules.where.items()]
    said += [f"claims {rules.profile}"] if rules.profile else []
    return [*said, "if something is missing, only its display is written"] if rules.named else said


def other_codes(table: CodeTable) -> str:
    """How a table handles other codes than its own, in words."""
    if isinstance(table.otherwise, ProfileCode):
        return f"become {table.otherwise.code}"
    return _OTHERWISE[table.otherwise]


_OTHERWISE: Mapping[str, str] = {
    "omit": "are left out",
    "sentinel": "become the placeholder",
    "refuse": "the study is not written",
    "keep": "are written as they are",
    "text": "become text",
}


def parts_of(
    part: ExtensionPart, path: str = "", modalities: tuple[str, ...] = ()
) -> Iterator[tuple[str, ExtensionPart]]:
    """The extensions that hold values, by the names that lead to them, each with the modalities that it is for."""
    path = f"{path}.{part.url}" if path else part.url.rpartition("/")[2]
    modalities = part.modalities or modalities
    if not part.part:
        yield path, part.model_copy(update={"modalities": modalities})
    for inner in part.part:
        yield from parts_of(inner, path, modalities)
