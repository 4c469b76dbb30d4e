from __future__ import annotations

from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.fhir.send.merge import canonical, merge, without_instances
from dicom2fhir.model import Resource

UID = "urn:oid:1.2.3"


def study(**elements: Any) -> Resource:
    return {
        "resourceType": "ImagingStudy",
        "id": "a",
        "identifier": [{"system": "urn:dicom:uid", "value": UID}],
        "status": "available",
        **elements,
    }


def series(uid: str, modality: str = "CT", instances: int | None = 1, **elements: Any) -> Resource:
    listed = {} if instances is None else {"instance": [{"uid": f"{uid}.{n}"} for n in range(instances)]}
    return {"uid": uid, "modality": {"code": modality}, "numberOfInstances": instances or 0, **listed, **elements}


SYSTEMS = st.sampled_from(["urn:dicom:uid", "urn:a", "urn:b"])
WORDS = st.sampled_from(["x", "y", "z"])
IDENTIFIERS = st.fixed_dictionaries({"system": SYSTEMS, "value": WORDS}, optional={"use": WORDS})
CODINGS = st.fixed_dictionaries({"code": WORDS}, optional={"system": SYSTEMS, "display": WORDS})
CONCEPTS = st.fixed_dictionaries({}, optional={"coding": st.lists(CODINGS, min_size=1, max_size=2), "text": WORDS})
EXTENSIONS = st.fixed_dictionaries({"url": WORDS}, optional={"valueString": WORDS, "valueCode": WORDS})
REFERENCES = st.fixed_dictionaries({}, optional={"reference": WORDS, "identifier": IDENTIFIERS, "display": WORDS})
INSTANCES = st.fixed_dictionaries({"uid": WORDS}, optional={"title": WORDS})
SERIES = st.fixed_dictionaries(
    {"uid": WORDS, "modality": CODINGS},
    optional={
        "instance": st.lists(INSTANCES, min_size=1, max_size=3, unique_by=itemgetter("uid")),
        "numberOfInstances": st.integers(0, 3),
        "extension": st.lists(EXTENSIONS, max_size=3),
        "performer": st.lists(st.fixed_dictionaries({"actor": REFERENCES}), max_size=2),
    },
)
STUDIES = st.fixed_dictionaries(
    {"resourceType": st.just("ImagingStudy"), "id": st.just("a")},
    optional={
        "meta": st.fixed_dictionaries({"source": WORDS}, optional={"tag": st.lists(CODINGS, max_size=2)}),
        "identifier": st.lists(IDENTIFIERS, max_size=4),
        "modality": st.lists(CODINGS, max_size=3),
        "subject": REFERENCES,
        "description": WORDS,
        "numberOfSeries": st.integers(0, 3),
        "procedureCode": st.lists(CONCEPTS, max_size=3),
        "note": st.lists(st.fixed_dictionaries({"text": WORDS}), max_size=3),
        "extension": st.lists(EXTENSIONS, max_size=3),
        "endpoint": st.lists(REFERENCES, max_size=2),
        "series": st.lists(SERIES, max_size=3, unique_by=itemgetter("uid")),
    },
)


@given(st.none() | STUDIES, STUDIES)
def test_nothing_changes_when_the_server_has_what_we_emit(base: Resource | None, ours: Resource) -> None:
    assert canonical(merge(base, ours, ours)) == canonical(ours)


@given(st.none() | STUDIES, STUDIES, STUDIES)
def test_merging_again_changes_nothing(base: Resource | None, ours: Resource, theirs: Resource) -> None:
    once = merge(base, ours, theirs)
    assert canonical(merge(base, ours, once)) == canonical(once)


@given(st.none() | STUDIES, STUDIES, STUDIES)
def test_what_was_merged_is_not_changed(base: Resource | None, ours: Resource, theirs: Resource) -> None:
    before = canonical([base, ours, theirs])
    merge(base, ours, theirs)
    assert canonical([base, ours, theirs]) == before


@given(STUDIES, STUDIES)
def test_notes_identifiers_and_series_of_others_stay(ours: Resource, theirs: Resource) -> None:
    merged = merge(None, ours, theirs)
    for note in theirs.get("note", []):
        assert note in merged["note"]
    for identifier in theirs.get("identifier", []):
        if identifier["system"] != "urn:dicom:uid":
            assert any(identifier.items() >= {"value": item["value"]}.items() for item in merged["identifier"])
    assert {item["uid"] for item in merged.get("series", [])} == {
        item["uid"] for side in (ours, theirs) for item in side.get("series", [])
    }


@given(STUDIES, STUDIES)
def test_what_we_sent_and_no_longer_send_goes(base: Resource, theirs: Resource) -> None:
    nothing: Resource = {"resourceType": "ImagingStudy", "id": "a"}
    assert merge(base, nothing, base) == nothing
    left = merge(base, nothing, theirs)
    assert not {item["uid"] for item in base.get("series", [])} & {item["uid"] for item in left.get("series", [])}


CASES: dict[str, tuple[Resource | None, Resource, Resource, Resource]] = {
    "ours wins over theirs": (None, {"status": "available"}, {"status": "registered"}, {"status": "available"}),
    "an addition stays": (None, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    "what we sent goes": ({"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b": 2}, {"a": 1}),
    "what we sent stays when others changed it": ({"b": 2}, {"a": 1}, {"b": 3}, {"a": 1, "b": 3}),
    "the bare UID becomes ours": (
        None,
        {"identifier": [{"system": "urn:dicom:uid", "value": UID}]},
        {
            "identifier": [
                {"value": "1", "system": "urn:x"},
                {"system": "urn:dicom:uid", "value": "1.2.3", "use": "usual"},
            ]
        },
        {"identifier": [{"system": "urn:dicom:uid", "value": UID, "use": "usual"}, {"value": "1", "system": "urn:x"}]},
    ),
    "several UIDs become one": (
        None,
        {"identifier": [{"system": "urn:dicom:uid", "value": UID}]},
        {"identifier": [{"system": "urn:dicom:uid", "value": "1.2.3"}, {"system": "urn:dicom:uid", "value": UID}]},
        {"identifier": [{"system": "urn:dicom:uid", "value": UID}]},
    ),
    "a code does not take another's display": (
        None,
        {"modality": {"system": "dcm", "code": "CT"}},
        {"modality": {"system": "dcm", "code": "MR", "display": "Magnetic Resonance"}},
        {"modality": {"system": "dcm", "code": "CT"}},
    ),
    "a translation stays": (
        None,
        {"procedureCode": [{"coding": [{"code": "1"}], "text": "Chest"}]},
        {"procedureCode": [{"coding": [{"system": "loinc", "code": "2"}, {"code": "1"}]}]},
        {"procedureCode": [{"coding": [{"code": "1"}, {"system": "loinc", "code": "2"}], "text": "Chest"}]},
    ),
    "another patient's reference does not mix with ours": (
        None,
        {"subject": {"type": "Patient", "identifier": {"system": "h", "value": "B"}}},
        {"subject": {"reference": "Patient/1", "identifier": {"system": "h", "value": "A"}, "display": "A"}},
        {"subject": {"type": "Patient", "identifier": {"system": "h", "value": "B"}}},
    ),
    "a link that others made stays": (
        {"subject": {"identifier": {"system": "h", "value": "A"}}},
        {"subject": {"identifier": {"system": "h", "value": "A"}}},
        {"subject": {"reference": "Patient/1", "identifier": {"system": "h", "value": "A"}}},
        {"subject": {"reference": "Patient/1", "identifier": {"system": "h", "value": "A"}}},
    ),
    "a link that others made goes when the patient becomes another": (
        {"subject": {"identifier": {"system": "h", "value": "A"}}},
        {"subject": {"identifier": {"system": "h", "value": "B"}}},
        {"subject": {"reference": "Patient/1"}},
        {"subject": {"identifier": {"system": "h", "value": "B"}}},
    ),
    "our own link goes when the patient is gone": (
        {"subject": {"reference": "Patient/1", "identifier": {"system": "h", "value": "A"}}},
        {"subject": {"identifier": {"system": "h", "value": "A"}}},
        {"subject": {"reference": "Patient/1", "identifier": {"system": "h", "value": "A"}}},
        {"subject": {"identifier": {"system": "h", "value": "A"}}},
    ),
    "a name of ours under an id of somebody else's keeps that": (
        None,
        {"name": [{"id": "dicom2fhir-name-1", "family": "A"}]},
        {"name": [{"id": "x", "family": "A"}, {"id": "y", "family": "B"}, {"id": "dicom2fhir-name-2", "family": "C"}]},
        {"name": [{"id": "x", "family": "A"}, {"id": "y", "family": "B"}]},
    ),
    "one type of value only": (
        None,
        {"extension": [{"url": "u", "valueString": "s"}]},
        {"extension": [{"url": "u", "valueCode": "c"}, {"url": "v", "valueCode": "c"}]},
        {"extension": [{"url": "u", "valueString": "s"}, {"url": "v", "valueCode": "c"}]},
    ),
    "lists that go by position stay whole": (
        None,
        {"given": ["A", "A"], "_given": [None, {"id": "x"}]},
        {"given": ["B"], "_given": [{"id": "y"}]},
        {"given": ["A", "A"], "_given": [None, {"id": "x"}]},
    ),
    "versions and times are the server's": (
        None,
        {"meta": {"profile": ["p"]}},
        {"meta": {"versionId": "3", "lastUpdated": "now", "profile": ["q"], "tag": [{"code": "t"}]}},
        {"meta": {"profile": ["p", "q"], "tag": [{"code": "t"}]}},
    ),
    "a narrative stays whole": (
        None,
        {"a": 1},
        {"text": {"status": "generated", "div": "<div/>"}},
        {"a": 1, "text": {"status": "generated", "div": "<div/>"}},
    ),
    "our narrative replaces theirs": (
        None,
        {"text": {"status": "generated", "div": "<div>1</div>"}},
        {"text": {"status": "extensions", "div": "<div>2</div>", "id": "x"}},
        {"text": {"status": "generated", "div": "<div>1</div>"}},
    ),
    "a contained resource that nothing refers to goes": (
        {"contained": [{"resourceType": "Device", "id": "d"}]},
        {"a": 1},
        {"a": 1, "contained": [{"resourceType": "Device", "id": "d", "status": "changed"}]},
        {"a": 1},
    ),
    "a contained resource of others stays while it is referred to": (
        None,
        {"contained": [{"resourceType": "Device", "id": "d"}]},
        {"contained": [{"id": "x"}, {"id": "y"}], "note": [{"authorReference": {"reference": "#x"}}]},
        {
            "contained": [{"resourceType": "Device", "id": "d"}, {"id": "x"}],
            "note": [{"authorReference": {"reference": "#x"}}],
        },
    ),
    "a contained resource of ours does not mix with a stranger of that id": (
        None,
        {"contained": [{"resourceType": "Practitioner", "id": "p", "name": [{"family": "A"}]}]},
        {"contained": [{"resourceType": "Practitioner", "id": "p", "name": [{"family": "B"}], "active": True}]},
        {"contained": [{"resourceType": "Practitioner", "id": "p", "name": [{"family": "A"}]}]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    base, ours, theirs, expected = CASES[case]
    assert merge(base, ours, theirs) == expected


def test_counts_and_modalities_include_the_series_of_others() -> None:
    ours = study(modality=[{"code": "CT"}], numberOfSeries=1, numberOfInstances=2, series=[series("1", instances=2)])
    theirs = study(
        modality=[{"code": "XA"}], numberOfSeries=1, numberOfInstances=3, series=[series("2", "MR", instances=3)]
    )
    merged = merge(None, ours, theirs)
    assert (merged["numberOfSeries"], merged["numberOfInstances"]) == (2, 5)
    assert merged["modality"] == [{"code": "CT"}, {"code": "MR"}]


def test_an_announced_study_does_not_deny_the_instances_of_others() -> None:
    ours = study(status="registered", numberOfSeries=0, numberOfInstances=0)
    theirs = study(status="available", numberOfSeries=1, numberOfInstances=3, series=[series("2", "MR", instances=3)])
    merged = merge(None, ours, theirs)
    assert (merged["status"], merged["numberOfSeries"], merged["numberOfInstances"]) == ("available", 1, 3)
    assert merge(None, ours, study(status="available"))["status"] == "registered"


def test_counts_and_modalities_of_the_old_versions() -> None:
    ours = study(
        modalityList=[{"code": "CT"}], numberOfSeries=1, numberOfInstances=2, series=[series("1", instances=2)]
    )
    theirs = study(
        modalityList=[{"code": "XA"}], numberOfSeries=1, numberOfInstances=3, series=[series("2", "MR", instances=3)]
    )
    merged = merge(None, ours, theirs)
    assert (merged["numberOfSeries"], merged["numberOfInstances"]) == (2, 5)
    assert merged["modalityList"] == [{"code": "CT"}, {"code": "MR"}]
    assert "modality" not in merged


def test_where_acquisition_modalities_alone_are_listed_other_series_add_no_others() -> None:
    ours = study(modality=[{"code": "CT"}], series=[series("1"), series("2", "KO")])
    theirs = study(modality=[{"code": "KO"}], series=[series("1"), series("3", "PR"), series("4", "MR")])
    merged = merge(ours, ours, theirs, acquisition_only=True)
    assert merged["modality"] == [{"code": "CT"}, {"code": "MR"}]
    assert [item["uid"] for item in merged["series"]] == ["1", "2", "3", "4"]


def test_a_report_takes_back_the_modality_that_it_once_listed() -> None:
    listed = study(modality=[{"code": "SR"}], series=[series("1", "SR")])
    ours = study(series=[series("1", "SR")])
    for base in (listed, None):
        assert "modality" not in merge(base, ours, listed, acquisition_only=True)


def test_another_accession_number_is_not_mixed_with_ours() -> None:
    theirs = study(accession={"system": "urn:theirs", "value": "A1", "assigner": {"display": "x"}})
    assert merge(None, study(accession={"value": "A2"}), theirs)["accession"] == {"value": "A2"}
    same = merge(None, study(accession={"system": "urn:theirs", "value": "A1"}), theirs)
    assert same["accession"] == theirs["accession"]


def test_the_accession_number_that_was_published_stays_where_it_is_searched() -> None:
    first, second, third = ({"system": "urn:ris", "value": value} for value in ("A1", "A2", "A0"))
    study_id = {"type": {"text": "Study ID"}, "value": "7"}
    base = study(accession=first, identifier=[study_id])
    ours = study(accession=second, identifier=[first, study_id])
    merged = merge(base, ours, base)
    assert (merged["accession"], merged["identifier"]) == (first, [second, study_id])
    for known in (ours, None):
        assert merge(known, ours, merged) == merged, "nothing is left to be written"
    nameless = study(accession={"value": "A1"}, identifier=[study_id])
    assert merge(nameless, ours, nameless)["accession"]["value"] == "A1", "its issuer was not known then"
    later = merge(ours, study(accession=third, identifier=[first, second, study_id]), merged)
    assert (later["accession"], later["identifier"]) == (first, [third, second, study_id])


def test_a_patient_inside_goes_when_one_is_on_the_server() -> None:
    inside = {"resourceType": "Patient", "id": "patient", "identifier": [{"value": "1"}]}
    base = study(patient={"reference": "#patient"}, contained=[inside])
    theirs = study(
        patient={"reference": "#patient"},
        contained=[inside, {"resourceType": "Device", "id": "d"}],
        x=[{"reference": "#d"}],
    )
    merged = merge(base, study(patient={"reference": "Patient/9"}), theirs)
    assert merged["patient"] == {"reference": "Patient/9"}
    assert [found["id"] for found in merged["contained"]] == ["d"]
    assert merge(None, study(patient={"reference": "Patient/9"}), theirs) == merged


def test_counts_include_the_instances_of_others_in_our_series() -> None:
    ours = study(numberOfSeries=1, numberOfInstances=1, series=[series("1", instances=1)])
    theirs = study(numberOfSeries=1, numberOfInstances=3, series=[series("1", instances=3)])
    merged = merge(None, ours, theirs)
    assert (merged["series"][0]["numberOfInstances"], merged["numberOfInstances"]) == (3, 3)


def test_counts_are_ours_when_we_list_no_instances() -> None:
    listed = study(numberOfSeries=1, numberOfInstances=3, series=[series("1", instances=3)])
    ours = study(
        numberOfSeries=1, numberOfInstances=900, series=[{**series("1", instances=None), "numberOfInstances": 900}]
    )
    merged = merge(listed, ours, listed)
    assert merged == ours
    assert merge(None, ours, listed) == ours


def test_modalities_that_do_not_follow_our_series_are_left_alone() -> None:
    ours = study(modality=[{"code": "CT"}, {"code": "SR"}], series=[series("1")])
    merged = merge(None, ours, study(modality=[{"code": "MR"}]))
    assert merged["modality"] == [{"code": "CT"}, {"code": "SR"}, {"code": "MR"}]


def test_a_series_that_moved_elsewhere_goes_even_when_others_added_to_it() -> None:
    base = study(series=[series("1"), series("2")])
    theirs = study(series=[series("1"), {**series("2"), "extension": [{"url": "u", "valueCode": "c"}]}])
    merged = merge(base, study(series=[series("1")]), theirs)
    assert [item["uid"] for item in merged["series"]] == ["1"]


def test_rejected_instances_are_taken_out_in_each_way_to_write_a_uid() -> None:
    listed = [series("1.1", instances=2), series("urn:oid:1.2", instances=1), series("1.3", instances=None)]
    left = without_instances(study(series=listed), {"1.1.1", "1.2.0", "1.9"})
    assert left == study(series=[series("1.1", instances=1, numberOfInstances=2), listed[2]])
    assert without_instances(study(series=listed[:1]), {"1.1.0", "1.1.1"}) == study()
    assert without_instances(study(), {"1.1.0"}) == study()
