"""What a profile asks of the resources that a study refers to, and what becomes of a study whose resources lack it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dicom2fhir.cli import cli
from dicom2fhir.errors import NotExpressible
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Note, Resource, Study
from testdata.make_dicom import write
from tests.profile_helpers import HEAD, claims, conformed, contained, imaging_study, profile, refusal, study

BORN = '[[related.Patient.element]]\npath = "birthDate"\ntype = "date"\nrequired = true\n'
SERIAL = """
[related.Device]
at = ["series.performer"]
profile = "device"
[[related.Device.element]]
path = "serialNumber"
required = true
[[related.Device.extension]]
url = "station"
from = "StationName"
"""
UNKNOWN = """
[sentinels]
date.extension = [{ url = "http://hl7.org/fhir/StructureDefinition/data-absent-reason", valueCode = "unknown" }]
"""
BASE = "https://profiles.example"


def patient(**attrs: str) -> Study:
    made = study()
    return Study(made.uid, 1, {"PatientID": "P1", **attrs}, made.attrs, made.series)


# A single reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Write.LINK, Write.ENSURE, Write.UPSERT])
def test_a_study_of_a_patient_that_lacks_something_does_not_claim_the_profile(tmp_path: Path, mode: Write) -> None:
    own = profile(tmp_path, BORN)
    assert claims(conformed(own, patient(PatientBirthDate="19640229"), patient=mode).entries[0].resource)
    result = conformed(own, study(), patient=mode)
    assert not claims(result.entries[0].resource)
    assert result.unclaimed == "does not claim profile own: Patient.birthDate is missing"
    why = "is missing: the ImagingStudy does not claim profile own"
    assert Note("warning", "Patient.birthDate", why) in result.notes
    with pytest.raises(NotExpressible, match=r"profile own requires are missing: Patient\.birthDate\."):
        conformed(own, study(), "refuse", patient=mode)


def test_a_contained_patient_is_judged_like_another(tmp_path: Path) -> None:
    made = study()
    nameless = Study(made.uid, 1, {"PatientName": "A^B"}, made.attrs, made.series)
    result = conformed(profile(tmp_path, BORN), nameless)
    assert contained(result.entries[0].resource, "Patient")
    assert result.unclaimed == "does not claim profile own: Patient.birthDate is missing"


def test_a_placeholder_may_say_why_there_is_no_value(tmp_path: Path) -> None:
    own = profile(tmp_path, UNKNOWN + BORN)
    result = conformed(own, study(), "sentinel", patient=Write.ENSURE)
    assert claims(result.entries[0].resource)
    (reason,) = result.entries[1].resource["_birthDate"]["extension"]
    assert reason["valueCode"] == "unknown"
    updated = conformed(own, study(), "sentinel", patient=Write.UPSERT)
    assert "_birthDate" not in updated.entries[1].resource and updated.unclaimed, "it would replace the server's"
    known = conformed(own, patient(PatientBirthDate="19640229"), "sentinel", patient=Write.ENSURE)
    assert known.entries[1].resource["birthDate"] == "1964-02-29" and "_birthDate" not in known.entries[1].resource


def test_a_profile_without_canonical_has_nothing_to_claim(tmp_path: Path) -> None:
    own = profile(tmp_path, BORN, HEAD.replace(f"{BASE}/test", ""))
    assert conformed(own, study()).unclaimed == ""


# References in lists --------------------------------------------------------------------------------------------------

EQUIPMENT = {"Manufacturer": "Acme", "StationName": "CT1", "PerformingPhysicianName": "A^B"}


def functions(resource: Resource) -> list[str]:
    return [one["function"]["coding"][0]["code"] for one in resource["series"][0].get("performer", [])]


def test_a_resource_gets_what_the_profile_asks_of_it(tmp_path: Path) -> None:
    resource = imaging_study(profile(tmp_path, SERIAL), study({**EQUIPMENT, "DeviceSerialNumber": "7"}))
    (device,) = contained(resource, "Device")
    assert device["meta"] == {"profile": [f"{BASE}/device"]}
    assert device["extension"] == [{"url": f"{BASE}/station", "valueString": "CT1"}]
    assert functions(resource) == ["PRF", "DEV"]


@pytest.mark.parametrize("missing", ["omit", "refuse"])
def test_a_list_goes_without_a_resource_that_lacks_something(tmp_path: Path, missing: str) -> None:
    result = conformed(profile(tmp_path, SERIAL), study(EQUIPMENT), missing)  # type: ignore[arg-type]
    resource = result.entries[0].resource
    assert (functions(resource), contained(resource, "Device")) == (["PRF"], [])
    assert claims(resource) and not result.unclaimed
    why = "left out: profile own requires Device.serialNumber"
    assert Note("warning", "ImagingStudy.series.performer.actor", why) in result.notes


def test_a_list_that_is_required_costs_the_claim(tmp_path: Path) -> None:
    own = profile(tmp_path, SERIAL + '[[element]]\npath = "series.performer"\ntypes = ["Device"]\nrequired = true\n')
    result = conformed(own, study(EQUIPMENT))
    assert "performer" not in result.entries[0].resource["series"][0]
    assert result.unclaimed == "does not claim profile own: ImagingStudy.series.performer is missing"


def test_only_the_references_at_a_path_are_meant(tmp_path: Path) -> None:
    made = study()
    phantom = Study(made.uid, 1, {"PatientID": "P1", "QualityControlSubject": "YES"}, made.attrs, made.series)
    resource = imaging_study(profile(tmp_path, SERIAL), phantom)
    assert resource["subject"]["type"] == "Device" and claims(resource)
    everywhere = profile(tmp_path, SERIAL.replace('at = ["series.performer"]', ""))
    assert conformed(everywhere, phantom).unclaimed == "does not claim profile own: Device.serialNumber is missing"


def test_a_resource_that_others_refer_to_is_judged_too(tmp_path: Path) -> None:
    own = profile(
        tmp_path,
        '[[element]]\npath = "series.performer"\nthrough.Practitioner = "role"\n'
        '[resource.role]\ntype = "PractitionerRole"\nvalue.practitioner = { from = "@target", type = "Reference" }\n'
        '[[related.Practitioner.element]]\npath = "birthDate"\ntype = "date"\nrequired = true\n',
    )
    result = conformed(own, study({"PerformingPhysicianName": "A^B"}))
    assert result.unclaimed == "does not claim profile own: Practitioner.birthDate is missing"


# Separate resources ---------------------------------------------------------------------------------------------------

ENDPOINT = """
[[element]]
path = "series.endpoint"
value = [{ from = "@endpoint", type = "Reference", many = true }]
required = true
[related.Endpoint]
at = ["series.endpoint"]
where = { "connectionType.code" = "CODE" }
profile = "wado"
[[related.Endpoint.element]]
path = "payloadType"
add = [{ text = "DICOM WADO-RS" }]
[[related.Endpoint.extension]]
url = "name"
from = "$pacs.endpoint_name"
"""
URL = "https://pacs.example/dicom-web"


def test_a_separate_resource_gets_items_and_the_value_of_an_option(tmp_path: Path) -> None:
    result = conformed(profile(tmp_path, ENDPOINT.replace("CODE", "dicom-wado-rs")), study(), dicomweb_url=URL)
    endpoint = result.entries[2].resource
    assert endpoint["meta"] == {"profile": [f"{BASE}/wado"]}
    assert [type_.get("text") for type_ in endpoint["payloadType"]] == [None, "DICOM WADO-RS"]
    assert endpoint["extension"] == [{"url": f"{BASE}/name", "valueString": "DICOMweb"}]
    assert claims(result.entries[0].resource)


def test_a_resource_of_another_kind_is_not_changed_and_not_referred_to(tmp_path: Path) -> None:
    result = conformed(profile(tmp_path, ENDPOINT.replace("CODE", "ihe-iid")), study(), dicomweb_url=URL)
    resource = result.entries[0].resource
    assert "meta" not in result.entries[2].resource and resource["endpoint"]
    assert "endpoint" not in resource["series"][0]
    assert result.unclaimed == "does not claim profile own: ImagingStudy.series.endpoint is missing"
    why = "left out: profile own requires Endpoint with connectionType.code ihe-iid"
    assert Note("warning", "ImagingStudy.series.endpoint", why) in result.notes


# Keys of elements -----------------------------------------------------------------------------------------------------


def test_people_are_led_to_through_a_resource_of_the_profile(tmp_path: Path) -> None:
    own = profile(
        tmp_path,
        '[[element]]\npath = "series.performer"\nthrough.Practitioner = "role"\n'
        'first_by = "function"\nothers = "unmark"\n'
        '[resource.role]\ntype = "PractitionerRole"\nvalue.practitioner = { from = "@target", type = "Reference" }\n',
    )
    resource = imaging_study(own, study({"PerformingPhysicianName": ["A^B", "C^D"]}))
    roles = {f"#{one['id']}": one["practitioner"]["reference"] for one in contained(resource, "PractitionerRole")}
    people = {f"#{one['id']}": one["name"][0]["family"] for one in contained(resource, "Practitioner")}
    performers = resource["series"][0]["performer"]
    assert [people[roles[one["actor"]["reference"]]] for one in performers] == ["A", "C"], "nobody is lost"
    assert [one["actor"]["type"] for one in performers] == ["PractitionerRole"] * 2
    assert [one["actor"]["display"] for one in performers] == ["B A", "D C"]
    assert [list(one) for one in performers] == [["function", "actor"], ["actor"]]


def test_a_rule_is_for_a_version_and_a_url_relative_to_the_canonical(tmp_path: Path) -> None:
    both = f'title = "T"\ndoc = "D"\n[versions]\nR4 = "{BASE}/four/test"\nR5 = "{BASE}/five/test"\n'
    own = profile(
        tmp_path,
        '[[element]]\npath = "description"\nversions = ["4.0"]\nvalue = "four"\n'
        '[[element]]\npath = "reasonCode"\nversions = ["R4"]\n'
        '[[extension]]\nurl = "kvp"\nat = "series"\nfrom = "KVP"\n'
        '[[extension]]\nurl = "five"\nat = "series"\nfrom = "KVP"\nversions = ["R5"]\n',
        both,
    )
    four, five = (imaging_study(own, study({"KVP": "120"}), None, version) for version in ("R4", "R5"))
    assert (four["description"], five.get("description")) == ("four", None)
    urls = [[one["url"] for one in made["series"][0]["extension"]] for made in (four, five)]
    assert urls == [[f"{BASE}/four/kvp"], [f"{BASE}/five/kvp", f"{BASE}/five/five"]]


def test_a_path_through_a_list_holds_for_each_item(tmp_path: Path) -> None:
    own = profile(tmp_path, '[[element]]\npath = "series.performer.function"\nrequired = true\n')
    assert claims(imaging_study(own, study())), "without performers there is no function"
    assert claims(imaging_study(own, study(EQUIPMENT)))
    unmarked = profile(
        tmp_path,
        '[[element]]\npath = "series.performer"\nfirst_by = "function"\nothers = "unmark"\n'
        '[[element]]\npath = "series.performer.function"\nrequired = true\n',
    )
    assert not claims(imaging_study(unmarked, study({"PerformingPhysicianName": ["A^B", "C^D"]})))


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_an_element_of_all_series_is_a_source_of_the_study(tmp_path: Path, version: str) -> None:
    own = profile(
        tmp_path,
        '[[extension]]\nurl = "region"\nat = "study"\nfrom = "@series.bodySite"\ntype = "CodeableConcept"\n'
        'codes = "regions"\nmany = true\n[codes.regions]\notherwise = "omit"\n'
        '[[codes.regions.include]]\nsystem = "http://snomed.info/sct"\ncodes = ["774007"]\n'
        'rename = { 69536005 = "774007", 45048000 = "774007" }\n',
        f'title = "T"\ndoc = "D"\n[versions]\n{version} = "{BASE}/test"\n',
    )
    one, other, third = (study({"BodyPartExamined": part}).series[0] for part in ("HEAD", "NECK", "somewhere"))
    made = study()
    resource = imaging_study(own, Study(made.uid, 1, made.patient, {}, (one, other, third)), None, version)
    (region,) = resource["extension"]
    assert region["valueCodeableConcept"]["coding"] == [{"system": "http://snomed.info/sct", "code": "774007"}]


# Files that cannot be used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[patient]\nprofile = "x"\n', "patient: is called related.Patient now"),
        ('[related.Pateint]\n', 'related.Pateint: "Pateint" is not a resource of FHIR R4; did you mean "Patient"?'),
        ('[related.Device]\nat = ["series.perfomer"]\n', 'related.Device.at: ImagingStudy.series has no element "perf'),
        ('[related.Endpoint]\nwhere = { "conectionType.code" = "x" }\n', 'did you mean "connectionType"?'),
        (
            '[[related.Patient.element]]\npath = "name.famly"\n',
            'related.Patient.element name.famly: HumanName has no element "famly" in FHIR R4; did you mean "family"?',
        ),
        ('[[element]]\npath = "description"\nfrom = "$pacs.url"\n', "$pacs.url: must be of $pacs.dicomweb_url"),
        ('[[element]]\npath = "description"\nversions = ["STU3"]\n', "STU3: must be of R4"),
        ('[[element]]\npath = "series.performer"\nthrough.Practitioner = "x"\n', "there is no table resource.x"),
        ('[[element]]\npath = "note"\nadd = [{ txt = "x" }]\n', 'Annotation has no element "txt"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_is(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_relative_url_needs_a_canonical_one(tmp_path: Path) -> None:
    nothing = HEAD.replace(f"{BASE}/test", "")
    text = '[[extension]]\nurl = "kvp"\nat = "series"\nfrom = "KVP"\n'
    assert "kvp: is relative, but not every version has a canonical URL" in refusal(tmp_path, text, nothing)


# Commands -------------------------------------------------------------------------------------------------------------


def test_commands_say_what_a_study_lacks_to_claim_the_profile(tmp_path: Path) -> None:
    (file,) = write("dx", tmp_path)
    own = tmp_path / "own.toml"
    own.write_text(HEAD + '[[related.Patient.element]]\npath = "maritalStatus"\nrequired = true\n')
    said = "does not claim profile own: Patient.maritalStatus is missing"
    run = CliRunner().invoke(cli, ["explain", "--profile", str(own), str(file)], catch_exceptions=False)
    assert f"The ImagingStudy {said}." in " ".join(run.output.split())
    run = CliRunner().invoke(cli, ["explain", "--json", "--profile", str(own), str(file)], catch_exceptions=False)
    assert json.loads(run.stdout)["unclaimed"] == said
    run = CliRunner().invoke(cli, ["convert", "--profile", str(own), str(file)], catch_exceptions=False)
    assert f"the ImagingStudy {said} (1 study)" in run.stderr
