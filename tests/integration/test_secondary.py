"""Resources beside the ImagingStudy: written after it, refused without it, and marked when they are no longer made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.directory import FileDestination
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import DIALECTS, by_fhir_version
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Study
from dicom2fhir.outcomes import Delivered, Job, Outcome, Retry
from testdata.make_cases import studies_of, study_and_options
from testdata.make_dicom import encoded
from tests.memory_server import Failed, Manner, MemoryServer
from tests.scripted_server import Resource

OFFERS = (
    *("ImagingStudy", "Patient", "Endpoint", "ServiceRequest", "Practitioner"),
    *("ImagingSelection", "Observation", "Procedure"),
)
STATUS_URL = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection.status"


class Server(MemoryServer):
    """A server of R5.

    Attributes
    ----------
    refused
        Series Instance UID of an ImagingSelection -> status of the answer to a transaction with it; "": of any, and of
        any Observation or Procedure.
    """

    def __init__(self, **manner: Any) -> None:
        self.refused: dict[str, int] = {}
        super().__init__(Manner(**{"offers": OFFERS, **manner}))
        self.fhir_version = "5.0.0"

    def _write(self, entry: Resource, ids: dict[str, str]) -> Resource:
        resource = entry["resource"]
        if resource["resourceType"] in ("ImagingSelection", "Observation", "Procedure"):
            status = self.refused.get(resource.get("seriesUid", "")) or self.refused.get("")
            if status:
                raise Failed(status)
        return super()._write(entry, ids)

    def selections(self) -> dict[str, str]:
        """Series Instance UID -> status of each ImagingSelection."""
        return {one["seriesUid"]: one["status"] for one in self.all("ImagingSelection")}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(checks_versions=True)
    yield made
    made.close()


class Bridge:
    """Delivers a study again and again, and remembers what the store would."""

    def __init__(self, url: str, version: str = "R5", **options: Any) -> None:
        self.policy = MappingOptions(patient=Write.ENSURE, **options)
        self.url, self.version = url, version
        self.base = b""

    @property
    def destination(self) -> FhirDestination:
        mapper = StudyMapper(self.policy)
        return FhirDestination("main", FhirClient(self.url), mapper, DialectChoice(self.version))

    def outcome(self, study: Study, again: bool = False) -> Outcome:
        return self.destination.deliver(study, self.base, again)

    def deliver(self, study: Study, again: bool = False) -> Delivered:
        outcome = self.outcome(study, again)
        assert isinstance(outcome, Delivered), outcome
        self.base = outcome.base
        return outcome


@pytest.fixture
def bridge(server: Server) -> Bridge:
    return Bridge(server.url)


def study_of(name: str, without: str = "") -> Study:
    """A generated study, without the instances of a SOP class."""
    (study,) = studies_of(data for data in encoded(name) if not without or without.encode() not in data)
    return study


STUDY = study_of("ko-studies")
SERIES = [series.uid for series in STUDY.series if series.attrs["Modality"] != "KO"]
KO_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


def test_the_selections_come_after_the_study_and_refer_to_it(server: Server, bridge: Bridge) -> None:
    delivered = bridge.deliver(STUDY)
    assert delivered.written
    assert server.transactions == 2
    assert len(server.selections()) == 3
    (study,) = server.all("ImagingStudy")
    own = [one for one in server.all("ImagingSelection") if one["studyUid"] == STUDY.uid]
    assert {one["derivedFrom"][0]["reference"] for one in own} == {f"ImagingStudy/{study['id']}"}
    assert {one["subject"]["reference"] for one in own} == {study["subject"]["reference"]}


def test_the_study_of_another_study_is_linked_once_it_is_there(server: Server, bridge: Bridge) -> None:
    assert bridge.deliver(STUDY).unlinked == ("ImagingStudy",)
    (other,) = (one for one in server.all("ImagingSelection") if one["studyUid"] != STUDY.uid)
    assert "reference" not in other["derivedFrom"][0]
    uid = other["derivedFrom"][0]["identifier"]
    subject = next(one["subject"] for one in server.all("ImagingSelection"))
    server.versions["ImagingStudy", "x"] = [
        {"resourceType": "ImagingStudy", "id": "x", "identifier": [uid], "subject": subject}
    ]
    assert bridge.deliver(STUDY, again=True).unlinked == ()
    (other,) = (one for one in server.all("ImagingSelection") if one["studyUid"] != STUDY.uid)
    assert other["derivedFrom"][0]["reference"] == "ImagingStudy/x"
    assert len(server.versions["ImagingStudy", "x"]) == 1, "it belongs to its own study"


def test_a_study_that_was_not_there_is_looked_up_also_for_a_revision_that_changes_nothing(
    server: Server, bridge: Bridge
) -> None:
    bridge.deliver(STUDY)
    (uid,) = (
        one["derivedFrom"][0]["identifier"] for one in server.all("ImagingSelection") if one["studyUid"] != STUDY.uid
    )
    subject = next(one["subject"] for one in server.all("ImagingSelection"))
    server.versions["ImagingStudy", "x"] = [
        {"resourceType": "ImagingStudy", "id": "x", "identifier": [uid], "subject": subject}
    ]
    assert bridge.deliver(replace(STUDY, revision=STUDY.revision + 1)).unlinked == ()
    requests = server.transactions
    assert not bridge.deliver(STUDY).answered, "all is linked"
    assert server.transactions == requests


def test_nothing_is_written_twice(server: Server, bridge: Bridge) -> None:
    bridge.deliver(STUDY)
    versions = dict(server.versions)
    assert not bridge.deliver(STUDY).written
    assert not bridge.deliver(STUDY, again=True).written
    bridge.base = b""  # the store was lost
    assert not bridge.deliver(STUDY).written
    assert server.versions == versions


def test_a_server_that_assigns_ids() -> None:
    with_ids = Server(takes_ids=False)
    try:
        bridge = Bridge(with_ids.url)
        bridge.deliver(STUDY)
        bridge.base = b""
        assert not bridge.deliver(STUDY).written
        assert len(with_ids.all("ImagingSelection")) == 3
        bridge.deliver(study_of("ko-studies", without=KO_SOP_CLASS))
        assert set(with_ids.selections().values()) == {"entered-in-error"}
    finally:
        with_ids.close()


@pytest.mark.parametrize("status", [400, 403, 422])
def test_what_is_refused_is_left_out_alone(server: Server, bridge: Bridge, status: int) -> None:
    server.refused = {SERIES[0]: status}
    delivered = bridge.deliver(STUDY)
    assert len(server.all("ImagingStudy")) == 1
    assert SERIES[0] not in server.selections()
    assert len(server.selections()) == 2
    (said,) = delivered.refused
    assert said.startswith("ImagingSelection: ")
    assert str(status) in said
    assert bridge.deliver(STUDY).refused == (said,), "also if nothing is sent"
    server.refused = {}
    assert bridge.deliver(STUDY, again=True).refused == ()
    assert len(server.selections()) == 3


def test_all_refused(server: Server, bridge: Bridge) -> None:
    server.refused = {"": 422}
    assert len(bridge.deliver(STUDY).refused) == 3
    assert len(server.all("ImagingStudy")) == 1
    assert server.selections() == {}


def test_a_server_that_fails_on_them_is_up_and_has_the_study(server: Server, bridge: Bridge) -> None:
    server.refused = {"": 500}
    outcome = bridge.outcome(STUDY)
    assert isinstance(outcome, Retry)
    assert not outcome.whole_destination
    assert len(server.all("ImagingStudy")) == 1
    server.refused = {}
    assert bridge.deliver(STUDY).refused == ()
    assert len(server.selections()) == 3


def test_credentials_that_are_no_longer_accepted_are_not_the_fault_of_a_resource(
    server: Server, bridge: Bridge
) -> None:
    server.refused = {"": 401}
    outcome = bridge.outcome(STUDY)
    assert isinstance(outcome, Retry)
    assert outcome.whole_destination


def test_what_is_no_longer_made_is_marked_and_comes_back(server: Server, bridge: Bridge) -> None:
    bridge.deliver(STUDY)
    without = study_of("ko-studies", without=KO_SOP_CLASS)
    assert bridge.deliver(without).written
    assert set(server.selections().values()) == {"entered-in-error"}
    selection = server.all("ImagingSelection")[0]
    assert selection["instance"], "what it was stays readable"
    assert not bridge.deliver(without, again=True).written
    bridge.deliver(STUDY)
    assert set(server.selections().values()) == {"available"}


def test_what_others_added_to_a_selection_stays(server: Server, bridge: Bridge) -> None:
    bridge.deliver(STUDY)
    (key, versions), *_ = (item for item in server.versions.items() if item[0][0] == "ImagingSelection")
    meta = {"versionId": "2", "tag": [{"code": "teaching"}]}
    server.versions[key] = [*versions, {**versions[-1], "meta": meta}]
    bridge.deliver(study_of("ko-studies", without=KO_SOP_CLASS))
    newest = server.versions[key][-1]
    assert (newest["status"], newest["meta"]["tag"]) == ("entered-in-error", [{"code": "teaching"}])


def test_a_selection_that_somebody_deleted_is_not_created_to_be_marked(server: Server, bridge: Bridge) -> None:
    bridge.deliver(STUDY)
    for key in [key for key in server.versions if key[0] == "ImagingSelection"]:
        del server.versions[key]
    bridge.deliver(study_of("ko-studies", without=KO_SOP_CLASS))
    assert server.selections() == {}


def test_a_server_that_does_not_offer_them_gets_the_study() -> None:
    server = Server(offers=("ImagingStudy", "Patient"))
    try:
        delivered = Bridge(server.url).deliver(STUDY)
        assert delivered.refused == ("ImagingSelection: the server does not offer it",)
        assert server.selections() == {}
    finally:
        server.close()


def test_switched_off(server: Server, bridge: Bridge) -> None:
    bridge.deliver(STUDY)
    off = Bridge(server.url, key_objects="never")
    off.base = bridge.base
    off.deliver(STUDY)
    assert set(server.selections().values()) == {"entered-in-error"}


def test_several_studies_are_looked_up_together(server: Server, bridge: Bridge) -> None:
    studies = [STUDY, study_of("ko"), study_of("cr")]
    outcomes = list(bridge.destination.deliver_all([Job(study, b"") for study in studies]))
    assert all(isinstance(outcome, Delivered) and outcome.written for outcome in outcomes)
    assert len(server.selections()) == 4


# Dose reports --------------------------------------------------------------------------------------------------------

REPLACED, REPLACING, OF_STUDY = encoded("sr-dose-replaced")


def dose_study(*files: bytes) -> Study:
    (study,) = studies_of(files)
    return study


def doses(server: Server) -> dict[float, str]:
    """The dose length product of each Observation -> its status."""
    return {one["component"][0]["valueQuantity"]["value"]: one["status"] for one in server.all("Observation")}


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_dose_report_never_holds_back_a_study(server: Server, bridge: Bridge, status: int) -> None:
    server.refused = {"": status}
    delivered = bridge.deliver(study_of("sr-dose"))
    (said,) = delivered.refused
    assert said.startswith("Observation: ")
    assert str(status) in said
    assert len(server.all("ImagingStudy")) == 1
    assert doses(server) == {}
    server.refused = {}
    assert bridge.deliver(study_of("sr-dose"), again=True).refused == ()
    assert doses(server) == {210.5: "final"}


def test_a_procedure_never_holds_back_a_study(server: Server) -> None:
    steps = study_and_options("procedures")[0]
    bridge = Bridge(server.url, procedures="auto")
    server.refused = {"": 422}
    assert [said.partition(":")[0] for said in bridge.deliver(steps).refused] == ["Procedure", "Procedure"]
    (study,) = server.all("ImagingStudy")
    assert len(study["partOf"]) == 2
    server.refused = {}
    assert bridge.deliver(steps, again=True).refused == ()
    assert [one["status"] for one in server.all("Procedure")] == ["completed", "stopped"]
    bridge.policy = replace(bridge.policy, procedures="never")
    bridge.deliver(steps)
    assert [one["status"] for one in server.all("Procedure")] == ["entered-in-error"] * 2
    assert "partOf" not in server.all("ImagingStudy")[0]


def test_a_server_without_observations_gets_the_study() -> None:
    server = Server(offers=("ImagingStudy", "Patient"))
    try:
        delivered = Bridge(server.url).deliver(study_of("sr-dose"))
        assert delivered.refused == ("Observation: the server does not offer it",)
        assert len(server.all("ImagingStudy")) == 1
    finally:
        server.close()


def test_a_report_that_is_replaced_is_marked(server: Server, bridge: Bridge) -> None:
    bridge.deliver(dose_study(REPLACED, OF_STUDY))
    assert doses(server) == {310.5: "final", 655.25: "final"}
    bridge.deliver(dose_study(REPLACED, OF_STUDY, REPLACING))
    assert doses(server) == {310.5: "entered-in-error", 655.25: "final", 315: "final"}


def test_a_predecessor_that_comes_late_is_not_written(server: Server, bridge: Bridge) -> None:
    bridge.deliver(dose_study(REPLACING))
    bridge.deliver(dose_study(REPLACING, REPLACED))
    assert doses(server) == {315: "final"}


def test_dose_reports_that_are_switched_off(server: Server, bridge: Bridge) -> None:
    bridge.deliver(study_of("sr-dose"))
    off = Bridge(server.url, dose_reports="never")
    off.base = bridge.base
    off.deliver(study_of("sr-dose"))
    assert doses(server) == {210.5: "entered-in-error"}


# Measurement reports -------------------------------------------------------------------------------------------------

REGIONS = "sr-tid1500-regions"


def measuring(server: Server, version: str = "R5") -> Bridge:
    return Bridge(server.url, version, measurements="auto")


def measured(server: Server) -> dict[str, str]:
    """The name of each Observation of a measurement report -> its status."""
    return {
        one["code"].get("text") or one["code"]["coding"][0]["display"]: one["status"]
        for one in server.all("Observation")
    }


def referred(server: Server) -> list[Resource]:
    """The references of Observations to other Observations and to ImagingSelections."""
    every = (
        one for found in server.all("Observation") for key in ("hasMember", "derivedFrom") for one in found.get(key, ())
    )
    return [one for one in every if one["type"] != "ImagingStudy"]


def test_measurements_refer_to_each_other_and_to_what_was_measured(server: Server) -> None:
    bridge = measuring(server)
    assert bridge.deliver(study_of(REGIONS)).refused == ()
    there = {f"{type_}/{one['id']}" for type_ in ("Observation", "ImagingSelection") for one in server.all(type_)}
    assert len(there) == 14
    assert {one["reference"] for one in referred(server)} <= there
    versions = dict(server.versions)
    assert not bridge.deliver(study_of(REGIONS), again=True).written
    bridge.base = b""
    assert not bridge.deliver(study_of(REGIONS)).written
    assert server.versions == versions


@pytest.mark.parametrize("status", [400, 403, 422])
def test_measurements_never_hold_back_a_study(server: Server, status: int) -> None:
    server.refused = {"": status}
    bridge = measuring(server)
    refused = bridge.deliver(study_of(REGIONS)).refused
    assert {one.partition(":")[0] for one in refused} == {"Observation", "ImagingSelection"}
    assert len(server.all("ImagingStudy")) == 1
    assert measured(server) == {}
    server.refused = {}
    assert bridge.deliver(study_of(REGIONS), again=True).refused == ()
    assert len(measured(server)) == 10


def test_what_is_refused_is_referred_to_by_its_identifier(server: Server) -> None:
    study = study_of(REGIONS)
    (ct,) = (series.uid for series in study.series if series.attrs["Modality"] == "CT")
    server.refused = {ct: 422}
    bridge = measuring(server)
    assert len(bridge.deliver(study).refused) == 2
    assert len(server.all("Observation")) == 10
    logical = [one for one in referred(server) if "reference" not in one]
    assert {one["type"] for one in logical} == {"ImagingSelection"}
    assert all(one["identifier"]["value"].startswith("urn:uuid:") for one in logical)
    server.refused = {}
    bridge.deliver(study, again=True)
    assert all("reference" in one for one in referred(server))


def test_a_server_without_imaging_selections_gets_the_observations() -> None:
    server = Server(offers=("ImagingStudy", "Patient", "Observation"))
    try:
        delivered = measuring(server).deliver(study_of(REGIONS))
        assert delivered.refused == ("ImagingSelection: the server does not offer it",)
        assert len(measured(server)) == 10
        assert {one["type"] for one in referred(server) if "reference" not in one} == {"ImagingSelection"}
    finally:
        server.close()


def test_a_measurement_report_that_is_replaced_is_marked(server: Server) -> None:
    first, second = encoded("sr-tid1500-replaced")
    bridge = measuring(server)
    bridge.deliver(dose_study(first))
    assert measured(server) == {"Length": "final", "Measurement Group": "final"}
    bridge.deliver(dose_study(first, second))
    by_value = {
        one["valueQuantity"]["value"]: one["status"] for one in server.all("Observation") if "valueQuantity" in one
    }
    assert by_value == {8.4: "entered-in-error", 9: "final"}


def test_measurements_that_are_switched_off(server: Server) -> None:
    bridge = measuring(server)
    bridge.deliver(study_of(REGIONS))
    off = Bridge(server.url)
    off.base = bridge.base
    off.deliver(study_of(REGIONS))
    assert set(measured(server).values()) == {"entered-in-error"}
    assert {one["status"] for one in server.all("ImagingSelection")} == {"entered-in-error"}


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_file_marks_what_is_no_longer_made(tmp_path: Path) -> None:
    destination = FileDestination("files", tmp_path, StudyMapper(MappingOptions()), DIALECTS["STU3"])
    first = destination.deliver(STUDY, b"")
    assert isinstance(first, Delivered)
    second = destination.deliver(study_of("ko-studies", without=KO_SOP_CLASS), first.base, again=True)
    assert isinstance(second, Delivered)
    (file,) = tmp_path.glob("*.json")
    (manifest,) = (
        entry["resource"]
        for entry in orjson.loads(file.read_bytes())["entry"]
        if entry["resource"]["resourceType"] == "ImagingManifest"
    )
    assert manifest["modifierExtension"] == [{"url": STATUS_URL, "valueCode": "entered-in-error"}]


# Real servers --------------------------------------------------------------------------------------------------------

TYPES = {"dstu2": "ImagingObjectSelection", "dstu3": "ImagingManifest", "r4": "Basic", "r5": "ImagingSelection"}


@pytest.mark.parametrize("version", TYPES)
def test_key_objects_on_a_real_server(hapi: Callable[[str], str], version: str) -> None:
    """Taken; sent twice, no new version; marked when they are gone, and back again."""
    url = hapi(version)
    dialect = by_fhir_version(FhirClient(url, timeout_s=60).capabilities().fhir_version)
    assert dialect is not None
    archive = "https://pacs.example/dicom-web"
    bridge = Bridge(url, dialect.name, key_objects="always", dicomweb_url=archive)
    assert bridge.deliver(STUDY).refused == ()
    found = on_server(url, version)
    assert len(found) == (3 if version in ("r4", "r5") else 1)
    assert not bridge.deliver(STUDY, again=True).written
    bridge.base = b""
    assert not bridge.deliver(STUDY).written
    assert on_server(url, version) == found
    bridge.deliver(study_of("ko-studies", without=KO_SOP_CLASS))
    assert all("entered-in-error" in str(one) for one in on_server(url, version))
    bridge.deliver(STUDY)
    assert not any("entered-in-error" in str(one) for one in on_server(url, version))


@pytest.mark.parametrize("version", ["r4", "r5"])
def test_measurements_on_a_real_server(hapi: Callable[[str], str], version: str) -> None:
    """Taken; sent twice, no new version; marked when they are gone, and back again."""
    url = hapi(version)
    bridge = Bridge(url, version.upper(), measurements="auto")
    study, without = study_of(REGIONS), study_of(REGIONS, without=COMPREHENSIVE_3D_SR)
    assert bridge.deliver(study).refused == ()
    found = secondary_on(bridge, study)
    assert len(found) == (14 if version == "r5" else 10)
    assert not bridge.deliver(study, again=True).written
    bridge.base = b""
    assert not bridge.deliver(study).written
    assert secondary_on(bridge, study) == found
    bridge.deliver(without)
    assert {one["status"] for one in secondary_on(bridge, study)} == {"entered-in-error"}
    bridge.deliver(study)
    assert {one["status"] for one in secondary_on(bridge, study)} <= {"final", "available"}


def secondary_on(bridge: Bridge, study: Study) -> list[Resource]:
    """What a server has of the secondary resources of a study."""
    dialect = DIALECTS[bridge.version]
    client = FhirClient(bridge.url, timeout_s=60)
    client.speak(dialect, "json")
    own = [one.entries[0] for one in StudyMapper(bridge.policy).map(study, dialect).secondary]
    return [found for entry in own for found in client.search(entry.resource["resourceType"], entry.search)]


def on_server(url: str, version: str) -> list[Resource]:
    mapper = StudyMapper(MappingOptions(key_objects="always", dicomweb_url="https://pacs.example/dicom-web"))
    name = {"dstu2": "DSTU2", "dstu3": "STU3", "r4": "R4", "r5": "R5"}[version]
    client = FhirClient(url, timeout_s=60)
    client.speak(DIALECTS[name], "json")
    own = [one.entries[0] for one in mapper.map(STUDY, DIALECTS[name]).secondary]
    return [found for entry in own for found in client.search(entry.resource["resourceType"], entry.search)]


@pytest.mark.parametrize("version", ["dstu3", "r4", "r5"])
def test_procedures_on_a_real_server(hapi: Callable[[str], str], version: str) -> None:
    """Taken; sent twice, no new version."""
    url = hapi(version)
    bridge = Bridge(url, "STU3" if version == "dstu3" else version.upper(), procedures="auto")
    steps = study_and_options("procedures")[0]
    assert bridge.deliver(steps).refused == ()
    assert not bridge.deliver(steps, again=True).written
    bridge.base = b""
    assert not bridge.deliver(steps).written


@pytest.mark.parametrize("version", ["dstu3", "r4", "r5"])
def test_documents_on_a_real_server(hapi: Callable[[str], str], version: str) -> None:
    """Taken, from R4 on also as DiagnosticReport; sent twice, no new version; marked when they are gone."""
    url = hapi(version)
    name = "STU3" if version == "dstu3" else version.upper()
    bridge = Bridge(url, name, diagnostic_reports="auto", dicomweb_url="https://pacs.example/dicom-web")
    documents = study_of("documents")
    assert bridge.deliver(documents).refused == ()
    assert not bridge.deliver(documents, again=True).written
    bridge.base = b""
    assert not bridge.deliver(documents).written
    found = secondary_on(bridge, documents)
    assert [one["resourceType"] for one in found].count("DocumentReference") == 6
    assert len(found) == (6 if version == "dstu3" else 7)
    bridge.deliver(study_of("documents", without="1.2.840.10008.5.1.4.1.1.104.2"))
    marked = [one["resourceType"] for one in secondary_on(bridge, documents) if one["status"] == "entered-in-error"]
    assert sorted(marked) == ["DiagnosticReport", *["DocumentReference"] * 2][version == "dstu3" :]
    bridge.deliver(documents)
    assert "entered-in-error" not in {one["status"] for one in secondary_on(bridge, documents)}


@pytest.mark.parametrize("version", ["r4", "r5"])
def test_dose_reports_on_a_real_server(hapi: Callable[[str], str], version: str) -> None:
    """Each kind is taken; sent twice, no new version; a replaced one is marked."""
    url = hapi(version)
    name = version.upper()
    client = FhirClient(url, timeout_s=60)
    client.speak(DIALECTS[name], "json")
    for case in ("sr-dose", "sr-dose-mammography", "sr-dose-biplane", "sr-dose-nm"):
        bridge = Bridge(url, name)
        assert bridge.deliver(study_of(case)).refused == ()
        assert not bridge.deliver(study_of(case), again=True).written
        bridge.base = b""
        assert not bridge.deliver(study_of(case)).written
    bridge = Bridge(url, name)
    before, after = dose_study(REPLACED, OF_STUDY), dose_study(REPLACED, OF_STUDY, REPLACING)
    bridge.deliver(before)
    bridge.deliver(after)
    mapper = StudyMapper(MappingOptions())
    own = [one.entries[0] for study in (before, after) for one in mapper.map(study, DIALECTS[name]).secondary]
    found = {one["id"]: one["status"] for entry in own for one in client.search("Observation", entry.search)}
    assert sorted(found.values()) == ["entered-in-error", "final", "final"]
