"""Studies that every destination has are sealed after a quiet time, which nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.model import Note, Origin
from dicom2fhir.store.base import Change
from dicom2fhir.store.sql import sealed_rows, sealing, upkeep
from dicom2fhir.store.statuses import State
from tests.store_contract.bench import (
    _NEEDS,
    DEST,
    FOLDER,
    KINDS,
    QUIET_S,
    Bench,
    changes,
    notification,
    over,
    record,
    rejection_note,
    step,
)
from tests.store_contract.unfinished import LONG_S, all_rounds, be_sent, deliver_all, hold, refuse, wait

NOTED = replace(record(7), notes=(Note("warning", "EncapsulatedDocument", "too large"), Note("info", "x", "\0 é")))
MAY_REJECT = Origin("folder", path="/in/note", may_reject=True)


@pytest.fixture(params=[pytest.param(name, marks=_NEEDS.get(name, ())) for name in KINDS if name != "memory"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """Of the kinds that have something to seal."""
    made = Bench(KINDS[request.param](tmp_path))
    yield made
    made.store.close()


def seal(bench: Bench) -> list[str]:
    return all_rounds(lambda: bench.store.seal_delivered(LONG_S))


def answers(bench: Bench, study: str = "1.1") -> dict[str, Any]:
    store = bench.store
    return {
        "study": store.study(study),
        "status": store.study_status(study),
        "stated": store.stated(study),
        "patients": store.patients(study),
        "details": store.study_details(study),
        "sent": store.last_sent(study),
        "stats": store.stats(),
        "outdated": store.outdated_studies(),
    }


def fill(bench: Bench) -> None:
    """A study of two series, two patients, an instance with notes and one with two places."""
    for number in range(5):
        bench.add(record(number, series=f"1.1.{number % 2}", patient=f"P{number // 4}"))
    bench.add(record(0, series="1.1.1"))
    bench.add(NOTED)
    deliver_all(bench)


def test_nobody_notices_that_a_study_is_sealed(bench: Bench) -> None:
    fill(bench)
    while bench.store.update_index():
        pass
    bench.later(LONG_S - QUIET_S - 1)
    assert seal(bench) == []
    bench.later(1)
    expected = answers(bench)
    assert expected["status"].without_content == 1
    assert len(expected["patients"]) == 2
    assert seal(bench) == ["1.1"]
    assert answers(bench) == expected
    assert seal(bench) == []
    bench.restart()
    assert answers(bench) == expected
    assert seal(bench) == []


def be_awaited(bench: Bench) -> None:
    bench.store.create_step(step(), FOLDER)
    bench.store.update_step("1.6.1", changes(instances=[1, 77]))
    bench.later(LONG_S)
    deliver_all(bench)


@pytest.mark.parametrize("happens", [wait, hold, refuse, be_sent, be_awaited], ids=lambda one: one.__name__)
def test_a_study_stays_open_while_something_is_expected(bench: Bench, happens: Callable[[Bench], None]) -> None:
    """And does not keep others from being sealed."""
    bench.add(record(1))
    bench.add(record(50, study="1.5"))
    deliver_all(bench)
    happens(bench)
    bench.later(2 * LONG_S)
    assert seal(bench) == ["1.5"]


def test_a_new_destination_gets_sealed_studies_and_keeps_others_open(bench: Bench) -> None:
    fill(bench)
    bench.later(LONG_S)
    seal(bench)
    before = bench.study()
    bench.add(record(50, study="1.5"))
    deliver_all(bench)
    bench.later(LONG_S)
    bench.store.set_destinations([DEST, "second"])
    assert seal(bench) == []
    assert bench.claim(destination="second").study_uid == "1.1"
    assert bench.study() == before


def be_excluded(bench: Bench) -> None:
    bench.store.requeue("1.1", all_states=True)
    bench.store.exclude(bench.claim(), "only.modality", "")


def be_rejected(bench: Bench) -> None:
    bench.add(rejection_note([1], study="1.2", of="1.1"), MAY_REJECT)
    deliver_all(bench)


def be_settled(bench: Bench) -> None:
    (patient,) = bench.store.patients("1.1")
    bench.store.settle("1.1", {patient.key: Verdict.RIGHT})
    deliver_all(bench)


@pytest.mark.parametrize("happens", [be_excluded, be_rejected, be_settled], ids=lambda one: one.__name__)
def test_decisions_do_not_keep_a_study_open(bench: Bench, happens: Callable[[Bench], None]) -> None:
    bench.add(record(1))
    bench.add(record(2))
    deliver_all(bench)
    happens(bench)
    bench.later(LONG_S)
    before = answers(bench)
    assert "1.1" in seal(bench)
    assert answers(bench) == before


def test_what_comes_later_opens_a_study(bench: Bench) -> None:
    fill(bench)
    bench.later(LONG_S)
    assert seal(bench) == ["1.1"]
    revision, count = bench.status().revision, bench.status().instances
    assert bench.add(record(0, series="1.1.0", patient="P0")) is Change.UNCHANGED
    assert bench.status().revision == revision
    assert bench.none_due()
    assert seal(bench) == ["1.1"]
    assert bench.add(record(20, series="1.1.1", patient="P0")) is Change.NEW
    assert bench.add(record(1, series="1.1.1", patient="P0", Rows="9")) is Change.CHANGED
    status = bench.status()
    assert (status.revision, status.instances, status.series) == (revision + 2, count + 1, 2)
    assert bench.store.stats().instances == count + 1
    assert {one.uid for series in bench.study().series for one in series.instances} >= {"1.9.20", "1.9.7"}
    assert bench.state() is State.WAITING
    assert seal(bench) == []
    deliver_all(bench)
    bench.later(LONG_S)
    assert seal(bench) == ["1.1"]


def settle(bench: Bench) -> None:
    bench.store.settle("1.1", {bench.store.patients("1.1")[0].key: Verdict.RIGHT})


def state(bench: Bench) -> None:
    bench.store.state_availability(notification([1, 2]))


def be_a_procedure(bench: Bench) -> None:
    bench.store.create_step(step(), FOLDER)
    bench.store.update_step("1.6.1", changes(instances=[1, 88]))


def reject(bench: Bench) -> None:
    bench.add(rejection_note([1]), MAY_REJECT)


def reject_from_elsewhere(bench: Bench) -> None:
    bench.add(rejection_note([1], study="1.2", of="1.1"), MAY_REJECT)


def forget(bench: Bench) -> None:
    assert bench.store.forget("1.1")


def map_again(bench: Bench) -> None:
    assert bench.store.requeue(all_states=True)


def arrive_over_an_association(bench: Bench) -> None:
    for number in (1, 60, 61):
        bench.store.add(record(number), over("late"))
    bench.store.association_ended("late")


def come_beside_the_daemon(bench: Bench) -> None:
    with bench.beside() as store:
        store.add_many([record(number, patient="P0") for number in range(30)], FOLDER)


HAPPEN: list[Callable[[Bench], None]] = [
    settle, state, be_a_procedure, reject, reject_from_elsewhere, forget, map_again, arrive_over_an_association,
    come_beside_the_daemon,
]  # fmt: skip


@pytest.mark.parametrize("happens", HAPPEN, ids=lambda one: one.__name__)
def test_the_same_happens_to_a_sealed_study_as_to_another(
    bench: Bench, happens: Callable[[Bench], None], tmp_path: Path
) -> None:
    other = Bench(KINDS["memory"](tmp_path))
    for one in (bench, other):
        fill(one)
        one.later(LONG_S)
    assert seal(bench) == ["1.1"]
    for one in (bench, other):
        happens(one)
        while one.store.update_index():
            pass
    found, expected = answers(bench), answers(other)
    for answer in ("study", "status", "stated", "patients", "stats", "sent"):
        assert found[answer] == expected[answer], answer


def test_a_sealed_study_is_forgotten_like_another(bench: Bench) -> None:
    bench.add(record(1))
    deliver_all(bench)
    bench.later(LONG_S)
    assert seal(bench) == ["1.1"]
    assert bench.store.forget_delivered(LONG_S) == ["1.1"]
    assert bench.store.study("1.1") is None
    assert bench.store.stats().instances == 0
    bench.add(record(1, patient="P2"))
    assert bench.study().conflict


def test_a_sealed_study_is_read_again_by_a_newer_reader(bench: Bench) -> None:
    """A part of it is not enough, sealed or not."""
    fill(bench)
    bench.later(LONG_S)
    assert seal(bench) == ["1.1"]
    bench.restart(reader="newer")
    assert bench.store.stats().outdated == 1
    bench.add(record(0, series="1.1.0", patient="P0"))
    assert bench.store.stats().outdated == 1
    assert seal(bench) == ["1.1"]
    for number in range(5):
        bench.add(record(number, series=f"1.1.{number % 2}", patient=f"P{number // 4}"))
        seal(bench)
    bench.add(record(0, series="1.1.1"))
    assert bench.store.stats().outdated == 1
    bench.add(NOTED)
    assert bench.store.stats().outdated == 0


def test_an_association_that_knows_the_study_goes_on(bench: Bench) -> None:
    """What the writer remembers of a study holds only while it is open."""
    bench.store.add(record(1), over("a"))
    bench.store.add(record(2), over("a"))
    bench.store.association_ended("a")
    deliver_all(bench)
    bench.later(LONG_S)
    assert seal(bench) == ["1.1"]
    bench.store.add(record(3), over("a"))
    bench.store.add(record(4), over("a"))
    assert [one.uid for series in bench.study().series for one in series.instances] == [
        f"1.9.{number}" for number in (1, 2, 3, 4)
    ]
    assert bench.store.stats().instances == 4


@pytest.mark.parametrize("rows", ["1", "2"])
def test_what_comes_while_a_study_is_compressed_is_not_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, rows: str
) -> None:
    """Also when it only tells that another reader has read it."""
    bench.add(record(1, Rows="1"))
    deliver_all(bench)
    bench.later(LONG_S)
    others: list[Sequence[Change]] = []

    def with_an_arrival(found: Any) -> Any:
        with bench.beside(reader="newer") as store:
            others.append(store.add_many([record(1, Rows=rows)], FOLDER))
        return sealed_rows.blocks_of(found)

    monkeypatch.setattr(sealing, "blocks_of", with_an_arrival)
    assert bench.store.seal_delivered(LONG_S) == []
    assert others == [[Change.UNCHANGED if rows == "1" else Change.CHANGED]]
    (instance,) = (one for series in bench.study().series for one in series.instances)
    assert instance.attrs["Rows"] == rows
    with bench.beside(reader="newer") as store:
        assert store.stats().outdated == 0


def test_many_are_sealed_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PASSED_OVER", 7)
    studies = [f"1.{number}" for number in range(1, 3 * upkeep.AT_ONCE + 2)]
    bench.store.add_many([record(study=study) for study in studies], FOLDER)
    deliver_all(bench)
    bench.later(LONG_S)
    assert seal(bench) == sorted(studies)
    bench.add(record(2, study=studies[-1]))
    deliver_all(bench)
    bench.later(LONG_S)
    assert seal(bench) == [studies[-1]]  # past the sealed ones, of which there are more than a part
