"""Check that resources from a server have the JSON structure of FHIR before they are used.

Only the elements that we use are checked: the others are sent back unchanged. Objects and lists must be in the same
places as in our resource (https://hl7.org/fhir/R4/json.html); the types of primitive values are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dicom2fhir.errors import Misshapen
from dicom2fhir.model import Resource

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""https://hl7.org/fhir/R4/datatypes.html#id"""
_LOOKED_AT: dict[str, object] = {
    "meta": {"versionId": ""},
    "identifier": [{}],
    "contained": [{"resourceType": "", "id": ""}],
}
_LOOKED_AT_IN_STUDY: dict[str, object] = {
    **_LOOKED_AT,
    "modality": [{}],
    "modalityList": [{}],
    "series": [{"uid": "", "modality": {}, "instance": [{"uid": ""}]}],
}
"""By the merge, even if our resource does not have the element."""
_LOOKED_AT_IN: Mapping[str, dict[str, object]] = {
    "ImagingStudy": _LOOKED_AT_IN_STUDY,
    "ImagingManifest": {**_LOOKED_AT, "identifier": {}},
}
_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def require_id(resource: Resource) -> str:
    """The ``id`` of a resource on the server.

    Raises
    ------
    Misshapen
        It is missing or invalid.
    """
    found = resource.get("id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise Misshapen(f"the server returned a {_type(resource)} without a valid id")
    return found


def require_sound(theirs: Resource, ours: Resource) -> None:
    """Check that a resource from the server can be compared and merged with ours.

    Raises
    ------
    Misshapen
        The message has the path, but no value.
    """
    where = f"{_type(theirs)}/{require_id(theirs)} on the server is not valid FHIR"
    looked_at = _LOOKED_AT_IN.get(_type(theirs), _LOOKED_AT)
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
        They are not a list of objects, or a resource is not an object or has no type.
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
    """A value of the wrong JSON type: its path, its type and the expected type."""


def _compare(theirs: Any, pattern: Any, path: str) -> None:
    """Check that objects and lists are in the same places as in a pattern; lists of a pattern have one item for all."""
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


def _pattern(values: list[object]) -> object:
    """A pattern with the members of all values that have the same type: some values may be from a server."""
    if objects := [value for value in values if isinstance(value, dict)]:
        found: dict[str, list[object]] = {}
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
