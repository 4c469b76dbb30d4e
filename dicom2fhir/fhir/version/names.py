"""FHIR versions by the names that people, servers and specifications give them."""

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
"""What HL7 calls the releases before R4, too."""


def canonical(text: str) -> str:
    """The name of the version that is meant by a name in any case or by a number; another text as it stands.

    Of a number that is a release, only major and minor count: 4.0, 4.0.0 and 4.0.1 are R4. A ballot is meant by its
    whole number only.
    """
    said = text.strip().casefold()
    if said in _RELEASES:
        return _RELEASES[said]
    for name, number in NUMBERS.items():
        if said in (name.casefold(), number) or _is_release(said, number):
            return name
    return text


def _is_release(said: str, number: str) -> bool:
    """Whether a number is a release of the major and minor number of another, which is no ballot."""
    major_minor, _, _ = number.rpartition(".")
    return "-" not in number and (
        said == major_minor or re.fullmatch(rf"{re.escape(major_minor)}\.[0-9]+", said) is not None
    )
