"""Transaction Bundles (https://hl7.org/fhir/R4/http.html#transaction); pure functions that do not change arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dicom2fhir.fhir.version.references import references
from dicom2fhir.mapped_resources import Entry, Mapped, Write
from dicom2fhir.model import Resource


def standalone(mapped: Mapped, retracted: Iterable[Entry] = ()) -> Resource:
    """A transaction Bundle for FHIR servers that accept client-assigned ids; it needs no look-up before.

    The bridge's own resources are written under their deterministic id; a resource that only has to exist is created
    unless its search finds it; a resource that must be up to date is a conditional update. A resource that may only be
    linked to is not in the Bundle: references to it become logical references (by identifier).

    Parameters
    ----------
    retracted
        Resources of an earlier Bundle that are no longer made.
    """
    entries = (*mapped.everything, *retracted)
    links = {entry.placeholder: unlinked(entry) for entry in entries if entry.write is Write.LINK}
    return transaction(
        _standalone_entry(entry, refer(entry.resource, links, entries))
        for entry in entries
        if entry.write is not Write.LINK
    )


def _standalone_entry(entry: Entry, resource: Resource) -> Resource:
    if entry.search and entry.write is Write.ENSURE:
        return create(resource, entry.placeholder, entry.search)
    if entry.search and entry.write is Write.UPSERT:
        return conditional_update(resource, entry.placeholder, entry.search)
    return update(resource, entry.placeholder)


def transaction(entries: Iterable[Resource]) -> Resource:
    """A transaction Bundle of these entries."""
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def update(resource: Resource, full_url: str, version_id: str = "") -> Resource:
    """``PUT Type/<id>`` under the resource's own id; only if the current version is ``version_id``, if given."""
    request = {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    if version_id:
        request["ifMatch"] = f'W/"{version_id}"'
    return {"fullUrl": full_url, "resource": resource, "request": request}


def create_as(resource: Resource, full_url: str) -> Resource:
    """``PUT Type/<id>`` under the resource's own id, only if it does not exist (RFC 9110 section 13.1.2)."""
    entry = update(resource, full_url)
    return {**entry, "request": {**entry["request"], "ifNoneMatch": "*"}}


def conditional_update(resource: Resource, full_url: str, search: str) -> Resource:
    """``PUT Type?search``: creates the resource, or updates the one that matches."""
    request = {"method": "PUT", "url": f"{resource['resourceType']}?{search}"}
    return {"fullUrl": full_url, "resource": resource, "request": request}


def create(resource: Resource, full_url: str, unless: str) -> Resource:
    """``POST Type``, unless the search ``unless`` finds one."""
    request = {"method": "POST", "url": str(resource["resourceType"]), "ifNoneExist": unless}
    return {"fullUrl": full_url, "resource": resource, "request": request}


def unlinked(entry: Entry) -> str | None:
    """The target of references to a linked resource that is not on the server: by identifier, or contained."""
    return f"#{entry.inside}" if entry.inside else None


_NESTED = (dict, list)


def refer(resource: Resource, targets: Mapping[str, str | None], linked: Iterable[Entry] = ()) -> Resource:
    """The resource with the placeholders of ``targets`` replaced.

    Parameters
    ----------
    targets
        Placeholder -> literal reference (``Patient/123``), or None for a logical reference (type and identifier)
        without ``reference``. Other placeholders are kept.
    linked
        Entries that may have to be contained if the target is :func:`unlinked`.
    """
    replaced: Resource = dict(_refer(resource, targets))
    inside = {e.placeholder: e for e in linked if e.inside and targets.get(e.placeholder) == unlinked(e)}
    if inside and (needed := _needed(resource, inside)):
        contained = [_refer({**entry.resource, "id": entry.inside}, targets) for entry in needed]
        replaced["contained"] = [*contained, *replaced.get("contained", ())]
    return replaced


def _needed(resource: Resource, inside: Mapping[str, Entry]) -> list[Entry]:
    """Of the entries that may be contained, by placeholder, those that a resource refers to, or one of these does."""
    found: dict[str, None] = {}
    unseen = [resource]
    while unseen:
        new = [one for one in references(unseen.pop()) if one in inside and one not in found]
        found |= dict.fromkeys(new)
        unseen += [inside[placeholder].resource for placeholder in new]
    return [entry for placeholder, entry in inside.items() if placeholder in found]


def _refer(value: Any, targets: Mapping[str, str | None]) -> Any:
    """The value with its references replaced; a value without references is returned as the same object.

    Every element of every study passes here: loops take half the time of comprehensions.
    """
    copy: Any = None
    if type(value) is list:
        for index, item in enumerate(value):
            if type(item) in _NESTED and (new := _refer(item, targets)) is not item:
                copy = copy or list(value)
                copy[index] = new
        return copy or value
    for name, item in value.items():
        if type(item) in _NESTED and (new := _refer(item, targets)) is not item:
            copy = copy or dict(value)
            copy[name] = new
    reference = value.get("reference")
    if not isinstance(reference, str) or reference not in targets:
        return copy or value
    literal = targets[reference]
    rest = {name: item for name, item in value.items() if name != "reference"}
    return {"reference": literal, **rest} if literal else rest
