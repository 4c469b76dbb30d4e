"""What a rejection note names is nowhere in what is written, whatever comes first, again, or from another process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.jobs.conversion import ReadInstances
from dicom2fhir.model import InstanceRecord, Origin, Study
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_cases import record_of
from testdata.make_dicom import encoded, key_objects, rejection_note

pytestmark = pytest.mark.bar(20)

GRAVEST_FIRST = {
    "113037": "entered-in-error",
    "113038": "entered-in-error",
    "113001": "cancelled",
    "113039": "registered",
}
"""Title of a note -> status of a study in which it leaves nothing (R5)."""
RESTORED = "113039"
SLICES = 4
SELECTED = 3
MAPPER = StudyMapper(MappingOptions())


def record(made: Dataset) -> InstanceRecord:
    written = BytesIO()
    made.save_as(written, enforce_file_format=True)
    return record_of(written.getvalue())


@dataclass
class Expected:
    """What must be left, in plain Python.

    Attributes
    ----------
    in_force
        (SOP Instance UID, note) -> whether the instance is rejected by it, and was not imported again since.
    """

    arrived: set[str] = field(default_factory=set)
    codes: dict[str, str] = field(default_factory=dict)
    in_force: dict[tuple[str, str], bool] = field(default_factory=dict)

    def slice(self, uid: str, is_sent: bool) -> None:
        self.arrived.add(uid)
        for (rejected, note), _ in list(self.in_force.items()):
            if is_sent and rejected == uid and self.codes[note] == RESTORED:
                self.in_force[rejected, note] = False

    def note(self, note: str, code: str, uids: Sequence[str]) -> None:
        self.codes[note] = code
        for uid in uids:
            self.in_force.setdefault((uid, note), True)

    @property
    def rejected(self) -> set[str]:
        return {uid for (uid, _), is_in_force in self.in_force.items() if is_in_force}

    @property
    def status(self) -> str:
        said = {self.codes[note] for (uid, note), on in self.in_force.items() if on and uid in self.arrived}
        gone = self.arrived <= self.rejected
        return next(status for code, status in GRAVEST_FIRST.items() if code in said) if gone else "available"


def written(study: Study) -> list[dict[str, Any]]:
    """The resources of R5."""
    return [entry.resource for entry in MAPPER.map(study, DIALECTS["R5"]).everything]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[SqliteStore]]:
    """The daemon's store, and how a command opens it in another process."""
    own = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    beside = SqliteStore.attach(tmp_path / "store.db", min_free_bytes=0)
    yield [own, beside]
    beside.close()
    own.close()


def play(stores: Sequence[SqliteStore], name: str, draw: random.Random) -> None:
    """Slices, key objects and notes, each from anywhere, some of them twice, and the study forgotten; then look."""
    slices = [instance("CT", name, 1 + number % 2, number) for number in range(SLICES)]
    uids = [str(one.SOPInstanceUID) for one in slices]
    selection = record(key_objects(f"{name} selected", slices[:SELECTED]))
    expected = Expected()
    coming: list[tuple[InstanceRecord, str, list[str]]] = [(record(one), "", []) for one in slices]
    coming.append((selection, "", []))
    for number in range(draw.randint(1, 3)):
        code, chosen = draw.choice([*GRAVEST_FIRST]), draw.sample(range(SLICES), draw.randint(1, SLICES))
        note = rejection_note(f"{name} note {number}", code, [slices[at] for at in chosen])
        coming.append((record(note), code, [uids[at] for at in chosen]))
    coming += draw.sample(coming, draw.randint(0, len(coming)))
    draw.shuffle(coming)
    forgotten_at = draw.randrange(2 * len(coming))  # or never
    coming += [(record(one), "", []) for one in draw.sample(slices, 2)]
    for at, (arriving, code, named) in enumerate(coming):
        if at == forgotten_at:
            stores[1].forget(slices[0].StudyInstanceUID)
            expected.arrived.clear()
        is_sent, may_reject = draw.random() < 0.5, draw.random() < 0.6
        if is_sent:
            association = draw.choice("ab")
            origin = Origin("dimse", calling_ae="ARCHIVE", association=association, may_reject=may_reject)
            stores[0].add(arriving, origin)
        else:
            stores[draw.random() < 0.7].add_many([arriving], Origin("folder", path="/in", may_reject=may_reject))
        if arriving.sop_uid in uids:
            expected.slice(arriving.sop_uid, is_sent)
        elif code and may_reject:
            expected.note(arriving.sop_uid, code, named)
    compare(stores[0], expected, uids, slices[0].StudyInstanceUID, selection.study_uid)


def compare(store: SqliteStore, expected: Expected, uids: Sequence[str], study_uid: str, selected_in: str) -> None:
    study, selecting = store.study(study_uid), store.study(selected_in)
    assert study is not None
    assert selecting is not None
    resources = written(study)
    (imaging,) = (one for one in resources if one["resourceType"] == "ImagingStudy")
    listed = {each["uid"] for series in imaging.get("series", []) for each in series["instance"]}
    assert listed == expected.arrived - expected.rejected, "what is listed"
    assert imaging["status"] == expected.status
    selections = [one for one in written(selecting) if one["resourceType"] == "ImagingSelection"]
    selected = {each["uid"] for one in selections for each in one["instance"]}
    assert selected == {*uids[:SELECTED]} - expected.rejected, "what is selected"
    text = orjson.dumps([*resources, *selections]).decode()
    assert {uid for uid in expected.rejected if uid in text} == set(), "what is said of rejected instances"


def test_what_is_rejected_is_nowhere(
    stores: list[SqliteStore], seed: int, scale: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    draw = random.Random(seed)
    rounds = scale(100, 5_000)
    for number in range(rounds):
        play(stores, f"rejected {seed} {number}", draw)
    figure(f"{rounds} studies with up to 3 notes each, from 2 processes, in random orders")


def doses(files: Sequence[Dataset]) -> list[float]:
    """The total of each dose report that is written."""
    reading = ReadInstances()
    for one in files:
        reading.add(record(one), may_reject=True)
    found = written(reading.study(files[0].StudyInstanceUID))
    observations = [one for one in found if one["resourceType"] == "Observation"]
    return sorted(float(one["component"][0]["valueQuantity"]["value"]) for one in observations)


def test_a_dose_is_neither_replaced_nor_rejected_nor_added_up(seed: int) -> None:
    """Two reports of a step, of which the second replaces the first, and one of the study, whose total holds both."""
    draw = random.Random(seed)
    replaced, _, of_study = reports = [dcmread(BytesIO(data)) for data in encoded("sr-dose-replaced")]
    rejected = {
        "nothing": ([], [315, 655.25]),
        "the study's": ([of_study], [315]),
        "a step's": ([replaced], [315, 655.25]),
    }
    for named, left in rejected.values():
        notes = [rejection_note("sr-dose-replaced", "113037", named)] if named else []
        for _ in range(6):
            assert doses(draw.sample([*reports, *notes], len(reports) + len(notes))) == left
