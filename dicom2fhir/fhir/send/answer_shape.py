"""Whether what a server sends has the shape that FHIR gives it, before anybody works with it.

Only what is looked at is checked: what others wrote elsewhere is theirs, and goes back as it came. Objects and lists
must be where ours has them (https://hl7.org/fhir/R4/json.html); which kind of text or number a value is, is not asked.
"""

from __future__ import annotations

import re
from typing import Any

from dicom2fhir.errors import Misshapen
from dicom2fhir.model import Resource

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""https://hl7.org/fhir/R4/datatypes.html#id"""
_LOOKED_AT: dict[str, Any] = {
    "meta": {"versionId": ""},
    "identifier": [{}],
    "contained": [{"resourceType": "", "id": ""}],
}
_LOOKED_AT_IN_STUDY: dict[str, Any] = {
    **_LOOKED_AT,
    "modality": [{}],
    "modalityList": [{}],
    "series": [{"uid": "", "modality": {}, "instance": [{"uid": ""}]}],
}
"""By the merge, whether or not ours has it."""
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def require_id(resource: Resource) -> str:
    """The ``id`` of a resource of the server.

    Raises
    ------
    Misshapen
        There is none that could be used.
    """
    found = resource.get("id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise Misshapen(f"the server returned a {_type(resource)} without a valid id")
    return found


def require_sound(theirs: Resource, ours: Resource) -> None:
    """Hold that a resource of the server can be compared and merged with ours.

    Raises
    ------
    Misshapen
        With the place, and no value.
    """
    where = f"{_type(theirs)}/{require_id(theirs)} on the server is not valid FHIR"
    looked_at = _LOOKED_AT_IN_STUDY if ours.get("resourceType") == "ImagingStudy" else _LOOKED_AT
    try:
        _compare(theirs, looked_at, "")
        _compare(theirs, _pattern([{name: value for name, value in ours.items() if name != "contained"}]), "")
        inside = {item["id"]: item for item in ours.get("contained", ()) if "id" in item}
        for index, item in enumerate(theirs.get("contained", ())):
            same = inside.get(item.get("id"), {})
            if same.get("resourceType") == item.get("resourceType"):
                _compare(item, _pattern([same]), f"contained[{index}]")
    except _Odd as odd:
        raise Misshapen(f"{where}: {odd}; correct it on the server") from None


def entries_of(bundle: Resource) -> list[Resource]:
    """The entries of a Bundle.

    Raises
    ------
    Misshapen
        They are no list of objects, or their resources are none, or have no type.
    """
    try:
        _compare(bundle, {"entry": [{"resource": {}}]}, "")
        entries = list(bundle.get("entry") or ())
        for index, entry in enumerate(entries):
            if "resource" in entry and not isinstance(entry["resource"].get("resourceType"), str):
                raise _Odd(f"entry[{index}].resource has no resourceType")
    except _Odd as odd:
        raise Misshapen(f"the server returned a Bundle that is not valid FHIR: {odd}") from None
    return entries


class _Odd(Exception):
    """What is where, and what belongs there."""


def _compare(theirs: Any, pattern: Any, path: str) -> None:
    """Hold that objects and lists are where they are in a pattern, whose lists have one item for all."""
    expected = type(pattern) if isinstance(pattern, dict | list) else None
    is_plain = not isinstance(theirs, dict | list)
    if (expected is None and not is_plain) or (expected is not None and not isinstance(theirs, expected)):
        name = _NAMES.get(type(theirs), "a number")
        raise _Odd(f"{path or 'the resource'} is {name}, not {_NAMES[expected] if expected else 'a value'}")
    if expected is dict:
        for name, value in theirs.items():
            if name in pattern:
                _compare(value, pattern[name], f"{path}.{name}" if path else name)
    elif expected is list and pattern:
        for index, inner in enumerate(theirs):
            _compare(inner, pattern[0], f"{path}[{index}]")


def _pattern(values: list[Any]) -> Any:
    """What has all that any of these has, as far as they are alike: some may be a server's."""
    if objects := [value for value in values if isinstance(value, dict)]:
        found: dict[str, list[Any]] = {}
        for name, item in (member for value in objects for member in value.items()):
            found.setdefault(name, []).append(item)
        return {name: _pattern(items) for name, items in found.items()}
    if lists := [value for value in values if isinstance(value, list)]:
        inner = [item for value in lists for item in value]
        return [_pattern(inner)] if inner else []
    return values[0]


def _type(resource: Resource) -> str:
    found = resource.get("resourceType")
    return found if isinstance(found, str) and found.isalnum() and len(found) <= 64 else "resource"
