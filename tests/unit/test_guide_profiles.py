"""The profiles of published guides: what each asks for, by the definitions of its guide."""

from __future__ import annotations

from typing import Any

import pytest

from dicom2fhir.errors import NotExpressible
from dicom2fhir.fhir.version.code_tables import body_parts, body_regions
from dicom2fhir.fhir.version.datatypes import NamingSystems
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Note, Resource, Study
from dicom2fhir.wiring import options
from testdata.make_cases import mapped
from tests.profile_helpers import DCM, claims, conformed, contained, imaging_study, study

ARCHIVE: dict[str, Any] = {"dicomweb_url": "https://pacs.example/dicom-web"}
MADO_ARCHIVE: dict[str, Any] = {**ARCHIVE, "retrieve_location_uid": "1.2.276.0.76.3"}
FINESS: dict[str, Any] = {"systems": NamingSystems(organization={"": "http://finess.sante.gouv.fr|750000001"})}
SCT = "http://snomed.info/sct"


def of_patient(made: Study, **patient: str) -> Study:
    return Study(made.uid, 1, {"PatientID": "P1", **patient}, made.attrs, made.series)


def with_patient(series: dict[str, Any] | None = None, *images: dict[str, Any], **attrs: Any) -> Study:
    return of_patient(study(series, *images, **attrs), PatientName="A^B", PatientBirthDate="19640229")


def extensions(node: Resource, name: str) -> list[Any]:
    """The values of the extensions whose URL ends in a name."""
    found = (one for one in node.get("extension", []) if one["url"].endswith(f"/{name}"))
    return [value for one in found for key, value in one.items() if key != "url"]


# OSIRIS ---------------------------------------------------------------------------------------------------------------

OSIRIS = "https://ig-osiris.cancer.fr/ig/osiris/StructureDefinition"


def test_osiris_performers_are_devices_with_all_that_imaging_device_asks() -> None:
    made = study({"Manufacturer": "Acme", "PerformingPhysicianName": "A^A"})
    resource = imaging_study(options.profile("osiris"), made, **FINESS)
    (device,) = contained(resource, "Device")
    assert device["meta"]["profile"] == [f"{OSIRIS}/imaging-device"]
    assert (device["manufacturer"], device["version"]) == ("Acme", [{"value": "Unknown"}])
    assert device["deviceName"] == [{"name": "Unknown", "type": "manufacturer-name"}]
    (performer,) = resource["series"][0]["performer"]
    assert performer["actor"]["reference"] == f"#{device['id']}"
    assert contained(resource, "Practitioner") == []
    assert "performer" not in imaging_study(options.profile("osiris"), study())["series"][0]


def test_osiris_endpoint_is_the_archive_or_a_placeholder() -> None:
    own = options.profile("osiris")
    placeholder = imaging_study(own, study())
    assert contained(placeholder, "Endpoint")[0]["address"] == "Unknown"
    with_archive = conformed(own, study(), **ARCHIVE)
    assert contained(with_archive.entries[0].resource, "Endpoint") == []
    assert "Endpoint" in {entry.resource["resourceType"] for entry in with_archive.entries}
    assert not claims(imaging_study(own, study(), "omit"))


def test_osiris_analysis_and_service() -> None:
    made = study({"InstitutionName": "Centre"}, StudyDate="20240702", StudyTime="101500")
    resource = imaging_study(options.profile("osiris"), made, **FINESS)
    (analysis,) = contained(resource, "Observation")
    assert analysis["effectiveDateTime"] == resource["started"] == "2024-07-02T10:15:00+02:00"
    assert analysis["subject"] == resource["subject"]
    assert [location["name"] for location in contained(resource, "Location")] == ["Centre"]


@pytest.mark.parametrize(("modality", "given", "mbq"), [("PT", "320000000", 320), ("NM", "74.5", 74.5)])
def test_osiris_doses_are_in_megabecquerels(modality: str, given: str, mbq: float) -> None:
    tracer = [{"Radiopharmaceutical": "FDG", "RadionuclideTotalDose": given}]
    resource = imaging_study(
        options.profile("osiris"), study({"Modality": modality, "RadiopharmaceuticalInformationSequence": tracer})
    )
    (injection,) = contained(resource, "MedicationAdministration")
    assert injection["dosage"]["dose"]["value"] == mbq
    assert injection["effectiveDateTime"] == "1000-01-01"
    (medication,) = contained(resource, "Medication")
    assert injection["medicationReference"]["reference"] == f"#{medication['id']}"


def test_an_injection_of_unknown_dose_has_no_dosage() -> None:
    tracer = [{"Radiopharmaceutical": "FDG"}]
    made = study({"Modality": "PT", "RadiopharmaceuticalInformationSequence": tracer})
    (injection,) = contained(imaging_study(options.profile("osiris"), made, **FINESS), "MedicationAdministration")
    assert "dosage" not in injection


def test_the_patient_of_osiris_and_never_a_placeholder_in_what_is_updated() -> None:
    own = options.profile("osiris")
    ensured = conformed(own, study(), **FINESS, patient=Write.ENSURE).entries[1].resource
    assert ensured["meta"]["profile"] == [f"{OSIRIS}/onco-patient"]
    assert (ensured["birthDate"], ensured["gender"]) == ("1000-01-01", "unknown")
    upserted = conformed(own, study(), **FINESS, patient=Write.UPSERT)
    patient = upserted.entries[1].resource
    assert "birthDate" not in patient and "gender" not in patient and not claims(patient)
    assert not claims(upserted.entries[0].resource)
    assert upserted.unclaimed == "does not claim profile osiris: Patient.gender, Patient.birthDate are missing"
    with pytest.raises(NotExpressible, match=r"Patient\.gender"):
        conformed(own, study(), "refuse")


@pytest.mark.parametrize("missing", ["omit", "sentinel"])
def test_osiris_organization_has_a_finess_number_or_nothing_is_claimed(missing: Any) -> None:
    own = options.profile("osiris")
    assert not claims(imaging_study(own, study(), missing, **ARCHIVE))
    other = NamingSystems(organization={"Centre": "urn:oid:1.2.3|7"})
    assert not claims(imaging_study(own, study({"InstitutionName": "Centre"}), missing, systems=other, **ARCHIVE))
    code = [{"CodeValue": "750000002", "CodingSchemeDesignator": "99FINESS"}]
    known = NamingSystems(coding_schemes={"99FINESS": "http://finess.sante.gouv.fr"})
    result = conformed(own, study({"InstitutionCodeSequence": code}), systems=known, patient=Write.ENSURE)
    assert claims(result.entries[0].resource)
    (center,) = contained(result.entries[1].resource, "Organization")
    assert center["identifier"] == [{"system": "http://finess.sante.gouv.fr", "value": "750000002"}]


def test_a_phantom_is_no_patient_of_osiris() -> None:
    phantom = of_patient(study(), QualityControlSubject="YES")
    result = conformed(options.profile("osiris"), phantom, **FINESS)
    resource = result.entries[0].resource
    assert not claims(resource) and contained(resource, "Observation") == []
    assert "ImagingStudy.subject of type Patient" in result.unclaimed


def test_osiris_writes_the_orientation_as_the_spacing() -> None:
    made = study({"Modality": "DX"}, {"PatientOrientation": ["L", "F"]})
    settings = extensions(imaging_study(options.profile("osiris"), made, **FINESS)["series"][0], "imaging-settings")
    (dx,) = [part["extension"] for part in settings[0] if part["url"] == "dx_image"]
    assert {"url": "patient_orientation", "valueString": "[L, F]"} in dx


# MADO -----------------------------------------------------------------------------------------------------------------


def test_mado_endpoints_say_where_they_are() -> None:
    own, made = options.profile("mado"), study(StudyDescription="CT of the chest")
    assert conformed(own, made).unclaimed == "does not claim profile mado: ImagingStudy.series.endpoint is missing"
    assert not claims(imaging_study(own, made, **ARCHIVE))
    result = conformed(own, made, **MADO_ARCHIVE)
    resource = result.entries[0].resource
    assert claims(resource) and resource["series"][0]["endpoint"] == resource["endpoint"]
    (endpoint,) = (entry.resource for entry in result.entries if entry.resource["resourceType"] == "Endpoint")
    assert extensions(endpoint, "MadoRetrieveLocationUIDExtension") == ["1.2.276.0.76.3"]
    none = {"system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type", "code": "none"}
    assert endpoint["payloadType"][1] == {"coding": [none], "text": "DICOM WADO-RS"}
    assert endpoint["meta"]["profile"][0].endswith("/MadoWadoEndpoint")


def test_mado_leaves_out_endpoints_without_a_retrieve_location_and_says_so() -> None:
    result = mapped("availability", "mado")
    addresses = {one.resource["id"]: one.resource["address"] for one in result.entries if "address" in one.resource}
    named = {
        endpoint["reference"] for series in result.entries[0].resource["series"] for endpoint in series["endpoint"]
    }
    assert [addresses[one.removeprefix("urn:uuid:")] for one in named] == ["https://pacs.example/dicom-web"]
    why = (
        "left out: profile mado requires Endpoint with connectionType.code dicom-wado-rs and address $pacs.dicomweb_url"
    )
    assert Note("warning", "ImagingStudy.series.endpoint", why) in result.notes


def test_mado_takes_the_retrieve_location_of_the_data_set_unless_it_is_configured() -> None:
    made = study(None, {"RetrieveLocationUID": "1.2.9"}, StudyDescription="CT")
    for archive, uid in ((ARCHIVE, "1.2.9"), (MADO_ARCHIVE, "1.2.276.0.76.3")):
        result = conformed(options.profile("mado"), made, **archive)
        (endpoint,) = (entry.resource for entry in result.entries if entry.resource["resourceType"] == "Endpoint")
        assert extensions(endpoint, "MadoRetrieveLocationUIDExtension") == [uid]


def test_the_web_viewer_is_an_endpoint_of_the_study_and_of_no_series() -> None:
    viewer: dict[str, Any] = {"viewer_url": "https://viewer.example/?study={study_uid}&order={accession}"}
    made = study(StudyDescription="CT", AccessionNumber="A 1/é")
    resource = imaging_study(options.profile("mado"), made, **MADO_ARCHIVE, **viewer)
    assert claims(resource) and (len(resource["endpoint"]), len(resource["series"][0]["endpoint"])) == (2, 1)
    (endpoint,) = contained(resource, "Endpoint")
    assert endpoint["address"] == "https://viewer.example/?study=1.2.1&order=A%201%2F%C3%A9"
    assert not claims(imaging_study(options.profile("mado"), made, **viewer)), "a viewer is not DICOMweb"
    assert contained(imaging_study(options.profile("mado"), study(), **MADO_ARCHIVE, **viewer), "Endpoint") == []


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"RequestedProcedureDescription": "CT chest", "StudyDescription": "Other"}, "CT chest"),
        ({"RequestAttributesSequence": [{"RequestedProcedureDescription": "CT chest"}]}, "CT chest"),
        ({"StudyDescription": "Thorax"}, "Thorax"),
        ({}, None),
    ],
)
def test_mado_procedures_have_words(attrs: dict[str, Any], text: str | None) -> None:
    resource = imaging_study(options.profile("mado"), study(**attrs), **MADO_ARCHIVE)
    assert resource.get("procedureCode") == ([{"text": text}] if text else None)
    assert claims(resource) is bool(text)


ISSUER: list[Any] = [{"UniversalEntityID": "1.2.276.0.76.9", "UniversalEntityIDType": "ISO"}]
ORDERS: dict[str, Any] = {
    "AccessionNumber": "A0",
    "RequestAttributesSequence": [
        {"AccessionNumber": number, "IssuerOfAccessionNumberSequence": ISSUER} for number in ("A1", "A2")
    ],
}


def test_one_order_is_left_and_no_accession_number_is_lost() -> None:
    mado = conformed(options.profile("mado"), with_patient(StudyDescription="CT", **ORDERS), **MADO_ARCHIVE)
    study_of_mado = mado.entries[0].resource
    (order,) = study_of_mado["basedOn"]
    assert order["identifier"]["value"] == "A1"
    assert [code["code"] for code in order["identifier"]["type"]["coding"]] == ["ACSN", "121022"]
    assert {"A0", "A1", "A2"} < {identifier["value"] for identifier in study_of_mado["identifier"]}
    europe = imaging_study(options.profile("eu-imaging"), with_patient(**ORDERS))
    assert [one["identifier"]["value"] for one in europe["basedOn"]] == ["A1"]
    assert [note["text"] for note in europe["note"]] == ["Accession Number: A0", "Accession Number: A2"]
    assert [one["system"] for one in europe["identifier"]] == ["urn:dicom:uid"]


def test_a_key_object_selection_has_its_title_if_it_is_of_cid_7010() -> None:
    for code, written in (("113000", True), ("999999", False)):
        title = [{"CodeValue": code, "CodingSchemeDesignator": "DCM", "CodeMeaning": "Of Interest"}]
        resource = imaging_study(options.profile("mado"), study({"Modality": "KO"}, {"ConceptNameCodeSequence": title}))
        found = extensions(resource["series"][0]["instance"][0], "MadoKeyObjectDocumentTitle")
        assert found == ([{"coding": [{"system": DCM, "code": code, "display": "Of Interest"}]}] if written else [])


# EU imaging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_a_european_study_refers_to_a_person_with_name_and_birth_date(version: str) -> None:
    own = options.profile("eu-imaging")
    assert claims(imaging_study(own, with_patient(), None, version))
    for known in ({"PatientName": "A^B"}, {"PatientBirthDate": "19640229"}):
        assert not claims(imaging_study(own, of_patient(study(), **known), None, version))
    unknown = conformed(own, study(), "sentinel", version, patient=Write.ENSURE)
    assert claims(unknown.entries[0].resource)
    patient = unknown.entries[1].resource
    assert [one["extension"][0]["valueCode"] for one in (patient["_birthDate"], *patient["name"])] == ["unknown"] * 2


@pytest.mark.parametrize("version", ["R4", "R5"])
def test_european_performers_are_roles_and_nobody_is_lost(version: str) -> None:
    equipment = {"PerformingPhysicianName": ["A^A", "B^B"], "OperatorsName": "C^C", "StationName": "CT1"}
    resource = imaging_study(options.profile("eu-imaging"), with_patient(equipment), None, version)
    performers = resource["series"][0]["performer"]
    functions = [one.get("function", {"coding": [{"code": ""}]})["coding"][0]["code"] for one in performers]
    assert functions == ["PRF", "", "SPRF", "DEV"]
    assert len(contained(resource, "PractitionerRole")) == len(contained(resource, "Practitioner")) == 3
    (device,) = contained(resource, "Device")
    category = [{"coding": [{"system": SCT, "code": "314789007"}]}]
    assert (device.get("category") or extensions(device, "extension-Device.category")) == category
    base = {"R4": "http://hl7.eu/fhir/imaging", "R5": "http://hl7.eu/fhir/imaging-r5"}[version]
    assert device["meta"]["profile"] == [f"{base}/StructureDefinition/DeviceEuImaging"] and device["status"] == "active"


def test_a_performer_without_a_name_costs_the_claim_and_is_kept() -> None:
    code = [{"PersonIdentificationCodeSequence": [{"CodeValue": "7"}]}]
    result = conformed(options.profile("eu-imaging"), with_patient({"PerformingPhysicianIdentificationSequence": code}))
    assert result.unclaimed == "does not claim profile eu-imaging: Practitioner.name is missing"
    assert contained(result.entries[0].resource, "Practitioner")


def test_an_instance_says_how_many_frames_it_has_and_what_it_is() -> None:
    made = with_patient(None, {"NumberOfFrames": "12", "ContentLabel": "X"})
    resource = imaging_study(options.profile("eu-imaging"), made)
    instance = resource["series"][0]["instance"][0]
    assert extensions(instance, "NumberOfFrames") == [12]
    assert extensions(instance, "ImagingStudyEuImagingInstanceDescription") == [instance["title"]] == ["X"]


# Regions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "europe", "mado"),
    [
        ("KNEE", "61685007", "61685007"),
        ("LSPINE", "737561001", "1141981001"),
        ("HEART", "80891009", "80891009"),
        ("CHESTABDPELVIS", None, None),
        ("somewhere", None, None),
    ],
)
def test_the_region_of_a_body_part(part: str, europe: str | None, mado: str | None) -> None:
    made = with_patient({"BodyPartExamined": part})
    for name, version, code in (("eu-imaging", "R4", europe), ("eu-imaging", "R5", europe), ("mado", "R4", mado)):
        regions = extensions(
            imaging_study(options.profile(name), made, None, version),
            "MadoAnatomicalRegionExtension" if name == "mado" else "AnatomicalRegionExtension",
        )
        codings = [(one["system"], one["code"]) for region in regions for one in region["coding"]]
        assert codings == ([(SCT, code)] if code else []), (name, version)


def test_each_body_part_of_annex_l_is_in_one_region_at_most() -> None:
    regions = body_regions()
    assert regions.keys() <= {code for code, _ in body_parts().values()}
    assert set(regions.values()) == set(options.profile("eu-imaging").codes["regions"].include[0].codes)


# IPS ------------------------------------------------------------------------------------------------------------------


def test_ips_wants_a_patient_with_name_and_birth_date_that_can_be_referred_to() -> None:
    own = options.profile("ips")
    assert claims(imaging_study(own, with_patient()))
    assert conformed(own, study()).unclaimed == (
        "does not claim profile ips: Patient.name, Patient.birthDate are missing"
    )
    nobody = Study("1.2.1", 1, {}, {}, study().series)
    assert not claims(imaging_study(own, nobody))


# MII ------------------------------------------------------------------------------------------------------------------


def test_laterality_of_mii_is_of_cid_244() -> None:
    made = study({"Laterality": "L", "Modality": "XYZ"})
    series = imaging_study(options.profile("mii-bildgebung"), made)["series"][0]
    assert (series["laterality"]["code"], series["modality"]["code"]) == ("7771000", "OT")
