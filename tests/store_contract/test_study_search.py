"""How a store finds studies, and what it tells of their deliveries and of what came and went."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.model import Attrs, InstanceRecord, Origin
from dicom2fhir.outcomes import Delivered
from dicom2fhir.store.base import Success
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import (
    KEPT_ATTEMPTS,
    KEPT_COUNTS_S,
    AttemptOutcome,
    FoundStudy,
    MinuteCounts,
    PastAttempt,
    Sender,
    SeriesSummary,
    SourceFolder,
    StudyAttempt,
    StudyFilter,
)
from tests.store_contract.bench import DEST, FOLDER, QUIET_S, Bench, changes, delivered, over, record, step

ANY = StudyFilter()


def uids(bench: Bench, wanted: StudyFilter = ANY) -> list[str]:
    """What is found once the index is up to date."""
    return [one.status.study_uid for one in found(bench, wanted)]


def found(bench: Bench, wanted: StudyFilter = ANY) -> list[FoundStudy]:
    while bench.store.update_index():
        pass
    return [*bench.store.find_studies(wanted)]


def described(number: int, study: str, modality: str = "CT", **attrs: str) -> InstanceRecord:
    """With attributes of the study."""
    made = record(number, study=study)
    return replace(made, study={**made.study, **attrs}, series={"Modality": modality})


@pytest.fixture
def filled(bench: Bench) -> Bench:
    """Three studies, of which the first was delivered and the second refused."""
    bench.store.add(described(1, "1.1", AccessionNumber="A1"), over("a", "CT1"))
    bench.later(1)
    bench.store.add(described(1, "1.2", "MR", AccessionNumber="A2", StudyDate="20240103"), over("b", "MR1"))
    bench.store.add(described(2, "1.2", "PT", AccessionNumber="A2", StudyDate="20240103"), over("c", "CT1"))
    for association in "abc":
        bench.store.association_ended(association)
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 1, accepted=True)
    bench.store.refuse(bench.claim(), 2, "HTTP 422: no")
    bench.store.add(record(1, study="1.3", patient="P9"), Origin("folder", folder="/inbox"))
    return bench


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ANY, ["1.3", "1.2", "1.1"]),
        (StudyFilter(study_uid="1.2"), ["1.2"]),
        (StudyFilter(study_uid="1"), []),
        (StudyFilter(accession_number="A1 "), ["1.1"]),
        (StudyFilter(accession_number="a1"), []),
        (StudyFilter(modality="CT"), ["1.3", "1.1"]),
        (StudyFilter(modality="PT"), ["1.2"]),
        (StudyFilter(study_date="20240102"), ["1.3", "1.1"]),
        (StudyFilter(study_date="20240101-20240102"), ["1.3", "1.1"]),
        (StudyFilter(study_date="20240102-20240103"), ["1.2", "1.3", "1.1"]),
        (StudyFilter(study_date="20240103-"), ["1.2"]),
        (StudyFilter(study_date="-20240102"), ["1.3", "1.1"]),
        (StudyFilter(study_date="20240104-20250101"), []),
        (StudyFilter(study_date="20240103-20240101"), []),
        (StudyFilter(study_date="-"), []),
        (StudyFilter(study_date="20240102-", modality="CT"), ["1.3", "1.1"]),
        (StudyFilter(study_date="20240102-", destination=DEST), ["1.2", "1.3", "1.1"]),
        (StudyFilter(study_date="20240102-", state=State.DELIVERED), ["1.1"]),
        (StudyFilter(study_date="20240102-", state=State.REFUSED), ["1.2"]),
        (StudyFilter(study_date="-20240102", state=State.REFUSED), []),
        (StudyFilter(study_date="-20240102", accession_number="A1"), ["1.1"]),
        (StudyFilter(study_date="20240103-", accession_number="A1"), []),
        (StudyFilter(calling_ae_title="CT1"), ["1.2", "1.1"]),
        (StudyFilter(folder="/inbox"), ["1.3"]),
        (StudyFilter(folder="/inbox", modality="MR"), []),
        (StudyFilter(calling_ae_title="CT1", modality="MR"), ["1.2"]),
        (StudyFilter(calling_ae_title="MR1", modality="CT"), []),
        (StudyFilter(state=State.REFUSED), ["1.2"]),
        (StudyFilter(state=State.DELIVERED), ["1.1"]),
        (StudyFilter(state=State.WAITING, destination=DEST), ["1.3"]),
        (StudyFilter(state=State.WAITING, destination="other"), []),
        (StudyFilter(destination=DEST), ["1.3", "1.2", "1.1"]),
        (StudyFilter(destination="other"), []),
        (StudyFilter(state=State.REFUSED, modality="MR"), ["1.2"]),
        (StudyFilter(state=State.REFUSED, modality="CT"), []),
        (StudyFilter(state=State.REFUSED, accession_number="A1"), []),
        (StudyFilter(state=State.DELIVERED, modality="CT"), ["1.1"]),
        (StudyFilter(patient_id="P9"), ["1.3"]),
        (StudyFilter(patient_name="n p1"), ["1.2", "1.1"]),
        (StudyFilter(patient_name="n p"), []),
        (StudyFilter(is_conflict=True), []),
    ],
)
def test_studies_are_found_by_each_criterion(filled: Bench, wanted: StudyFilter, expected: list[str]) -> None:
    assert uids(filled, wanted) == expected


def test_what_is_found_of_a_study(filled: Bench) -> None:
    (study,) = found(filled, StudyFilter(study_uid="1.2"))
    status = filled.store.study_status("1.2")
    assert status and study.status == replace(status, without_content=None)
    assert (study.study_date, study.modalities, study.accession_numbers) == ("20240103", ("MR", "PT"), ("A2",))
    assert (study.calling_ae_titles, study.folders, study.is_conflict) == (("CT1", "MR1"), (), False)


def test_pages_follow_each_other(bench: Bench) -> None:
    bench.store.set_destinations([DEST, "second"])
    expected: list[str] = []
    for number in range(7):
        bench.store.add(record(study=f"1.{number}"), FOLDER)
        expected.insert(0, f"1.{number}")
        bench.later(number % 2)  # some have changed at the same time
    for wanted in (ANY, StudyFilter(modality="CT"), StudyFilter(state=State.WAITING)):
        first = found(bench, wanted)[:3]
        listed = [*first]
        while page := bench.store.find_studies(wanted, listed[-1].position, 3):
            assert len(page) <= 3
            listed += page
        assert [one.status.study_uid for one in listed] == expected


def test_pages_of_a_range_of_dates_follow_each_other(bench: Bench) -> None:
    for number in range(7):
        day = f"2024010{number % 3 + 1}"
        bench.store.add(described(1, f"1.{number}", StudyDate=day), FOLDER)
        bench.store.add(described(2, f"1.{number}", "MR", StudyDate="20240102"), FOLDER)  # some have two dates
        bench.later(1)
    wanted = StudyFilter(study_date="20240101-20240103")
    first = found(bench, wanted)[:3]
    listed = [*first]
    while page := bench.store.find_studies(wanted, listed[-1].position, 3):
        listed += page
    assert [one.status.study_uid for one in listed] == ["1.5", "1.2", "1.6", "1.4", "1.3", "1.1", "1.0"]


def test_what_was_sent_last_is_kept_for_each_destination(bench: Bench) -> None:
    bench.store.set_destinations([DEST, "second"])
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 1, b"sent")
    assert bench.store.last_sent("1.1") == {DEST: b"sent"}
    assert bench.store.last_sent("1.2") == {}
    bench.store.set_destinations(["second"])
    assert bench.store.last_sent("1.1") == {}


def test_an_order_finds_its_study_by_accession_number(bench: Bench) -> None:
    orders: list[Attrs] = [{"AccessionNumber": "R7"}]
    ordered = replace(record(), series={"Modality": "CT", "RequestAttributesSequence": orders})
    bench.store.add(ordered, FOLDER)
    bench.store.create_step(step(study="1.2"), over("m", "MOD"))
    assert uids(bench, StudyFilter(accession_number="R7")) == ["1.1"]
    assert uids(bench, StudyFilter(accession_number="A1")) == ["1.2"]
    assert uids(bench, StudyFilter(calling_ae_title="MOD")) == ["1.2"]


def test_a_change_is_found_once_the_study_is_quiet(bench: Bench) -> None:
    bench.store.add(described(1, "1.1", AccessionNumber="A1"), FOLDER)
    assert uids(bench, StudyFilter(accession_number="A1")) == ["1.1"]
    bench.later(1)
    bench.store.add(described(1, "1.1", AccessionNumber="A2"), FOLDER)
    bench.later(2)
    assert uids(bench, StudyFilter(accession_number="A2")) == ["1.1"]
    assert uids(bench, StudyFilter(accession_number="A1")) == []


def test_a_study_that_still_arrives_is_found_after_a_while(bench: Bench) -> None:
    bench.store.add(record(1), FOLDER)
    assert uids(bench) == ["1.1"]
    for number in range(2, 18):
        bench.later(1)
        bench.store.add(described(number, "1.1", "MR"), FOLDER)
        bench.store.update_index()
    assert [one.status.study_uid for one in bench.store.find_studies(StudyFilter(modality="MR"))] == ["1.1"]


def test_a_second_sender_of_the_same_instances_is_found(bench: Bench) -> None:
    bench.store.add(record(), over("a", "CT1"))
    bench.later(100)
    assert uids(bench) == ["1.1"]
    bench.store.add(record(), over("b", "PACS"))
    assert uids(bench, StudyFilter(calling_ae_title="PACS")) == ["1.1"]


def test_the_same_instances_from_a_folder_are_found_there(bench: Bench) -> None:
    bench.store.add(record(), over("a", "CT1"))
    bench.later(100)
    assert uids(bench) == ["1.1"]
    bench.store.add(record(), Origin("folder", folder="/inbox"))
    (study,) = found(bench, StudyFilter(folder="/inbox"))
    assert (study.status.revision, study.calling_ae_titles, study.folders) == (1, ("CT1",), ("/inbox",))
    assert bench.store.stated("1.1")["calling_ae_title"] == ("CT1",)


def test_a_change_is_found_after_the_clock_was_set_back(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    assert uids(bench) == ["1.1"]
    bench.set_clock(-86_400)
    bench.store.next_due_at(DEST)
    bench.store.add(described(2, "1.1", "MR"), FOLDER)
    bench.later(20)
    assert uids(bench, StudyFilter(modality="MR")) == ["1.1"]


def test_conflicts_are_found_until_they_are_settled(bench: Bench) -> None:
    bench.store.add(record(1, patient="P1"), FOLDER)
    bench.store.add(record(2, patient="P2"), FOLDER)
    (study,) = found(bench, StudyFilter(is_conflict=True))
    assert study.is_conflict
    first, second = bench.store.patients("1.1")
    bench.store.settle("1.1", {first.key: Verdict.RIGHT, second.key: Verdict.DROPPED})
    bench.later(2)
    assert uids(bench, StudyFilter(is_conflict=True)) == []


def test_what_was_forgotten_is_not_found(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.store.add(record(study="1.2"), FOLDER)
    assert uids(bench) == ["1.2", "1.1"]
    assert bench.store.forget("1.1")
    assert uids(bench) == ["1.2"]
    assert bench.store.study_details("1.1") is None
    bench.store.add(record(), FOLDER)
    assert uids(bench) == ["1.1", "1.2"]
    assert [one.received for one in bench.store.counts(0)] == [3]


def test_series_and_sources_of_a_study(bench: Bench) -> None:
    bench.store.add(replace(record(1), series={"Modality": "CT", "SeriesDescription": "Thorax"}), over("a", "CT1"))
    first_at = bench.now
    bench.later(5)
    bench.store.add(record(2, series="1.1.2"), over("b", "WS"))
    bench.store.add(record(3, series="1.1.2"), over("b", "WS"))
    details = bench.store.study_details("1.1")
    assert details
    assert details.series == (SeriesSummary("1.1.1", "CT", "Thorax", 1), SeriesSummary("1.1.2", "CT", "", 2))
    bench.later(5)
    bench.store.add(record(3, series="1.1.2"), Origin("folder", folder="/inbox"))
    details = bench.store.study_details("1.1")
    assert details and details.senders == (Sender("CT1", first_at), Sender("WS", first_at + 5))
    assert details.folders == (SourceFolder("/inbox", first_at + 10),)


def attempts(bench: Bench) -> list[PastAttempt]:
    details = bench.store.study_details("1.1")
    assert details
    return [*details.attempts]


def test_each_attempt_is_kept_with_its_answer(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    at = []
    for answer in ("HTTP 503", "HTTP 503", "HTTP 500"):
        bench.store.retry(bench.claim(), 10, answer)
        at.append(bench.now)
        bench.later(10)
    bench.store.refuse(bench.claim(), 1, "HTTP 422: no")
    at.append(bench.now)
    bench.store.requeue()
    delivered(bench.store, bench.claim(), 1, refused=("Observation: no",), accepted=True)
    bench.store.requeue(all_states=True)
    claim = bench.claim()
    bench.later(1)
    bench.store.delivered([Success(claim, 1, Delivered(b"", written=False))])
    bench.store.requeue(all_states=True)
    bench.later(1)
    bench.store.exclude(bench.claim(), "only.modality", "")
    assert [(one.outcome, one.answer, one.times) for one in attempts(bench)][:3] == [
        (AttemptOutcome.EXCLUDED, "only.modality", 1),
        (AttemptOutcome.UNCHANGED, "", 1),
        (AttemptOutcome.WRITTEN, "Observation: no", 1),
    ]
    assert attempts(bench)[3:] == [
        PastAttempt(DEST, at[3], 1, AttemptOutcome.REFUSED, "HTTP 422: no"),
        PastAttempt(DEST, at[2], 1, AttemptOutcome.FAILED, "HTTP 500"),
        PastAttempt(DEST, at[1], 1, AttemptOutcome.FAILED, "HTTP 503", times=2),
    ]
    assert bench.restart().study_details("1.1") == bench.store.study_details("1.1")


def test_the_oldest_attempts_are_forgotten(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    for number in range(KEPT_ATTEMPTS + 3):
        bench.store.retry(bench.claim(), 1, f"failure {number}")
        bench.later(1)
    answers = [one.answer for one in attempts(bench)]
    assert (len(answers), answers[0], answers[-1]) == (KEPT_ATTEMPTS, f"failure {KEPT_ATTEMPTS + 2}", "failure 3")


def test_the_latest_attempts_of_all_studies(bench: Bench) -> None:
    at = []
    for study in ("1.1", "1.2", "1.3"):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        bench.store.refuse(bench.claim(), 1, f"HTTP 422: {study}")
        at.append(bench.now)
    refused = AttemptOutcome.REFUSED
    expected = [
        StudyAttempt(study, PastAttempt(DEST, at[place], 1, refused, f"HTTP 422: {study}"))
        for place, study in ((2, "1.3"), (1, "1.2"), (0, "1.1"))
    ]
    assert bench.store.recent_attempts(0) == expected
    assert bench.store.recent_attempts(at[1]) == expected[:2]
    assert bench.store.recent_attempts(0, 1) == expected[:1]


def test_counts_over_time(bench: Bench) -> None:
    bench.later(-bench.now % 60)
    start = bench.now
    bench.store.add_many([record(1), record(2), record(2)], FOLDER)
    bench.store.update_index()
    bench.later(120)
    bench.store.add(record(3), FOLDER)
    bench.store.add(record(3), FOLDER)
    bench.store.update_index()
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 3, accepted=True)
    assert bench.store.counts(0) == [MinuteCounts(start, 2, 0), MinuteCounts(start + 120, 1, 1)]
    assert bench.store.counts(start + 60) == [MinuteCounts(start + 120, 1, 1)]
    bench.later(KEPT_COUNTS_S - 60)
    bench.store.add(record(4), FOLDER)
    bench.store.update_index()
    assert [one.at - start for one in bench.store.counts(0)] == [120.0, KEPT_COUNTS_S + 60.0]


def test_the_index_after_a_crash_is_the_one_that_is_built_anew(bench: Bench) -> None:
    """What was stored and not yet indexed when the daemon ended is found by the next one."""
    for number in range(30):
        sent = described(number, f"1.{number % 7}", AccessionNumber=f"A{number}")
        bench.store.add(sent, over(f"a{number % 3}", f"CT{number % 3}"))
        if number % 4 == 0:
            bench.store.update_index()
        if number % 10 == 9:
            bench.restart()
    bench.store.create_step(step(study="1.9"), over("m", "MOD"))
    bench.store.update_step("1.6.1", changes("DISCONTINUED"))
    bench.restart()
    bench.later(20)
    assert {one.status.study_uid: (one.accession_numbers, one.calling_ae_titles) for one in found(bench)} == {
        **{
            f"1.{study}": (
                tuple(sorted(f"A{number}" for number in range(study, 30, 7))),
                tuple(sorted({f"CT{number % 3}" for number in range(study, 30, 7)})),
            )
            for study in range(7)
        },
        "1.9": (("A1",), ("MOD",)),
    }
