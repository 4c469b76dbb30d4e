"""What the writer does with availability notifications and procedure steps, and how they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from dicom2fhir.dicom import procedure_step
from dicom2fhir.errors import BridgeError, DuplicateInstance, NoSuchInstance, StoreDamaged
from dicom2fhir.model import Attrs, Availability, AvailabilityNotification, ProcedureStep
from dicom2fhir.store.sql.arrivals import change, hasten, hasten_complete, schedule
from dicom2fhir.store.sql.known_rows import NO_READER, KnownRows, KnownStudy
from dicom2fhir.store.sql.rows import as_json, dump, hashed
from dicom2fhir.store.sql.statements import Statements


class PackedNotification(NamedTuple):
    """An encoded :class:`~dicom2fhir.model.AvailabilityNotification`; it is encoded before the write."""

    uid: str
    study_uid: str
    hash: bytes
    stated: tuple[tuple[str, str, tuple[bytes, bytes]], ...]
    """SOP Instance UID, Retrieve AE Title, hash and body of what is stated."""


def packed(notification: AvailabilityNotification) -> PackedNotification:
    """Encode a notification.

    Raises
    ------
    CannotUnderstand
        An attribute cannot be encoded as JSON.
    """
    stated = tuple((each.sop_uid, each.retrieve_ae, hashed(each.attrs)) for each in notification.instances)
    items: list[Attrs] = [{**each.attrs, "SOPInstanceUID": each.sop_uid} for each in notification.instances]
    digest, _ = hashed({"StudyInstanceUID": notification.study_uid, "stated": items})
    return PackedNotification(notification.uid, notification.study_uid, digest, stated)


def state(sql: Statements, known: KnownRows, notification: PackedNotification, now: float) -> None:
    """Store a notification; one with a known UID must say the same."""
    if found := sql.one("notification", uid=notification.uid):
        if found != (notification.hash,):
            raise DuplicateInstance
        return
    study = known.study(sql, notification.study_uid, now, NO_READER)
    known.learn_attrs(sql, ((study, attrs) for *_, attrs in notification.stated))
    rows = [(uid, retrieve_ae, study.attrs[digest]) for uid, retrieve_ae, (digest, _) in notification.stated]
    sql.run("new_notification", uid=notification.uid, study_id=study.id, hash=notification.hash)
    if sql.run("state_availability", study_id=study.id, stated=as_json(rows)):
        change(sql, known, study, now)
        schedule(sql, [study.id])


def create(sql: Statements, known: KnownRows, step: ProcedureStep, calling_ae: str, now: float) -> None:
    """Store a new procedure step; one with a known UID must say the same."""
    if found := sql.one("step", uid=step.uid):
        if found != (dump(step.attrs),):
            raise DuplicateInstance
        return
    study = known.study(sql, step.study_uid, now, NO_READER)
    sql.all("new_origins", senders=as_json([(study.id, calling_ae)]), now=now)
    _keep(sql, known, study, step, now)


def update(sql: Statements, known: KnownRows, uid: str, changes: Attrs, now: float) -> None:
    """Change a procedure step."""
    found = sql.one("step", uid=uid)
    if found is None:
        raise NoSuchInstance
    before = _step_of(uid, found[0])
    step = procedure_step.updated(before, changes)
    if step != before:
        _keep(sql, known, known.study(sql, step.study_uid, now, NO_READER), step, now)


def _keep(sql: Statements, known: KnownRows, study: KnownStudy, step: ProcedureStep, now: float) -> None:
    body = dump(step.attrs)
    sql.run("keep_step", uid=step.uid, study_id=study.id, status=step.status, listed=len(step.instances), body=body)
    if step.has_ended:
        sql.run("await", study_id=study.id, uids=as_json(step.instances))
    change(sql, known, study, now)
    hasten_complete(sql, study)
    if sql.one("count_instances", study_id=study.id) == (0,):
        hasten(sql, study)
    schedule(sql, [study.id])


def _step_of(uid: str, body: bytes) -> ProcedureStep:
    try:
        return procedure_step.step_of(uid, orjson.loads(body))
    except (TypeError, orjson.JSONDecodeError, BridgeError) as error:
        raise StoreDamaged(f"Rows of procedure step {uid} are damaged") from error


def read_stated_availability(sql: Statements, study_id: int) -> Mapping[str, tuple[Availability, ...]]:
    """SOP Instance UID -> what archives state of the instance.

    Raises
    ------
    StoreDamaged
        Rows are not JSON.
    """
    found: defaultdict[str, tuple[Availability, ...]] = defaultdict(tuple)
    try:
        for uid, body in sql.all("study_stated_availability", study_id=study_id):
            found[uid] += (Availability(uid, orjson.loads(body)),)
    except orjson.JSONDecodeError as error:
        raise StoreDamaged("The stated availability of this study cannot be read") from error
    return found


def read_steps(sql: Statements, study_id: int) -> tuple[ProcedureStep, ...]:
    """The procedure steps of a study, by UID.

    Raises
    ------
    StoreDamaged
        Rows are damaged.
    """
    return tuple(_step_of(uid, body) for uid, body in sql.all("study_steps", study_id=study_id))
