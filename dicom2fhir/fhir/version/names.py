"""Names and numbers of FHIR versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

FhirVersion = Literal["DSTU2", "1.4.0", "STU3", "3.2.0", "R4", "R4B", "R5", "R6"]

NUMBERS: Mapping[FhirVersion, str] = {
    "DSTU2": "1.0.2",
    "1.4.0": "1.4.0",
    "STU3": "3.0.2",
    "3.2.0": "3.2.0",
    "R4": "4.0.1",
    "R4B": "4.3.0",
    "R5": "5.0.0",
    "R6": "6.0.0-ballot3",
}
"""Name here -> number of the version (https://hl7.org/fhir/directory.html)."""
_RELEASES = {"r2": "DSTU2", "r3": "STU3"}
"""Other names of the releases before R4."""


def canonical(text: str) -> str:
    """The name of a version, from a name in any case or a number; any other text is returned unchanged.

    For the number of a release, only major and minor are compared: 4.0, 4.0.0 and 4.0.1 are R4. The number of a ballot
    must be complete.
    """
    said = text.strip().casefold()
    if said in _RELEASES:
        return _RELEASES[said]
    for name, number in NUMBERS.items():
        if said in (name.casefold(), number) or _is_release(said, number):
            return name
    return text


def _is_release(said: str, number: str) -> bool:
    """Whether ``said`` has the major and minor number of ``number``, and ``number`` is not a ballot."""
    major_minor, _, _ = number.rpartition(".")
    return "-" not in number and (
        said == major_minor or re.fullmatch(rf"{re.escape(major_minor)}\.[0-9]+", said) is not None
    )
