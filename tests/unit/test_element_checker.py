"""The checker of the test suite finds each kind of error, and nothing in what is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.element_checker import VERSIONS, check

Change = Callable[[dict[str, Any]], object]

OLD = ("DSTU2", "1.4.0", "STU3", "3.2.0")


def study(version: str) -> dict[str, Any]:
    """A small ImagingStudy that is right."""
    modality = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}
    old, concept = version in OLD, version in ("R5", "R6")
    sop_class = "urn:oid:1.2.840.10008.5.1.4.1.1.2"
    return {
        "resourceType": "ImagingStudy",
        "id": "a",
        "contained": [{"resourceType": "Patient", "id": "p", "gender": "male"}],
        **({"uid": "urn:oid:1.2.3"} if old else {"status": "available"}),
        ("patient" if version in OLD[:3] else "subject"): {"reference": "#p"},
        "started": "2024-02-29T08:30:00+01:00",
        "numberOfSeries": 1,
        "numberOfInstances": 1,
        "series": [
            {
                "uid": "urn:oid:1.2.4" if old else "1.2.4",
                "modality": {"coding": [modality]} if concept else modality,
                "numberOfInstances": 1,
                "instance": [
                    {
                        "uid": "urn:oid:1.2.5" if old else "1.2.5",
                        "sopClass": sop_class
                        if old or version == "R6"
                        else {"system": "urn:ietf:rfc:3986", "code": sop_class},
                    }
                ],
            }
        ],
    }


def subject(resource: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = resource.get("subject") or resource["patient"]
    return found


BROKEN: dict[str, tuple[Change, str]] = {
    "unknown element": (lambda r: r.update(flavour="sweet"), "ImagingStudy.flavour: unknown element"),
    "unknown element below": (lambda r: r["series"][0].update(x=1), "ImagingStudy.series.x: unknown element"),
    "element of another version": (
        lambda r: r.update({"status": "available"} if "uid" in r else {"uid": "urn:oid:1.2"}),
        "unknown element",
    ),
    "missing element": (lambda r: r["series"][0].pop("modality"), "ImagingStudy.series.modality: is missing"),
    "missing element below": (lambda r: r["series"][0]["instance"][0].pop("uid"), "series.instance.uid: is missing"),
    "missing subject": (lambda r: r.pop("subject" if "subject" in r else "patient"), "is missing"),
    "no list": (lambda r: r.update(series=r["series"][0]), "ImagingStudy.series: is no list"),
    "a list": (lambda r: r.update(description=["x"]), "ImagingStudy.description: is a list"),
    "an empty list": (lambda r: r.update(series=[]), "ImagingStudy.series: is empty"),
    "an empty object": (lambda r: r.update(identifier=[{}]), "ImagingStudy.identifier: is empty"),
    "an empty string": (lambda r: r.update(description=""), "ImagingStudy.description: is no string"),
    "a number for a string": (lambda r: r.update(description=1), "ImagingStudy.description: is no string"),
    "a string for an object": (lambda r: r.update(identifier=["x"]), "ImagingStudy.identifier: is no object"),
    "a string for a number": (lambda r: r.update(numberOfSeries="1"), "numberOfSeries: is no unsignedInt"),
    "a negative number": (lambda r: r.update(numberOfSeries=-1), "numberOfSeries: is no unsignedInt"),
    "a huge number": (lambda r: r.update(numberOfSeries=2**31), "numberOfSeries: is no unsignedInt"),
    "a truth for a number": (lambda r: r.update(numberOfSeries=True), "numberOfSeries: is no unsignedInt"),
    "a null": (lambda r: r.update(description=None), "ImagingStudy.description: is no string"),
    "a control character": (lambda r: r.update(description="a\x1bb"), "ImagingStudy.description: is no string"),
    "a day that no month has": (lambda r: r.update(started="2023-02-29"), "ImagingStudy.started: is no dateTime"),
    "a time without zone": (lambda r: r.update(started="2023-02-28T08:00:00"), "started: is no dateTime"),
    "a UID with letters": (lambda r: r["series"][0].update(uid="1.2 A"), "ImagingStudy.series.uid: is no "),
    "an id too long": (lambda r: r.update(id="a" * 65), "ImagingStudy.id: is no id"),
    "a code with blanks": (lambda r: r["contained"][0].update(gender=" male"), "contained.gender: is no code"),
    "a wrong choice": (
        lambda r: r["contained"][0].update(deceasedInteger=1),
        "ImagingStudy.contained.deceasedInteger: unknown element",
    ),
    "two values of a choice": (
        lambda r: r["contained"][0].update(deceasedBoolean=True, deceasedDateTime="2020"),
        "two values of one choice",
    ),
    "a reference to a wrong type": (
        lambda r: r.update(endpoint=[{"reference": "Patient/1"}], referrer={"reference": "Location/1"}),
        "a reference to Location",
    ),
    "a contained resource of a wrong type": (
        lambda r: r.update(referrer={"reference": "#p"}),
        "ImagingStudy.referrer: a reference to Patient",
    ),
    "a reference into the air": (lambda r: subject(r).update(reference="#q"), "leads nowhere"),
    "a contained resource that nothing refers to": (lambda r: subject(r).update(reference="Patient/1"), "dom-3"),
    "contained in contained": (
        lambda r: r["contained"][0].update(contained=[{"resourceType": "Patient", "id": "q"}]),
        "dom-2",
    ),
    "an unknown contained resource": (lambda r: r["contained"][0].update(resourceType="Cow"), "Cow is no resource"),
    "an extension without value": (lambda r: r.update(extension=[{"url": "http://x.example"}]), "ext-1"),
    "an extension with both": (
        lambda r: r.update(extension=[{"url": "u", "valueCode": "x", "extension": [{"url": "u", "valueCode": "y"}]}]),
        "ext-1",
    ),
    "an extension without url": (
        lambda r: r.update(extension=[{"valueCode": "x"}]),
        "ImagingStudy.extension.url: is missing",
    ),
    "an extension's value": (
        lambda r: r.update(extension=[{"url": "http://x.example", "valueDate": "1.2.2024"}]),
        "ImagingStudy.extension.valueDate: is no date",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_found_in_what_is_right(version: str) -> None:
    right = study(version)
    assert check(right, version) == []
    right["extension"] = [{"url": "http://x.example", "valueCode": "x"}]
    right["_description"] = {"extension": [{"url": "http://x.example", "valueString": "x"}]}
    assert check(right, version) == []


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_is_found_in_each_version(fault: str) -> None:
    change, expected = BROKEN[fault]
    for version in VERSIONS:
        broken = copy.deepcopy(study(version))
        change(broken)
        found = check(broken, version)
        assert any(expected in finding for finding in found), (version, found)


def test_r6_is_the_third_ballot() -> None:
    later = study("R6")
    later["series"][0]["instance"][0]["numberOfFrames"] = 2
    assert check(later, "R6") == ["ImagingStudy.series.instance.numberOfFrames: unknown element"]
    device: dict[str, Any] = {"resourceType": "Device", "id": "d", "deviceVersion": [{"value": "1"}]}
    assert check(device, "R6") == []
    assert check({**device, "version": [{"value": "1"}]}, "R6") == ["Device.version: unknown element"]
    assert "Device.deviceVersion: unknown element" in check(device, "R5")


def test_a_minute_of_sixty_one_seconds_is_one_since_r4() -> None:
    for version in VERSIONS:
        leap = {**study(version), "started": "2016-12-31T23:59:60Z"}
        assert bool(check(leap, version)) is (version in OLD), version


def test_an_unknown_type_is_told() -> None:
    (finding,) = check({"resourceType": "Endpoint", "id": "e"}, "DSTU2")
    assert finding == "Endpoint: Endpoint is no resource of DSTU2 that the lists know"
    assert check({}, "R4")
