"""The content of documents: of which SOP classes it is read, and what bounds it."""

from __future__ import annotations

from copy import deepcopy
from io import BytesIO
from typing import Any

import pytest
from pydicom import uid
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.dicom.content import CONTENT
from dicom2fhir.dicom.data_elements import Budgets
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.header_cache import HeaderCache
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.fhir.mapping import documents, dose_reports
from dicom2fhir.fhir.version.datatypes import DCM, LOINC, SNOMED_CT
from dicom2fhir.model import Attrs, InstanceRecord, Origin, items_of
from dicom2fhir.sop_classes import (
    COMPREHENSIVE_3D_SR,
    COMPREHENSIVE_SR,
    ENCAPSULATED_DOCUMENTS,
    ENHANCED_SR,
    KEY_OBJECT_SELECTION,
    RADIOPHARMACEUTICAL_RADIATION_DOSE_SR,
    X_RAY_RADIATION_DOSE_SR,
)
from testdata.make_dicom import datasets, encode, encoded

SYSTEMS = {"DCM": DCM, "LN": LOINC, "SCT": SNOMED_CT}
SEQUENCES = {attribute.keyword for attribute in CONTENT[KEY_OBJECT_SELECTION]}
EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"


def document(count: int, undefined: bool = False, **others: Any) -> bytes:
    """A key object selection that names many instances of one series."""
    references = [
        {"ReferencedSOPClassUID": uid.CTImageStorage, "ReferencedSOPInstanceUID": make_uid("bulk", number)}
        for number in range(count)
    ]
    series = [{"SeriesInstanceUID": make_uid("bulk"), "ReferencedSOPSequence": references}]
    others[EVIDENCE] = [{"StudyInstanceUID": "1.2", "ReferencedSeriesSequence": series}]
    made = instance("KO", "bulk", **others)
    if undefined:
        for item in made.iterall():
            item.is_undefined_length = item.VR == "SQ"
    return encode(made)


def read(data: bytes, budgets: Budgets | None = None, cache: HeaderCache | None = None) -> InstanceRecord:
    header = read_file(BytesIO(data), WANTED, budgets or Budgets(), cache)
    return decode_instance(header.received(Origin("file")))


def named(record: InstanceRecord) -> list[Attrs]:
    """The instances in the evidence."""
    return [
        reference
        for study in items_of(record.instance.get(EVIDENCE))
        for series in items_of(study.get("ReferencedSeriesSequence"))
        for reference in items_of(series.get("ReferencedSOPSequence"))
    ]


def test_each_class_of_encapsulated_documents_is_mapped() -> None:
    assert documents.CLASSES.keys() == set(ENCAPSULATED_DOCUMENTS)
    for sop_class, known in documents.CLASSES.items():
        assert uid.UID(sop_class).name == f"{known.name} Storage"


def test_titles_of_reports_are_those_of_the_standard() -> None:
    tables: Any = (cid_concepts, concepts)
    groups, codes = tables
    named = {
        SYSTEMS[scheme]: {code for name in names for code in codes[scheme][name]}
        for scheme, names in groups[7000].items()
    }
    assert named == documents.REPORTS


def test_reader_and_mapping_mean_the_same_dose_reports() -> None:
    general = {ENHANCED_SR, COMPREHENSIVE_SR, COMPREHENSIVE_3D_SR}
    assert set(dose_reports.TITLES) == {X_RAY_RADIATION_DOSE_SR, RADIOPHARMACEUTICAL_RADIATION_DOSE_SR, *general}
    assert uid.XRayRadiationDoseSRStorage == X_RAY_RADIATION_DOSE_SR
    assert uid.RadiopharmaceuticalRadiationDoseSRStorage == RADIOPHARMACEUTICAL_RADIATION_DOSE_SR


def dose_report(events: int, undefined: bool, sop_class: str = X_RAY_RADIATION_DOSE_SR) -> bytes:
    """The dose of both planes with many irradiation events, before the person that authorized them."""
    (made,) = datasets("sr-dose-biplane")
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = uid.UID(sop_class)
    *before, event, operator, authorizer = made.ContentSequence
    event.ContentSequence += [event.ContentSequence[-1]] * 40
    made.ContentSequence = [*before, *(deepcopy(event) for _ in range(events)), operator, authorizer]
    if undefined:
        for item in made.iterall():
            item.is_undefined_length = item.VR == "SQ"
    return encode(made)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("sop_class", [X_RAY_RADIATION_DOSE_SR, ENHANCED_SR])
def test_of_irradiation_events_only_their_times(undefined: bool, sop_class: str) -> None:
    """A report may have hundreds of them, and what follows them counts, too."""
    record = read(dose_report(150, undefined, sop_class))
    events = [
        item
        for item in items_of(record.instance["ContentSequence"])
        if items_of(item["ConceptNameCodeSequence"])[0]["CodeValue"] == "113706"
    ]
    assert len(events) == 150
    assert all(items_of(event["ContentSequence"]) == [{"DateTime": "20240311101500+0100"}] for event in events)
    assert items_of(record.instance["ContentSequence"])[-1]["PersonName"] == "Authorizer^Anna"
    assert record.notes == ()


def test_only_of_classes_that_a_rule_wants() -> None:
    *_, selection = (read(data) for data in encoded("ko-studies"))
    assert selection.instance.keys() >= SEQUENCES
    assert not any(SEQUENCES & read(data).instance.keys() for data in encoded("pr"))


def test_of_measurement_reports_by_template_or_by_title() -> None:
    def has_content(title: str, template: str) -> bool:
        report = datasets("sr-tid1500")[-1]
        report.ConceptNameCodeSequence[0].CodeValue = title
        report.ContentTemplateSequence[0].TemplateIdentifier = template
        return "ContentSequence" in read(encode(report)).instance

    assert has_content("126000", "1500")
    assert has_content("126003", "9999")
    assert has_content("113701", "9999")
    assert has_content("1", "1500")
    assert not has_content("1", "9999")


def test_coordinates_are_read_whole_or_not_at_all() -> None:
    """A part of a contour is another contour."""
    report = datasets("sr-tid1500-regions")[-1]
    outline = report.ContentSequence[3].ContentSequence[0].ContentSequence[5]

    def graphic(values: list[float]) -> tuple[object, InstanceRecord]:
        outline.GraphicData = values
        record = read(encode(report))
        item = items_of(record.instance["ContentSequence"])[3]
        for number in (0, 5):
            item = items_of(item["ContentSequence"])[number]
        return item.get("GraphicData"), record

    assert graphic([0.1, 1234.5678, 3.0, 1e-7])[0] == "0.1\\1234.56775\\3\\1e-07"
    assert str(graphic([0.5] * 1000)[0]).count("0.5") == 1000
    left_out, record = graphic([0.5] * 1002)
    assert left_out is None
    assert any(note.where == "GraphicData" for note in record.notes)


def test_coordinates_of_a_document_are_bounded() -> None:
    """Each takes longer to decode than other bytes."""
    report = datasets("sr-tid1500-regions")[-1]
    group = report.ContentSequence[3].ContentSequence[0]
    outline = group.ContentSequence[5]
    outline.GraphicData = [0.5] * 1000
    group.ContentSequence = [outline] * 150
    record = read(encode(report))
    groups = items_of(items_of(record.instance["ContentSequence"])[3]["ContentSequence"])
    outlines = [item for item in items_of(groups[0]["ContentSequence"]) if "GraphicData" in item]
    assert len(outlines) == 100
    assert any(note.where == "GraphicData" for note in record.notes)


def test_of_a_class_that_is_padded_with_a_space() -> None:
    assert len(named(read(document(2).replace(b"88.59\0", b"88.59 ")))) == 2


@pytest.mark.parametrize("undefined", [False, True])
def test_more_items_than_of_other_sequences(undefined: bool) -> None:
    record = read(document(3_000, undefined))
    assert len(named(record)) == 3_000
    assert record.notes == ()


@pytest.mark.parametrize("undefined", [False, True])
def test_what_is_beyond_the_budget_is_left_out_and_the_instance_is_taken(undefined: bool) -> None:
    """Two thirds of the budget are for content; the last third is enough to skip the rest."""
    record = read(document(3_000, undefined), Budgets(elements=30_000))
    assert 400 < len(named(record)) < 1_000
    assert all(len(reference) == 2 for reference in named(record))
    assert any("max_elements" in note.text for note in record.notes)


def test_content_that_follows_what_was_cut_is_left_out_too() -> None:
    items = [{"ValueType": "TEXT", "TextValue": "x"}] * 10
    record = read(document(3_000, ContentSequence=items), Budgets(elements=30_000))
    assert not items_of(record.instance.get("ContentSequence"))
    assert {note.where for note in record.notes} >= {"ReferencedSOPSequence", "ContentSequence"}


def test_deeper_content_than_any_rule_reads_is_skipped() -> None:
    inner: dict[str, object] = {"ValueType": "TEXT", "TextValue": "deep"}
    for _ in range(20):
        inner = {"ValueType": "CONTAINER", "ContentSequence": [inner]}
    (top,) = items_of(read(document(1, ContentSequence=[inner])).instance["ContentSequence"])
    (below,) = items_of(top["ContentSequence"])
    assert "ContentSequence" not in below


def test_equal_content_of_another_class_is_not_taken_for_what_the_cache_knows() -> None:
    """The bytes of the sequence are the same; what is taken of it is decided by the class before it."""
    selection = document(3)
    other = selection.replace(b"1.2.840.10008.5.1.4.1.1.88.59\0", b"1.2.840.10008.5.1.4.1.1.88.50\0")
    cache = HeaderCache()
    for data in (other, other, other, other, selection, selection, selection, selection, other, selection):
        assert read(data, cache=cache) == read(data)
    assert len(named(read(selection, cache=cache))) == 3
