"""Codes as a profile writes them."""

from __future__ import annotations

from dicom2fhir.fhir.profile.model import Code, CodeTable, Include
from dicom2fhir.model import Resource


def known(table: CodeTable, coding: Resource) -> Resource | None:
    """The Coding by which a profile knows a code, or a word; None when it knows none."""
    system, code, display = (coding.get(part, "") for part in ("system", "code", "display"))
    for include in table.include:
        if not code and (meant := include.words.get(display.upper())):
            return _coding(include, meant)
        # the profile's own system is never also one of the mapping's: what stands there already is right
        if system == (include.from_system or include.system) and code:
            ours = include.rename.get(code, code)
            if not include.codes or ours in include.codes:
                return _coding(include, ours, display if ours == code else "")
    return None


def _coding(include: Include, code: str, display: str = "") -> Resource:
    return Code(system=include.system, code=code, display=include.displays.get(code, display)).as_json()
