#!/usr/bin/env python3
"""Make the DICOM files that the tests and benchmarks use, always the same bytes: ``make_dicom.py OUTDIR``.

``CASES`` names every case; ``encoded``, ``datasets`` and ``write`` give the files of one of them. A case is a study of
its own unless its description says otherwise. ``ct_instances`` and ``ct_files`` make many plain CT slices quickly.
"""

# ruff: noqa: RUF001 (patients have names in many scripts)

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from pydicom import dcmread, dcmwrite, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder

from dicom2fhir.demo.synthetic import Values, code, dataset, instance, make_uid

Content = Dataset | bytes
Outcome = Literal["accepted", "refused", "skipped"]

UID_ROOT = "1.2.826.0.1.3680043.8.498"


@dataclass(frozen=True, slots=True)
class Case:
    """One or more files that show one thing.

    Attributes
    ----------
    make
        Gives the files' content: a data set with file meta information, or the bytes of a whole file.
    readable
        Whether pydicom reads a complete header from every file.
    outcome
        What the bridge does with every file: takes the instance, refuses it with a reason, or skips what is no SOP
        instance.
    filename
        Format of the files' names; 0 is their number from 1.
    """

    name: str
    description: str
    make: Callable[[], Iterable[Content]]
    readable: bool = True
    outcome: Outcome = "accepted"
    filename: str = "{0:04d}.dcm"


_CASES: dict[str, Case] = {}
CASES: Mapping[str, Case] = _CASES
"""Every case by its name."""


def _case(name: str, description: str, make: Callable[[], Iterable[Content]], **others: Any) -> None:
    if name in _CASES:
        raise ValueError(f"two cases are called {name}")
    _CASES[name] = Case(name, description, make, **others)


def _single(modality: str, name: str, description: str, **attributes: Any) -> None:
    """Add a case of one instance that has ``attributes``."""
    _case(name, description, lambda: [instance(modality, name, **attributes)])


# Writing


def encode(content: Content) -> bytes:
    """Encode a file in the transfer syntax that its file meta information names; bytes stand as they are."""
    if isinstance(content, bytes):
        return content
    buffer = BytesIO()
    dcmwrite(buffer, content)
    return buffer.getvalue()


def _replace(content: Content, old: bytes, new: bytes) -> bytes:
    """Exchange bytes of the same number in an encoded file, for what an encoder would not write."""
    data = encode(content)
    if len(old) != len(new) or old not in data:
        raise ValueError("the bytes to replace must be there and as many as the new ones")
    return data.replace(old, new)


def _in_syntax(made: Dataset, transfer_syntax: uid.UID) -> Dataset:
    made.file_meta.TransferSyntaxUID = transfer_syntax
    if transfer_syntax == uid.ExplicitVRBigEndian and made.get("BitsAllocated") == 16:
        swapped = bytearray(made.PixelData)
        swapped[0::2], swapped[1::2] = swapped[1::2], swapped[0::2]
        made.PixelData = bytes(swapped)
    return made


def _without_meta(made: Dataset) -> bytes:
    """Encode a data set as it goes over the network: no preamble, no file meta information."""
    buffer = BytesIO()
    syntax = made.file_meta.TransferSyntaxUID
    del made.file_meta
    made.preamble = None
    dcmwrite(buffer, made, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return buffer.getvalue()


@cache
def encoded(name: str) -> tuple[bytes, ...]:
    """Files of a case."""
    return tuple(encode(content) for content in CASES[name].make())


def datasets(name: str) -> list[Dataset]:
    """Files of a readable case as pydicom reads them back."""
    if not CASES[name].readable:
        raise ValueError(f"the files of {name} cannot be read")
    return [dcmread(BytesIO(data), force=True) for data in encoded(name)]


def write(name: str, outdir: Path) -> list[Path]:
    """Write the files of a case to ``outdir/name``."""
    folder = outdir / name
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, data in enumerate(encoded(name), start=1):
        paths.append(folder / CASES[name].filename.format(number))
        paths[-1].write_bytes(data)
    return paths


def write_all(outdir: Path) -> list[Path]:
    """Write the files of all cases."""
    return [path for name in CASES for path in write(name, outdir)]


# Modalities


def _series(study: str, *plan: tuple[str, int, str], **attributes: Any) -> list[Dataset]:
    """Make the series of a study: modality, number of instances and description of each."""
    return [
        instance(modality, study, series, number, SeriesDescription=description, **attributes)
        for series, (modality, count, description) in enumerate(plan, start=1)
        for number in range(1, count + 1)
    ]


def _evidence(instances: list[Dataset]) -> list[Values]:
    """Items of a hierarchical SOP instance reference macro (PS3.3 table C.17-3) for instances of one series."""
    first = instances[0]
    return [
        {
            "StudyInstanceUID": first.StudyInstanceUID,
            "ReferencedSeriesSequence": [
                {"SeriesInstanceUID": first.SeriesInstanceUID, "ReferencedSOPSequence": _references(instances)}
            ],
        }
    ]


def _references(instances: list[Dataset]) -> list[Values]:
    return [
        {"ReferencedSOPClassUID": made.SOPClassUID, "ReferencedSOPInstanceUID": made.SOPInstanceUID}
        for made in instances
    ]


def _content(relationship: str, kind: str, name: Values, **value: Any) -> Values:
    """Content item of a structured report (PS3.3 section C.17.3)."""
    return {"RelationshipType": relationship, "ValueType": kind, "ConceptNameCodeSequence": [name], **value}


def _coded(relationship: str, name: Values, value: Values) -> Values:
    return _content(relationship, "CODE", name, ConceptCodeSequence=[value])


def _number(name: Values, value: str, unit: str) -> Values:
    measured = {"NumericValue": value, "MeasurementUnitsCodeSequence": [code(unit, "UCUM", unit)]}
    return _content("CONTAINS", "NUM", name, MeasuredValueSequence=[measured])


def _container(name: Values, *items: Values) -> Values:
    return _content("CONTAINS", "CONTAINER", name, ContinuityOfContent="SEPARATE", ContentSequence=list(items))


def _report(modality: str, study: str, title: Values, template: str, items: list[Values], **others: Any) -> Dataset:
    return instance(
        modality,
        study,
        series=900,
        ValueType="CONTAINER",
        ConceptNameCodeSequence=[title],
        ContinuityOfContent="SEPARATE",
        ContentTemplateSequence=[{"MappingResource": "DCMR", "TemplateIdentifier": template}],
        ContentSequence=items,
        **others,
    )


_FLAGS = {"CompletionFlag": "COMPLETE", "VerificationFlag": "UNVERIFIED"}
_PROCEDURE = _coded(
    "HAS CONCEPT MOD",
    code("121058", "DCM", "Procedure reported"),
    code("77477000", "SCT", "Computed Tomography X-Ray"),
)
_OBSERVER = [
    _coded("HAS OBS CONTEXT", code("121005", "DCM", "Observer Type"), code("121006", "DCM", "Person")),
    _content("HAS OBS CONTEXT", "PNAME", code("121008", "DCM", "Person Observer Name"), PersonName="Reader^Robin"),
]


def _dose_report() -> list[Dataset]:
    """CT radiation dose of one acquisition (PS3.16 TID 10011)."""
    name = "sr-dose"
    study = _content("HAS PROPERTIES", "UIDREF", code("110180", "DCM", "Study Instance UID"), UID=make_uid(name))
    scope = _coded("HAS OBS CONTEXT", code("113705", "DCM", "Scope of Accumulation"), code("113014", "DCM", "Study"))
    total = _container(
        code("113811", "DCM", "CT Accumulated Dose Data"),
        _number(code("113812", "DCM", "Total Number of Irradiation Events"), "1", "{events}"),
        _number(code("113813", "DCM", "CT Dose Length Product Total"), "210.5", "mGy.cm"),
    )
    event_uid = make_uid(name, "event")
    acquisition = _container(
        code("113819", "DCM", "CT Acquisition"),
        _content("CONTAINS", "TEXT", code("125203", "DCM", "Acquisition Protocol"), TextValue="Thorax routine"),
        _coded("CONTAINS", code("123014", "DCM", "Target Region"), code("43799004", "SCT", "Chest")),
        _content("CONTAINS", "UIDREF", code("113769", "DCM", "Irradiation Event UID"), UID=event_uid),
        _container(
            code("113829", "DCM", "CT Dose"),
            _number(code("113830", "DCM", "Mean CTDIvol"), "6.3", "mGy"),
            _number(code("113838", "DCM", "DLP"), "210.5", "mGy.cm"),
        ),
    )
    title = code("113701", "DCM", "X-Ray Radiation Dose Report")
    items = [_PROCEDURE, {**scope, "ContentSequence": [study]}, total, acquisition]
    return [_report("SR", name, title, "10011", items, SOPClassUID=uid.XRayRadiationDoseSRStorage, **_FLAGS)]


_PERSON, _ROLE = code("113870", "DCM", "Person Name"), code("113875", "DCM", "Person Role in Procedure")


def _participant(name: str, role: Values) -> Values:
    """Person Participant (PS3.16 TID 1020)."""
    return _content(
        "CONTAINS", "PNAME", _PERSON, PersonName=name, ContentSequence=[_coded("HAS PROPERTIES", _ROLE, role)]
    )


def _time(relationship: str, name: Values, value: str) -> Values:
    return _content(relationship, "DATETIME", name, DateTime=value)


def _event(started: str, number: int, study: str) -> Values:
    """Irradiation event of projection X-ray (PS3.16 TID 10003), of which only the time is read."""
    return _container(
        code("113706", "DCM", "Irradiation Event X-Ray Data"),
        _coded("HAS CONCEPT MOD", code("113764", "DCM", "Acquisition Plane"), code("113620", "DCM", "Plane A")),
        _content(
            "CONTAINS", "UIDREF", code("113769", "DCM", "Irradiation Event UID"), UID=make_uid(study, f"e{number}")
        ),
        _time("CONTAINS", code("111526", "DCM", "DateTime Started"), started),
        _number(code("122130", "DCM", "Dose Area Product"), "0.0001", "Gy.m2"),
    )


def _reported(name: Values) -> Values:
    return _coded("HAS CONCEPT MOD", code("121058", "DCM", "Procedure reported"), name)


def _dose_scope(study: str, scope: Values, kind: Values) -> Values:
    uid_of_it = _content("HAS PROPERTIES", "UIDREF", kind, UID=make_uid(study))
    return {
        **_coded("HAS OBS CONTEXT", code("113705", "DCM", "Scope of Accumulation"), scope),
        "ContentSequence": [uid_of_it],
    }


_X_RAY_DOSE = code("113701", "DCM", "X-Ray Radiation Dose Report")
_STUDY_SCOPE = code("113014", "DCM", "Study"), code("110180", "DCM", "Study Instance UID")
_STEP_SCOPE = (
    code("113016", "DCM", "Performed Procedure Step"),
    code("121126", "DCM", "Performed Procedure Step SOP Instance UID"),
)
_AUTHORIZING = code("113850", "DCM", "Irradiation Authorizing")


def _mammography_dose() -> list[Dataset]:
    """Accumulated dose of each breast (PS3.16 TID 10005), in the codes of SNOMED RT that older equipment writes."""
    name = "sr-dose-mammography"

    def breast(dose: str, side: Values) -> Values:
        number = _number(code("111637", "DCM", "Accumulated Average Glandular Dose"), dose, "mGy")
        return {**number, "ContentSequence": [_coded("HAS CONCEPT MOD", code("G-C171", "SRT", "Laterality"), side)]}

    total = _container(
        code("113702", "DCM", "Accumulated X-Ray Dose Data"),
        _coded("HAS CONCEPT MOD", code("113764", "DCM", "Acquisition Plane"), code("113622", "DCM", "Single Plane")),
        breast("2.7", code("T-04020", "SRT", "Right breast")),
        breast("2.9", code("T-04030", "SRT", "Left breast")),
        _number(code("113731", "DCM", "Total Number of Radiographic Frames"), "4", "1"),
    )
    items = [
        _reported(code("P5-40010", "SRT", "Mammography")),
        _dose_scope(name, *_STUDY_SCOPE),
        total,
        _event("20240311101500", 1, name),
        _event("20240311101300", 2, name),
    ]
    flags = {**_FLAGS, "CompletionFlag": "PARTIAL"}
    return [_report("SR", name, _X_RAY_DOSE, "10001", items, SOPClassUID=uid.XRayRadiationDoseSRStorage, **flags)]


def _biplane_dose() -> list[Dataset]:
    """Accumulated dose of both planes (PS3.16 TID 10002 and 10004), with who authorized it and the device."""
    name = "sr-dose-biplane"

    def plane(own: Values, area: str, reference: str) -> Values:
        return _container(
            code("113702", "DCM", "Accumulated X-Ray Dose Data"),
            _coded("HAS CONCEPT MOD", code("113764", "DCM", "Acquisition Plane"), own),
            _number(code("113722", "DCM", "Dose Area Product Total"), area, "Gy.m2"),
            _number(code("113725", "DCM", "Dose (RP) Total"), reference, "Gy"),
            _number(code("113726", "DCM", "Fluoro Dose Area Product Total"), "0.0012", "Gy.m2"),
            _number(code("113727", "DCM", "Acquisition Dose Area Product Total"), "0.0034", "Gy.m2"),
            _number(code("113730", "DCM", "Total Fluoro Time"), "412", "s"),
        )

    observer = [
        _coded("HAS OBS CONTEXT", code("121005", "DCM", "Observer Type"), code("121007", "DCM", "Device")),
        _content(
            "HAS OBS CONTEXT", "UIDREF", code("121012", "DCM", "Device Observer UID"), UID=make_uid(name, "device")
        ),
        _content("HAS OBS CONTEXT", "TEXT", code("121013", "DCM", "Device Observer Name"), TextValue="ANGIO2"),
        _content("HAS OBS CONTEXT", "TEXT", code("121014", "DCM", "Device Observer Manufacturer"), TextValue="Acme"),
    ]
    items = [
        _reported(code("113704", "DCM", "Projection X-Ray")),
        *observer,
        _dose_scope(name, *_STEP_SCOPE),
        plane(code("113620", "DCM", "Plane A"), "0.0046", "0.52"),
        plane(code("113621", "DCM", "Plane B"), "0.0021", "0.27"),
        _event("20240311101500+0100", 1, name),
        _participant("Operator^Olga", code("113851", "DCM", "Irradiation Administering")),
        _participant("Authorizer^Anna", _AUTHORIZING),
    ]
    return [_report("SR", name, _X_RAY_DOSE, "10001", items, SOPClassUID=uid.XRayRadiationDoseSRStorage, **_FLAGS)]


def _administered_dose() -> list[Dataset]:
    """Administration of a radiopharmaceutical (PS3.16 TID 10021 and 10022), its agent in codes of SNOMED RT."""
    name = "sr-dose-nm"
    agent = _coded("CONTAINS", code("C-B02C9", "SRT", "Radiopharmaceutical agent"), code("C-B1031", "SRT", "FDG"))
    nuclide = _coded("HAS PROPERTIES", code("C-10072", "SRT", "Radionuclide"), code("C-111A1", "SRT", "18^Fluorine"))
    route = _coded(
        "CONTAINS", code("G-C340", "SRT", "Route of administration"), code("G-D101", "SRT", "Intravenous route")
    )
    unknown = _content(
        "CONTAINS",
        "NUM",
        code("123005", "DCM", "Radiopharmaceutical Volume"),
        NumericValueQualifierCodeSequence=[code("114007", "DCM", "Measurement not attempted")],
        MeasuredValueSequence=[],
    )
    administration = _container(
        code("113502", "DCM", "Radiopharmaceutical Administration"),
        {**agent, "ContentSequence": [nuclide]},
        _time("CONTAINS", code("123003", "DCM", "Radiopharmaceutical Start DateTime"), "20240311091500"),
        _number(code("113507", "DCM", "Administered activity"), "312.5", "MBq"),
        unknown,
        route,
    )
    title = code("113500", "DCM", "Radiopharmaceutical Radiation Dose Report")
    items = [_reported(code("440252007", "SCT", "Administration of radiopharmaceutical")), administration]
    sop_class = uid.RadiopharmaceuticalRadiationDoseSRStorage
    return [
        _report("SR", name, title, "10021", items, SOPClassUID=sop_class, PerformingPhysicianName="Doe^Dora", **_FLAGS)
    ]


def _replaced_dose() -> list[Dataset]:
    """A CT dose report of a step, another one that replaces it, and one of the whole study."""
    name = "sr-dose-replaced"

    def report(number: int, dose: str, scope: tuple[Values, Values], **others: Any) -> Dataset:
        total = _container(
            code("113811", "DCM", "CT Accumulated Dose Data"),
            _number(code("113812", "DCM", "Total Number of Irradiation Events"), "2", "{events}"),
            _number(code("113813", "DCM", "CT Dose Length Product Total"), dose, "mGy.cm"),
        )
        started = _time("HAS OBS CONTEXT", code("113809", "DCM", "Start of X-Ray Irradiation"), "20240311102000")
        items = [_PROCEDURE, started, _dose_scope(name, *scope), total, _participant("Authorizer^Anna", _AUTHORIZING)]
        sop_class = uid.XRayRadiationDoseSRStorage
        return _report(
            "SR", name, _X_RAY_DOSE, "10011", items, SOPClassUID=sop_class, number=number, **_FLAGS, **others
        )

    first = report(1, "310.5", _STEP_SCOPE)
    second = report(2, "315", _STEP_SCOPE, PredecessorDocumentsSequence=_evidence([first]))
    return [first, second, report(3, "655.25", _STUDY_SCOPE)]


def _nodule_report(study: str, length: str, **others: Any) -> Dataset:
    """One measured nodule (PS3.16 TID 1500)."""
    tracking_uid = make_uid(study, "nodule")
    group = _container(
        code("125007", "DCM", "Measurement Group"),
        _content("HAS OBS CONTEXT", "TEXT", code("112039", "DCM", "Tracking Identifier"), TextValue="Nodule 1"),
        _content("HAS OBS CONTEXT", "UIDREF", code("112040", "DCM", "Tracking Unique Identifier"), UID=tracking_uid),
        _coded("CONTAINS", code("121071", "DCM", "Finding"), code("27925004", "SCT", "Nodule")),
        _coded("HAS CONCEPT MOD", code("363698007", "SCT", "Finding Site"), code("39607008", "SCT", "Lung")),
        _number(code("410668003", "SCT", "Length"), length, "mm"),
    )
    return _report(
        "SR",
        study,
        code("126000", "DCM", "Imaging Measurement Report"),
        "1500",
        [*_OBSERVER, _PROCEDURE, _container(code("126010", "DCM", "Imaging Measurements"), group)],
        SOPClassUID=uid.Comprehensive3DSRStorage,
        **{**_FLAGS, **others},
    )


def _measurement_report() -> list[Dataset]:
    """One measured nodule and the image it was measured in."""
    name = "sr-tid1500"
    source = instance("CT", name)
    return [source, _nodule_report(name, "8.4", CurrentRequestedProcedureEvidenceSequence=_evidence([source]))]


def _replaced_measurements() -> list[Dataset]:
    """A verified measurement, and its correction."""
    name = "sr-tid1500-replaced"
    first = _nodule_report(name, "8.4", VerificationFlag="VERIFIED")
    second = _nodule_report(
        name, "9", VerificationFlag="VERIFIED", number=2, PredecessorDocumentsSequence=_evidence([first])
    )
    return [first, second]


def _coordinates(kind: str, name: Values, graphic: str, data: list[float], **others: Any) -> Values:
    """Coordinates in an image or in space (PS3.3 tables C.18.6-1 and C.18.9-1)."""
    return _content("CONTAINS", kind, name, GraphicType=graphic, GraphicData=data, **others)


def _selected_from(made: Dataset, frames: list[int] | None = None) -> Values:
    return {**_image_item(made, frames), "RelationshipType": "SELECTED FROM"}


_ALGORITHM = [
    _content("HAS CONCEPT MOD", "TEXT", code("111001", "DCM", "Algorithm Name"), TextValue="NoduleFinder"),
    _content("HAS CONCEPT MOD", "TEXT", code("111003", "DCM", "Algorithm Version"), TextValue="2.1"),
]
"""Algorithm Identification (PS3.16 TID 4019)."""
_REGION = code("111030", "DCM", "Image Region")


def _tracked(study: str, lesion: str) -> list[Values]:
    return [
        _content("HAS OBS CONTEXT", "TEXT", code("112039", "DCM", "Tracking Identifier"), TextValue=lesion),
        _content(
            "HAS OBS CONTEXT",
            "UIDREF",
            code("112040", "DCM", "Tracking Unique Identifier"),
            UID=make_uid(study, lesion),
        ),
        _coded("CONTAINS", code("121071", "DCM", "Finding"), code("M-03010", "SRT", "Nodule")),
    ]


def _within(item: Values, *items: Values, **others: Any) -> Values:
    return {**item, "ContentSequence": [*item.get("ContentSequence", ()), *items], **others}


_INFERRED_FROM: Values = {"RelationshipType": "INFERRED FROM"}


def _planar_group(study: str, slices: list[Dataset]) -> Values:
    """Planar ROI measurements of a nodule, in codes of SNOMED RT (PS3.16 TID 1410)."""
    site = _coded("HAS CONCEPT MOD", code("G-C0E3", "SRT", "Finding Site"), code("T-28000", "SRT", "Lung"))
    side = _coded("HAS CONCEPT MOD", code("G-C171", "SRT", "Laterality"), code("G-A101", "SRT", "Left"))
    outline = _coordinates("SCOORD", _REGION, "POLYLINE", [10.5, 10.25, 20, 10.25, 20, 18.125, 10.5, 10.25])
    points = _coordinates("SCOORD", _REGION, "MULTIPOINT", [11, 12, 13, 14])
    method = _coded(
        "HAS CONCEPT MOD", code("G-C036", "SRT", "Measurement Method"), code("122650", "DCM", "Area-based method")
    )
    normality = _coded(
        "HAS PROPERTIES", code("121402", "DCM", "Normality"), code("371879000", "SCT", "Abnormally high")
    )
    path = _coordinates("SCOORD", code("121055", "DCM", "Path"), "POLYLINE", [10.5, 10.25, 20, 18.125])
    length = _number(code("G-D7FE", "SRT", "Length"), "8.4", "mm")
    normal = [
        {**_number(code(value, "SRT", meaning), limit, "mm"), "RelationshipType": "HAS PROPERTIES"}
        for value, meaning, limit in (
            ("R-41F90", "Normal Range Lower Limit", "0"),
            ("R-0038B", "Normal Range Upper Limit", "5.5"),
        )
    ]
    source = _content(
        "HAS PROPERTIES", "TEXT", code("121408", "DCM", "Normal Range Authority"), TextValue="Synthetic society"
    )
    return _container(
        code("125007", "DCM", "Measurement Group"),
        *_tracked(study, "Nodule 1"),
        _coded(
            "CONTAINS",
            code("276214006", "SCT", "Finding category"),
            code("49755003", "SCT", "Morphologically Abnormal Structure"),
        ),
        _within(site, side),
        _within(outline, _selected_from(slices[0])),
        _within(points, _selected_from(slices[1])),
        _within(length, normality, *normal, source, {**_within(path, _selected_from(slices[0])), **_INFERRED_FROM}),
        _within(_number(code("42798000", "SCT", "Area"), "41.5", "mm2"), method, *_ALGORITHM),
        _coded("CONTAINS", code("111037", "DCM", "Margins"), code("112136", "DCM", "Spiculated")),
        _content("CONTAINS", "TEXT", code("121106", "DCM", "Comment"), TextValue="Not read"),
    )


def _volumetric_group(study: str, segmentation: Dataset) -> Values:
    """Volumetric ROI measurements of an algorithm (PS3.16 TID 1411), each value of the same name."""
    (reference,) = _references([segmentation])
    diameter = _number(code("81827009", "SCT", "Diameter"), "12", "mm")
    largest = _number(code("81827009", "SCT", "Diameter"), "15.75", "mm")
    derivation = code("121401", "DCM", "Derivation")
    unknown = {**_number(code("118565006", "SCT", "Volume"), "0", "mm3"), "MeasuredValueSequence": []}
    return {
        **_container(
            code("125007", "DCM", "Measurement Group"),
            *_tracked(study, "Nodule 2"),
            *_ALGORITHM,
            _content(
                "CONTAINS",
                "IMAGE",
                code("121191", "DCM", "Referenced Segment"),
                ReferencedSOPSequence=[{**reference, "ReferencedSegmentNumber": [1]}],
            ),
            _coordinates(
                "SCOORD3D",
                _REGION,
                "POLYGON",
                [1, 2, 3, 4.5, 2, 3, 4.5, 6, 3, 1, 2, 3],
                ReferencedFrameOfReferenceUID=make_uid(study, "frame"),
            ),
            _within(diameter, _coded("HAS CONCEPT MOD", derivation, code("R-00317", "SRT", "Mean"))),
            _within(largest, _coded("HAS CONCEPT MOD", derivation, code("G-A437", "SRT", "Maximum"))),
            {**unknown, "NumericValueQualifierCodeSequence": [code("114006", "DCM", "Measurement failure")]},
        ),
        "ObservationUID": make_uid(study, "observation"),
        "ObservationDateTime": "20240311110000+0100",
    }


def _measured_regions() -> list[Dataset]:
    """Two nodules with what was measured, an evaluation and a derived measurement (PS3.16 TID 1500)."""
    name = "sr-tid1500-regions"
    slices = [instance("CT", name, number=number) for number in (1, 2)]
    segmentation = instance("SEG", name, series=2)
    groups = (_planar_group(name, slices), _volumetric_group(name, segmentation))
    response = _coded(
        "CONTAINS", code("112048", "DCM", "Current Response"), code("112044", "DCM", "Target Lesion Stable Disease")
    )
    total = _number(code("112051", "DCM", "Measurement of Response"), "20.4", "mm")
    report = _report(
        "SR",
        name,
        code("126001", "DCM", "Oncology Measurement Report"),
        "1500",
        [
            *_OBSERVER,
            _PROCEDURE,
            _container(code("126010", "DCM", "Imaging Measurements"), *groups),
            _container(code("126011", "DCM", "Derived Imaging Measurements"), total),
            _container(code("C0034375", "UMLS", "Qualitative Evaluations"), response),
        ],
        SOPClassUID=uid.Comprehensive3DSRStorage,
        CurrentRequestedProcedureEvidenceSequence=[*_evidence(slices), *_evidence([segmentation])],
        **{**_FLAGS, "VerificationFlag": "VERIFIED"},
    )
    return [*slices, segmentation, report]


def _key_objects() -> list[Dataset]:
    """Two of three slices flagged (PS3.16 TID 2010)."""
    slices = [instance("CT", "ko", number=number) for number in (1, 2, 3)]
    note = _content("CONTAINS", "TEXT", code("113012", "DCM", "Key Object Description"), TextValue="See both slices")
    flagged: list[Values] = [
        {"RelationshipType": "CONTAINS", "ValueType": "IMAGE", "ReferencedSOPSequence": [reference]}
        for reference in _references(slices[1:])
    ]
    title = code("113000", "DCM", "Of Interest")
    evidence = _evidence(slices[1:])
    items = [*_OBSERVER, note, *flagged]
    selection = _report("KO", "ko", title, "2010", items, CurrentRequestedProcedureEvidenceSequence=evidence)
    return [*slices, selection]


def _selection(study: str, title: Values, items: list[Values], **others: Any) -> Dataset:
    return _report("KO", study, title, "2010", items, **others)


def _image_item(made: Dataset, frames: list[int] | None = None) -> Values:
    (reference,) = _references([made])
    return {
        "RelationshipType": "CONTAINS",
        "ValueType": "IMAGE",
        "ReferencedSOPSequence": [{**reference, "ReferencedFrameNumber": frames}],
    }


def rejection_note(
    study: str, code_value: str, instances: Sequence[Dataset], modifiers: Sequence[Values] = ()
) -> Dataset:
    """A rejection note (IHE RAD-66) in ``study``, with a title of PS3.16 CID 7031 and why it says so, of CID 7011."""
    title = code(code_value, "DCM", _REJECTIONS[code_value])
    why = [_coded("HAS CONCEPT MOD", _TITLE_MODIFIER, modifier) for modifier in modifiers]
    items = [*why, *_OBSERVER, *map(_image_item, instances)]
    evidence = [item for one in instances for item in _evidence([one])]
    return _selection(study, title, items, CurrentRequestedProcedureEvidenceSequence=evidence)


_TITLE_MODIFIER = code("113011", "DCM", "Document Title Modifier")
MOTION_BLUR = code("111210", "DCM", "Motion blur")
POSITIONING = code("111209", "DCM", "Positioning")
_REJECTIONS = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}


def _rejected(code_value: str, are_all: bool) -> Callable[[], list[Dataset]]:
    """A slice of CT and one of MR; the note comes first, and rejects the MR or both; one about quality says more."""

    def made() -> list[Dataset]:
        study = f"rejected-{code_value}-{'all' if are_all else 'part'}"
        images = [instance("CT", study), instance("MR", study, series=2)]
        modifiers = [POSITIONING, MOTION_BLUR] if code_value == "113001" else []
        return [rejection_note(study, code_value, images if are_all else images[1:], modifiers), *images]

    return made


def _rejected_key_objects() -> list[Dataset]:
    """Selections: of a rejected slice, one of another study and one that is left, and of each rejected one alone."""
    study = "rejected-ko"
    left, rejected = (instance("CT", study, number=number) for number in (1, 2))
    elsewhere = instance("CT", "rejected-ko-earlier")
    selected = [[left, rejected, elsewhere], [rejected], [elsewhere]]
    selections = [key_objects(study, images, number) for number, images in enumerate(selected, start=2)]
    return [left, rejected, *selections, rejection_note(study, "113001", [rejected, elsewhere])]


def key_objects(study: str, instances: list[Dataset], number: int = 1) -> Dataset:
    """A selection of instances of any studies, in ``study``."""
    title = code("113000", "DCM", "Of Interest")
    evidence = [item for one in instances for item in _evidence([one])]
    items = [*_OBSERVER, *map(_image_item, instances)]
    return _selection(study, title, items, number=number, CurrentRequestedProcedureEvidenceSequence=evidence)


def _key_objects_of_two_studies() -> list[Dataset]:
    """Slices, frames of a run, and a slice of an earlier study; selected by a person at a workstation for an order."""
    name = "ko-studies"
    slices = [instance("CT", name, number=number) for number in (1, 2)]
    run = instance("XA", name, series=2)
    earlier = instance("CT", "ko-earlier", number=7)
    device = [
        _coded("HAS OBS CONTEXT", code("121005", "DCM", "Observer Type"), code("121007", "DCM", "Device")),
        _content("HAS OBS CONTEXT", "UIDREF", code("121012", "DCM", "Device Observer UID"), UID=make_uid(name, "ws")),
        _content("HAS OBS CONTEXT", "TEXT", code("121013", "DCM", "Device Observer Name"), TextValue="READ01"),
    ]
    return [
        *slices,
        run,
        _selection(
            name,
            code("113013", "DCM", "Best In Set"),
            [
                _coded("HAS CONCEPT MOD", _TITLE_MODIFIER, _SERIES),
                *_OBSERVER,
                *device,
                _content("CONTAINS", "TEXT", code("113012", "DCM", "Key Object Description"), TextValue="Compare"),
                _image_item(slices[1]),
                _image_item(run, [5, 2]),
                _image_item(run, [3]),
                _image_item(earlier),
            ],
            ReferencedRequestSequence=[{"StudyInstanceUID": make_uid(name), "AccessionNumber": "SYN-READING"}],
            CurrentRequestedProcedureEvidenceSequence=[*_evidence([slices[1]]), *_evidence([run])],
            PertinentOtherEvidenceSequence=_evidence([earlier]),
            TimezoneOffsetFromUTC="+0100",
        ),
    ]


_SERIES = code("113015", "DCM", "Series")


def _sparse_key_objects() -> list[Dataset]:
    """A private title, no observer, no time, and no evidence sequence: only content items name the instances."""
    slices = [instance("CT", "ko-sparse", number=number) for number in (1, 2)]
    gone = instance("CT", "ko-sparse-gone")
    items = [_image_item(slices[0]), _image_item(gone)]
    private = code("KEY", "99SYN", "Key images")
    return [*slices, _selection("ko-sparse", private, items, ContentTime=None, Manufacturer=None, StationName=None)]


def _manifest() -> list[Dataset]:
    image = instance("CR", "ko-manifest")
    items = [_image_item(image)]
    evidence = _evidence([image])
    title = code("113030", "DCM", "Manifest")
    return [image, _selection("ko-manifest", title, items, CurrentRequestedProcedureEvidenceSequence=evidence)]


def _presentation_state() -> list[Dataset]:
    source = instance("CR", "pr")
    series = {"SeriesInstanceUID": source.SeriesInstanceUID, "ReferencedImageSequence": _references([source])}
    state = instance(
        "PR",
        "pr",
        series=2,
        ContentLabel="FRACTURE",
        ContentDescription="Window for the fracture",
        ContentCreatorName="Reader^Robin",
        PresentationCreationDate="20240311",
        PresentationCreationTime="101500",
        ReferencedSeriesSequence=[series],
    )
    return [source, state]


def _segmentation() -> list[Dataset]:
    source = instance("CT", "seg")
    segment = {
        "SegmentNumber": 1,
        "SegmentLabel": "Lung",
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": [code("123037004", "SCT", "Anatomical Structure")],
        "SegmentedPropertyTypeCodeSequence": [code("39607008", "SCT", "Lung")],
    }
    series = {"SeriesInstanceUID": source.SeriesInstanceUID, "ReferencedInstanceSequence": _references([source])}
    mask = instance(
        "SEG",
        "seg",
        series=2,
        ContentLabel="LUNG",
        ContentDescription="Lung mask",
        SegmentationType="BINARY",
        SegmentSequence=[segment],
        ReferencedSeriesSequence=[series],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        NumberOfFrames=1,
        Rows=16,
        Columns=16,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelRepresentation=0,
    )
    return [source, mask]


def _structure_set() -> list[Dataset]:
    source = instance("CT", "rtstruct")
    roi = {"ROINumber": "1", "ROIName": "PTV", "ROIGenerationAlgorithm": "MANUAL"}
    return [source, instance("RTSTRUCT", "rtstruct", series=2, StructureSetROISequence=[roi])]


_PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Count 0/Kids[]>>endobj\n"
_PDF += b"trailer<</Root 1 0 R>>\n%%EOF\n"


def _document(
    sop_class: uid.UID, study: str, series: int, content: bytes, mime_type: str, number: int = 1, **others: Any
) -> Dataset:
    """An encapsulated document; one of odd length is padded (PS3.5 section 8.2)."""
    return instance(
        "DOC",
        study,
        series,
        number,
        SOPClassUID=sop_class,
        BurnedInAnnotation="NO",
        EncapsulatedDocument=content + b"\0" * (len(content) % 2),
        EncapsulatedDocumentLength=len(content),
        MIMETypeOfEncapsulatedDocument=mime_type,
        **others,
    )


_CDA = b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.276.0.76.9" extension="77"/></ClinicalDocument>'


def _documents() -> list[Dataset]:
    """A scanned letter, a report and the one that replaced it, and a printable model with its colours."""
    study = "documents"
    model: dict[str, Any] = {"Manufacturer": "Synthetic Models", "ConversionType": None}
    report: dict[str, Any] = {
        "DocumentTitle": "CT chest",
        "ConceptNameCodeSequence": [code("18748-4", "LN", "Diagnostic imaging study")],
    }
    first = _document(
        uid.EncapsulatedCDAStorage, study, 2, _CDA, "text/XML", HL7InstanceIdentifier="1.2.276.0.76.9^77", **report
    )
    return [
        _document(
            uid.EncapsulatedPDFStorage,
            study,
            1,
            _PDF,
            "application/pdf",
            DocumentTitle="Referral letter",
            AcquisitionDateTime="20240301",
            ConversionType="SD",
        ),
        first,
        _document(
            uid.EncapsulatedCDAStorage,
            study,
            2,
            _CDA.replace(b"77", b"78"),
            "text/XML",
            number=2,
            VerificationFlag="VERIFIED",
            HL7InstanceIdentifier="6F3F7B2E-8D0E-4C55-9A42-0D1C0F2B6A11",
            PredecessorDocumentsSequence=_evidence([first]),
            **report,
        ),
        _document(uid.EncapsulatedSTLStorage, study, 3, bytes(84), "model/stl", DocumentTitle="Aorta", **model),
        _document(uid.EncapsulatedOBJStorage, study, 4, b"v 0 0 0\n", "model/obj", **model),
        _document(uid.EncapsulatedMTLStorage, study, 5, b"newmtl red\n", "model/mtl", **model),
    ]


def _bare_document() -> list[Dataset]:
    """No title, no time zone, nothing of its equipment; an identifier that is none."""
    left_out: dict[str, Any] = dict.fromkeys(
        ("TimezoneOffsetFromUTC", "Manufacturer", "StationName", "DeviceSerialNumber", "InstitutionName")
    )
    return [
        _document(
            uid.EncapsulatedPDFStorage,
            "pdf-untitled",
            1,
            _PDF,
            "application/pdf",
            HL7InstanceIdentifier="letter 77",
            ConceptNameCodeSequence=[],
            AdmissionID=None,
            **left_out,
        )
    ]


_CT_SERIES = (("CT", 1, "Topogram"), ("CT", 24, "Thorax 1.0"), ("CT", 8, "Thorax 5.0"), ("CT", 7, "Coronal 3.0"))
_case("ct", "CT chest, four series, 40 slices", lambda: _series("ct", *_CT_SERIES))
_case("mr", "MR brain, three series", lambda: _series("mr", ("MR", 3, "Scout"), ("MR", 6, "T1"), ("MR", 6, "T2")))
_case("pet-ct", "PET/CT, two modalities", lambda: _series("pet-ct", ("CT", 3, "CT AC"), ("PT", 3, "PET AC")))
_case(
    "mg",
    "Mammography, both sides, two views each",
    lambda: [
        instance("MG", "mg", series, number, ImageLaterality=side, ViewPosition=view)
        for series, side in enumerate("LR", start=1)
        for number, view in enumerate(("CC", "MLO"), start=1)
    ],
)
_case(
    "defined-terms",
    "Terms of Image Type and others: of each modality, of another one, and of no standard",
    lambda: [
        instance("CT", "defined-terms", 1, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        instance("CT", "defined-terms", 1, 2, ImageType=["DERIVED", "SECONDARY", "MPR"]),
        instance(
            "MR", "defined-terms", 2, 1, ImageType=["DERIVED", "PRIMARY", "PHASE MAP"], ScanningSequence=["SE", "XX"]
        ),
        instance("NM", "defined-terms", 3, 1, ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]),
        instance("US", "defined-terms", 4, 1, ImageType=["ORIGINAL", "PRIMARY", "SMALL PARTS", "0010"]),
        instance("US", "defined-terms", 5, 1, ImageType=["ORIGINAL", "", "TTE", "0011"], TransducerType="MATRIX"),
        instance("PT", "defined-terms", 6, 1, Units="GML", SeriesType=["GATED", "REPROJECTION"]),
    ],
)
_single("CR", "cr", "Computed radiography of the right hand")
_single("DX", "dx", "Digital X-ray of the chest")
_single("US", "us", "Ultrasound, multi-frame, region by code only")
_single("NM", "nm", "Nuclear medicine, multi-frame")
_single("XA", "xa", "Angiography, multi-frame")
_single(
    "US",
    "photoacoustic",
    "Photoacoustic image: a modality that older value sets do not have",
    Modality="PA",
    SOPClassUID=uid.PhotoacousticImageStorage,
)
_single("SM", "sm", "Whole slide microscopy with a specimen")
_single("RTPLAN", "rtplan", "Radiotherapy plan")
_single("RTDOSE", "rtdose", "Radiotherapy dose")
_case("rtstruct", "Radiotherapy structure set and its CT", _structure_set)
_case("seg", "Segmentation and its CT", _segmentation)
_case("sr-dose", "X-Ray Radiation Dose SR (TID 10011)", _dose_report)
_case("sr-dose-mammography", "Dose of each breast, partial, with codes of SNOMED RT (TID 10005)", _mammography_dose)
_case("sr-dose-biplane", "Dose of both planes, with who authorized it (TID 10004)", _biplane_dose)
_case("sr-dose-nm", "Dose of a radiopharmaceutical, a value not measured (TID 10021)", _administered_dose)
_case("sr-dose-replaced", "CT dose of a step, its replacement, and that of the study", _replaced_dose)
_case("sr-tid1500-replaced", "A measurement (TID 1500) and its correction", _replaced_measurements)
_case("sr-tid1500-regions", "Measurements of regions, segments and an algorithm (TID 1500)", _measured_regions)
_case("sr-tid1500", "Comprehensive 3D SR with a measurement (TID 1500) and its CT", _measurement_report)
_case("ko", "Key object selection and its CT", _key_objects)
for _code, _word in _REJECTIONS.items():
    _case(f"rejected-{_code}-all", f"All instances rejected: {_word}", _rejected(_code, are_all=True))
    _case(f"rejected-{_code}-part", f"One of two instances rejected: {_word}", _rejected(_code, are_all=False))
_case("rejected-ko", "Key objects of rejected and of other instances", _rejected_key_objects)
_case("ko-studies", "Key objects of two series, with frames, and of another study", _key_objects_of_two_studies)
_case("ko-sparse", "Key objects without evidence, observer and time, one of them unknown", _sparse_key_objects)
_case("ko-manifest", "Manifest of a study, which selects nothing", _manifest)
_case("pr", "Grayscale presentation state and its CR", _presentation_state)
_case("documents", "Encapsulated PDF, CDA, STL, OBJ and MTL, one CDA replaces another", _documents)
_case("pdf-untitled", "Encapsulated PDF without title, code and time zone", _bare_document)
_single(
    "DOC",
    "pdf",
    "Encapsulated PDF",
    DocumentTitle="Radiology report",
    ConceptNameCodeSequence=[code("18748-4", "LN", "Diagnostic imaging study")],
    MIMETypeOfEncapsulatedDocument="application/pdf",
    BurnedInAnnotation="NO",
    EncapsulatedDocument=_PDF,
    EncapsulatedDocumentLength=len(_PDF),
)
_single("OT", "sc", "Secondary capture")
_LEFT_LUNG = {
    "FrameAnatomySequence": [{"FrameLaterality": "L", "AnatomicRegionSequence": [code("39607008", "SCT", "Lung")]}]
}
_single(
    "CT",
    "enhanced-ct",
    "Enhanced CT, region and laterality in functional groups only",
    SOPClassUID=uid.EnhancedCTImageStorage,
    BodyPartExamined=None,
    NumberOfFrames=4,
    SharedFunctionalGroupsSequence=[_LEFT_LUNG],
)
_single(
    "CT",
    "enhanced-ct-frames",
    "Enhanced CT, region and laterality in the functional groups of each frame",
    SOPClassUID=uid.EnhancedCTImageStorage,
    BodyPartExamined=None,
    NumberOfFrames=3,
    PerFrameFunctionalGroupsSequence=[_LEFT_LUNG] * 3,
)


def _without(*keywords: str) -> Values:
    """Attributes that the classic objects have and an enhanced one has under another keyword or in a group."""
    return dict.fromkeys(keywords)


def _group(keyword: str, **values: Any) -> Values:
    """A functional group macro, which has one item (PS3.3 C.7.6.16.2)."""
    return {keyword: [values]}


_HALF_MILLIMETRE = _group("PixelMeasuresSequence", SliceThickness="1.5", PixelSpacing=["0.5", "0.5"])
_PLANE_MOVED = _without("SliceThickness", "PixelSpacing", "ImageOrientationPatient")
_single(
    "DX",
    "snomed-rt",
    "Digital X-ray of the left hand, in the codes that DICOM used before SNOMED CT",
    AnatomicRegionSequence=[
        {**code("T-D8700", "SRT", "Hand"), "AnatomicRegionModifierSequence": [code("G-A101", "SNM3", "Left")]}
    ],
    ProcedureCodeSequence=[code("P5-009FA", "99SDM", "Plain radiography"), code("P5-XXXXX", "SRT", "In no table")],
    **_without("BodyPartExamined", "ImageLaterality"),
)
_LOCAL_CODES: Values = {
    "StudyComments": "Second of two studies",
    "InstanceAvailability": "NEARLINE",
    "ProcedureCodeSequence": [code("NM-7", "99LOCAL", "")],
    "AnatomicRegionSequence": [code("R-1", "99LOCAL", "Region of interest")],
}
_case(
    "local-codes",
    "Codes of the sender's own, for the modality too; comments, and images that are said to be near line",
    lambda: [
        instance("NM", "local-codes", 1, 1, Units="CNTS", **_LOCAL_CODES),
        instance("OT", "local-codes", 2, 1, Modality="ZZ", BurnedInAnnotation="YES", **_LOCAL_CODES),
    ],
)
_single(
    "MR",
    "enhanced-mr",
    "Enhanced MR, technique in shared functional groups and, what differs, in those of each frame",
    SOPClassUID=uid.EnhancedMRImageStorage,
    NumberOfFrames=2,
    PulseSequenceName="tfl3d",
    SharedFunctionalGroupsSequence=[
        {
            **_HALF_MILLIMETRE,
            **_group("MRTimingAndRelatedParametersSequence", RepetitionTime="2300", FlipAngle="9", EchoTrainLength=1),
            **_group("MRModifierSequence", InversionRecovery="YES", InversionTimes=[900.5]),
            **_group("MRImagingModifierSequence", TransmitterFrequency=123.2587),
            **_group("MRReceiveCoilSequence", ReceiveCoilName="HeadNeck 20", ReceiveCoilType="MULTICOIL"),
            **_group(
                "FrameAnatomySequence", FrameLaterality="U", AnatomicRegionSequence=[code("12738006", "SCT", "Brain")]
            ),
        }
    ],
    PerFrameFunctionalGroupsSequence=[
        {
            **_group("MREchoSequence", EffectiveEchoTime=echo_time),
            **_group("FrameContentSequence", FrameAcquisitionDateTime=f"2024031109201{frame}+0100"),
        }
        for frame, echo_time in enumerate((4.6, 9.2))
    ],
    **_PLANE_MOVED,
    **_without("BodyPartExamined", "SequenceName", "RepetitionTime", "EchoTime", "InversionTime", "ImagingFrequency"),
    **_without("ReceiveCoilName", "FlipAngle", "ScanningSequence", "SequenceVariant"),
)
_single(
    "CT",
    "enhanced-ct-technique",
    "Enhanced CT, technique in shared functional groups and, what differs, in those of each frame; contrast",
    SOPClassUID=uid.EnhancedCTImageStorage,
    NumberOfFrames=2,
    AcquisitionDateTime="20240311092011+0100",
    ContrastBolusAgentSequence=[
        {
            **code("109219007", "SCT", "Iohexol"),
            **_group("ContrastAdministrationProfileSequence", ContrastBolusStartTime="091700"),
        }
    ],
    SharedFunctionalGroupsSequence=[
        {
            **_HALF_MILLIMETRE,
            **_group("CTAcquisitionDetailsSequence", DataCollectionDiameter="500", RotationDirection="CW"),
            **_group("CTTableDynamicsSequence", TableSpeed=40.0, SpiralPitchFactor=0.8),
            **_group("CTReconstructionSequence", ConvolutionKernel="Br40d", ReconstructionFieldOfView=[340.0, 340.0]),
            **_group("CTXRayDetailsSequence", KVP="110", FilterType="WEDGE", FocalSpots=[0.8]),
        }
    ],
    PerFrameFunctionalGroupsSequence=[
        _group(
            "CTExposureSequence",
            ExposureTimeInms=500.0,
            XRayTubeCurrentInmA=current,
            ExposureInmAs=current / 2,
            CTDIvol=7.25,
        )
        for current in (211.0, 195.5)
    ],
    **_PLANE_MOVED,
    **_without("KVP", "XRayTubeCurrent", "ExposureTime", "Exposure", "ReconstructionDiameter", "FilterType"),
    **_without("ConvolutionKernel", "SpiralPitchFactor", "CTDIvol"),
)
_single(
    "PT",
    "enhanced-pet",
    "Enhanced PET: the tracer's start with its date, reconstruction in shared functional groups",
    SOPClassUID=uid.EnhancedPETImageStorage,
    NumberOfFrames=2,
    AcquisitionDateTime="20240311092011+0100",
    AttenuationCorrected="YES",
    AttenuationCorrectionSource="CT",
    RadiopharmaceuticalInformationSequence=[
        {
            "RadiopharmaceuticalAgentNumber": 1,
            "RadiopharmaceuticalStartDateTime": "20240311081500+0100",
            "RadionuclideTotalDose": "320000000",
            "RadionuclideHalfLife": "6586.2",
            "RadionuclideCodeSequence": [code("77004003", "SCT", "^18^Fluorine")],
            "RadiopharmaceuticalCodeSequence": [code("35321007", "SCT", "Fluorodeoxyglucose F^18^")],
            "AdministrationRouteCodeSequence": [code("47625008", "SCT", "Intravenous route")],
        }
    ],
    SharedFunctionalGroupsSequence=[
        {
            **_HALF_MILLIMETRE,
            **_group("PETFrameAcquisitionSequence", DataCollectionDiameter="700", TableHeight=150.0),
            **_group("PETReconstructionSequence", ReconstructionAlgorithm="RAMLA", ReconstructionType="3D"),
            **_group(
                "RealWorldValueMappingSequence",
                MeasurementUnitsCodeSequence=[code("Bq/ml", "UCUM", "Becquerels/milliliter")],
            ),
        }
    ],
    PerFrameFunctionalGroupsSequence=[{}, {}],
    **_PLANE_MOVED,
    **_without("AcquisitionDate", "AcquisitionTime", "AttenuationCorrectionMethod", "ReconstructionMethod"),
    **_without("SeriesType", "Units", "DecayCorrection", "CorrectedImage"),
)

# Transfer syntaxes

# 16 x 16 grey pixels: quantisation by one, and Huffman tables that know "no change" and "end of block" only.
_JPEG = (
    bytes.fromhex("FFD8 FFDB0043 00")
    + b"\1" * 64
    + bytes.fromhex("FFC0000B 08 0010 0010 01 011100")
    + bytes.fromhex("FFC40014 00 01" + "00" * 16)
    + bytes.fromhex("FFC40014 10 01" + "00" * 16)
    + bytes.fromhex("FFDA0008 01 0100 003F00 00 FFD9")
)


def _encapsulated(made: Dataset, transfer_syntax: uid.UID, frames: Iterable[bytes]) -> Dataset:
    made.PixelData = encapsulate(list(frames))
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return _in_syntax(made, transfer_syntax)


def _rle() -> Dataset:
    made = instance("XA", "rle-lossless")
    frames = get_encoder(uid.RLELossless).iter_encode(made, encoding_plugin="pydicom")
    return _encapsulated(made, uid.RLELossless, frames)


def _jpeg() -> Dataset:
    made = instance("XA", "jpeg-baseline", Rows=16, Columns=16, NumberOfFrames=2)
    return _encapsulated(made, uid.JPEGBaseline8Bit, [_JPEG, _JPEG])


def _plain(name: str, transfer_syntax: uid.UID) -> None:
    _case(name, transfer_syntax.name, lambda: [_in_syntax(instance("MR", name), transfer_syntax)])


_plain("implicit-little-endian", uid.ImplicitVRLittleEndian)
_plain("explicit-little-endian", uid.ExplicitVRLittleEndian)
_plain("explicit-big-endian", uid.ExplicitVRBigEndian)
_plain("deflated", uid.DeflatedExplicitVRLittleEndian)
_case("rle-lossless", "RLE Lossless, encapsulated, multi-frame", lambda: [_rle()])
_case("jpeg-baseline", "JPEG Baseline, encapsulated, multi-frame", lambda: [_jpeg()])

# Character sets: Japanese and Korean names are those of PS3.5 annexes H and I


def _text(name: str, charset: str, patient_name: str, text: str) -> None:
    """Add a case of one instance with text in ``charset``, whose values are separated by a backslash."""
    _single(
        "CT",
        name,
        f"Text in {charset}",
        SpecificCharacterSet=charset.split("\\"),
        PatientName=patient_name,
        ReferringPhysicianName=patient_name,
        StudyDescription=text,
        InstitutionName=text,
    )


_text("latin-1", "ISO_IR 100", "Åström^Jürgen", "Schädel nativ")
_text("greek", "ISO_IR 126", "Διονυσιος", "Αξονική θώρακος")
_text("cyrillic", "ISO_IR 144", "Люкceмбypг", "КТ грудной клетки")
_text("arabic", "ISO_IR 127", "قباني^لنزار", "الصدر")
_text("hebrew", "ISO_IR 138", "שרון^דבורה", "חזה")
_text("japanese", "\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう", "胸部CT")
_text("japanese-kana", "ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "胸部CT")
_text("korean", "\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "흉부 CT")
_text("chinese", "GB18030", "Wang^XiaoDong=王^小东", "胸部CT")
_text("utf-8", "ISO_IR 192", "Wang^XiaoDong=王^小東", "胸部 – Åäö")
_case(
    "charset-missing",
    "Latin-1 bytes without Specific Character Set",
    lambda: [_replace(instance("CT", "charset-missing", PatientName="J|rgen^M"), b"J|rgen^M", b"J\xfcrgen^M")],
)
_case(
    "charset-unknown",
    "Specific Character Set that does not exist",
    lambda: [
        _replace(instance("CT", "charset-unknown", SpecificCharacterSet="ISO_IR 100"), b"ISO_IR 100", b"ISO_IR 999")
    ],
)

# Missing and odd values

for _name, _description, _attributes in (
    ("patient-id-empty", "Empty Patient ID", {"PatientID": ""}),
    ("patient-empty", "Neither Patient ID nor name", {"PatientID": "", "PatientName": "", "IssuerOfPatientID": None}),
    ("study-time-missing", "No Study Time", {"StudyTime": None}),
    ("study-date-missing", "Neither Study Date nor Time", {"StudyDate": None, "StudyTime": None}),
    ("series-number-negative", "Series Number -1", {"SeriesNumber": "-1"}),
    ("series-number-missing", "No Series Number", {"SeriesNumber": None}),
    ("modality-two-values", "Modality CT\\MR", {"Modality": ["CT", "MR"]}),
    ("modality-missing", "No Modality", {"Modality": None}),
    ("timezone-present", "Timezone Offset From UTC -0430", {"TimezoneOffsetFromUTC": "-0430"}),
    ("timezone-absent", "No Timezone Offset From UTC", {"TimezoneOffsetFromUTC": None}),
    ("timezone-invalid", "Timezone Offset From UTC without meaning", {"TimezoneOffsetFromUTC": "CET"}),
    ("accession-empty", "No order at all", {"AccessionNumber": "", "RequestAttributesSequence": None}),
    ("pn-without-caret", "Names without caret", {"PatientName": "DOE JOHN", "ReferringPhysicianName": "DR HOUSE"}),
    ("name-prefix-only", "A name that is a prefix only", {"PatientName": "^^^Dr."}),
    (
        "reason-icd-10",
        "A reason in ICD-10, and an institution that has a code",
        {
            "ReasonForRequestedProcedureCodeSequence": [code("R05", "I10", "Cough")],
            "InstitutionCodeSequence": [code("F-12", "99SYN", "Synthetic Hospital")],
        },
    ),
    ("birth-date-partial", "Patient's Birth Date is a year", {"PatientBirthDate": "1964"}),
    ("birth-date-invalid", "Patient's Birth Date is 31 February", {"PatientBirthDate": "19640231"}),
    ("date-old-form", "Date and time as in ACR-NEMA", {"StudyDate": "2024.03.11", "StudyTime": "09:15:30"}),
    ("day-invalid", "Study Date is 31 February", {"StudyDate": "20230231"}),
    ("time-60-seconds", "Study Time with a leap second", {"StudyTime": "101560"}),
    ("time-hour-only", "Study Time is an hour", {"StudyTime": "09"}),
    ("phantom", "Phantom for quality control", {"PatientName": "Phantom^QC", "QualityControlSubject": "YES"}),
    (
        "uid-64",
        "UIDs of 64 characters",
        {
            "StudyInstanceUID": f"{UID_ROOT}.1.".ljust(64, "1"),
            "SeriesInstanceUID": f"{UID_ROOT}.2.".ljust(64, "1"),
            "SOPInstanceUID": f"{UID_ROOT}.3.".ljust(64, "1"),
        },
    ),
    (
        "animal",
        "A dog with an owner",
        {
            "PatientName": "Rex",
            "PatientSpeciesDescription": "Canine",
            "PatientSpeciesCodeSequence": [code("448771007", "SCT", "Canis lupus familiaris")],
            "PatientSexNeutered": "ALTERED",
            "PatientBreedDescription": "Beagle",
            "ResponsiblePerson": "Owner^Otto",
            "ResponsiblePersonRole": "OWNER",
        },
    ),
    (
        "orders",
        "Three orders in Request Attributes Sequence, one without number",
        {
            "RequestAttributesSequence": [
                {"AccessionNumber": "ORDER-1", "RequestedProcedureID": "RP1", "ScheduledProcedureStepID": "SPS1"},
                {"AccessionNumber": "ORDER-2", "RequestedProcedureID": "RP2", "ScheduledProcedureStepID": "SPS2"},
                {"RequestedProcedureID": "RP3", "ReasonForTheRequestedProcedure": "Another reason"},
            ]
        },
    ),
    (
        "private-sop-class",
        "Private SOP class",
        {"SOPClassUID": f"{UID_ROOT}.77.1"},
    ),
):
    _single("CT", _name, _description, **_attributes)


# How images were made, as profiles ask for it

_INDISPENSABLE = {"SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "PatientID"}


def _bare(modality: str, series: int) -> Dataset:
    made = instance(modality, "technique-missing", series)
    for element in list(made):
        if element.keyword not in _INDISPENSABLE:
            del made[element.tag]
    return made


_CONTRAST: dict[str, Any] = {
    "ContrastBolusAgent": "Iohexol 350",
    "ContrastBolusStartTime": "091945",
    "ContrastBolusStopTime": "092005",
}
_case(
    "contrast",
    "CT with a contrast agent, before and after",
    lambda: [instance("CT", "contrast"), instance("CT", "contrast", series=2, **_CONTRAST)],
)
_case(
    "technique-missing",
    "CT, MR, DX, PT, NM of which nothing optional is known",
    lambda: [_bare(modality, series) for series, modality in enumerate(("CT", "MR", "DX", "PT", "NM"), start=1)],
)


def _odd() -> bytes:
    made: Content = instance(
        "CT",
        "technique-odd",
        KVP="119.5",
        XRayTubeCurrent="11111111",
        ExposureTime="99999999999",
        SliceThickness=["1.0", "2.0"],
        PixelSpacing="0.7",
        SpiralPitchFactor=float("inf"),
        ConvolutionKernel="",
        PatientWeight="22222222",
        PatientSize="33333333",
    )
    for number, odd in ((b"11111111", b"manymany"), (b"22222222", b"   1e400"), (b"33333333", b"-       ")):
        made = _replace(made, number, odd)
    return encode(made)


_case(
    "technique-odd",
    "Numbers that are none, that overflow, that are rounded; several values where one is expected",
    lambda: [_odd()],
)


def _leading_zero() -> bytes:
    made: Content = instance(
        "CT",
        "uid-leading-zero",
        StudyInstanceUID=f"{UID_ROOT}.1.13",
        SeriesInstanceUID=f"{UID_ROOT}.2.13",
        SOPInstanceUID=f"{UID_ROOT}.3.13",
    )
    for level in (1, 2, 3):
        made = _replace(made, f"{UID_ROOT}.{level}.13".encode(), f"{UID_ROOT}.{level}.03".encode())
    return encode(made)


def _padded() -> bytes:
    study = f"{UID_ROOT}.9.111"
    made = instance(
        "CT",
        "padded",
        StudyInstanceUID=study,
        PatientID="  SYN-PAD  ",
        PatientName="Padded^Paula   ",
        AccessionNumber="PAD-1\0\0\0",
        StudyID=" 7 ",
        StudyDescription="   ",
        SeriesDescription="  Two  spaces  ",
        Modality="CT  ",
    )
    return _replace(made, study.encode() + b"\0", study.encode() + b" ")


def _private_sequences() -> Iterator[Content]:
    """In explicit VR as SQ and as UN (PS3.5 section 6.2.2), and in implicit VR, where it cannot be told from UN."""
    for number, (vr, syntax) in enumerate(
        (("SQ", uid.ExplicitVRLittleEndian), ("UN", uid.ExplicitVRLittleEndian), ("SQ", uid.ImplicitVRLittleEndian)), 1
    ):
        made = _in_syntax(instance("CT", "private-undefined-length", number=number), syntax)
        item = dataset({"SeriesDescription": "Not the series' description"})
        item.is_undefined_length_sequence_item = True
        # One item of undefined length with Series Description, in implicit VR as PS3.5 section 6.2.2 wants it.
        text = bytes.fromhex("08003E10 04000000") + b"none"
        unknown = bytes.fromhex("FEFF00E0 FFFFFFFF") + text + bytes.fromhex("FEFF0DE0 00000000")
        block = made.private_block(0x0009, "SYNTHETIC SYSTEMS", create=True)
        block.add_new(0x01, vr, [item] if vr == "SQ" else unknown)
        block[0x01].is_undefined_length = True
        yield made


def _sop_class_in_meta() -> Dataset:
    made = instance("CT", "sop-class-only-in-meta")
    del made.SOPClassUID
    return made


_DIRECTORY = {
    "PATIENT": ("PatientName", "PatientID"),
    "STUDY": ("StudyDate", "StudyTime", "StudyDescription", "StudyInstanceUID", "StudyID", "AccessionNumber"),
    "SERIES": ("Modality", "SeriesInstanceUID", "SeriesNumber"),
    "IMAGE": ("InstanceNumber",),
}


def _dicomdir() -> bytes:
    """Directory of one CT slice, without the slice (PS3.3 annex F)."""
    listed = instance("CT", "dicomdir")
    references = {
        "ReferencedFileID": ["IMAGES", "0001"],
        "ReferencedSOPClassUIDInFile": listed.SOPClassUID,
        "ReferencedSOPInstanceUIDInFile": listed.SOPInstanceUID,
        "ReferencedTransferSyntaxUIDInFile": uid.ExplicitVRLittleEndian,
    }
    offsets = [0] * 4
    for _ in range(2):  # the first time only to learn where the records begin
        records = [
            {
                "OffsetOfTheNextDirectoryRecord": 0,
                "RecordInUseFlag": 0xFFFF,
                "OffsetOfReferencedLowerLevelDirectoryEntity": lower,
                "DirectoryRecordType": kind,
                **({"SpecificCharacterSet": "ISO_IR 192"} if kind == "PATIENT" else {}),
                **(references if kind == "IMAGE" else {}),
                **{keyword: listed[keyword].value for keyword in _DIRECTORY[kind]},
            }
            for kind, lower in zip(_DIRECTORY, [*offsets[1:], 0], strict=True)
        ]
        directory = dataset(
            {
                "FileSetID": "SYNTHETIC",
                "OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity": offsets[0],
                "OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity": offsets[0],
                "FileSetConsistencyFlag": 0,
                "DirectoryRecordSequence": records,
            }
        )
        directory.preamble = listed.preamble
        directory.file_meta = instance("OT", "dicomdir", SOPClassUID=uid.MediaStorageDirectoryStorage).file_meta
        data = encode(directory)
        offsets = [found.start() for found in re.finditer(rb"\xfe\xff\x00\xe0", data)]
    return data


def _cut(name: str, tag: bytes, beyond: int) -> bytes:
    data = encode(instance("CT", name))
    return data[: data.index(tag) + beyond]


_DISAGREEING: dict[str, Any] = {"SeriesDescription": "Other words", "ReferringPhysicianName": "Other^Olaf"}
_case("uid-leading-zero", "UIDs with a component 03", lambda: [_leading_zero()])
_case("padded", "Values padded with spaces and NULs, a UID with a space", lambda: [_padded()])
_case("private-undefined-length", "Private sequences of undefined length", lambda: list(_private_sequences()))
_case("sop-class-only-in-meta", "SOP Class UID in the file meta information only", lambda: [_sop_class_in_meta()])
_case(
    "no-preamble",
    "Implicit VR data set without preamble and file meta information",
    lambda: [_without_meta(_in_syntax(instance("CT", "no-preamble"), uid.ImplicitVRLittleEndian))],
)
_case(
    "no-preamble-explicit",
    "Explicit VR data set without preamble and file meta information, no extension",
    lambda: [_without_meta(instance("CT", "no-preamble-explicit"))],
    filename="IM{0:06d}",
)
_case(
    "disagreeing",
    "Two instances that disagree on Series Description and Referring Physician's Name",
    lambda: [instance("CT", "disagreeing"), instance("CT", "disagreeing", number=2, **_DISAGREEING)],
)
_case(
    "two-issuers",
    "Two studies: the same Patient ID from two issuers",
    lambda: [
        instance(
            "CT",
            f"two-issuers/{issuer}",
            PatientID="SYN-1",
            PatientName=name,
            IssuerOfPatientID=issuer,
            IssuerOfPatientIDQualifiersSequence=None,
        )
        for issuer, name in (("SYN-NORTH", "North^Nora"), ("SYN-SOUTH", "South^Sven"))
    ],
)
_case(
    "two-patients",
    "One study whose instances name two patients (a conflict)",
    lambda: [
        instance("CT", "two-patients", number=number, PatientID=f"SYN-{name}", PatientName=f"{name}^Only")
        for number, name in enumerate(("One", "Two"), start=1)
    ],
)


def _unidentified(name: str, **attributes: Any) -> None:
    level, _, state = name.split("-")
    description = f"{level.capitalize()} Instance UID is {state}".replace("Sop", "SOP")
    _case(name, description, lambda: [instance("CT", name, **attributes)], outcome="refused")


_unidentified("study-uid-missing", StudyInstanceUID=None)
_unidentified("study-uid-empty", StudyInstanceUID="")
_unidentified("series-uid-missing", SeriesInstanceUID=None)
_unidentified("series-uid-empty", SeriesInstanceUID="")
_unidentified("sop-uid-missing", SOPInstanceUID=None)
_unidentified("sop-uid-empty", SOPInstanceUID="")


_case(
    "truncated",
    "Ends within Series Instance UID",
    lambda: [_cut("truncated", b"\x20\x00\x0e\x00UI", 20)],
    readable=False,
    outcome="refused",
)
_case(
    "truncated-pixels",
    "Ends within Pixel Data; all that the bridge keeps is there",
    lambda: [_cut("truncated-pixels", b"\xe0\x7f\x10\x00OW", 100)],
)
_case("dicomdir", "DICOMDIR", lambda: [_dicomdir()], outcome="skipped", filename="DICOMDIR")
_case("not-dicom", "Text", lambda: [b"Not DICOM.\n" * 20], readable=False, outcome="skipped", filename="readme.txt")
_case("empty-file", "Empty file", lambda: [b""], readable=False, outcome="skipped")


# Many slices


@dataclass(frozen=True, slots=True)
class EncodedInstance:
    """A plain CT slice in explicit VR little endian.

    Attributes
    ----------
    meta
        Preamble and file meta information.
    header, pixels
        The data set up to Pixel Data, and Pixel Data.
    """

    sop_class: str
    sop_instance: str
    study: str
    series: str
    transfer_syntax: str
    meta: bytes
    header: bytes
    pixels: bytes

    @property
    def file(self) -> bytes:
        """The whole file."""
        return self.meta + self.header + self.pixels


def ct_instances(count: int, studies: int = 1, slices: int = 100, side: int = 16) -> Iterator[EncodedInstance]:
    """Yield ``count`` CT slices, in equal shares of ``studies`` studies with series of ``slices``.

    Only the numbers in an encoded slice are exchanged, so this costs some microseconds a slice.

    Parameters
    ----------
    side
        Rows and columns of pixels, two bytes each.
    """
    # Every value is as long as the one in the template, which is all nines: eleven digits in UIDs, seven elsewhere.
    marks: dict[str, Any] = {
        "StudyInstanceUID": f"{UID_ROOT}.1.99999999999",
        "SeriesInstanceUID": f"{UID_ROOT}.2.99999999999",
        "SOPInstanceUID": f"{UID_ROOT}.3.99999999999",
        "PatientID": "BENCH-P9999999",
        "AccessionNumber": "BENCH-A9999999",
        "SeriesNumber": "9999998",
        "InstanceNumber": "9999997",
    }
    data = encode(instance("CT", "bench", Rows=side, Columns=side, RequestAttributesSequence=None, **marks))
    # Preamble, prefix and the group length element take 144 bytes, of which the last four are the group's length.
    begin = 144 + int.from_bytes(data[140:144], "little")
    pixels = data.rindex(b"\xe0\x7f\x10\x00OW")
    split = re.compile(b"(" + b"|".join(re.escape(mark.encode()) for mark in marks.values()) + b")")
    meta, header = split.split(data[:begin]), split.split(data[begin:pixels])
    share = -(-count // studies)
    for index in range(count):
        study, within = divmod(index, share)
        number = within % slices + 1
        series = study * 1000 + within // slices
        values = {
            marks["StudyInstanceUID"]: f"{UID_ROOT}.1.{10_000_000_000 + study}",
            marks["SeriesInstanceUID"]: f"{UID_ROOT}.2.{10_000_000_000 + series}",
            marks["SOPInstanceUID"]: f"{UID_ROOT}.3.{10_000_000_000 + index}",
            marks["PatientID"]: f"BENCH-P{1000000 + study}",
            marks["AccessionNumber"]: f"BENCH-A{1000000 + study}",
            marks["SeriesNumber"]: f"{within // slices + 1:<7}",
            marks["InstanceNumber"]: f"{number:<7}",
        }
        exchange = {mark.encode(): value.encode() for mark, value in values.items()}
        yield EncodedInstance(
            sop_class=uid.CTImageStorage,
            sop_instance=values[marks["SOPInstanceUID"]],
            study=values[marks["StudyInstanceUID"]],
            series=values[marks["SeriesInstanceUID"]],
            transfer_syntax=uid.ExplicitVRLittleEndian,
            meta=b"".join(exchange.get(part, part) for part in meta),
            header=b"".join(exchange.get(part, part) for part in header),
            pixels=data[pixels:],
        )


def ct_files(outdir: Path, count: int, studies: int = 1, slices: int = 100, side: int = 16) -> list[Path]:
    """Write ``ct_instances`` to ``outdir``, a folder for each study."""
    paths = []
    for number, made in enumerate(ct_instances(count, studies, slices, side), start=1):
        folder = outdir / f"study-{made.study.rpartition('.')[2]}"
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{number:07d}.dcm")
        paths[-1].write_bytes(made.file)
    return paths


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("outdir", type=Path, nargs="?", help="folder to write to; made when it is not there")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(CASES), help="these cases")
    parser.add_argument("--ct", type=int, metavar="COUNT", help="so many plain CT slices instead")
    parser.add_argument("--list", action="store_true", help="list the cases and write nothing")
    arguments = parser.parse_args()
    if arguments.list:
        for case in CASES.values():
            print(f"{case.name:26} {case.outcome:9} {case.description}")
        return
    if arguments.outdir is None:
        parser.error("OUTDIR is needed")
    if arguments.ct:
        paths = ct_files(arguments.outdir, arguments.ct)
    elif arguments.only:
        paths = [path for name in arguments.only for path in write(name, arguments.outdir)]
    else:
        paths = write_all(arguments.outdir)
    print(f"{len(paths)} files in {arguments.outdir}")


if __name__ == "__main__":
    main()
