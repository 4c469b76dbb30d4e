"""``python -m tests.faulty``: the bridge with mistakes of its own, in its worker processes too.

Reading an instance raises what its StudyDescription names (``RecursionError``), assembling a study what its first
instance's names after "assemble" (``assemble KeyError``), with the patient's name as the text of the exception. One
that is called "not to be kept" becomes a record that the store cannot take.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from dicom2fhir.dicom import decode as decoding
from dicom2fhir.dicom import study
from dicom2fhir.dicom.patients import Settlement
from dicom2fhir.model import InstanceRecord, Received, Study

NOTHING: Settlement = {}
DECODE = decoding.decode_instance
ASSEMBLE = study.assemble


def stumble(name: str, record: InstanceRecord) -> None:
    """Raise a built-in exception of this name, if there is one."""
    kind = getattr(builtins, name, None)
    if kind is RecursionError:
        stumble(name, record)
    elif kind is not None:
        raise kind(record.patient["PatientName"])


def decode_instance(received: Received, cache: decoding.DecodedCache | None = None) -> InstanceRecord:
    """As the real one, but for the mistakes."""
    record = DECODE(received, cache)
    description = str(record.study.get("StudyDescription", ""))
    stumble(description, record)
    no_text = cast("str", {1, 2})
    return replace(record, instance={"SOPClassUID": no_text}) if description == "not to be kept" else record


def assemble(
    study_uid: str,
    revision: int,
    records: Iterable[InstanceRecord],
    settlement: Settlement = NOTHING,
    *notices: Any,
    **named: Any,
) -> Study:
    """As the real one, but for the mistakes."""
    first, *others = records
    stumble(str(first.study.get("StudyDescription", "")).removeprefix("assemble "), first)
    return ASSEMBLE(study_uid, revision, [first, *others], settlement, *notices, **named)


# before any other module imports them, and in worker processes too, which import this module under another name
decoding.decode_instance = decode_instance
study.assemble = assemble

if __name__ == "__main__":
    from dicom2fhir.cli import main

    main()
