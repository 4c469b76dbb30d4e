"""Three-way merge of a resource: our content has priority, content that other clients added is kept.

``base`` is what we sent last, ``ours`` what we would send now, ``theirs`` what is on the server. Content in ``base``
that is no longer in ``ours`` is removed; content only in ``theirs`` was added by other clients and is kept.

* Objects are merged key by key. Two objects with different identities (a Coding with another code, a Reference to
  another resource) are not merged: ours replaces theirs.
* Lists are merged by the identity of their items (:func:`identities`): ours in our order, then others' additions in
  theirs. An item of ours that we no longer send is removed, even if other clients changed it.
* An element that is not a list and that we no longer send is also removed, unless another client changed it since.
* Values (``value[x]``, extensions, narrative, contained resources that are new to us) are replaced as a whole.
* Several studies update one Patient, and a study's base does not contain what another study, or another bridge, wrote
  last. So items without an identity (its names) have a mark on the server (:func:`marked`), and ours replace all marked
  items.

Afterwards :func:`restore_invariants` corrects counts and repeated content of the ImagingStudy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator
from enum import Enum

import orjson

from dicom2fhir.fhir.version.code_tables import acquisition_modalities
from dicom2fhir.fhir.version.references import references
from dicom2fhir.model import Json, JsonObject, Resource

DICOM_UID_SYSTEM = "urn:dicom:uid"
_CHOICE = re.compile(r"^_?(value|deceased|multipleBirth)[A-Z]")
"""Elements of which only one type may be present (FHIR "choice of data types") in what we write."""
_CODING = {"system", "version", "code", "display", "userSelected", "id", "extension"}
_EXTENSIONS = ("extension", "modifierExtension")
_IDENTIFIERS = ("identifier", "accession")
_OF_INSTANCES = ("status", "numberOfSeries", "numberOfInstances")
_MODALITIES = ("modality", "modalityList")
"""The element for modalities in ImagingStudy, from R4 on and before."""
_SERVERS_OWN = ("versionId", "lastUpdated")
_MARK = "dicom2fhir-"
"""Prefix of the ``id`` of a marked item: https://hl7.org/fhir/R4/element.html#id."""


class _Gone(Enum):
    """The result for an element that is removed."""

    GONE = "gone"


def canonical(value: object) -> bytes:
    """JSON with sorted keys: equal for equal values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def without_version(resource: Resource) -> Resource:
    """The resource without the elements that only the server sets: ``meta.versionId`` and ``meta.lastUpdated``."""
    if "meta" not in resource:
        return resource
    meta = {key: value for key, value in resource["meta"].items() if key not in _SERVERS_OWN}
    rest = {key: value for key, value in resource.items() if key != "meta"}
    return {**rest, "meta": meta} if meta else rest


def without_instances(study: Resource, uids: Collection[str]) -> Resource:
    """An ImagingStudy that does not list these SOP instances; a series of which none remains is not listed, either."""
    kept = [each for each in (_series_without(series, uids) for series in study.get("series", ())) if each]
    rest = {name: value for name, value in study.items() if name != "series"}
    return {**rest, "series": kept} if kept else rest


def _series_without(series: Resource, uids: Collection[str]) -> Resource | None:
    if "instance" not in series:
        return series
    kept = [each for each in series["instance"] if str(each.get("uid")).removeprefix("urn:oid:") not in uids]
    return {**series, "instance": kept} if kept else None


def marked(resource: Resource) -> Resource:
    """A resource that several studies update, with a mark on each item that has no identity."""
    return {name: _marked(name, value) if isinstance(value, list) else value for name, value in resource.items()}


def _marked(name: str, items: list[Json]) -> list[Json]:
    return [
        {"id": f"{_MARK}{name}-{number}", **item} if isinstance(item, dict) and _is_unidentified(name, item) else item
        for number, item in enumerate(items, 1)
    ]


def has_marks(resource: Resource) -> bool:
    """Whether some item is marked."""
    return any(_is_marked(item) for value in resource.values() if isinstance(value, list) for item in value)


def marked_as(written: Resource, resource: Resource) -> Resource:
    """A resource with our mark on the items that are also in ``written``, which we wrote before marks existed."""
    ours = {name: [_content(item) for item in value] for name, value in written.items() if isinstance(value, list)}
    return {
        name: [
            one if _content(item) in ours.get(name, ()) else item
            for item, one in zip(value, _marked(name, value), strict=True)
        ]
        if isinstance(value, list)
        else value
        for name, value in resource.items()
    }


def _is_unidentified(name: str, item: JsonObject) -> bool:
    return name != "contained" and name not in _EXTENSIONS and not identities(name, item)


def _is_marked(item: Json) -> bool:
    return isinstance(item, dict) and str(item.get("id", "")).startswith(_MARK)


def _under_their_id(item: Json, ours: Json, theirs: Json) -> Json:
    """Our item with the id that the server or another client assigned to it, because others may refer to that id."""
    if not isinstance(item, dict) or not isinstance(theirs, dict) or "id" not in theirs:
        return item
    return {**item, "id": theirs["id"]} if _is_marked(ours) and not _is_marked(theirs) else item


def _content(item: Json) -> bytes:
    """The content of an item without its ``id``, which is not part of its meaning."""
    return canonical({key: value for key, value in item.items() if key != "id"} if isinstance(item, dict) else item)


def merge(base: Resource | None, ours: Resource, theirs: Resource, *, acquisition_only: bool = False) -> Resource:
    """The resource to write.

    Parameters
    ----------
    base
        What we sent last, or None if it is not known: then all of ``theirs`` counts as added by other clients.
    ours
        Our complete resource; its ``id`` is used.
    theirs
        The current resource on the server.
    acquisition_only
        Whether an ImagingStudy lists the acquisition modalities of its series only; see
        :class:`~dicom2fhir.fhir.version.dialect.Dialect`.

    Returns
    -------
    Resource
        A new object that may share parts with the arguments.
    """
    theirs = without_version(theirs)
    ours = _as_published(without_version(ours), theirs)
    merged: Resource = _object(_as_published(without_version(base), theirs) if base else {}, ours, theirs)
    if "contained" in merged:
        _drop_unreferenced(merged, {item.get("id") for item in ours.get("contained", ())})
    if ours.get("resourceType") == "ImagingStudy":
        if "series" not in ours and merged.get("series"):  # others have instances of a study that is announced to us
            merged |= {name: theirs[name] for name in _OF_INSTANCES if name in theirs}
        merged = restore_invariants(merged, ours, acquisition_only)
    return merged


def _as_published(ours: Resource, theirs: Resource) -> Resource:
    """Our study with the server's accession number in ``accession``, if it is one of the study's numbers.

    ``accession`` holds one number and is searched, ``identifier`` holds the others: if a later instance changes which
    one is first, the study must still be found by the published one.
    """
    mine, published, others = ours.get("accession"), theirs.get("accession"), ours.get("identifier", [])
    if not mine or not published:
        return ours
    at = next((n for n, other in enumerate(others) if _is_number(other, published)), None)
    if at is None:
        return ours
    return {**ours, "accession": others[at], "identifier": [*others[:at], mine, *others[at + 1 :]]}


def _is_number(identifier: Resource, published: Resource) -> bool:
    """Whether an accession number is the published one, which may have been published without its issuer."""
    same_system = published.get("system") in (None, identifier.get("system"))
    return same_system and identifier.get("value") == published.get("value")


def _value(name: str, base: Json, ours: Json, theirs: Json) -> Json:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        whole = _CHOICE.match(name) or name in _EXTENSIONS or (name == "text" and "div" in ours)
        if whole or _different(name, base, ours, theirs):
            return ours
        return _object(base if isinstance(base, dict) else {}, ours, theirs)
    if isinstance(ours, list) and isinstance(theirs, list):
        return _list(name, base if isinstance(base, list) else [], ours, theirs)
    return ours


def _different(name: str, base: Json, ours: JsonObject, theirs: JsonObject) -> bool:
    """Whether ours has another identity than theirs or our last one: a merge could refer to the wrong patient."""
    return _contradict(name, ours, theirs) or (isinstance(base, dict) and _contradict(name, ours, base))


def _contradict(name: str, one: JsonObject, other: JsonObject) -> bool:
    if _is_reference(one) or _is_reference(other):
        mine, others = dict(_reference_parts(one)), dict(_reference_parts(other))
        return any(mine[part] != others[part] for part in mine.keys() & others.keys())
    return bool(identities(name, one)) and not set(identities(name, one)) & set(identities(name, other))


def _reference_parts(item: JsonObject) -> Iterator[tuple[str, Hashable]]:
    if isinstance(reference := item.get("reference"), str):
        yield "reference", reference
    if isinstance(identifier := item.get("identifier"), dict):
        yield "identifier", identities("identifier", identifier)


def _object(base: JsonObject, ours: JsonObject, theirs: JsonObject) -> JsonObject:
    merged: JsonObject = {}
    for name, value in ours.items():
        paired = _is_paired(name, ours, theirs)
        merged[name] = value if name not in theirs or paired else _value(name, base.get(name), value, theirs[name])
    chosen = {found[1] for name in ours if (found := _CHOICE.match(name))}
    for name, value in theirs.items():
        choice = _CHOICE.match(name)
        if name in ours or (choice and choice[1] in chosen) or (_is_paired(name, ours, theirs) and _twin(name) in ours):
            continue
        left = _left(name, base[name], value) if name in base else value
        if not isinstance(left, _Gone):
            merged[name] = left
    return merged


def _left(name: str, base: Json, theirs: Json) -> Json | _Gone:
    """The rest of an element that we no longer send: what other clients have added since."""
    if canonical(base) == canonical(theirs):
        return _Gone.GONE
    if isinstance(base, list) and isinstance(theirs, list):
        return _list(name, base, [], theirs) or _Gone.GONE
    return theirs


def _twin(name: str) -> str:
    return name[1:] if name.startswith("_") else f"_{name}"


def _is_paired(name: str, ours: JsonObject, theirs: JsonObject) -> bool:
    """Whether a list of primitives has a parallel ``_name`` list (FHIR JSON): such lists are not merged."""
    plain = name.removeprefix("_")
    marked = f"_{plain}"
    return any(isinstance(side.get(marked), list) for side in (ours, theirs))


def _list(name: str, base: list[Json], ours: list[Json], theirs: list[Json]) -> list[Json]:
    left: dict[Hashable, list[int]] = defaultdict(list)
    their_keys = [_keys(name, item) for item in theirs]
    for index, keys in enumerate(their_keys):
        for key in keys:
            left[key].append(index)
    base_items = {key: item for item in reversed(base) for key in _keys(name, item)}
    taken: set[int] = set()
    merged: list[Json] = []
    our_keys: set[Hashable] = set()
    for item in ours:
        keys = _keys(name, item)
        our_keys.update(keys)
        match = next((i for key in keys for i in left.get(key, ()) if i not in taken), None)
        if match is None:
            merged.append(item)
            continue
        taken.add(match)
        before = next((base_items[key] for key in keys if key in base_items), None)
        foreign = name == "contained" and before is None
        value = item if foreign else _value(name, before, item, theirs[match])
        merged.append(_under_their_id(value, item, theirs[match]))
    repeats = name in _EXTENSIONS  # there may be several with one url, distinguished by their content
    for index, (item, keys) in enumerate(zip(theirs, their_keys, strict=True)):
        decisive = keys[:1] if repeats else keys
        if index in taken or _is_marked(item) or any(key in our_keys or key in base_items for key in decisive):
            continue
        merged.append(item)
    return merged


def _keys(name: str, item: Json) -> tuple[Hashable, ...]:
    if name == "contained" and isinstance(item, dict) and "id" in item:
        return (("id", str(item["id"])),)
    if name in _EXTENSIONS and isinstance(item, dict):
        return (canonical(item), ("url", str(item.get("url"))))
    return identities(name, item) or (_content(item),)


def identities(name: str, item: Json) -> tuple[Hashable, ...]:
    """The identities of an item in the list ``name``; two items with a common identity are the same.

    Empty for an item that only its whole content identifies. All Identifiers of system ``urn:dicom:uid`` have the same
    identity: a study has exactly one Study Instance UID, and other writers leave out its ``urn:oid:`` prefix.
    """
    if not isinstance(item, dict):
        return ()
    if isinstance(item.get("uid"), str):
        return (("uid", item["uid"]),)
    if isinstance(codings := item.get("coding"), list):
        found = tuple(key for coding in codings for key in identities("coding", coding))
        return found or _text(item)
    if isinstance(item.get("concept"), dict):
        return identities("concept", item["concept"])
    if isinstance(item.get("actor"), dict):
        return identities("actor", item["actor"])
    if _is_reference(item):
        return tuple(_reference_parts(item))
    if isinstance(item.get("value"), str) and (name in _IDENTIFIERS or "system" in item):
        if item.get("system") == DICOM_UID_SYSTEM:
            return (("identifier", DICOM_UID_SYSTEM),)
        return (("identifier", str(item.get("system")), item["value"]),)
    if isinstance(item.get("code"), str) and item.keys() <= _CODING:
        return (("code", str(item.get("system")), item["code"]),)
    return _text(item)


def _text(item: JsonObject) -> tuple[Hashable, ...]:
    is_concept = isinstance(item.get("text"), str) and item.keys() <= {"coding", "text", "id", "extension"}
    return (("text", item["text"]),) if is_concept else ()


def _is_reference(item: JsonObject) -> bool:
    """Whether an object is a Reference (a CodeableReference's ``reference`` is an object)."""
    named = isinstance(item.get("reference"), str) or isinstance(item.get("identifier"), dict)
    return named and item.keys() <= {"reference", "type", "identifier", "display", "id", "extension"}


def _drop_unreferenced(merged: Resource, our_ids: set[Json]) -> None:
    """Remove contained resources that nothing refers to (HL7 invariant dom-3)."""
    used = {reference.removeprefix("#") for reference in references(merged) if reference.startswith("#")}
    kept = [item for item in merged["contained"] if item.get("id") in our_ids or item.get("id") in used]
    if kept:
        merged["contained"] = kept
    else:
        del merged["contained"]


def restore_invariants(merged: Resource, ours: Resource, acquisition_only: bool) -> Resource:
    """Correct counts and modalities of an ImagingStudy with series or instances of other clients (R6 ist-3 to ist-7).

    If we list no instances (large studies are sent without lists), our counts are used and other clients' lists are
    removed. ``modality`` is adjusted to the series only if both agree in our own output.
    """
    our_series = {series.get("uid"): series for series in ours.get("series", ())}
    series = [_recounted(item, our_series.get(item.get("uid"))) for item in merged.get("series", ())]
    if not series or "series" not in ours:
        return merged
    restored = {**merged, "series": series}
    added = len(series) > len(ours["series"]) or any(
        item.get("numberOfInstances") != our_series[item.get("uid")].get("numberOfInstances") for item in series
    )
    if added:
        restored["numberOfSeries"] = len(series)
        counts = [item.get("numberOfInstances") for item in series]
        if all(isinstance(count, int) for count in counts):
            restored["numberOfInstances"] = sum(counts)
    name = next((name for name in _MODALITIES if name in restored), None)
    if name and _modalities(ours.get(name, ())) == _modalities(_of_series(ours, acquisition_only)):
        restored[name] = _distinct(restored[name], _of_series(restored, acquisition_only))
        if not restored[name]:
            del restored[name]
    return restored


def _recounted(series: Resource, ours: Resource | None) -> Resource:
    if "instance" not in series:
        return series
    if ours is not None and "instance" not in ours:
        return {key: value for key, value in series.items() if key != "instance"}
    if ours is not None and len(series["instance"]) == len(ours["instance"]):
        return series
    return {**series, "numberOfInstances": len(series["instance"])}


def _of_series(study: Resource, acquisition_only: bool) -> list[Json]:
    found = [series["modality"] for series in study.get("series", ()) if "modality" in series]
    if not acquisition_only:
        return found
    return [modality for modality in found if modality.get("code") in acquisition_modalities()]


def _modalities(items: Iterable[Json]) -> set[Hashable]:
    return {_keys("modality", item)[0] for item in items}


def _distinct(study: list[Json], series: list[Json]) -> list[Json]:
    """The study's modalities without those that no series has, and with those of other clients' series."""
    known, wanted = _modalities(study), _modalities(series)
    kept = [item for item in study if _keys("modality", item)[0] in wanted]
    for item in series:
        key = _keys("modality", item)[0]
        if key not in known:
            known.add(key)
            kept.append(item)
    return kept
