"""Studies that every destination has had for long are forgotten, and what comes of them later is a part."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.model import Origin
from dicom2fhir.store.sql import upkeep
from dicom2fhir.store.statuses import State
from tests.store_contract.bench import (
    DEST,
    FOLDER,
    QUIET_S,
    Bench,
    changes,
    delivered,
    over,
    record,
    rejection_note,
    step,
)
from tests.store_contract.unfinished import LONG_S, all_rounds, be_sent, deliver_all, hold, refuse, wait


def forget(bench: Bench, most_instances: int | None = None) -> list[str]:
    return all_rounds(lambda: bench.store.forget_delivered(LONG_S, most_instances))


def test_a_study_that_was_delivered_long_ago_is_forgotten(bench: Bench) -> None:
    for number in range(3):
        bench.store.add(record(number, series=f"1.1.{number}"), FOLDER)
    deliver_all(bench)
    bench.later(LONG_S - 1)
    assert forget(bench) == []
    assert bench.store.forgotten_at("1.1") is None
    bench.later(1)
    assert forget(bench) == ["1.1"]
    assert bench.store.study("1.1") is None
    assert bench.store.study_status("1.1") is None
    assert bench.store.forgotten_at("1.1") == int(bench.now)
    counts = bench.store.stats()
    assert (counts.studies, counts.series, counts.instances, counts.delivered) == (0, 0, 0, 0)
    assert bench.none_due()
    assert forget(bench) == []


def be_refused_in_part(bench: Bench) -> None:
    bench.store.requeue("1.1", all_states=True)
    delivered(bench.store, bench.claim(), 1, refused=("Observation: 422",))


def wait_for_another_study(bench: Bench) -> None:
    bench.store.requeue("1.1", all_states=True)
    delivered(bench.store, bench.claim(), 1, unlinked=("ImagingStudy",))


def be_excluded(bench: Bench) -> None:
    bench.store.requeue("1.1", all_states=True)
    bench.store.exclude(bench.claim(), "only.modality", "")


def be_rejected(bench: Bench) -> None:
    bench.add(rejection_note([1], study="1.2", of="1.1"), Origin("folder", path="/in/note", may_reject=True))
    deliver_all(bench)


def be_asked_to_reject(bench: Bench) -> None:
    bench.add(rejection_note([7]), over("a"))
    bench.store.association_ended("a")
    deliver_all(bench)


def be_settled(bench: Bench) -> None:
    (patient,) = bench.store.patients("1.1")
    bench.store.settle("1.1", {patient.key: Verdict.RIGHT})
    deliver_all(bench)


def be_in_a_procedure(bench: Bench) -> None:
    bench.store.create_step(step(), FOLDER)
    deliver_all(bench)


def get_a_second_destination(bench: Bench) -> None:
    bench.store.set_destinations([DEST, "second"])


STAY: list[Callable[[Bench], None]] = [
    wait, hold, refuse, be_refused_in_part, wait_for_another_study, be_sent, be_excluded, be_rejected,
    be_asked_to_reject, be_settled, be_in_a_procedure, get_a_second_destination,
]  # fmt: skip


@pytest.mark.parametrize("happens", STAY, ids=lambda one: one.__name__)
def test_a_study_stays_while_something_is_left_to_do_or_to_decide(
    bench: Bench, happens: Callable[[Bench], None]
) -> None:
    """And does not keep others from being forgotten."""
    bench.add(record(1))
    bench.add(record(50, study="1.5"))
    deliver_all(bench)
    happens(bench)
    bench.later(2 * LONG_S)
    gone = forget(bench)
    assert "1.1" not in gone
    assert gone == (["1.5"] if happens is not get_a_second_destination else [])
    assert bench.store.study("1.1")


def test_what_an_ended_procedure_step_stated_goes_with_the_study(bench: Bench) -> None:
    bench.store.create_step(step(), FOLDER)
    bench.add(record(1))
    bench.store.update_step("1.6.1", changes(instances=[1]))
    deliver_all(bench)
    bench.later(LONG_S)
    assert forget(bench) == ["1.1"]
    assert bench.store.study("1.1") is None


def test_large_studies_may_stay(bench: Bench) -> None:
    for study, size in (("1.1", 2), ("1.2", 3)):
        for number in range(size):
            bench.add(record(number, study=study))
    deliver_all(bench)
    bench.later(LONG_S)
    assert forget(bench, 2) == ["1.1"]
    assert forget(bench, None) == ["1.2"]


def test_a_destination_that_is_gone_keeps_nothing(bench: Bench) -> None:
    bench.store.set_destinations([DEST, "second"])
    bench.add(record(1))
    deliver_all(bench)
    bench.later(LONG_S)
    assert forget(bench) == []
    bench.store.set_destinations([DEST])
    assert forget(bench) == ["1.1"]


def test_nothing_is_forgotten_without_a_destination(bench: Bench) -> None:
    bench.add(record(1))
    deliver_all(bench)
    bench.store.set_destinations([])
    bench.later(LONG_S)
    assert forget(bench) == []


def test_many_are_forgotten_in_parts(bench: Bench) -> None:
    number = 3 * upkeep.AT_ONCE + 1
    studies = [f"1.{n}" for n in range(1, number + 1)]
    bench.store.add_many([record(study=study) for study in studies], FOLDER)
    deliver_all(bench)
    bench.later(LONG_S)
    assert forget(bench) == sorted(studies)


def test_what_comes_later_is_a_part_until_the_study_is_forgotten_for_good(bench: Bench) -> None:
    bench.add(record(1))
    assert not bench.study().is_late_part
    deliver_all(bench)
    bench.later(LONG_S)
    forget(bench)
    bench.add(record(2))
    assert bench.study().is_late_part
    assert [one.uid for series in bench.study().series for one in series.instances] == ["1.9.2"]
    assert not bench.study().conflict
    bench.later(QUIET_S)
    assert bench.claim().base == b""
    bench.restart()
    assert bench.study().is_late_part
    assert bench.store.forget("1.1")
    assert bench.store.forgotten_at("1.1") is None
    bench.add(record(1))
    assert not bench.study().is_late_part


def test_a_late_part_that_was_delivered_is_forgotten_in_turn(bench: Bench) -> None:
    for number in (1, 2):
        bench.add(record(number, patient="P1" if number == 1 else ""))
        deliver_all(bench)
        bench.later(LONG_S)
        assert forget(bench) == ["1.1"]
    assert bench.store.forgotten_at("1.1") == int(bench.now)
    bench.add(record(3, patient="P2"))
    assert bench.study().conflict


def test_another_patient_in_a_late_part_is_a_conflict(bench: Bench) -> None:
    bench.add(record(1))
    deliver_all(bench)
    bench.later(LONG_S)
    forget(bench)
    for patient, is_conflict in (("", False), ("P1", False), ("P2", True)):
        bench.add(record(2, patient=patient))
        assert bool(bench.study().conflict) is is_conflict, patient
    bench.store.forget("1.1")
    bench.add(record(2, patient="P2"))
    assert not bench.study().conflict


@pytest.mark.parametrize("of", ["1.1", "1.2"])
def test_a_rejection_note_about_a_forgotten_study_is_for_a_person(bench: Bench, of: str) -> None:
    """Nobody knows whether anything is left of the study without the instance."""
    bench.add(record(1))
    bench.add(record(2))
    deliver_all(bench)
    bench.later(LONG_S)
    forget(bench)
    bench.add(rejection_note([1], study=of, of="1.1"), Origin("folder", path="/in/note", may_reject=True))
    assert "rejection note" in bench.study("1.1").conflict
    bench.add(record(1))
    assert "rejection note" in bench.study("1.1").conflict
    assert bench.store.forget("1.1")  # what was rejected stays known
    bench.add(record(1))
    bench.add(record(2))
    assert not bench.study("1.1").conflict
    assert bench.study("1.1").is_rejected("1.1", "1.9.1")


def test_an_association_that_knows_the_study_goes_on(bench: Bench) -> None:
    """What the writer remembers of a study must not outlive it."""
    bench.store.add(record(1), over("a"))
    bench.store.add(record(2), over("a"))
    bench.store.association_ended("a")
    deliver_all(bench)
    bench.later(LONG_S)
    forget(bench)
    bench.store.add(record(3), over("a"))
    bench.store.add(record(4), over("a"))
    assert [one.uid for series in bench.study().series for one in series.instances] == ["1.9.3", "1.9.4"]
    assert bench.state() is State.WAITING
