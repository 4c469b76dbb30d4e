"""What must come of DICOM files, worked out from the files and not by the daemon; and what a FHIR server has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import requests

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.dicom.decode import decode_instance
from dicom2fhir.dicom.part10 import read_file
from dicom2fhir.dicom.study import assemble
from dicom2fhir.dicom.wanted import WANTED
from dicom2fhir.errors import BridgeError
from dicom2fhir.model import InstanceRecord, Origin, Resource

_TIMEOUT_S = 60
_AT_ONCE = 20
"""An address of 20 identifiers is not too long for any server."""


def record_of(file: Path) -> InstanceRecord | None:
    """What the bridge keeps of a file; None where it can take nothing."""
    try:
        header = read_file(BytesIO(file.read_bytes()), WANTED)
        return decode_instance(header.received(Origin("file")))
    except BridgeError:
        return None


@dataclass
class Expectation:
    """What is in some files.

    Attributes
    ----------
    records
        Study UID -> Series and SOP Instance UID -> every different record of that instance. pydicom
        brings along several files with the same UIDs.
    """

    readable: list[Path] = field(default_factory=list)
    records: dict[str, dict[tuple[str, str], list[InstanceRecord]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    @classmethod
    def of(cls, files: Iterable[Path]) -> Expectation:
        found = cls()
        for file in files:
            record = record_of(file)
            if record is not None:
                found.readable.append(file)
                same = found.records[record.study_uid][record.series_uid, record.sop_uid]
                if record not in same:
                    same.append(record)
        return found

    @property
    def instances(self) -> dict[str, set[str]]:
        """Study UID -> SOP Instance UIDs."""
        return {study: {sop_uid for _, sop_uid in records} for study, records in self.records.items()}

    def series(self, study: str) -> dict[str, set[str]]:
        """Series UID -> SOP Instance UIDs of one study."""
        found: dict[str, set[str]] = defaultdict(set)
        for series_uid, sop_uid in self.records[study]:
            found[series_uid].add(sop_uid)
        return dict(found)

    def in_conflict(self) -> set[str]:
        """The studies that name several patients."""
        return {
            study
            for study, records in self.records.items()
            if assemble(study, 1, [same[-1] for same in records.values()]).conflict
        }

    def ambiguous(self) -> set[str]:
        """The studies with files that contradict one another about an instance; the last one sent wins."""
        return {study for study, records in self.records.items() if any(len(same) > 1 for same in records.values())}


def series_of(resource: Resource) -> dict[str, set[str]]:
    """Series UID -> SOP Instance UIDs of an ImagingStudy."""
    return {series["uid"]: {one["uid"] for one in series["instance"]} for series in resource.get("series", [])}


def assert_holds(resource: Resource, series: dict[str, set[str]]) -> None:
    """An ImagingStudy has these series and instances, and its counts say so."""
    assert series_of(resource) == series
    assert resource["numberOfSeries"] == len(series)
    assert resource["numberOfInstances"] == sum(map(len, series.values()))
    assert {one["uid"]: one["numberOfInstances"] for one in resource["series"]} == {
        uid: len(instances) for uid, instances in series.items()
    }


class Server:
    """A FHIR server, asked as anybody would ask it."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def studies(self, uid: str) -> list[Resource]:
        """Every ImagingStudy with this Study Instance UID."""
        bundle = self._get("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{uid}")
        return [entry["resource"] for entry in bundle.get("entry", [])]

    def study(self, uid: str) -> Resource:
        """The one ImagingStudy with this Study Instance UID."""
        found = self.studies(uid)
        assert len(found) == 1, f"{len(found)} ImagingStudy resources for {uid}"
        return found[0]

    def each_of(self, uids: Iterable[str]) -> dict[str, Resource]:
        """The same for many of them, with fewer requests."""
        found: dict[str, Resource] = {}
        left = sorted(uids)
        while left:
            asked, left = left[:_AT_ONCE], left[_AT_ONCE:]
            wanted = {f"urn:oid:{uid}": uid for uid in asked}
            identifiers = ",".join(f"urn:dicom:uid|{value}" for value in wanted)
            bundle = self._get("ImagingStudy", identifier=identifiers, _count=str(2 * _AT_ONCE))  # one page, all of it
            resources = [entry["resource"] for entry in bundle.get("entry", [])]
            for resource in resources:
                uid = next(wanted[one["value"]] for one in resource["identifier"] if one["value"] in wanted)
                assert uid not in found, f"several ImagingStudy resources for {uid}"
                found[uid] = resource
            assert found.keys() >= set(asked)
        return found

    def version(self, uid: str) -> int:
        """How often the one ImagingStudy with this Study Instance UID was written."""
        study = self.study(uid)
        if (number := study["meta"]["versionId"]).isdecimal():
            return int(number)
        return len(self._get(f"ImagingStudy/{study['id']}/_history")["entry"])  # Medplum's versions are UUIDs

    def takes_ids(self) -> bool:
        """Whether the server says that a client may choose the id of a study."""
        (rest,) = self._get("metadata")["rest"]
        return any(one["type"] == "ImagingStudy" and one.get("updateCreate") for one in rest["resource"])

    def writes(self, study: Resource) -> int:
        """How many versions of a study there are: HAPI numbers them, Medplum does not and is asked for all."""
        version = str(study["meta"]["versionId"])
        return int(version) if version.isdecimal() else len(self._get(f"ImagingStudy/{study['id']}/_history")["entry"])

    def create(self, resource: Resource) -> Resource:
        """Have the server store a resource, under an id of its choice."""
        answer = requests.post(f"{self.base_url}/{resource['resourceType']}", json=resource, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        created: Resource = answer.json()
        return created

    def update(self, resource: Resource) -> Resource:
        """Write a resource over."""
        url = f"{self.base_url}/{resource['resourceType']}/{resource['id']}"
        answer = requests.put(url, json=resource, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        updated: Resource = answer.json()
        return updated

    def _get(self, path: str, **query: str) -> Any:
        # HAPI answers a search from its cache otherwise, for a minute
        answer = requests.get(
            f"{self.base_url}/{path}", query, headers={"Cache-Control": "no-cache"}, timeout=_TIMEOUT_S
        )
        answer.raise_for_status()
        return answer.json()


def without_meta(resource: Resource) -> Resource:
    """A resource as it was sent: no version and time of the server's, and no element that it left empty."""
    return {name: value for name, value in resource.items() if name != "meta"}


def write_slices(
    folder: Path, study: str, numbers: Iterable[int], series: int = 1, modality: str = "CT", **attributes: Any
) -> list[Path]:
    """Files of some slices of a synthetic study; its UIDs come from its name."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in numbers:
        files.append(folder / f"{study}-{series}-{number:04d}.dcm")
        instance(modality, study, series, number, **attributes).save_as(files[-1], enforce_file_format=True)
    return files
