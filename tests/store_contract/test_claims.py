"""Who may send a study, and what is recorded of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.outcomes import Delivered
from dicom2fhir.store.base import Failing, Success
from dicom2fhir.store.selection import KEYS
from dicom2fhir.store.statuses import State
from tests.store_contract.bench import DEST, FOLDER, MAX_WAIT_S, QUIET_S, Bench, claimed, delivered, over, record


def test_a_study_is_claimed_once_until_its_lease_ends(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    first = bench.claim("w1", lease_s=60)
    assert bench.state() is State.SENDING
    assert bench.none_due()
    assert bench.store.next_due_at(DEST) == bench.now + 60
    bench.later(60)
    second = bench.claim("w2")
    delivered(bench.store, first, first.revision, b"late")
    bench.store.retry(first, 0, "late")
    bench.store.refuse(first, first.revision, "late")
    assert bench.state() is State.SENDING
    delivered(bench.store, second, second.revision, b"right")
    assert bench.state() is State.DELIVERED
    assert bench.store.requeue(all_states=True) == 1
    assert bench.claim().base == b"right"


def test_an_expired_lease_that_nobody_took_still_counts(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim(lease_s=1)
    bench.later(100)
    delivered(bench.store, claim, claim.revision, b"")
    assert bench.state() is State.DELIVERED


def test_leases_of_a_former_life_are_void(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    old = bench.claim("w1", lease_s=10_000)
    bench.restart()
    assert bench.claim("w2") == replace(old, owner="w2")


def test_the_longest_due_comes_first(bench: Bench) -> None:
    for number, study in enumerate(("1.3", "1.1", "1.2")):
        bench.store.add(record(number, study=study), FOLDER)
        bench.later(1)
    bench.later(QUIET_S)
    assert [bench.claim(f"w{number}").study_uid for number in range(3)] == ["1.3", "1.1", "1.2"]


def test_what_came_while_sending_is_sent_again(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.later(5)
    bench.store.add(record(2), FOLDER)
    arrived = bench.now
    bench.later(1)
    delivered(bench.store, claim, claim.revision, b"one")
    assert bench.state() is State.WAITING
    assert bench.store.next_due_at(DEST) == arrived + QUIET_S
    assert bench.store.stats().oldest_undelivered_at == arrived
    bench.later(QUIET_S)
    again = bench.claim()
    assert (again.revision, again.base) == (2, b"one")


def test_a_study_read_after_the_claim_may_be_newer_than_it(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(2), FOLDER)
    study = bench.study()
    delivered(bench.store, claim, study.revision, b"")
    assert bench.state() is State.DELIVERED


def test_failed_tries_wait_and_are_counted(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    bench.store.retry(bench.claim(), 120, "503")
    assert bench.store.next_due_at(DEST) == bench.now + 120
    bench.later(120)
    second = bench.claim()
    assert second.attempts == 1
    bench.store.retry(second, 5, "down", count=False)
    bench.later(5)
    assert bench.claim().attempts == 1
    status = bench.status()
    assert status.deliveries[0].reason == "down"


def test_a_slice_does_not_shorten_the_pause_after_a_failed_try(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    bench.store.retry(bench.claim(), 600, "503")
    paused_until = bench.now + 600
    bench.store.add(record(2), FOLDER)
    assert bench.store.next_due_at(DEST) == paused_until


def test_a_refused_study_waits_for_a_newer_revision(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.refuse(claim, claim.revision, "422: subject")
    assert bench.state() is State.REFUSED
    bench.later(MAX_WAIT_S * 2)
    assert bench.none_due()
    bench.store.add(record(2), FOLDER)
    assert bench.store.next_due_at(DEST) == bench.now + QUIET_S
    bench.later(QUIET_S)
    assert bench.claim().attempts == 0


def test_a_study_that_grew_while_it_was_refused_is_tried_again(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(2), FOLDER)
    bench.store.refuse(claim, claim.revision, "422")
    assert bench.state() is State.WAITING
    assert bench.store.next_due_at(DEST) == bench.now + QUIET_S


def test_what_was_not_found_is_no_reason_to_wait(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(2), FOLDER)
    delivered(bench.store, claim, 1, b"", unlinked=("Patient",))
    assert bench.state() is State.WAITING
    found = bench.store.study_status("1.1")
    assert found and found.deliveries[0].reason == ""


def test_why_a_profile_is_not_claimed_is_known_until_the_next_delivery(bench: Bench) -> None:
    for revision, why in enumerate(("does not claim profile x: Patient.birthDate is missing", ""), start=1):
        bench.store.add(record(revision), FOLDER)
        bench.later(QUIET_S)
        delivered(bench.store, bench.claim(), revision, b"", unclaimed=why)
        found = bench.store.study_status("1.1")
        assert found and (found.deliveries[0].state, found.deliveries[0].unclaimed) == (State.DELIVERED, why)


@pytest.mark.parametrize(("passed_over", "expected"), [(0, "1.1"), (1, "1.2"), (4, "1.1"), (1023, "1.2")])
def test_what_is_passed_over_is_counted_round(bench: Bench, passed_over: int, expected: str) -> None:
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(1)
    bench.store.add(record(study="1.2"), FOLDER)
    bench.later(QUIET_S)
    claim = claimed(bench.store, DEST, "w1", 60.0, passed_over)
    assert claim is not None and claim.study_uid == expected


def test_only_the_daemon_claims(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    with bench.beside() as store, pytest.raises(StoreUnavailable):
        claimed(store, DEST, "w", 60.0)
    assert bench.claim().study_uid == "1.1"


# How long a study has failed


def failed(bench: Bench, most_s: float = 1_000.0) -> Failing:
    """A try of 1.1 that fails; it is due again at once."""
    claim = bench.claim()
    assert claim.study_uid == "1.1"
    found = bench.store.failing(claim, most_s)
    bench.store.retry(claim, 0.0, "503", failing=found)
    return found


def accept_another(bench: Bench, study: str, accepted: bool = True) -> None:
    bench.store.add(record(study=study), FOLDER)
    bench.store.requeue(study)
    claim = claimed(bench.store, DEST, "w2", 60.0, passed_over=1)
    assert claim is not None and claim.study_uid == study
    delivered(bench.store, claim, 1, b"", accepted=accepted)


def test_successes_are_recorded_together_each_by_its_own_claim(bench: Bench) -> None:
    for study in ("1.1", "1.2", "1.3"):
        bench.store.add(record(study=study), FOLDER)
    bench.later(QUIET_S)
    lost = bench.claim("w1", lease_s=1)
    held = [bench.claim("w1") for _ in range(2)]
    bench.later(2)
    again = bench.claim("w2")
    assert again.study_uid == lost.study_uid
    bench.store.delivered(
        [Success(claim, claim.revision, Delivered(claim.study_uid.encode())) for claim in (lost, *held)]
    )
    assert [bench.state(claim.study_uid) for claim in (lost, *held)] == [State.SENDING, *[State.DELIVERED] * 2]
    assert bench.store.requeue(all_states=True) == 2
    assert [bench.claim("w3").base for _ in held] == [claim.study_uid.encode() for claim in held]


def test_time_counts_while_the_destination_accepts_others(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    assert (failed(bench).for_s, failed(bench).others_accepted) == (0.0, False)
    bench.later(100.0)
    assert (failed(bench).for_s, failed(bench).others_accepted) == (0.0, False), "nobody was accepted"
    accept_another(bench, "1.2")
    found = failed(bench)
    assert (found.for_s, found.others_accepted) == (100.0, True)
    bench.later(500.0)
    accept_another(bench, "1.3", accepted=False)
    assert failed(bench).for_s == 100.0, "the destination changed nothing for it"
    accept_another(bench, "1.4")
    assert failed(bench, most_s=60.0).for_s == 160.0, "there may have been an outage"


@pytest.mark.parametrize("how", ["delivered", "refused", "excluded", "requeued"])
def test_failing_begins_anew(bench: Bench, how: str) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    failed(bench)
    bench.later(100.0)
    accept_another(bench, "1.2")
    assert failed(bench).for_s == 100.0
    if how == "requeued":
        assert bench.store.requeue("1.1") == 1
    else:
        claim = bench.claim()
        match how:
            case "delivered":
                delivered(bench.store, claim, 1, b"")
            case "refused":
                bench.store.refuse(claim, 1, "422")
            case "excluded":
                bench.store.exclude(claim, "no", "")
        bench.store.requeue("1.1", all_states=True)
    accept_another(bench, "1.3")
    assert failed(bench) == Failing(0.0, False, bench.now, 2)


# What a destination does not take


def send(bench: Bench, calling_ae: str, association: str, number: int = 1) -> None:
    bench.store.add(record(number), over(association, calling_ae))
    bench.store.association_ended(association)


def exclude(bench: Bench, selection: str = "") -> None:
    bench.later(MAX_WAIT_S)
    bench.store.exclude(bench.claim(), "no", selection)
    assert bench.state() is State.EXCLUDED


def senders(bench: Bench) -> tuple[str, ...]:
    return tuple(bench.store.stated("1.1")["calling_ae_title"])


def test_who_sent_a_study_is_kept_and_files_name_nobody(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    assert senders(bench) == ()
    send(bench, "CT2", "b")
    send(bench, "CT1", "a")
    send(bench, "CT1", "c")
    assert senders(bench) == ("CT1", "CT2")


def test_what_a_minority_of_instances_states_counts_too(bench: Bench) -> None:
    coded = {"CodeValue": "R1", "CodeMeaning": "Research unit"}
    here = {"InstitutionalDepartmentName": "Radiology"}
    stated: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (here, {"Modality": "CT", "InstitutionName": "A"}),
        (here, {"Modality": "CT", "InstitutionName": "A"}),
        (here, {"Modality": "CT", "InstitutionName": ["A", "B"]}),
        ({"InstitutionalDepartmentTypeCodeSequence": [coded]}, {"Modality": "MR"}),
        (here, {"Modality": "OT"}),
    ]
    for number, (study, series) in enumerate(stated):
        bench.store.add(replace(record(number), study=study, series=series), over("a"))
    bench.store.add(replace(record(9), series={"Modality": "US"}), over("a"))
    bench.store.add(replace(record(9), series={"Modality": "CT"}), over("a"))
    found = bench.store.stated("1.1")
    assert found == {
        "modality": ("CT", "MR", "OT"),
        "institution": ("A", "B"),
        "department": ("R1", "Radiology", "Research unit"),
        "calling_ae_title": ("CT1",),
    }
    assert tuple(found) == KEYS


def test_what_is_excluded_neither_waits_nor_calls_for_anybody(bench: Bench) -> None:
    send(bench, "CT1", "a")
    exclude(bench)
    stats = bench.store.stats()
    assert (stats.excluded, stats.waiting, stats.refused, stats.oldest_undelivered_at) == (1, 0, 0, None)
    assert bench.store.next_due_at(DEST) is None
    assert bench.row().reason == "no"
    assert [study.study_uid for study in bench.store.studies(State.EXCLUDED)] == ["1.1"]
    assert bench.store.requeue() == 0
    assert bench.store.requeue(all_states=True) == 1
    exclude(bench)
    assert bench.store.requeue("1.1", all_states=True) == 1


def test_a_new_instance_decides_anew(bench: Bench) -> None:
    send(bench, "CT1", "a")
    exclude(bench)
    send(bench, "CT1", "b")
    assert bench.state() is State.EXCLUDED, "nothing new came"
    send(bench, "CT1", "c", number=2)
    assert bench.state() is State.WAITING
    bench.later(QUIET_S)
    assert bench.claim().revision == 2


def test_another_sender_of_the_same_decides_anew(bench: Bench) -> None:
    send(bench, "RESEARCH1", "a")
    exclude(bench)
    send(bench, "CT1", "b")
    assert bench.state() is State.WAITING
    bench.later(QUIET_S)
    claim = bench.claim()
    assert (claim.revision, senders(bench)) == (1, ("CT1", "RESEARCH1"))
    delivered(bench.store, claim, 1, b"base")
    send(bench, "CT3", "c")
    assert bench.state() is State.DELIVERED, "what is there stays there"


@pytest.mark.parametrize("late", [("CT1", 1), ("RESEARCH1", 2)], ids=["sender", "instance"])
def test_what_comes_while_it_is_decided_is_not_missed(bench: Bench, late: tuple[str, int]) -> None:
    send(bench, "RESEARCH1", "a")
    bench.later(QUIET_S)
    claim = bench.claim()
    calling_ae, number = late
    send(bench, calling_ae, "b", number)
    bench.store.exclude(claim, "no", "")
    assert bench.state() is State.WAITING
    bench.later(QUIET_S)
    bench.claim()


def test_another_selection_decides_exclusions_anew_and_the_same_does_not(bench: Bench) -> None:
    send(bench, "CT1", "a")
    bench.store.set_selection(DEST, "x")
    exclude(bench, "x")
    bench.store.set_selection(DEST, "x")
    assert bench.state() is State.EXCLUDED
    bench.store.set_selection(DEST, "y")
    assert bench.store.next_due_at(DEST) == bench.now
    claim = bench.claim()
    bench.store.set_selection(DEST, "z")
    bench.store.exclude(claim, "no", "y")
    assert bench.state() is State.WAITING, "it was decided by what is no longer in force"
    exclude(bench, "z")


def test_what_was_delivered_and_is_excluded_now_says_that_it_stays(bench: Bench) -> None:
    send(bench, "CT1", "a")
    bench.later(QUIET_S)
    bench.deliver()
    send(bench, "RESEARCH1", "b", number=2)
    exclude(bench)
    assert (bench.row().delivered_revision, bench.store.stats().delivered) == (1, 0)


@pytest.mark.parametrize(("most", "workers", "expected"), [(8, 1, 6), (4, 1, 4), (8, 2, 3), (8, 5, 2), (8, 6, 1)])
def test_several_are_claimed_and_as_many_left_to_each_other_worker(
    bench: Bench, most: int, workers: int, expected: int
) -> None:
    for number in range(1, 7):
        bench.store.add(record(study=f"1.{number}"), FOLDER)
        bench.later(1)
    bench.later(QUIET_S)
    claims = bench.store.claim(DEST, "w1", 60, most=most, workers=workers)
    assert [claim.study_uid for claim in claims] == [f"1.{number}" for number in range(1, 1 + expected)]
    assert {claim.owner for claim in claims} == {"w1"}


def test_the_first_claim_passes_over_others_that_follow(bench: Bench) -> None:
    for number in range(1, 5):
        bench.store.add(record(study=f"1.{number}"), FOLDER)
        bench.later(1)
    bench.later(QUIET_S)
    claims = bench.store.claim(DEST, "w1", 60, passed_over=2, most=3)
    assert [claim.study_uid for claim in claims] == ["1.3", "1.1", "1.2"]


def test_what_is_released_is_due_as_it_was(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    bench.store.retry(bench.claim(), 5, "not now")
    bench.later(5)
    claim = bench.claim()
    before = bench.row()
    bench.store.release([claim])
    after = bench.row()
    assert (after.state, after.attempts, after.reason) == (State.WAITING, before.attempts, "not now")
    assert replace(bench.claim("w2"), owner=claim.owner) == claim
    bench.store.release([claim])
    assert bench.state() is State.SENDING, "another one holds it"


def test_what_is_released_waits_for_what_came_meanwhile(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(2), FOLDER)
    bench.store.release([claim])
    assert bench.none_due()
    bench.later(QUIET_S)
    assert bench.claim().revision == claim.revision + 1
