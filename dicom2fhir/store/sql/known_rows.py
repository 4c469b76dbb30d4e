"""What the writer knows of the studies that arrive, so that most instances take one statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dicom2fhir.dicom.rejection_notes import RETENTION_EXPIRED
from dicom2fhir.store.sql.rows import Packed, as_json
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
            _keep_latest(self._former)
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
        row = _numbered(study, packed)
        return None if None in row[:-1] else row

    def learn(
        self, sql: Statements, batch: Sequence[Packed], now: float
    ) -> tuple[list[tuple[KnownStudy, Row]], set[int]]:
        """The study of each instance with its row for ``arrive``; missing rows are added.

        Returns
        -------
        set of int
            The numbers of the studies that were added.
        """
        studies, added = self.studies(sql, {packed.study_uid for packed in batch}, now, self.reader)
        arriving = [(studies[packed.study_uid], packed) for packed in batch]
        self._learn_series(sql, arriving)
        self.learn_attrs(
            sql,
            ((study, attrs) for study, packed in arriving for attrs in (packed.patient, packed.study, packed.series)),
        )
        learnt = [(study, _numbered(study, packed)) for study, packed in arriving]
        for study in studies.values():
            for numbers in (study.series, study.attrs):
                if len(numbers) > _KNOWN_ROWS:
                    numbers.clear()
        return learnt, added

    def study(self, sql: Statements, uid: str, now: float, reader: int) -> KnownStudy:
        """As :meth:`studies`, of one."""
        return self.studies(sql, [uid], now, reader)[0][uid]

    def studies(
        self, sql: Statements, uids: Collection[str], now: float, reader: int
    ) -> tuple[Mapping[str, KnownStudy], set[int]]:
        """The rows of studies that change: new ones are added with their deliveries and reader, sealed ones opened.

        Returns
        -------
        set of int
            The numbers of the studies that were added.

        Raises
        ------
        StoreDamaged
            One is sealed, and cannot be opened.
        """
        found = {uid: self._studies[uid] for uid in uids if uid in self._studies}
        absent = sorted(uid for uid in uids if uid not in found)  # in one order, or two daemons deadlock
        added: set[int] = set()
        while absent:
            asked = {"uids": as_json(absent), "reader": self.reader, "expired": RETENTION_EXPIRED}
            for uid, *row, is_sealed in sql.all("known_studies", **asked):
                found[uid] = self._found(uid, *row)
                if is_sealed:
                    unseal(sql, found[uid].id)
            if new := [uid for uid in absent if uid not in found]:
                for uid, number in sql.all("new_studies", uids=as_json(new), now=now, reader=reader):
                    found[uid] = KnownStudy(number, reader == self.reader, is_awaited=False, is_restorable=False)
                    added.add(number)
            absent = [uid for uid in new if uid not in found]  # another process has just added them
        if added:
            sql.wake |= sql.run("new_deliveries", studies=as_json(sorted(added)), now=now) > 0
        self._studies |= found
        _keep_latest(self._studies)
        return found, added

    def _found(self, uid: str, number: int, is_current: bool, is_awaited: bool, is_restorable: bool) -> KnownStudy:
        study = KnownStudy(number, bool(is_current), bool(is_awaited), bool(is_restorable))
        former = self._former.pop(uid, None)
        if former and former.id == number:
            study.series, study.attrs = former.series, former.attrs
            study.held_by, study.folders = former.held_by, former.folders
        return study

    @staticmethod
    def _learn_series(sql: Statements, arriving: Iterable[tuple[KnownStudy, Packed]]) -> None:
        unknown = {
            (study.id, packed.series_uid): study for study, packed in arriving if packed.series_uid not in study.series
        }
        if not unknown:
            return
        series = as_json(unknown)
        rows = sql.all("new_series", series=series)
        if len(rows) < len(unknown):
            rows += sql.all("series_numbers", series=series)
        for study_id, uid, number in rows:
            unknown[study_id, uid].series[uid] = number

    @staticmethod
    def learn_attrs(sql: Statements, wanted: Iterable[tuple[KnownStudy, tuple[bytes, bytes]]]) -> None:
        """Learn the numbers of mappings, given by hash and body; new ones are added."""
        unknown = {(study.id, digest): (study, body) for study, (digest, body) in wanted if digest not in study.attrs}
        if not unknown:
            return
        hashes = b"".join(digest for _, digest in unknown)
        bodies = as_json((study.id, body.decode()) for study, body in unknown.values())
        rows = sql.all("new_attrs", hashes=hashes, bodies=bodies)
        if len(rows) < len(unknown):
            rows += sql.all("attrs_numbers", hashes=hashes, studies=as_json(study.id for study, _ in unknown.values()))
        for study_id, digest, number in rows:
            study, _ = unknown[study_id, digest]
            study.attrs[digest] = number


def _numbered(study: KnownStudy, packed: Packed) -> Row:
    """The row of an instance for ``arrive``; a number that is unknown is None."""
    attrs = study.attrs
    return (
        study.id,
        packed.sop_uid,
        study.series.get(packed.series_uid),
        attrs.get(packed.patient[0]),
        attrs.get(packed.study[0]),
        attrs.get(packed.series[0]),
        packed.body,
        packed.notes,
    )


def _keep_latest(studies: dict[str, KnownStudy]) -> None:
    while len(studies) > _KNOWN_STUDIES:
        del studies[next(iter(studies))]
