"""Conversion between records and rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import orjson

from dicom2fhir.dicom.documents import mentioned_studies
from dicom2fhir.dicom.rejection_notes import rejection_note
from dicom2fhir.errors import CannotUnderstand, StoreDamaged
from dicom2fhir.model import Attrs, InstanceRecord, Note, Origin, RejectionNote
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.notices import StepStatus
from dicom2fhir.store.selection import stated_by
from dicom2fhir.store.sql import rejection_notes
from dicom2fhir.store.sql.sealed_rows import instance_rows
from dicom2fhir.store.sql.statements import Row, Statements
from dicom2fhir.store.statuses import DeliveryStatus, Rejection, State, StudyStatus

_MAX_TEXT = 4000
"""Characters stored of a reason or a peer's name: they come from the network."""


class Packed(NamedTuple):
    """An encoded :class:`InstanceRecord`; it is encoded before the write, because writes are serialized."""

    study_uid: str
    series_uid: str
    sop_uid: str
    patient: tuple[bytes, bytes]
    """Hash and body of the attributes of a level that instances share."""
    study: tuple[bytes, bytes]
    series: tuple[bytes, bytes]
    body: bytes
    notes: bytes | None
    mentions: tuple[str, ...] = ()
    """Study Instance UIDs of the other studies that the instance names."""
    rejection_note: RejectionNote | None = None


_PACKED_ATTRS = 1_000


class Packer:
    """Encodes records, in any thread; a mapping that several records share is encoded once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Attrs, tuple[bytes, bytes]]] = {}
        """By ``id()``; the reference to the mapping keeps Python from reusing its id."""

    def pack(self, record: InstanceRecord, may_reject: bool) -> Packed:
        """Encode a record; equal attributes give equal bytes, whatever their order.

        Raises
        ------
        CannotUnderstand
            An attribute cannot be encoded as JSON, or it is a rejection note that cannot be applied as a whole.
        """
        notes = record.notes
        return Packed(
            study_uid=record.study_uid,
            series_uid=record.series_uid,
            sop_uid=record.sop_uid,
            patient=self._hashed(record.patient),
            study=self._hashed(record.study),
            series=self._hashed(record.series),
            body=dump(record.instance),
            notes=orjson.dumps([[note.level, note.where, note.text] for note in notes]) if notes else None,
            mentions=mentioned_studies(record),
            rejection_note=rejection_note(record, may_reject),
        )

    def _hashed(self, attrs: Attrs) -> tuple[bytes, bytes]:
        known = self._known.get(id(attrs))
        if known is not None:
            return known[1]
        found = hashed(attrs)
        if len(self._known) >= _PACKED_ATTRS:
            self._known.clear()
        self._known[id(attrs)] = attrs, found
        return found


def hashed(attrs: Attrs) -> tuple[bytes, bytes]:
    """Hash and body of a mapping for the table ``attrs``."""
    body = dump(attrs)
    return blake2b(body, digest_size=16).digest(), body


def dump(attrs: Attrs) -> bytes:
    """A mapping as JSON with sorted keys.

    Raises
    ------
    CannotUnderstand
        It cannot be encoded.
    """
    try:
        return orjson.dumps(attrs, default=_as_dict, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        # The encoder's message may contain the value.
        raise CannotUnderstand("The attributes cannot be stored: a value is not valid text") from error


def _as_dict(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def as_json(items: Iterable[object]) -> str:
    """A JSON array, for the statements."""
    return orjson.dumps(list(items)).decode()


def read_records(sql: Statements, study_id: int, study_uid: str) -> list[InstanceRecord]:
    """All records of a study; those with the same attributes share one mapping.

    Raises
    ------
    StoreDamaged
        Rows are inconsistent or are not JSON.
    """
    try:
        series: dict[int, str] = dict(sql.all("study_series", study_id=study_id))
        shared = {number: orjson.loads(body) for number, body in sql.all("study_attrs", study_id=study_id)}
        return [
            InstanceRecord(
                study_uid=study_uid,
                series_uid=series[series_id],
                sop_uid=sop_uid,
                patient=shared[patient],
                study=shared[study],
                series=shared[of_series],
                instance=orjson.loads(body),
                notes=tuple(Note(*note) for note in orjson.loads(notes)) if notes else (),
            )
            for sop_uid, series_id, patient, study, of_series, _, body, notes in instance_rows(sql, study_id)
        ]
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise StoreDamaged(f"Rows of study {study_uid} are damaged") from error


def read_stated(sql: Statements, study_id: int) -> Mapping[str, Sequence[str]]:
    """The values for :mod:`dicom2fhir.store.selection`: of the instances of a study, else of its procedure steps.

    Mappings that no instance refers to do not count.
    """
    bodies = [body for (body,) in sql.all("study_stated", study_id=study_id)]
    bodies = bodies or [body for _, body in sql.all("study_steps", study_id=study_id)]
    return stated_by(
        map(orjson.loads, bodies), (calling_ae for (calling_ae,) in sql.all("study_origins", study_id=study_id))
    )


def read_status(sql: Statements, row: Row) -> StudyStatus:
    """A study's row with its deliveries to the destinations in force."""
    study_id, uid, revision, series, instances, first_at, last_at = row
    return StudyStatus(
        study_uid=str(uid, "utf-8", "replace"),  # a person must see damaged UIDs, too
        revision=revision,
        series=series,
        instances=instances,
        first_at=first_at,
        last_at=last_at,
        association_open=sql.one("is_held", study_id=study_id) == (1,),
        deliveries=tuple(
            DeliveryStatus(destination, State(state), *others)
            for destination, state, *others in sql.all("study_deliveries", study_id=study_id)
        ),
        stated=count_of(sql, "count_stated", study_id),
        steps=tuple(StepStatus(uid, status) for uid, status in sql.all("step_statuses", study_id=study_id)),
        missing=count_of(sql, "count_awaited", study_id),
        rejected=count_of(sql, "count_rejected", study_id),
        rejections=rejection_notes.read_reasons(sql, study_id),
        asked_to_reject=count_of(sql, "count_asked_to_reject", study_id),
    )


def count_of(sql: Statements, name: str, study_id: int) -> int:
    """What a query counts in one study."""
    (count,) = sql.one(name, study_id=study_id) or (0,)
    return int(count)


def short(text: str) -> str:
    """``text``, cut to the maximum length, with characters replaced that UTF-8 cannot encode."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def rejection_row(rejection: Rejection) -> dict[str, object]:
    """Parameters of ``new_rejection``."""
    origin = rejection.origin
    return {
        "at": rejection.at,
        "kind": origin.kind,
        "calling_ae": short(origin.calling_ae),
        "called_ae": short(origin.called_ae),
        "peer": short(origin.peer),
        "path": os.fsencode(origin.path),
        "association": short(origin.association),
        "reason": short(rejection.reason),
        "error": rejection.kind,
    }


def rejection_of(row: Row) -> Rejection:
    """The rejection in a row of ``rejections``."""
    at, kind, calling_ae, called_ae, peer, path, association, reason, error = row
    return Rejection(
        at=at,
        origin=Origin(
            kind=kind,
            calling_ae=calling_ae,
            called_ae=called_ae,
            peer=peer,
            path=os.fsdecode(path),
            association=association,
        ),
        reason=reason,
        kind=error,
    )


def mark_row(mark: FileMark, reader: int) -> dict[str, object]:
    """Parameters of ``mark_file``."""
    return {
        "path": os.fsencode(mark.path),
        "size_bytes": mark.size_bytes,
        "mtime_ns": mark.mtime_ns,
        "outcome": mark.outcome,
        "reason": short(mark.reason),
        "reader": reader,
    }
