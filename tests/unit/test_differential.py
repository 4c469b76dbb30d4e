"""The same values as pydicom reads, or both refuse; the differences that are meant are listed with their reason."""

from __future__ import annotations

import warnings
from base64 import b64encode
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config, dcmread, uid
from pydicom.datadict import dictionary_VM, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from dicom2fhir.dicom.attributes import LEVELS, UIDS, Attribute
from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.holder_sequences import FUNCTIONAL_GROUPS, HOLDERS
from dicom2fhir.errors import CannotUnderstand, MissingUID, NotDicom
from testdata.make_cases import record_of
from tests.any_data_set import EVERYTHING, SCRIPTS, SYNTAXES, any_file, odd_file
from tests.examples import examples

DOCUMENT_BYTES = 100_000

REFUSED = {
    "rtplan_truncated.dcm": "ends within an element; pydicom gives what came before it",
    "truncated": "ends within an element",
}
"""Files, or cases of generated files, that pydicom reads and the bridge does not."""

DIFFERENT = {
    ("chrX1.dcm", "PatientName"): "pydicom drops the = of an empty last component group",
    ("chrX2.dcm", "PatientName"): "pydicom drops the = of an empty last component group",
}


def plain(value: Any, attribute: Attribute) -> Any:
    """A value of pydicom in the form of a record: text without padding and controls, lists, None when empty."""
    if value is None:
        return None
    if attribute.vr == "SQ":
        items = [attrs for item in value if (attrs := attributes_of(item, attribute.items))]
        return items or None
    if attribute.vr == "OB":
        return b64encode(value).decode("ascii")
    if attribute.is_whole:
        return "\\".join(f"{one:.7g}" for one in value) or None
    if isinstance(value, MultiValue | list):
        values = [text(one) for one in value]
        if dictionary_VM(attribute.tag) == "1" and attribute.vr != "UI":
            return next(filter(None, values), None)
        while values and not values[-1]:
            values.pop()
        return (values if len(values) > 1 else values[0]) if values else None
    return text(value) or None


def text(value: Any) -> str:
    """What stands in the file, whatever class pydicom gave it (numbers keep their text in ``original_string``)."""
    written = str(value if isinstance(value, PersonName) else getattr(value, "original_string", None) or value)
    return "".join(c for c in written if c in "\t\r\n" or not (ord(c) < 0x20 or ord(c) == 0x7F)).strip()


def within(read: Dataset, attribute: Attribute) -> Attribute:
    """The attribute with what is taken of its items in a content item of this concept name."""
    names = read.get("ConceptNameCodeSequence")
    is_named = attribute.in_concepts and isinstance(names, MutableSequence) and names
    code = names[0].get("CodeValue", "") if is_named else ""
    own = dict(attribute.in_concepts).get(code)
    return replace(attribute, items=own) if own else attribute


def is_of_documents(read: Dataset, attribute: Attribute) -> bool:
    """Whether the attribute is taken of this document: by its title or its template."""
    documents = attribute.of_documents
    if documents is None:
        return True
    said = [
        (read.get("ConceptNameCodeSequence"), "CodeValue", documents.titles),
        (read.get("ContentTemplateSequence"), "TemplateIdentifier", (documents.template,)),
    ]
    return any(isinstance(items, Sequence) and items and items[0].get(name) in known for items, name, known in said)


def attributes_of(read: Dataset, attributes: Sequence[Attribute]) -> dict[str, Any]:
    found = {a.keyword: plain(read.get(a.keyword), within(read, a)) for a in attributes}
    return {keyword: value for keyword, value in found.items() if value is not None}


def held(read: Dataset, names: Sequence[str]) -> Iterator[Dataset]:
    """The items of some sequences, of the frames the first, each followed by those of the groups in it."""
    for name in names:
        items = read.get(name)
        for item in items[: 1 if name.startswith("PerFrame") else None] if isinstance(items, Sequence) else ():
            yield item
            yield from held(item, [group for group in map(keyword_for_tag, item.keys()) if group in FUNCTIONAL_GROUPS])


def of_a_level(read: Dataset, attributes: Sequence[Attribute]) -> dict[str, Any]:
    """The attributes of a level, wherever they stand and whatever else says the same."""
    places = [read, *held(read, [*HOLDERS])]
    found = {}
    for attribute in attributes:
        for other in (attribute, *attribute.instead):
            given = next((place.get(other.keyword) for place in places if is_there(place, other)), None)
            if attribute.keyword not in found and (value := in_unit(plain(given, other), other.factor)):
                found[attribute.keyword] = value
    return found


def is_there(place: Dataset, attribute: Attribute) -> bool:
    """Whether there is more than padding; what it means is not asked yet."""
    value = place.get(attribute.keyword)
    return value is not None and bool(value.strip(" ") if isinstance(value, str) else value or value == 0)


def in_unit(value: Any, factor: str) -> Any:
    if not factor or not value:
        return value
    if isinstance(value, list):
        return [in_unit(one, factor) for one in value]
    try:
        return str((Decimal(value) * Decimal(factor)).normalize())
    except InvalidOperation:
        return ""


def by_pydicom(data: bytes) -> dict[str, Any]:
    """Every attribute that the bridge takes, as pydicom reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with config.disable_value_validation():
            read = dcmread(BytesIO(data), stop_before_pixels=True, force=True)
            found = attributes_of(read, UIDS)
            content = CONTENT.get(read.get("SOPClassUID", ""), ())
            found |= attributes_of(read, [one for one in content if is_of_documents(read, one)])
            for attributes in LEVELS.values():
                found |= of_a_level(read, attributes)
    return found


def by_the_bridge(data: bytes) -> dict[str, Any]:
    record = record_of(data, document_bytes=DOCUMENT_BYTES)
    cache = HeaderCache()
    for _ in range(3):  # the third time all of it is known
        assert record_of(data, cache, DOCUMENT_BYTES) == record
    uids = {
        "StudyInstanceUID": record.study_uid,
        "SeriesInstanceUID": record.series_uid,
        "SOPInstanceUID": record.sop_uid,
    }
    return {**uids, **record.patient, **record.study, **record.series, **record.instance}


def differences(name: str, data: bytes) -> Mapping[str, tuple[Any, Any]]:
    """Keyword -> what the bridge and what pydicom reads, where they differ and should not."""
    try:
        ours = by_the_bridge(data)
    except (NotDicom, CannotUnderstand) as error:
        return {} if name in REFUSED or is_refused_by_pydicom(data, error) else {"": (error, "readable")}
    theirs = by_pydicom(data)
    # the command or the file meta information stands in for what the data set leaves out
    for keyword in ("SOPInstanceUID", "SOPClassUID"):
        theirs.setdefault(keyword, ours[keyword])
    return {
        keyword: (ours.get(keyword), theirs.get(keyword))
        for keyword in {*ours, *theirs}
        if ours.get(keyword) != theirs.get(keyword) and (name, keyword) not in DIFFERENT
    }


def is_refused_by_pydicom(data: bytes, error: Exception) -> bool:
    """Whether pydicom cannot read it, or reads no usable UID or no instance from it either."""
    try:
        found = by_pydicom(data)
    except (InvalidDicomError, EOFError):
        return True
    if isinstance(error, MissingUID):
        keyword = str(error).split()[0]
        return not found.get(keyword) or not isinstance(found[keyword], str) or "is not a valid UID" in str(error)
    return isinstance(error, NotDicom) and "StudyInstanceUID" not in found


def test_the_files_of_pydicom(pydicom_files: list[Path]) -> None:
    read = {path.name: differences(path.name, path.read_bytes()) for path in pydicom_files}
    assert {name: wrong for name, wrong in read.items() if wrong} == {}
    assert len(read) > 100


def test_the_generated_files(generated: Path) -> None:
    files = [path for path in sorted(generated.rglob("*")) if path.is_file()]
    read = {path.relative_to(generated): differences(path.parent.name, path.read_bytes()) for path in files}
    assert {name: wrong for name, wrong in read.items() if wrong} == {}
    assert len(read) > 200


# Data sets made of whatever comes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", SCRIPTS)
@examples(60)
@given(seed=st.integers(0, 2**32), syntax=st.sampled_from(SYNTAXES), undefined=st.booleans())
def test_data_sets_of_any_content(charset: str, seed: int, syntax: uid.UID, undefined: bool) -> None:
    # made by a seed: nested strategies took a hundred times as long as what they test
    assert differences("", any_file(charset, seed, syntax, undefined)) == {}


@pytest.mark.parametrize("charset", SCRIPTS)
@examples(60)
@given(seed=st.integers(0, 2**32))
def test_data_sets_in_odd_encodings(charset: str, seed: int) -> None:
    data = odd_file(charset, seed)
    assert differences("", data) == {}
    assert by_the_bridge(data) == by_the_bridge(any_file(charset, seed))


@pytest.mark.parametrize("keyword", sorted({a.keyword for a in EVERYTHING if a.vr == "SQ"} | {*HOLDERS}))
@examples(5)
@given(seed=st.integers(0, 2**32))
def test_damage_costs_the_sequence_that_it_is_in(keyword: str, seed: int) -> None:
    """Nothing else, and it is noted."""
    read = dcmread(BytesIO(any_file("ISO_IR 100", seed)))
    if keyword in read:
        del read[keyword]
    without = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read.save_as(without)
    data = odd_file("ISO_IR 100", seed, damage=keyword)
    expected = by_the_bridge(without.getvalue())
    expected.pop(keyword, None)  # what functional groups say of it does not take its place
    assert by_the_bridge(data) == expected
    assert keyword in {note.where for note in record_of(data).notes}
