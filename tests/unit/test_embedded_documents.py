"""The content of encapsulated documents: when it is read, and what it becomes."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.dicom.completeness import Completeness, completeness
from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, ENCAPSULATED_DOCUMENT, Budgets
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.reader import HeaderReader
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.model import Raw, Resource
from testdata.make_cases import record_of, studies_of
from testdata.make_dicom import encode
from testdata.make_notices import encoded

SYNTAXES = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
PDF = b"%PDF-1.4" + bytes(range(256)) * 64 + b"%%EOF"
BUDGETS = replace(DEFAULT_BUDGETS, document_bytes=len(PDF) + 1)
STORED = "EncapsulatedDocument"


def made(content: bytes = PDF, sop_class: uid.UID = uid.EncapsulatedPDFStorage, **attributes: Any) -> Dataset:
    padded = content + b"\0" * (len(content) % 2)
    return instance("DOC", "embedded", SOPClassUID=sop_class, EncapsulatedDocument=padded, **attributes)


def read(data: bytes, syntax: str, piece: int, budgets: Budgets = BUDGETS) -> Raw:
    reader = HeaderReader(syntax, WANTED, budgets)
    for at in range(0, len(data), piece):
        reader.write(data[at : at + piece])
    return reader.end()


def attachment(document: Dataset, longest: int = 1 << 20, version: str = "R4") -> Resource:
    (study,) = studies_of([encode(document)], longest)
    mapped = map_study(study, DIALECTS[version], MappingOptions(embed_documents=longest))
    (found,) = (one.entries[0].resource for one in mapped.secondary)
    (content,) = found["content"]
    made_of_it: Resource = content["attachment"]
    return made_of_it


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: str(syntax.name))
@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_it_is_read_in_each_encoding_and_whatever_the_pieces(syntax: uid.UID, piece: int) -> None:
    data = encoded(made(), syntax)
    assert read(data, syntax, piece)[ENCAPSULATED_DOCUMENT] == PDF + b"\0"
    assert read(data, syntax, piece) == read(data, syntax, len(data))


def test_it_is_not_read_unless_it_is_wanted() -> None:
    data = encoded(made())
    assert ENCAPSULATED_DOCUMENT not in read(data, uid.ExplicitVRLittleEndian, 512, DEFAULT_BUDGETS)
    other = encoded(made(sop_class=uid.SecondaryCaptureImageStorage))
    assert ENCAPSULATED_DOCUMENT not in read(other, uid.ExplicitVRLittleEndian, 512)
    assert STORED not in record_of(encode(made())).instance


@pytest.mark.parametrize(
    "budgets",
    [
        replace(BUDGETS, document_bytes=len(PDF)),
        replace(BUDGETS, elements=len(PDF) // 8),
        replace(BUDGETS, header_bytes=len(PDF)),
        replace(BUDGETS, inflated_bytes=len(PDF)),
    ],
    ids=["too long", "elements", "header", "inflated"],
)
def test_one_that_is_too_large_costs_its_content_only(budgets: Budgets) -> None:
    data = encoded(made())
    taken = read(data, uid.ExplicitVRLittleEndian, 4096, budgets)
    without = read(data, uid.ExplicitVRLittleEndian, 4096, DEFAULT_BUDGETS)
    assert {tag: value for tag, value in taken.items() if tag != ENCAPSULATED_DOCUMENT} == without
    assert not isinstance(taken[ENCAPSULATED_DOCUMENT], bytes)


def test_one_that_is_too_large_is_noted() -> None:
    record = record_of(encode(made()), document_bytes=len(PDF))
    assert STORED not in record.instance
    assert [note.where for note in record.notes] == [STORED]
    assert "fhir.embed_documents" in record.notes[0].text


def test_a_document_that_ends_too_early_is_read_without_its_content() -> None:
    """As without the option: whether the file is whole is found out elsewhere."""
    file = encode(made())[:-100]
    header = read_file(BytesIO(file), WANTED, BUDGETS)
    assert ENCAPSULATED_DOCUMENT not in header.taken
    assert completeness(BytesIO(file), header.rest, len(file)) is Completeness.CUT


def test_a_whole_file_is_known_to_be_whole() -> None:
    file = encode(made())
    header = read_file(BytesIO(file), WANTED, BUDGETS)
    assert ENCAPSULATED_DOCUMENT in header.taken
    assert completeness(BytesIO(file), header.rest, len(file)) is Completeness.WHOLE


@pytest.mark.parametrize("version", ["STU3", "R4", "R4B", "R5", "R6"])
def test_it_is_written_with_its_size_and_hash(version: str) -> None:
    found = attachment(made(), version=version)
    assert base64.b64decode(found["data"]) == PDF
    assert found.get("size") == (None if version in ("R5", "R6") else len(PDF))
    assert base64.b64decode(found["hash"]) == hashlib.sha1(PDF, usedforsecurity=False).digest()


def test_what_is_stored_is_written_only_if_it_is_wanted_now() -> None:
    (study,) = studies_of([encode(made())], len(PDF) + 1)
    for longest in (0, len(PDF) - 1):
        mapped = map_study(study, DIALECTS["R4"], MappingOptions(embed_documents=longest))
        assert "data" not in str(mapped.secondary)


def _stl(facets: int) -> bytes:
    return bytes(80) + facets.to_bytes(4, "little") + bytes(50 * facets)


@pytest.mark.parametrize(
    ("content", "sop_class"),
    [
        (b"abc", uid.EncapsulatedPDFStorage),
        (b"abcd", uid.EncapsulatedCDAStorage),
        (_stl(0), uid.EncapsulatedSTLStorage),
        (_stl(3), uid.EncapsulatedSTLStorage),
        (b"solid a\nendsolid a\n", uid.EncapsulatedSTLStorage),
        (b"v 0 0 0", uid.EncapsulatedOBJStorage),
    ],
)
def test_only_padding_is_left_out(content: bytes, sop_class: uid.UID) -> None:
    assert base64.b64decode(attachment(made(content, sop_class))["data"]) == content


def test_an_empty_document_has_no_data() -> None:
    assert "data" not in attachment(made(b""))
