"""Tables from the standards, stored in ``data/`` with their sources."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any


def _read(name: str) -> dict[str, Any]:
    text = resources.files("dicom2fhir.fhir.version").joinpath(f"data/{name}.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    del table["_source"]
    return table


@cache
def modalities() -> frozenset[str]:
    """The modalities that are codes of DCM (PS3.16 CID 33)."""
    return acquisition_modalities().union(_read("modalities")["others"])


@cache
def acquisition_modalities() -> frozenset[str]:
    """The acquisition modalities (PS3.16 CID 29, with the waveforms of CID 34 that it includes)."""
    return frozenset(_read("modalities")["acquisition"])


@cache
def identifier_types() -> frozenset[str]:
    """The codes of HL7 v2 table 0203."""
    return frozenset(_read("identifier_types")["codes"])


@cache
def body_parts() -> Mapping[str, list[str]]:
    """Defined Term of Body Part Examined -> code and display of SNOMED CT (PS3.16 Annex L)."""
    return _read("body_parts")


@cache
def body_regions() -> Mapping[str, str]:
    """SNOMED CT code of a body part of PS3.16 Annex L -> code of the region of the body that contains it."""
    return {part: region for region, parts in _read("body_regions").items() for part in parts}


@cache
def snomed_ct() -> Mapping[str, str]:
    """Code value of SNOMED RT style -> concept id of SNOMED CT (PS3.16 Annex O)."""
    return _read("snomed")


@cache
def record_types() -> Mapping[str, str]:
    """UID of a storage SOP class -> Directory Record Type (0004,1430) of its instances (PS3.3 F.3.2.2)."""
    return _read("record_types")
