"""Data sets of N-CREATE and N-SET about the studies of ``make_dicom.py``: what archives and modalities state of them.

``NOTICES`` names what golden cases use; tests of the receiver send the same data sets over an association.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from dicom2fhir.demo.synthetic import Values, code, dataset, instance, make_uid
from dicom2fhir.dicom import availability, procedure_step
from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, EXPLICIT_VR_LITTLE_ENDIAN
from dicom2fhir.dicom.normalized import budgets_of, open_data_set
from dicom2fhir.dicom.reader import without_limit
from dicom2fhir.model import Availability, Origin, ProcedureStep, Received
from dicom2fhir.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP
from testdata.make_dicom import datasets

BASE = "https://pacs.example/dicom-web"
OTHER_BASE = "https://archive.example/dicom-web"
LOCATION_UID = "2.25.329800735698586629295641978511506172928"


@dataclass(frozen=True, slots=True)
class Notice:
    """One request: its service, the SOP instance that it is about, and its data set."""

    service: Literal["N-CREATE", "N-SET"]
    sop_class: str
    uid: str
    data_set: Dataset

    def received(self) -> Received:
        """What the receiver passes on."""
        header = open_data_set(
            self.sop_class, EXPLICIT_VR_LITTLE_ENDIAN, budgets_of(DEFAULT_BUDGETS), hold=without_limit
        )
        header.write(encoded(self.data_set))
        origin = Origin("dimse", calling_ae="PACS")
        return Received(header.end(), header.transfer_syntax, origin, sop_class=self.sop_class, sop_instance=self.uid)


def encoded(data_set: Dataset, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> bytes:
    """The bytes of a data set as they go over the network."""
    buffer = BytesIO()
    written = DicomFileLike(buffer)
    written.is_little_endian, written.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    write_dataset(written, data_set)
    return buffer.getvalue()


Place = Callable[[Dataset], Values]
"""What is stated of an instance."""


def at(
    ae_title: str, availability: str = "ONLINE", *, base: str = "", location_uid: str | None = None
) -> Callable[[Dataset], Values]:
    """State the same of every instance."""

    def stated(made: Dataset) -> Values:
        url = f"{base}/studies/{made.StudyInstanceUID}/series/{made.SeriesInstanceUID}/instances/{made.SOPInstanceUID}"
        return {
            "InstanceAvailability": availability,
            "RetrieveAETitle": ae_title,
            "RetrieveURL": url if base else None,
            "RetrieveLocationUID": location_uid,
        }

    return stated


def notification(name: str, instances: Iterable[Dataset], place: Place) -> Notice:
    """An Instance Availability Notification about instances of one study (PS3.3 C.4.23)."""
    series: dict[str, list[Values]] = {}
    for made in instances:
        references = series.setdefault(made.SeriesInstanceUID, [])
        references.append(
            {
                "ReferencedSOPClassUID": made.SOPClassUID,
                "ReferencedSOPInstanceUID": made.SOPInstanceUID,
                **place(made),
            }
        )
        study_uid = made.StudyInstanceUID
    values = {
        "ReferencedPerformedProcedureStepSequence": [],
        "StudyInstanceUID": study_uid,
        "ReferencedSeriesSequence": [
            {"SeriesInstanceUID": series_uid, "ReferencedSOPSequence": references}
            for series_uid, references in series.items()
        ],
    }
    return Notice("N-CREATE", INSTANCE_AVAILABILITY_NOTIFICATION, make_uid("IAN", name), dataset(values))


def begun(name: str, made: Dataset, **attributes: object) -> Notice:
    """The N-CREATE of the procedure step that makes the study of an instance (PS3.4 table F.7.2-1)."""
    scheduled = {
        "StudyInstanceUID": made.StudyInstanceUID,
        "ReferencedStudySequence": [],
        "AccessionNumber": made.AccessionNumber,
        "IssuerOfAccessionNumberSequence": [_values(item) for item in made.IssuerOfAccessionNumberSequence],
        "RequestedProcedureID": "RP1",
        "RequestedProcedureDescription": "CT chest",
        "ScheduledProcedureStepID": "SPS1",
    }
    values = {
        "SpecificCharacterSet": made.get("SpecificCharacterSet"),
        "Modality": made.Modality,
        "ProcedureCodeSequence": [code("169069000", "SCT", "CT of chest")],
        "PatientName": made.PatientName,
        "PatientID": made.PatientID,
        "IssuerOfPatientID": made.IssuerOfPatientID,
        "PatientBirthDate": made.PatientBirthDate,
        "PatientSex": made.PatientSex,
        "StudyID": made.StudyID,
        "PerformedStationAETitle": "CT1",
        "PerformedStationName": made.StationName,
        "PerformedLocation": "CT room 1",
        "PerformedProcedureStepStartDate": "20240311",
        "PerformedProcedureStepStartTime": "091000",
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepID": "PPS1",
        "PerformedProcedureStepDescription": "CT chest",
        "ScheduledStepAttributesSequence": [scheduled],
        "PerformedSeriesSequence": [],
    }
    return Notice(
        "N-CREATE", MODALITY_PERFORMED_PROCEDURE_STEP, make_uid("MPPS", name), dataset({**values, **attributes})
    )


def ended(name: str, status: str, instances: Iterable[Dataset] = (), **attributes: object) -> Notice:
    """The N-SET that ends a procedure step and lists its instances."""
    series: dict[str, list[Values]] = {}
    for made in instances:
        references = series.setdefault(made.SeriesInstanceUID, [])
        references.append({"ReferencedSOPClassUID": made.SOPClassUID, "ReferencedSOPInstanceUID": made.SOPInstanceUID})
    values = {
        "PerformedProcedureStepEndDate": "20240311",
        "PerformedProcedureStepEndTime": "093000",
        "PerformedProcedureStepStatus": status,
        "PerformedSeriesSequence": [
            {
                "PerformingPhysicianName": "Radiologist^Rita",
                "OperatorsName": "Technologist^Tom",
                "ProtocolName": "Chest",
                "SeriesInstanceUID": series_uid,
                "SeriesDescription": "",
                "RetrieveAETitle": "PACS",
                "ReferencedImageSequence": references,
                "ReferencedNonImageCompositeSOPInstanceSequence": [],
            }
            for series_uid, references in series.items()
        ],
    }
    return Notice("N-SET", MODALITY_PERFORMED_PROCEDURE_STEP, make_uid("MPPS", name), dataset({**values, **attributes}))


def _values(item: Dataset) -> Values:
    return {element.keyword: element.value for element in item}


def _ct_places() -> list[Notice]:
    """Of four series: DICOMweb, with a second archive; by location; by AE title; nearline and without a place."""
    made = datasets("ct")
    of_series = [[one for one in made if one.SeriesNumber == number] for number in (1, 2, 3, 4)]
    return [
        notification("ct 1", made, at("PACS", base=BASE)),
        notification("ct 2", of_series[0], at("ARCHIVE", base=OTHER_BASE)),
        notification("ct 3", of_series[1], at("PACS", "UNAVAILABLE")),
        notification("ct 4", of_series[1], at("VNA", "NEARLINE", location_uid=LOCATION_UID)),
        notification("ct 5", of_series[2], at("PACS")),
        notification("ct 6", of_series[3], at("PACS", "UNAVAILABLE")),
        notification("ct 7", of_series[3], at("TAPE", "OFFLINE")),
    ]


def _unavailable() -> list[Notice]:
    return [notification("unavailable", datasets("cr"), at("PACS", "UNAVAILABLE"))]


def _steps_of_ct() -> list[Notice]:
    """One that was completed, and a second one, which was discontinued and has codes of a protocol only."""
    made = datasets("ct")
    return [
        begun("ct 2", made[0], **_SECOND_STEP),
        begun("ct 1", made[0], ReasonForPerformedProcedureCodeSequence=[code("267036007", "SCT", "Dyspnea")]),
        ended("ct 1", "COMPLETED", made[:-1]),
        ended(
            "ct 2",
            "DISCONTINUED",
            made[-1:],
            PerformedProcedureStepEndTime="092500",
            PerformedProcedureStepDiscontinuationReasonCodeSequence=[code("110501", "DCM", "Equipment failure")],
        ),
    ]


_SECOND_STEP: Values = {
    "PerformedProcedureStepStartTime": "092000",
    "ProcedureCodeSequence": [],
    "PerformedProtocolCodeSequence": [code("CHEST-LD", "99LOCAL", "Low dose chest")],
    "PerformedStationName": "",
}

_NOTICES: Mapping[str, Callable[[], list[Notice]]] = {
    "places of ct": _ct_places,
    "cr is unavailable": _unavailable,
    "steps of ct": _steps_of_ct,
    "begun": lambda: [begun("begun", instance("CT", "mpps"))],
    "discontinued": lambda: [begun("discontinued", instance("CT", "mpps")), ended("discontinued", "DISCONTINUED")],
}


def notices(name: str) -> list[Notice]:
    """Some notices by their name."""
    return _NOTICES[name]()


def stated_by(sent: Iterable[Notice]) -> tuple[dict[str, tuple[Availability, ...]], tuple[ProcedureStep, ...]]:
    """What a store keeps of notices that come in this order: availability by SOP Instance UID, and procedure steps."""
    stated: dict[tuple[str, str], Availability] = {}
    steps: dict[str, ProcedureStep] = {}
    for notice in sent:
        received = notice.received()
        if notice.sop_class == INSTANCE_AVAILABILITY_NOTIFICATION:
            found = availability.notification(received).instances
            stated |= {(each.sop_uid, each.retrieve_ae): each for each in found}
        elif notice.service == "N-CREATE":
            steps[notice.uid] = procedure_step.created(received)
        else:
            steps[notice.uid] = procedure_step.updated(steps[notice.uid], procedure_step.changes(received))
    by_uid: dict[str, tuple[Availability, ...]] = {}
    for (sop_uid, _), each in sorted(stated.items()):
        by_uid[sop_uid] = (*by_uid.get(sop_uid, ()), each)
    return by_uid, tuple(steps[key] for key in sorted(steps))
