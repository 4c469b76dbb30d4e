"""Profiles: what a file may say, what is wrong with one, and what each kind of rule does to a study."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir import config
from dicom2fhir.cli import cli
from dicom2fhir.errors import ConfigError, NotExpressible
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.context import MappingContext
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.profile.element_check import faults
from dicom2fhir.fhir.profile.model import Missing
from dicom2fhir.fhir.profile.template import ValueSource
from dicom2fhir.fhir.profile.values import ProfiledNode
from dicom2fhir.fhir.send.capabilities import Capabilities
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.model import Resource, Series, Study
from dicom2fhir.outcomes import Retry
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.wiring import options, parts
from testdata.make_cases import studies_of
from testdata.make_dicom import write
from tests.any_data_set import SCRIPTS, any_file
from tests.examples import examples
from tests.profile_helpers import (
    DCM,
    DESCRIPTION,
    HEAD,
    SENTINELS,
    Attrs,
    claims,
    conformed,
    contained,
    imaging_study,
    profile,
    refusal,
    study,
)

pytestmark = pytest.mark.usefixtures("logging_as_before")

ROOT = Path(__file__).parents[2]
SOME_CODES = 'codes = "some"\n[codes.some]\notherwise = "omit"\n[[codes.some.include]]\nsystem = "urn:x"\n'


# Files that cannot be used --------------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    said = refusal(tmp_path, '[[element]]\npth = "description"\n')
    assert 'element[1].pth: unknown key; did you mean "path"?' in said
    assert "element[1].path: must be set" in said
    assert "2 errors" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[extension]]\nurl = "x"\nat = "series"\n[[extension.part]]\nurl = "y"\nfrm = "KVP"\n', "part[1].frm"),
        (f'{DESCRIPTION}from = "Kvp"\n', 'Kvp is not an attribute that the bridge reads; did you mean "KVP'),
        (f'{DESCRIPTION}from = "KPV"\n', 'KPV is not an attribute that the bridge reads; did you mean "KVP'),
        ('[[element]]\npath = "started"\nfrom = "StudyDate+StudyTime"\n', 'needs type = "dateTime"'),
        ('[resource.a]\ntype = "Basic"\nvalue.subject = { resource = "a" }\n', "resource.a: refers to itself"),
        (f'{DESCRIPTION}from = "not a keyword"\n', "must be DICOM keywords"),
        ('[[element]]\npath = "modality"\ncodes = "nowhere"\n', "there is no table codes.nowhere"),
        (
            '[[element]]\npath = "modality"\ntype = "Coding"\ncodes = "some"\n[codes.some]\notherwise = "text"\n'
            '[[codes.some.include]]\nsystem = "urn:x"\n',
            'codes.some has otherwise = "text", so type must be "CodeableConcept"',
        ),
        ('[[element]]\npath = "location"\nvalue = { resource = "nobody" }\n', "there is no table resource.nobody"),
        ('[[element]]\npath = "no path!"\n', "element[1].path"),
        ('[[extension]]\nurl = "x"\nat = "patient"\n', "extension[1].at: must be 'study', 'series' or 'instance'"),
        ('[[extension]]\nurl = "x"\nat = "study"\nfrom = "KVP"\ntype = "number"\n', "extension[1].type"),
        ('[sentinels]\nnumber = 1\n', "number: must be of"),
        ('[codes.some]\notherwise = "omit"\ninclude = []\n', "codes.some.include"),
        ('[[extension]]\nurl = "x"\nat = "study"\npart = ["KVP"]\n', "there is no table parts.KVP"),
        ('[parts]\na = { part = ["b"] }\nb = { part = ["a"] }\n', "parts.b: contains itself"),
        ('[parts]\nKVP = { frm = "KVP" }\n', "parts.KVP.frm: unknown key"),
        ('[related.Patient]\nname = "x"\n', "related.Patient.name: unknown key"),
        ('[[element]]\npath = "location"\nvalue = { from = "KVP", unt = "kV" }\n', "unt"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_is(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[[element]]\npath = "discription"\nrequired = true\n',
            'ImagingStudy has no element "discription" in FHIR R4 and R5; did you mean "description"?',
        ),
        (
            '[[element]]\npath = "series.bodysite"\n',
            'ImagingStudy.series has no element "bodysite" in FHIR R4 and R5; did you mean "bodySite"?',
        ),
        ('[[element]]\npath = "series.instance.titel"\n', 'ImagingStudy.series.instance has no element "titel"'),
        ('[[element]]\npath = "reasonCode"\n', 'has no element "reasonCode" in FHIR R5'),
        ('[[element]]\npath = "series.performer"\nfirst_by = "funktion"\n', 'did you mean "function"?'),
        (
            '[[element]]\npath = "subject"\ntypes = ["Pateint"]\n',
            '"Pateint" is not a resource of FHIR R4 and R5; did you mean "Patient"?',
        ),
        (
            '[[element]]\npath = "subject"\nvalue = { dispaly = "x" }\n',
            'element subject: Reference has no element "dispaly"',
        ),
        (
            '[[element]]\npath = "started"\ntype = "dateTime"\nfrom = "@series.startet"\n',
            'ImagingStudy.series has no element "startet"',
        ),
        (
            '[[related.Patient.element]]\npath = "birthdate"\nrequired = true\n',
            'related.Patient.element birthdate: Patient has no element "birthdate"',
        ),
        (
            '[resource.x]\ntype = "Obsevation"\nvalue = { status = "final" }\n',
            'resource.x.type: "Obsevation" is not a resource',
        ),
        (
            '[resource.x]\ntype = "Observation"\nvalue = { statsu = "final" }\n',
            'resource.x: Observation has no element "statsu"',
        ),
        (
            '[resource.x]\ntype = "Observation"\n[resource.x.value]\nvalueQuantty = { from = "KVP" }\n',
            'did you mean "valueQuantity"?',
        ),
        (
            '[resource.x]\ntype = "Observation"\n[resource.x.value.code]\ncoding = [{ sytem = "urn:x" }]\n',
            'resource.x code coding: Coding has no element "sytem"',
        ),
        ("[sentinels]\nQuantity = { valeu = 1 }\n", 'sentinels.Quantity: Quantity has no element "valeu"'),
        (
            f'[[element]]\npath = "series.modality"\n{SOME_CODES}',
            'element series.modality: type must be "CodeableConcept", the datatype of the element in FHIR R5',
        ),
        (
            f'[[element]]\npath = "series.bodySite"\ntype = "Coding"\n{SOME_CODES}',
            'the element is a CodeableReference in FHIR R5; its codes are in "series.bodySite.concept"',
        ),
        (
            '[[element]]\npath = "started"\nfrom = "StudyDate"\n',
            'element started: type must be "dateTime", the datatype of the element in FHIR R4 and R5',
        ),
        (
            f'{SENTINELS}[[related.Patient.element]]\npath = "birthDate"\nrequired = true\n',
            'related.Patient.element birthDate: type must be "date"',
        ),
        (
            f'{SENTINELS}[[element]]\npath = "series"\nrequired = true\n',
            "element series: no string can be a placeholder of a ImagingStudy.series in FHIR R4 and R5",
        ),
    ],
)
def test_an_element_that_no_version_of_the_profile_has_is_named(tmp_path: Path, text: str, said: str) -> None:
    both = 'title = "T"\ndoc = "D"\n[versions]\nR4 = ""\nR5 = ""\n'
    assert said in refusal(tmp_path, text, both)


@pytest.mark.parametrize("name", options.profile_names())
def test_the_profiles_that_come_along_name_elements_of_their_versions(name: str) -> None:
    assert faults(options.profile(name)) == []


def test_a_version_that_has_other_elements_is_none_of_a_profile(tmp_path: Path) -> None:
    assert list(profile(tmp_path, "", 'title = "T"\ndoc = "D"\n[versions]\n"4.3.0" = ""\nr5 = ""\n').versions) == [
        "R4B",
        "R5",
    ]
    assert "STU3: must be of R4" in refusal(tmp_path, "", 'title = "T"\ndoc = "D"\n[versions]\nSTU3 = ""\n')


def test_a_sentinel_mode_needs_sentinels(tmp_path: Path) -> None:
    assert "no sentinels are defined" in refusal(tmp_path, "", 'missing = "sentinel"\n' + HEAD)


def test_what_is_no_toml_or_no_file_is_told(tmp_path: Path) -> None:
    assert "is not TOML" in refusal(tmp_path, "[[[")
    with pytest.raises(ConfigError, match="cannot be read"):
        options.profile(str(tmp_path / "nothing.toml"))
    with pytest.raises(ConfigError, match='did you mean "osiris"'):
        options.profile("osiriss")
    with pytest.raises(ConfigError, match="there are ch-rad-order"):
        options.profile("xyz")


def test_none_is_no_profile() -> None:
    assert options.load_profile("none") is None


@pytest.mark.parametrize("name", options.profile_names())
def test_the_profiles_that_come_along_are_sound_and_say_what_they_do_not_know(name: str) -> None:
    found = options.profile(name)
    assert found.name == name
    assert len(found.doc) > 100
    assert all(url.startswith("http") for url in found.versions.values())


# Kinds of rules -------------------------------------------------------------------------------------------------------


def test_a_study_claims_the_profile(tmp_path: Path) -> None:
    resource = imaging_study(profile(tmp_path, ""), study())
    assert resource["meta"] == {"profile": ["https://profiles.example/test"]}


def test_a_profile_without_canonical_claims_nothing(tmp_path: Path) -> None:
    own = profile(tmp_path, "", HEAD.replace("https://profiles.example/test", ""))
    assert "meta" not in imaging_study(own, study())


@pytest.mark.parametrize(
    ("numbers", "types", "claimed"),
    [
        ([], [], False),
        (["A1"], ["ACSN"], True),
        (["A1", "A2"], ["ACSN", "Accession Number"], True),
    ],
)
def test_exactly_one_identifier_is_typed_as_accession_number(
    tmp_path: Path, numbers: list[str], types: list[str], claimed: bool
) -> None:
    own = profile(tmp_path, '[identifiers]\nallowed = ["uid", "accession"]\none_accession = true\n')
    requests = [{"AccessionNumber": number} for number in numbers]
    resource = imaging_study(own, study(RequestAttributesSequence=requests))
    _, *accessions = resource["identifier"]
    assert [one["type"].get("text") or one["type"]["coding"][0]["code"] for one in accessions] == types
    assert [one["value"] for one in accessions] == numbers
    assert claims(resource) is claimed


def test_identifiers_are_those_allowed_and_get_their_types(tmp_path: Path) -> None:
    own = profile(
        tmp_path,
        '[identifiers]\nallowed = ["uid", "accession"]\n'
        f'[identifiers.coding.uid]\nsystem = "{DCM}"\ncode = "110180"\ndisplay = "Study Instance UID"\n',
    )
    result = conformed(own, study(AccessionNumber="A1", StudyID="S1"))
    uid, accession = result.entries[0].resource["identifier"]
    assert uid["type"]["coding"] == [{"system": DCM, "code": "110180", "display": "Study Instance UID"}]
    assert accession["value"] == "A1"
    assert "ImagingStudy.identifier" in {note.where for note in result.notes}


def test_one_order_with_a_system_has_a_type(tmp_path: Path) -> None:
    own = profile(tmp_path, f'[orders]\ncoding = [{{ system = "{DCM}", code = "121022" }}]\n')
    issuer = [{"UniversalEntityID": "https://ris.example", "UniversalEntityIDType": "URI"}]
    requests = [
        {"AccessionNumber": "A2", "IssuerOfAccessionNumberSequence": issuer},
        {"AccessionNumber": "A3", "IssuerOfAccessionNumberSequence": issuer},
    ]
    orders = imaging_study(own, study(AccessionNumber="A1", RequestAttributesSequence=requests))["basedOn"]
    assert [order["identifier"]["value"] for order in orders] == ["A1", "A2", "A3"]
    types = [[code["code"] for code in o["identifier"].get("type", {}).get("coding", [])] for o in orders]
    assert types == [[], ["ACSN", "121022"], []]


def test_an_element_from_other_attributes(tmp_path: Path) -> None:
    text = '[[element]]\npath = "series.description"\nfrom = ["SeriesDescription", "StudyDescription"]'
    own = profile(tmp_path, text)
    assert imaging_study(own, study(StudyDescription="Thorax"))["series"][0]["description"] == "Thorax"
    described = study({"SeriesDescription": "1 mm"}, StudyDescription="Thorax")
    assert imaging_study(own, described)["series"][0]["description"] == "1 mm"


def test_a_fixed_value_and_a_default(tmp_path: Path) -> None:
    own = profile(
        tmp_path,
        '[[element]]\npath = "description"\ndefault = "nothing said"\n'
        '[[element]]\npath = "series.description"\nvalue = "always"\n',
    )
    resource = imaging_study(own, study({"SeriesDescription": "1 mm"}))
    assert (resource["description"], resource["series"][0]["description"]) == ("nothing said", "always")
    assert imaging_study(own, study(StudyDescription="Thorax"))["description"] == "Thorax"


def test_a_moment_is_the_earliest_of_the_images(tmp_path: Path) -> None:
    own = profile(
        tmp_path, '[[element]]\npath = "series.started"\ntype = "dateTime"\nfrom = "AcquisitionDate+AcquisitionTime"\n'
    )
    images = ({"AcquisitionDate": "20240702", "AcquisitionTime": time} for time in ("101500", "101000", "10"))
    made = study({"SeriesDate": "20240702", "SeriesTime": "120000"}, *images)
    assert imaging_study(own, made)["series"][0]["started"] == "2024-07-02"
    images = ({"AcquisitionDate": "20240702", "AcquisitionTime": time} for time in ("101500", "101000"))
    assert imaging_study(own, study({}, *images))["series"][0]["started"] == "2024-07-02T10:10:00+02:00"


def test_a_moment_without_time_is_the_date_of_nothing(tmp_path: Path) -> None:
    own = profile(
        tmp_path, '[[element]]\npath = "series.started"\ntype = "dateTime"\nfrom = "AcquisitionDate+AcquisitionTime"\n'
    )
    made = study({"SeriesDate": "20240702"}, {"AcquisitionDate": "20240101"})
    assert imaging_study(own, made)["series"][0]["started"] == "2024-07-02"


@pytest.mark.parametrize(
    ("otherwise", "expected"),
    [
        ('otherwise = "omit"\n', None),
        ('otherwise = "sentinel"\n[sentinels]\nCoding = { code = "?" }\n', {"code": "?"}),
        ('otherwise = { system = "s", code = "other" }\n', {"system": "s", "code": "other"}),
    ],
)
def test_codes_are_translated_and_others_replaced(tmp_path: Path, otherwise: str, expected: Resource | None) -> None:
    own = profile(
        tmp_path,
        '[[element]]\npath = "series.bodySite"\ntype = "Coding"\ncodes = "sites"\n'
        '[[codes.sites.include]]\nsystem = "urn:ours"\nfrom_system = "http://snomed.info/sct"\n'
        'codes = ["69536005", "chest"]\nrename = { 43799004 = "chest" }\n'
        f"[codes.sites]\n{otherwise}",
    )
    sites = [
        imaging_study(own, study({"BodyPartExamined": part}))["series"][0].get("bodySite")
        for part in ("HEAD", "CHEST", "HAND", "elsewhere")
    ]
    assert sites == [
        {"system": "urn:ours", "code": "69536005", "display": "Head"},
        {"system": "urn:ours", "code": "chest"},
        expected,
        expected,
    ]


CONCEPT = """
from = "ImageType"
type = "CodeableConcept"
codes = "terms"
many = true
[codes.terms]
otherwise = "{otherwise}"
[[codes.terms.include]]
system = "urn:all"
codes = ["original", "PRIMARY"]
words = {{ "ORIGINAL" = "original" }}
[[codes.terms.include]]
system = "urn:{modality}"
modalities = ["{modality}"]
codes = ["AXIAL"]
"""


def concept_of(system: str, code: str, text: str) -> Resource:
    return {"valueCodeableConcept": {"coding": [{"system": system, "code": code}], "text": text}}


@pytest.mark.parametrize(
    ("otherwise", "modality", "axial"),
    [
        ("keep", "CT", [concept_of("urn:CT", "AXIAL", "AXIAL")]),
        ("omit", "CT", [concept_of("urn:CT", "AXIAL", "AXIAL")]),
        ("keep", "MR", [{"valueCodeableConcept": {"text": "AXIAL"}}]),
        ("omit", "MR", []),
    ],
)
def test_a_text_gets_its_code(tmp_path: Path, otherwise: str, modality: str, axial: list[Resource]) -> None:
    body = CONCEPT.format(otherwise=otherwise, modality=modality)
    made = study({}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]})
    for_all = [concept_of("urn:all", "original", "ORIGINAL"), concept_of("urn:all", "PRIMARY", "PRIMARY")]
    assert extension(tmp_path, body, made, "instance") == [*for_all, *axial]


def test_of_the_codes_of_a_concept_the_profile_keeps_its_own(tmp_path: Path) -> None:
    own = profile(
        tmp_path,
        '[[element]]\npath = "procedureCode"\ntype = "CodeableConcept"\ncodes = "procedures"\n'
        '[codes.procedures]\notherwise = { system = "urn:ours", code = "other" }\n'
        '[[codes.procedures.include]]\nsystem = "http://loinc.org"\n',
    )
    coded = [{"CodeValue": "24627-2", "CodingSchemeDesignator": "LN"}, {"CodeValue": "X1", "CodeMeaning": "Thorax"}]
    loinc = {"coding": [{"system": "http://loinc.org", "code": "24627-2"}]}
    other = {"coding": [{"system": "urn:ours", "code": "other"}]}
    assert imaging_study(own, study(ProcedureCodeSequence=coded))["procedureCode"] == [loinc, other]


def test_codes_that_become_one_stand_once() -> None:
    two = study()
    more = Series("1.2.9", {"Modality": "MG"}, two.series[0].instances[:0])
    again = Series("1.2.10", {"Modality": "US"}, ())
    made = Study(two.uid, 1, two.patient, two.attrs, (*two.series, more, again))
    modalities = imaging_study(options.profile("osiris"), made)["modality"]
    assert [code["code"] for code in modalities] == ["CT", "C0439673"]


@pytest.mark.parametrize("missing", ["omit", "sentinel"])
def test_a_study_that_acquired_nothing_does_not_claim_a_profile_that_wants_a_modality(missing: Any) -> None:
    chosen = options.profile("osiris")
    report = conformed(chosen, study({"Modality": "SR"}), missing)
    assert "modality" not in report.entries[0].resource
    assert "meta" not in report.entries[0].resource
    assert "ImagingStudy.modality" in {note.where for note in report.notes if note.level == "warning"}
    with pytest.raises(NotExpressible, match=r"ImagingStudy\.modality"):
        conformed(chosen, study({"Modality": "SR"}), "refuse")


def test_a_placeholder_of_a_list_is_a_list(tmp_path: Path) -> None:
    own = profile(
        tmp_path,
        '[sentinels]\nCodeableConcept = { text = "none" }\nReference = { display = "none" }\n'
        '[[element]]\npath = "procedureCode"\ntype = "CodeableConcept"\nrequired = true\n'
        '[[element]]\npath = "series.specimen"\ntype = "Reference"\nrequired = true\n'
        '[[element]]\npath = "location"\ntype = "Reference"\nrequired = true\n',
    )
    made = imaging_study(own, study(), "sentinel")
    assert made["procedureCode"] == [{"text": "none"}]
    assert made["series"][0]["specimen"] == [{"display": "none"}]
    assert made["location"] == {"display": "none"}


def test_a_placeholder_of_a_list_in_another_resource_is_a_list(tmp_path: Path) -> None:
    own = profile(
        tmp_path,
        '[sentinels]\nCodeableConcept = { text = "none" }\nstring = "none"\n'
        '[[related.Device.element]]\npath = "safety"\ntype = "CodeableConcept"\nrequired = true\n'
        '[[related.Device.element]]\npath = "lotNumber"\nrequired = true\n',
    )
    (device,) = contained(imaging_study(own, study({"Manufacturer": "Acme"}), "sentinel"), "Device")
    assert device["safety"] == [{"text": "none"}]
    assert device["lotNumber"] == "none"


def test_a_concept_without_words_gets_its_code_as_text(tmp_path: Path) -> None:
    own = profile(tmp_path, '[[element]]\npath = "procedureCode"\nwords = true\n')
    codes = [{"CodeValue": "X1", "CodingSchemeDesignator": "99A"}, {"CodeValue": "X2", "CodeMeaning": "Thorax"}]
    bare, worded = imaging_study(own, study(ProcedureCodeSequence=codes))["procedureCode"]
    assert bare["text"] == "X1"
    assert "text" not in worded


def test_at_most(tmp_path: Path) -> None:
    own = profile(tmp_path, '[[element]]\npath = "reasonCode"\nat_most = 1\n')
    requests = [{"ReasonForTheRequestedProcedure": words} for words in ("one", "two")]
    assert imaging_study(own, study(RequestAttributesSequence=requests))["reasonCode"] == [{"text": "one"}]


# Extensions -----------------------------------------------------------------------------------------------------------


def extension(tmp_path: Path, body: str, made: Study, at: str = "series") -> list[Resource]:
    own = profile(tmp_path, f'[[extension]]\nurl = "urn:x"\nat = "{at}"\n{body}')
    resource = imaging_study(own, made)
    node = {"study": resource, "series": resource["series"][0]}.get(at) or resource["series"][0]["instance"][0]
    found: list[Resource] = node.get("extension", [])
    return [{key: value for key, value in one.items() if key != "url"} for one in found]


@pytest.mark.parametrize(
    ("body", "attrs", "expected"),
    [
        ('from = "FilterType"', {"FilterType": "W"}, [{"valueString": "W"}]),
        ('from = "ConvolutionKernel"', {"ConvolutionKernel": ["a", "b"]}, [{"valueString": "a\\b"}]),
        (
            'from = "ConvolutionKernel"\nmany = true',
            {"ConvolutionKernel": ["a", "b"]},
            [{"valueString": "a"}, {"valueString": "b"}],
        ),
        ('from = "PixelSpacing"\nlisted = true', {"PixelSpacing": ["1", "2"]}, [{"valueString": "[1, 2]"}]),
        ('from = "KVP"\ntype = "integer"', {"KVP": "119.5"}, [{"valueInteger": 120}]),
        ('from = "KVP"\ntype = "integer"', {"KVP": "1e12"}, []),
        ('from = "KVP"\ntype = "decimal"', {"KVP": "119.5"}, [{"valueDecimal": 119.5}]),
        ('from = "KVP"\ntype = "decimal"', {"KVP": "1e400"}, []),
        ('from = "SpiralPitchFactor"\ntype = "decimal"', {"SpiralPitchFactor": "inf"}, []),
        (
            'from = "KVP"\ntype = "Quantity"\nunit = "V"\nfactor = 1000',
            {"KVP": "0.12"},
            [{"valueQuantity": {"value": 120, "unit": "V", "system": "http://unitsofmeasure.org", "code": "V"}}],
        ),
        (
            'from = "PixelSpacing"\ntype = "Quantity"\nindex = 1',
            {"PixelSpacing": ["1", "2"]},
            [{"valueQuantity": {"value": 2}}],
        ),
        ('from = "PixelSpacing"\ntype = "Quantity"\nindex = 1', {"PixelSpacing": "1"}, []),
        ('from = "BurnedInAnnotation"\ntype = "boolean"', {"BurnedInAnnotation": "NO"}, [{"valueBoolean": False}]),
        ('from = "BurnedInAnnotation"\ntype = "boolean"', {"BurnedInAnnotation": "MAYBE"}, []),
        (
            'from = "ContrastBolusAgent"\ntype = "boolean"\npresent = true',
            {"ContrastBolusAgent": "I"},
            [{"valueBoolean": True}],
        ),
        ('from = "ContrastBolusAgent"\ntype = "boolean"\npresent = true', {}, []),
        ('from = "Units"\ntype = "CodeableConcept"', {"Units": "BQML"}, [{"valueCodeableConcept": {"text": "BQML"}}]),
        (
            'from = "ContrastBolusAgentSequence"\ntype = "Coding"',
            {"ContrastBolusAgentSequence": [{"CodeValue": "1", "CodeMeaning": "Iodine"}]},
            [{"valueCoding": {"code": "1", "display": "Iodine"}}],
        ),
        (
            'from = "ContrastBolusAgentSequence"',
            {"ContrastBolusAgentSequence": [{"CodeMeaning": "Iodine"}]},
            [{"valueString": "Iodine"}],
        ),
        ('from = "KVP"\nmodalities = ["MR"]', {"KVP": "120"}, []),
        ('from = "@series.uid"', {}, [{"valueString": "1.2.2"}]),
    ],
)
def test_a_simple_extension(tmp_path: Path, body: str, attrs: Attrs, expected: list[Resource]) -> None:
    assert extension(tmp_path, body, study(attrs)) == expected


@pytest.mark.parametrize(
    ("body", "attrs"),
    [
        ('from = "ExposureTime"\ntype = "Quantity"\nunit = "ms"', {"ExposureTime": "5"}),
        (
            'from = "AcquisitionDateTime"\nsince = "SeriesDate+SeriesTime"\ntype = "Quantity"\nunit = "ms"',
            {"AcquisitionDateTime": "20240311081505", "SeriesDate": "20240311", "SeriesTime": "081500"},
        ),
    ],
)
def test_a_unit_has_the_text_of_the_profile(tmp_path: Path, body: str, attrs: Attrs) -> None:
    table = '[units]\nms = "milliseconds"\n'
    unit = {"unit": "milliseconds", "system": "http://unitsofmeasure.org", "code": "ms"}
    found = extension(tmp_path, f"{body}\n{table}", study(attrs))
    assert found == [{"valueQuantity": {"value": 5, **unit}}]


PARTS = """
[parts]
KVP = { from = "KVP", unit = "kV" }
tube = { part = ["KVP", "current"] }
current = { url = "XRayTubeCurrent", from = "XRayTubeCurrent", unit = "mA" }
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('part = ["current", "KVP"]', ["XRayTubeCurrent", "KVP"]),
        ('part = [{ url = "y", from = "KVP" }, "KVP"]', ["y", "KVP"]),
        ('part = ["tube"]', ["tube"]),
    ],
)
def test_an_extension_names_its_parts(tmp_path: Path, body: str, expected: list[str]) -> None:
    ((parts,),) = [
        one.values() for one in extension(tmp_path, body + PARTS, study({"KVP": "9"}, {"XRayTubeCurrent": "8"}))
    ]
    assert [part["url"] for part in parts] == expected


def test_a_part_has_parts_by_name_too(tmp_path: Path) -> None:
    (found,) = extension(tmp_path, f'part = ["tube"]{PARTS}', study({"KVP": "9"}))
    kilovolts = {"value": 9, "unit": "kV", "system": "http://unitsofmeasure.org", "code": "kV"}
    assert found["extension"] == [{"url": "tube", "extension": [{"url": "KVP", "valueQuantity": kilovolts}]}]


@pytest.mark.parametrize("type_", ["string", "date"])
def test_an_attribute_that_is_no_sequence_has_no_items(tmp_path: Path, type_: str) -> None:
    made = study({"FilterType": "W"})
    context = MappingContext(made, DIALECTS["R4"], MappingOptions())
    place = ProfiledNode(context, {}, {}, profile(tmp_path, ""), made.series[0], {})
    assert place.value(ValueSource.model_validate({"from": "FilterType/StudyDate", "type": type_})) == []


def test_an_instance_takes_what_its_series_has_and_a_series_what_most_images_have(tmp_path: Path) -> None:
    images = ({"Exposure": value} for value in ("1", "2", "2"))
    made = study({"KVP": "120"}, *images)
    assert extension(tmp_path, 'from = "KVP"', made, "instance") == [{"valueString": "120"}]
    assert extension(tmp_path, 'from = "Exposure"', made, "instance") == [{"valueString": "1"}]
    assert extension(tmp_path, 'from = "Exposure"', made, "series") == [{"valueString": "2"}]
    assert extension(tmp_path, 'from = "Exposure"', made, "study") == [{"valueString": "2"}]
    assert extension(tmp_path, 'from = "KVP"', made, "study") == [{"valueString": "120"}]


TRACER = "RadiopharmaceuticalInformationSequence/Radiopharmaceutical"
SINCE = f"""
from = ["AcquisitionDateTime", "AcquisitionDate+AcquisitionTime", "AcquisitionTime"]
type = "Quantity"
since = ["{TRACER}StartDateTime", "{TRACER}StartTime"]
not_after = ["AcquisitionDateTime", "AcquisitionDate+AcquisitionTime", "AcquisitionTime"]
"""


@pytest.mark.parametrize(
    ("tracer", "image", "expected"),
    [
        ({"StartTime": "091000"}, {"AcquisitionTime": "092000"}, [600]),
        ({"StartTime": "0910"}, {"AcquisitionTime": "092000"}, [600]),
        ({"StartTime": "092000.5"}, {"AcquisitionTime": "092000"}, [86399.5]),
        ({"StartTime": "235000"}, {"AcquisitionDate": "20240312", "AcquisitionTime": "001500"}, [1500]),
        ({"StartDateTime": "20240311235000"}, {"AcquisitionDateTime": "20240312001500"}, [1500]),
        ({"StartDateTime": "20240311235000+0100"}, {"AcquisitionDateTime": "20240311231500+0000"}, [1500]),
        ({"StartDateTime": "20240311235000", "StartTime": "110000"}, {"AcquisitionDateTime": "20240312001500"}, [1500]),
        ({"StartDateTime": "20240312001600"}, {"AcquisitionDateTime": "20240312001500"}, []),
        ({"StartTime": ""}, {"AcquisitionTime": "092000"}, []),
        ({"StartTime": "09"}, {"AcquisitionTime": "092000"}, []),
        ({"StartTime": "230000"}, {"AcquisitionDate": "00010101", "AcquisitionTime": "001500"}, []),
    ],
)
def test_seconds_since_another_moment(tmp_path: Path, tracer: Attrs, image: Attrs, expected: list[float]) -> None:
    item = {f"Radiopharmaceutical{name}": value for name, value in tracer.items()}
    made = study({"SeriesDate": "20240311", "RadiopharmaceuticalInformationSequence": [item]}, image)
    assert [found["valueQuantity"]["value"] for found in extension(tmp_path, SINCE, made)] == expected


# What is missing ------------------------------------------------------------------------------------------------------

GROUP = """
[[extension]]
url = "urn:x"
at = "series"
[[extension.part]]
url = "group"
[[extension.part.part]]
url = "a"
from = "KVP"
type = "integer"
required = true
[[extension.part.part]]
url = "b"
from = "FilterType"
required = true
"""


def test_a_group_of_which_nothing_is_known_is_left_out(tmp_path: Path) -> None:
    own = profile(tmp_path, GROUP + SENTINELS)
    resource = imaging_study(own, study(), "sentinel")
    assert "extension" not in resource["series"][0]
    assert claims(resource)


def test_a_group_is_completed_or_left_out_or_the_study_refused(tmp_path: Path) -> None:
    own = profile(tmp_path, GROUP + SENTINELS)
    made = study({"KVP": "120"})
    (found,) = imaging_study(own, made, "sentinel")["series"][0]["extension"]
    assert found["extension"][0]["extension"] == [{"url": "a", "valueInteger": 120}, {"url": "b", "valueString": "?"}]
    left = imaging_study(own, made, "omit")
    assert "extension" not in left["series"][0]
    assert claims(left), "what is optional may be left out"
    with pytest.raises(NotExpressible, match=r"Values that profile own requires are missing: urn:x\.group\.b"):
        conformed(own, made, "refuse")


def test_what_is_required_and_missing_costs_the_claim(tmp_path: Path) -> None:
    own = profile(tmp_path, '[[element]]\npath = "description"\nrequired = true\n' + SENTINELS)
    left = conformed(own, study(), "omit")
    assert not claims(left.entries[0].resource)
    assert ("warning", "ImagingStudy.description") in {(note.level, note.where) for note in left.notes}
    put = imaging_study(own, study(), "sentinel")
    assert put["description"] == "?" and claims(put)
    with pytest.raises(NotExpressible, match=r"ImagingStudy\.description"):
        conformed(own, study(), "refuse")
    assert claims(imaging_study(own, study(StudyDescription="Thorax"), "refuse"))


def test_a_type_without_sentinel_is_left_out(tmp_path: Path) -> None:
    own = profile(tmp_path, '[[element]]\npath = "endpoint"\ntype = "Reference"\nrequired = true\n' + SENTINELS)
    resource = imaging_study(own, study(), "sentinel")
    assert "endpoint" not in resource and not claims(resource)


def test_the_profile_says_what_to_do_unless_the_operator_does(tmp_path: Path) -> None:
    text = '[[element]]\npath = "description"\nrequired = true\n' + SENTINELS
    own = profile(tmp_path, text, 'missing = "sentinel"\n' + HEAD)
    assert imaging_study(own, study())["description"] == "?"
    assert "description" not in imaging_study(own, study(), "omit")


def test_required_for_some_modalities(tmp_path: Path) -> None:
    body = 'from = "PatientWeight"\nrequired_for = ["PT"]'
    own = profile(tmp_path, f'[[extension]]\nurl = "urn:x"\nat = "series"\n{body}\n' + SENTINELS)
    assert "extension" not in imaging_study(own, study(), "sentinel")["series"][0]
    assert imaging_study(own, study({"Modality": "PT"}), "sentinel")["series"][0]["extension"]


# Versions and settings ------------------------------------------------------------------------------------------------


def test_a_profile_of_another_version_is_an_error() -> None:
    osiris = options.profile("osiris")
    with pytest.raises(ConfigError, match="is for FHIR R4, not for R5"):
        options.dialect("R5", osiris)
    assert options.dialect("auto", osiris).name == "R4"
    assert options.dialect("auto", None).name == "R4"
    assert options.dialect("R5", options.profile("eu-imaging")).name == "R5"


def test_auto_takes_what_the_server_speaks_or_says_that_the_profile_does_not() -> None:
    choice = DialectChoice("auto", options.profile("osiris"))
    assert choice.dialect("4.0.1").name == "R4"
    with pytest.raises(ConfigError, match="is for FHIR R4, not for R5"):
        choice.dialect("5.0.0")


class R5Server:
    """As much of a FHIR client as a delivery that goes no further needs."""

    def capabilities(self) -> Capabilities:
        return Capabilities("5.0.0")


def test_a_delivery_waits_for_a_server_that_the_profile_is_made_for() -> None:
    osiris = options.profile("osiris")
    server: Any = R5Server()
    destination = FhirDestination("main", server, StudyMapper(MappingOptions()), DialectChoice("auto", osiris))
    outcome = destination.deliver(study(), b"")
    assert isinstance(outcome, Retry) and outcome.whole_destination
    assert "uses FHIR 5.0.0" in outcome.reason and "is for FHIR R4" in outcome.reason


def settings(tmp_path: Path, text: str) -> config.Settings:
    file = tmp_path / "config.toml"
    file.write_text(text.replace("OUT", str(tmp_path / "out")), "utf-8")
    return config.load(file, environ={})


def test_a_destination_has_the_profile_of_fhir_unless_it_says_otherwise(tmp_path: Path) -> None:
    made = settings(
        tmp_path,
        '[fhir]\nprofile = "osiris"\n[destinations.a]\ntype = "file"\ndirectory = "OUT"\n'
        '[destinations.b]\ntype = "file"\ndirectory = "OUT"\nprofile = "none"\nversion = "R5"\n',
    )
    assert (made.profile("a"), made.profile("b")) == ("osiris", "none")
    plans = {name: parts.plan(made, name, online=False) for name in "ab"}
    assert [(plan["version"], plan["profile"]) for plan in plans.values()] == [("R4", "osiris"), ("R5", "")]


def test_a_destination_of_another_version_is_named(tmp_path: Path) -> None:
    made = settings(
        tmp_path, '[destinations.a]\ntype = "file"\ndirectory = "OUT"\nprofile = "osiris"\nversion = "R5"\n'
    )
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    try:
        with pytest.raises(ConfigError, match=r"destinations\.a\.profile: .* is for FHIR R4"):
            parts.deliverer(made, "a", store)
    finally:
        store.close()


def test_the_operator_decides_what_missing_values_become(tmp_path: Path) -> None:
    made = settings(tmp_path, '[fhir]\nprofile_missing = "refuse"\n')
    mapper = options.mapper(made, "link", options.profile("osiris"))
    with pytest.raises(NotExpressible):
        mapper.map(study(), DIALECTS["R4"])


# Commands -------------------------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_show_and_check(tmp_path: Path) -> None:
    assert {one["name"] for one in json.loads(run("profiles", "list", "--json"))} == set(options.profile_names())
    assert "osiris" in run("profiles", "list")
    assert "XRayTubeCurrent" in run("profiles", "show", "osiris")
    shown = json.loads(run("profiles", "show", "mado", "--json"))
    assert shown["versions"] == options.profile("mado").versions
    own = tmp_path / "own.toml"
    own.write_text(HEAD)
    assert "own is valid" in run("profiles", "check", own)
    own.write_text(HEAD + "colour = 1\n")
    with pytest.raises(ConfigError, match="versions"):
        CliRunner().invoke(cli, ["profiles", "check", str(own)], catch_exceptions=False)


UNVERIFIED = {name: found.unverified for name in options.profile_names() if (found := options.profile(name)).unverified}


def test_a_profile_that_no_published_definition_confirms_says_so_wherever_it_is_shown(tmp_path: Path) -> None:
    assert 0 < len(UNVERIFIED) < len(options.profile_names())
    listed = {one["name"]: one["unverified"] for one in json.loads(run("profiles", "list", "--json"))}
    assert {name: why for name, why in listed.items() if why} == UNVERIFIED
    assert run("profiles", "list").count("unverified:") == len(UNVERIFIED)
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in options.profile_names():
        shown = ("unverified:" in run("profiles", "show", name)) + (
            "**Unverified:" in (ROOT / "docs" / "mapping" / f"{name}.md").read_text("utf-8")
        )
        (row,) = (line for line in readme.splitlines() if line.startswith(f"| [`{name}`]"))
        assert shown + ("unverified:" in row) == (3 if name in UNVERIFIED else 0), name
    assert "unverified: must be '', 'draft' or 'facts'" in refusal(tmp_path, "", 'unverified = "maybe"\n' + HEAD)


def test_convert_and_explain_take_a_name_or_a_path(tmp_path: Path) -> None:
    (file,) = write("dx", tmp_path)
    bundle = json.loads(run("convert", "--profile", "ips", file))
    claimed = bundle["entry"][0]["resource"]["meta"]["profile"]
    assert claimed == ["http://hl7.org/fhir/uv/ips/StructureDefinition/ImagingStudy-uv-ips"]
    own = tmp_path / "own.toml"
    own.write_text(HEAD + '[[element]]\npath = "description"\nvalue = "ours"\n')
    bundle = json.loads(run("convert", "--profile", own, file))
    assert bundle["entry"][0]["resource"]["description"] == "ours"
    explained = json.loads(run("explain", "--json", "--profile", "osiris", file))
    settings_of = [one for one in explained["elements"] if one["element"] == "series.extension(imaging-settings)"]
    assert "KVP" in settings_of[0]["given"] and settings_of[0]["value"]
    assert "imaging-settings" in run("explain", "--profile", "osiris", file)
    with pytest.raises(ConfigError, match="is for FHIR R4"):
        CliRunner().invoke(cli, ["convert", "--fhir", "R5", "--profile", "osiris", str(file)], catch_exceptions=False)


# Studies of any content -----------------------------------------------------------------------------------------------


@examples(25)
@given(seed=st.integers(0, 2**32), charset=st.sampled_from(sorted(SCRIPTS)), archive=st.booleans())
def test_any_study_becomes_valid_fhir_or_is_refused(seed: int, charset: str, archive: bool) -> None:
    (made,) = studies_of([any_file(charset, seed)])
    for name in options.profile_names():
        chosen = options.profile(name)
        for version in chosen.versions:
            for missing in get_args(Missing):
                with contextlib.suppress(NotExpressible):
                    conformed(chosen, made, missing, version, dicomweb_url="https://pacs.example/x" if archive else "")
