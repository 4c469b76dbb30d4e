"""What the writer knows of the studies that arrive, so that most instances take one statement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dicom2fhir.dicom.rejection_notes import RETENTION_EXPIRED
from dicom2fhir.store.sql.rows import Packed
from dicom2fhir.store.sql.sealed_rows import unseal
from dicom2fhir.store.sql.statements import Row, Statements

NO_READER = -1
"""The reader of studies of which no instance has arrived."""
_KNOWN_STUDIES = 256
_KNOWN_ROWS = 1_000
"""Of each kind of one study."""


class Arrival(NamedTuple):
    """An instance with the association and the AE title that sent it, or with the watched folder that it came from."""

    packed: Packed
    association: str
    calling_ae: str
    folder: str
    is_sent: bool
    """Whether it came over an association, and not from a file."""


@dataclass(slots=True, eq=False)
class KnownStudy:
    """Row numbers that the instances of a study share."""

    id: int
    is_current: bool
    """Whether all of it was read by the reader of this process."""
    is_awaited: bool
    """Whether an ended procedure step lists instances of it that have not arrived."""
    is_restorable: bool
    """Whether an instance of it that arrives may have been rejected because its retention had expired."""
    series: dict[str, int] = field(default_factory=dict)
    attrs: dict[bytes, int] = field(default_factory=dict)
    """By their hash."""
    held_by: set[str] = field(default_factory=set)
    """Associations."""
    folders: set[str] = field(default_factory=set)
    """Watched folders that it came from, as far as the store was told by this process."""
    is_open: bool = False
    """Whether a new instance changes no delivery: all wait, or have recorded a change since their claim."""


class KnownRows:
    """A cache of row numbers for the writer, and of what decides how little an instance changes.

    It must be emptied when a transaction is rolled back (:meth:`forget`), and when another process has written
    (:meth:`follow`).

    Parameters
    ----------
    owns
        Whether this process owns the store: it takes and ends all claims, and the writes of others are counted. What
        another process knows lasts for one transaction.

    Attributes
    ----------
    reader
        The number of the reader of all instances that arrive.
    attached_writes
        The number of transactions of processes that do not own the store, for which the cache holds.
    """

    def __init__(self, owns: bool) -> None:
        self.reader = 0
        self.attached_writes = 0
        self._owns = owns
        self._studies: dict[str, KnownStudy] = {}
        self._former: dict[str, KnownStudy] = {}
        """Studies that another process may have changed; numbers of their rows hold while that of the study does."""

    def forget(self) -> None:
        """Empty the cache."""
        self._studies.clear()
        self._former.clear()

    def forget_study(self, uid: str) -> None:
        """Forget the rows of a study that is deleted."""
        self._studies.pop(uid, None)
        self._former.pop(uid, None)

    def follow(self, sql: Statements) -> bool:
        """Look studies up again if another process may have written since the last call; whether that was so.

        Each transaction that uses the cache begins with it.
        """
        count = sql.writes_of_others(self._owns)
        is_outdated = count != self.attached_writes
        if is_outdated:
            self._former |= self._studies
            self._studies.clear()
            while len(self._former) > _KNOWN_STUDIES:
                del self._former[next(iter(self._former))]
            self.attached_writes = count
        return is_outdated

    def forget_association(self, association: str) -> None:
        """Forget what an association holds."""
        for study in (*self._studies.values(), *self._former.values()):
            study.held_by.discard(association)

    def forget_deliveries(self, study_uids: Iterable[str]) -> None:
        """Assume that a new instance changes deliveries of these studies: a claim was taken or ended."""
        for uid in study_uids:
            if study := self._studies.get(uid):
                study.is_open = False

    def opened(self, study: KnownStudy) -> None:
        """Note that ``reopen`` was run for a study."""
        study.is_open = self._owns

    def is_open(self, arrival: Arrival) -> bool:
        """Whether an instance changes nothing but its study."""
        study = self._studies.get(arrival.packed.study_uid)
        return study is not None and study.is_open

    def row(self, arrival: Arrival) -> Row | None:
        """Row of an instance for ``arrive``; None if it changes more than its study, or a number is unknown."""
        study = self._studies.get(arrival.packed.study_uid)
        if study is None or not self._owns or not study.is_current or study.is_awaited or study.is_restorable:
            return None
        return self._row(study, arrival)

    def former_row(self, arrival: Arrival) -> Row | None:
        """As :meth:`row`, of a study that another process may have changed since."""
        uid = arrival.packed.study_uid
        study = self._studies.get(uid) or self._former.get(uid)
        return self._row(study, arrival) if study else None

    @staticmethod
    def _row(study: KnownStudy, arrival: Arrival) -> Row | None:
        packed, association, *_ = arrival
        if packed.mentions or packed.rejection_note:
            return None
        if association not in study.held_by:
            return None
        numbers = (
            study.series.get(packed.series_uid),
            study.attrs.get(packed.patient[0]),
            study.attrs.get(packed.study[0]),
            study.attrs.get(packed.series[0]),
        )
        return None if None in numbers else (study.id, packed.sop_uid, *numbers, packed.body, packed.notes)

    def learn(self, sql: Statements, packed: Packed, now: float) -> tuple[KnownStudy, Row]:
        """The study of an instance, and its row for ``arrive``; missing rows are added."""
        study = self.study(sql, packed.study_uid, now, self.reader)
        series = self._series(sql, study, packed.series_uid)
        shared = (self.attrs(sql, study, each) for each in (packed.patient, packed.study, packed.series))
        return study, (study.id, packed.sop_uid, series, *shared, packed.body, packed.notes)

    def study(self, sql: Statements, uid: str, now: float, reader: int) -> KnownStudy:
        """The rows of a study that is changed: a new one is added with its deliveries and reader, a sealed one opened.

        Raises
        ------
        StoreDamaged
            It is sealed, and cannot be opened.
        """
        study = self._studies.get(uid)
        if study is None:
            found = sql.one("known_study", study_uid=uid, reader=self.reader, expired=RETENTION_EXPIRED)
            if found:
                *row, is_sealed = found
                study = self._found(uid, *row)
                if is_sealed:
                    unseal(sql, study.id)
            else:
                study_id = sql.insert("new_study", study_uid=uid, now=now, reader=reader)
                if not study_id:  # another process has just added it
                    return self.study(sql, uid, now, reader)
                study = KnownStudy(study_id, is_current=reader == self.reader, is_awaited=False, is_restorable=False)
                sql.wake |= sql.run("new_deliveries", study_id=study.id, now=now) > 0
            if len(self._studies) >= _KNOWN_STUDIES:
                del self._studies[next(iter(self._studies))]
            self._studies[uid] = study
        return study

    def _found(self, uid: str, number: int, is_current: bool, is_awaited: bool, is_restorable: bool) -> KnownStudy:
        study = KnownStudy(number, bool(is_current), bool(is_awaited), bool(is_restorable))
        former = self._former.pop(uid, None)
        if former and former.id == number:
            study.series, study.attrs = former.series, former.attrs
            study.held_by, study.folders = former.held_by, former.folders
        return study

    @staticmethod
    def _series(sql: Statements, study: KnownStudy, uid: str) -> int:
        number = study.series.get(uid)
        if number is None:
            row = sql.one("series_id", study_id=study.id, series_uid=uid)
            number = row[0] if row else sql.insert("new_series", study_id=study.id, series_uid=uid)
            if len(study.series) >= _KNOWN_ROWS:
                study.series.clear()
            study.series[uid] = number
        return number

    @staticmethod
    def attrs(sql: Statements, study: KnownStudy, hashed: tuple[bytes, bytes]) -> int:
        """The number of a mapping; a new one is added."""
        digest, body = hashed
        number = study.attrs.get(digest)
        if number is None:
            row = sql.one("attrs_id", study_id=study.id, hash=digest)
            number = row[0] if row else sql.insert("new_attrs", study_id=study.id, hash=digest, body=body)
            if len(study.attrs) >= _KNOWN_ROWS:
                study.attrs.clear()
            study.attrs[digest] = number
        return number
