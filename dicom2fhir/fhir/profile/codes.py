"""Codes as a profile writes them."""

from __future__ import annotations

from dicom2fhir.fhir.profile.model import CodeTable, Include, ProfileCode
from dicom2fhir.fhir.version import code_tables
from dicom2fhir.model import Json, Resource


def known_concept(table: CodeTable, concept: Resource, modality: str) -> Resource | None:
    """The CodeableConcept with the codes by which a profile knows its codes, or its text; None when it knows none."""
    codings = concept.get("coding") or [{"display": concept.get("text", "")}]
    found = [code for coding in codings if (code := known(table, coding, modality))]
    return {"coding": found} | {key: value for key, value in concept.items() if key != "coding"} if found else None


def known(table: CodeTable, coding: Resource, modality: str) -> Resource | None:
    """The Coding by which a profile knows a code, or a word; None when it knows none.

    Parameters
    ----------
    modality
        That of the series; empty for the study.
    """
    system, code, display = (coding.get(part, "") for part in ("system", "code", "display"))
    for include in table.include:
        if include.modalities and modality not in include.modalities:
            continue
        same = display if display in include.codes else ""
        if not code and (meant := include.words.get(display.upper(), same)):
            return _coding(include, meant)
        # the profile's own system is never also one of the mapping's: what stands there already is right
        if system == (include.from_system or include.system) and code:
            renamed = code_tables.body_regions().get(code, code) if include.rename_by else code
            ours = include.rename.get(renamed, renamed)
            if not include.codes or ours in include.codes:
                found = _coding(include, ours, display if ours == code else "")
                return found if "display" in found or not table.displayed else None
    return None


def with_text(table: CodeTable, concept: Resource, modality: str) -> Resource:
    """The CodeableConcept with the codes that a profile knows; the words of the others are added to its text."""
    known_ones, words = [], []
    for coding in concept.get("coding", []):
        if code := known(table, coding, modality):
            known_ones.append(code)
        else:
            words.append(coding.get("display") or coding["code"])
    text = "; ".join(dict.fromkeys(filter(None, (concept.get("text"), *words))))
    return {key: value for key, value in (("coding", known_ones), ("text", text)) if value}


def known_identifier(table: CodeTable, identifier: Resource, modality: str) -> Resource | None:
    """The Identifier, if its system and value are those of a code that a profile knows."""
    code = {"system": identifier.get("system", ""), "code": identifier["value"]}
    return identifier if known(table, code, modality) else None


def coded(value: Json, type_: str) -> Json:
    """A Coding, CodeableConcept or CodeableReference as Coding or CodeableConcept."""
    if not isinstance(value, dict):
        return value
    inner = concept if isinstance(concept := value.get("concept"), dict) else value
    if type_ == "CodeableConcept":
        is_concept = "coding" in inner or "text" in inner
        return inner if is_concept else {"coding": [inner]} if "code" in inner else {"text": inner.get("display")}
    codings = inner.get("coding")
    if isinstance(codings, list):
        return codings[0]
    return {"display": inner["text"]} if "text" in inner else inner


def _coding(include: Include, code: str, display: str = "") -> Resource:
    return ProfileCode(system=include.system, code=code, display=include.displays.get(code, display)).as_json()
