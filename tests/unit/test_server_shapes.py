"""What a FHIR server answers, in any shape: it is merged without loss or refused with words, never a fault of ours."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions, map_study
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import Instance, Resource, Series, Study
from dicom2fhir.outcomes import Delivered, Outcome, Refused, Retry
from tests.examples import examples
from tests.scripted_server import ScriptedServer

POLICY = MappingOptions(patient=Write.UPSERT)
STUDY = Study(
    "1.2.1",
    1,
    {"PatientID": "P1", "PatientName": "Doe^John"},
    {"StudyDescription": "Head", "AccessionNumber": "A1"},
    (Series("1.2.1.1", {"Modality": "CT"}, (Instance("1.2.1.1.1", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}),)),),
)
MAPPED = map_study(STUDY, DIALECTS["R4"], POLICY)
OURS = MAPPED.entries[0].resource
PATIENT = next(entry.resource for entry in MAPPED.entries if entry.resource["resourceType"] == "Patient")


class Answering(ScriptedServer):
    """Has one ImagingStudy and one Patient, or one answer to everything."""

    study: Any = None
    patient: Any = None
    everything: tuple[int, Any] | None = None

    def __init__(self) -> None:
        self.sent: list[Resource] = []
        super().__init__()

    def get(self, path: str) -> tuple[int, Any]:
        if path.endswith("/metadata"):
            return super().get(path)
        if self.everything:
            return self.everything
        found = {"ImagingStudy": self.study, "Patient": self.patient}.get(urlsplit(path).path.split("/")[2])
        if "?" in path:
            entries = [{"resource": found}] if found else []
            return 200, {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        return (200, found) if found else super().get(path)

    def post(self, bundle: Resource) -> tuple[int, Any]:
        if self.everything:
            return self.everything
        self.sent = [entry["resource"] for entry in bundle["entry"]]
        return super().post(bundle)


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    made = Answering()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicom2fhir.fhir.send.server._CONFLICT_PAUSE_S", 0.0)
        yield made
    made.close()


def deliver(server: Answering) -> Outcome:
    server.sent = []
    destination = FhirDestination(
        "main",
        FhirClient(server.url),
        StudyMapper(POLICY),
        DialectChoice("R4"),
    )
    return destination.deliver(STUDY, b"")


def theirs(resource: Resource) -> Resource:
    """The resource as it is on the server, where somebody has added to it."""
    found = copy.deepcopy(resource)
    found["meta"] = {"versionId": "1", "tag": [{"system": "urn:x", "code": "seen"}]}
    found["text"] = {"status": "generated", "div": "<div/>"}
    found["extension"] = [{"url": "urn:x:e", "valueString": "theirs"}]
    found["contained"] = [*found.get("contained", []), {"resourceType": "Basic", "id": "b"}]
    found["identifier"] = [*found["identifier"], {"system": "urn:x:other", "value": "1"}]
    if resource["resourceType"] == "ImagingStudy":
        found["note"] = [{"text": "theirs"}]
        found["basedOn"] = [{"reference": "ServiceRequest/1"}]
        found["endpoint"] = [{"reference": "#b"}]
        found["series"].append({"uid": "9.9", "modality": {"code": "MR"}, "instance": [{"uid": "9.9.1"}]})
    return found


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def altered(resource: Resource, path: tuple[str | int, ...], value: Any) -> Resource:
    found = copy.deepcopy(resource)
    inner: Any = found
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return found


def name(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["uid", "id", "reference", "system", "value", "coding", "code", "url"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
ON_SERVER = {"ImagingStudy": theirs(OURS), "Patient": theirs(PATIENT)}
PLACES = [(kind, path) for kind, resource in ON_SERVER.items() for path in places(resource)]
QUICK = examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def put(server: Answering, kind: str, resource: Any) -> None:
    server.everything = None
    server.study, server.patient = ON_SERVER["ImagingStudy"], ON_SERVER["Patient"]
    setattr(server, "study" if kind == "ImagingStudy" else "patient", resource)


def test_what_others_wrote_is_merged(server: Answering) -> None:
    put(server, "Patient", ON_SERVER["Patient"])
    assert isinstance(deliver(server), Delivered)
    assert len(server.sent[0]["series"]) == 2 and server.sent[0]["note"] == [{"text": "theirs"}]


@pytest.mark.parametrize(
    ("kind", "path", "value", "words"),
    [
        ("ImagingStudy", ("meta",), [], "meta is a list, not an object"),
        ("ImagingStudy", ("series",), "x", "series is a string, not a list"),
        ("ImagingStudy", ("series", 1, "instance"), 5, "series[1].instance is a number, not a list"),
        ("ImagingStudy", ("series", 1, "modality"), "MR", "series[1].modality is a string, not an object"),
        ("ImagingStudy", ("series", 0, "uid"), {}, "series[0].uid is an object, not a value"),
        ("ImagingStudy", ("identifier",), {}, "identifier is an object, not a list"),
        ("ImagingStudy", ("subject",), None, "subject is null, not an object"),
        ("ImagingStudy", ("contained", -1, "id"), ["b"], "id is a list, not a value"),
        ("ImagingStudy", ("id",), 5, "without a valid id"),
        ("ImagingStudy", ("id",), "../Patient/1", "without a valid id"),
        ("Patient", ("name",), "Doe", "name is a string, not a list"),
        ("Patient", ("name", 0), True, "name[0] is true or false, not an object"),
    ],
)
def test_what_is_not_fhir_is_refused_with_its_place(
    server: Answering, kind: str, path: tuple[str | int, ...], value: Any, words: str
) -> None:
    put(server, kind, altered(ON_SERVER[kind], path, value))
    outcome = deliver(server)
    assert isinstance(outcome, Refused) and outcome.answered
    assert words in outcome.issues[0] and kind in outcome.issues[0]
    assert "Doe" not in str(outcome) and server.sent == []


@pytest.mark.parametrize("entries", [{}, "x", 5, ["x"], [{"resource": "x"}], [5], None])
def test_a_bundle_that_is_not_fhir_is_not_an_empty_one(server: Answering, entries: Any) -> None:
    server.everything = 200, {"resourceType": "Bundle", "type": "searchset", "link": 5, "entry": entries}
    outcome = deliver(server)
    assert isinstance(outcome, Refused) and "entry" in outcome.issues[0]


def test_a_read_that_gives_another_resource_is_refused(server: Answering) -> None:
    put(server, "Patient", None)
    server.study = {**OURS, "id": "other", "identifier": []}
    outcome = deliver(server)
    assert isinstance(outcome, Refused) and "returned another ImagingStudy than the one requested" in outcome.issues[0]


@QUICK
@given(st.sampled_from(PLACES), JSON)
@example(("Patient", ("meta", "tag")), [{}, None])
@example(("Patient", ("text",)), [{}])
@example(("Patient", ("meta", "tag")), [[], None])
@example(("ImagingStudy", ("meta", "tag")), [{}, None])
def test_no_value_in_a_resource_is_a_fault_of_ours(
    server: Answering, place: tuple[str, tuple[str | int, ...]], value: Any
) -> None:
    kind, path = place
    put(server, kind, altered(ON_SERVER[kind], path, value))
    outcome = deliver(server)
    assert isinstance(outcome, Delivered | Refused | Retry)
    for sent in server.sent:
        held = server.study if sent["resourceType"] == "ImagingStudy" else server.patient
        ours = OURS if sent["resourceType"] == "ImagingStudy" else PATIENT
        if sent.get("id") == held.get("id"):
            nothing_is_lost(sent, held, ours)


def nothing_is_lost(sent: Resource, held: Resource, ours: Resource) -> None:
    """Whatever we do not write ourselves is sent as it is on the server."""
    for element, value in held.items():
        if element not in ours and element not in ("meta", "contained"):
            assert sent[element] == value
        elif element in ours and isinstance(ours[element], list):
            assert len(sent[element]) >= len(ours[element])
    if held.get("resourceType") == "ImagingStudy":
        uids = {series.get("uid") for series in ours["series"]}
        others = [series for series in held["series"] if series.get("uid") not in uids]
        kept = [series for series in sent["series"] if series.get("uid") not in uids]
        assert [{**series, "numberOfInstances": 0} for series in kept] == [
            {**series, "numberOfInstances": 0} for series in others
        ]


@QUICK
@given(
    st.sampled_from([200, 201, 202, 400, 401, 404, 409, 412, 422, 500, 503]),
    st.sampled_from(["Bundle", "ImagingStudy", "Patient", "OperationOutcome", 5, None]),
    st.dictionaries(
        st.sampled_from(["entry", "issue", "id", "meta", "link", "identifier", "series", "type", "total"]),
        JSON
        | st.lists(
            st.dictionaries(
                st.sampled_from(["resource", "response", "search", "severity", "diagnostics", "details", "expression"]),
                JSON
                | st.dictionaries(
                    st.sampled_from(["status", "outcome", "location", "etag", "mode", "resourceType"]), JSON
                ),
            ),
            max_size=3,
        ),
    ),
)
def test_no_answer_is_a_fault_of_ours(server: Answering, status: int, kind: Any, content: Resource) -> None:
    server.everything = status, {"resourceType": kind, **content}
    assert isinstance(deliver(server), Delivered | Refused | Retry)


@QUICK
@given(JSON)
def test_no_json_is_a_fault_of_ours(server: Answering, content: Any) -> None:
    server.everything = 200, content
    assert isinstance(deliver(server), Delivered | Refused | Retry)
