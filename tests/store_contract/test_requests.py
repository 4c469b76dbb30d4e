"""What people ask of a store: send again, link again, settle the patients, forget."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from dicom2fhir.dicom.patients import Verdict
from dicom2fhir.errors import StudyBusy
from dicom2fhir.model import Attrs, InstanceRecord
from dicom2fhir.store.statuses import State
from tests.store_contract.bench import DEST, FOLDER, KINDS, QUIET_S, Bench, claimed, delivered, over, record


def test_requeue(bench: Bench) -> None:
    for study in ("1.1", "1.2", "1.3"):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        claim = bench.claim()
        if study == "1.1":
            bench.store.refuse(claim, 1, "422")
        elif study == "1.2":
            bench.store.retry(claim, 3_600, "503")
        else:
            delivered(bench.store, claim, 1, b"")
    assert bench.store.requeue(study_uid="1.3") == 0
    assert bench.store.requeue(study_uid="1.1", destination="other") == 0
    assert bench.store.requeue(study_uid="1.1", destination=DEST) == 1
    assert bench.claim().study_uid == "1.1"
    assert bench.store.requeue() == 1  # 1.1 is being sent
    claim = bench.claim()
    assert (claim.study_uid, claim.again) == ("1.2", False)
    assert bench.store.requeue(all_states=True) == 1
    claim = bench.claim()
    assert (claim.study_uid, claim.again) == ("1.3", True)


def test_what_is_refused_in_part_is_sent_again_like_what_is_refused(bench: Bench) -> None:
    """The destination has the study, without some of its secondary resources."""
    for study, refused in (("1.1", ("Observation: 422",)), ("1.2", ())):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        delivered(bench.store, bench.claim(), 1, refused=refused)
    assert [bench.store.requeue(study) for study in ("1.1", "1.2")] == [1, 0]
    assert bench.store.requeue() == 1
    claim = bench.claim()
    assert (claim.study_uid, claim.again) == ("1.1", True)
    delivered(bench.store, claim, 1)
    assert bench.store.requeue() == 0


def test_nothing_is_claimed_for_a_paused_destination(bench: Bench) -> None:
    """Also after a restart; what is being sent ends, and another destination is not concerned."""
    bench.store.set_destinations([DEST, "second"])
    for study in ("1.1", "1.2"):
        bench.store.add(record(study=study), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    with bench.beside() as store:
        assert store.pause(DEST)
        assert not store.pause(DEST)
    paused_at = bench.now
    for _ in range(2):
        assert bench.none_due()
        assert bench.store.next_due_at(DEST) is None
        assert [one.paused_at for one in bench.store.destinations()] == [paused_at, None]
        found = bench.store.study_status("1.2")
        assert found and [one.paused_at for one in found.deliveries] == [paused_at, None]
        bench.later(60)
        bench.restart().set_destinations([DEST, "second"])
    assert bench.claim(destination="second")
    assert bench.store.resume(DEST)
    assert not bench.store.resume(DEST)
    assert not bench.store.pause("third")
    assert {bench.claim("w2").study_uid, bench.claim("w2").study_uid} == {"1.1", "1.2"}
    assert claim.study_uid in ("1.1", "1.2")


def test_what_is_being_sent_when_a_destination_is_paused_is_recorded(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    assert bench.store.pause(DEST)
    delivered(bench.store, claim, 1, b"base")
    assert bench.state() is State.DELIVERED


def test_relink(bench: Bench) -> None:
    """Only what was delivered and refers to something by identifier; not what came again meanwhile."""
    for study, unlinked in (("1.1", ("Encounter",)), ("1.2", ()), ("1.3", ("Patient",)), ("1.4", ("Patient",))):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        delivered(bench.store, bench.claim(), 1, b"base", unlinked=unlinked)
    bench.store.add(record(2, study="1.4"), FOLDER)
    found = bench.store.study_status("1.1")
    assert found and found.deliveries[0].reason == "Encounter"
    assert bench.store.relink("other") == 0
    assert bench.store.relink(DEST, "1.2") == bench.store.relink(DEST, "1.9") == 0
    assert bench.store.relink(DEST, since=found.last_at + 0.5) == 1
    claim = bench.claim()
    assert (claim.study_uid, claim.again, claim.base) == ("1.3", True, b"base")
    seen: list[tuple[int, int]] = []
    assert bench.store.relink(DEST, on_progress=lambda done, total: seen.append((done, total))) == 1
    assert seen == [(4, 4)]
    assert bench.claim().study_uid == "1.1"
    delivered(bench.store, claim, 1, b"", unlinked=())
    assert bench.store.relink(DEST, "1.3") == 0


def naming(study: str, *others: str) -> InstanceRecord:
    """An instance of a study whose evidence names other studies."""
    items: list[Attrs] = [{"ReferencedSOPInstanceUID": "1.9.1"}]
    series: list[Attrs] = [{"SeriesInstanceUID": "1.9", "ReferencedSOPSequence": items}]
    evidence: list[Attrs] = [{"StudyInstanceUID": uid, "ReferencedSeriesSequence": series} for uid in (study, *others)]
    made = record(study=study)
    return replace(made, instance={**made.instance, "PertinentOtherEvidenceSequence": evidence})


def test_what_names_a_study_is_sent_again_when_that_study_is_delivered(bench: Bench) -> None:
    """Once, and not for what is no study; whoever comes first."""
    bench.store.add(naming("1.1", "1.2", "1.3"), FOLDER)
    bench.store.add(naming("1.4", "1.2"), FOLDER)
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 1, b"base", unlinked=("Encounter", "ImagingStudy"))
    delivered(bench.store, bench.claim(), 1, b"base", unlinked=("Encounter",))
    for uid in ("1.2", "1.3"):
        bench.store.add(record(study=uid), FOLDER)
        bench.later(QUIET_S)
        claim = bench.claim()
        assert claim.study_uid == uid
        delivered(bench.store, claim, 1, b"base")
        claim = bench.claim()
        assert (claim.study_uid, claim.again, claim.base) == ("1.1", True, b"base")
        delivered(bench.store, claim, 1, b"base", unlinked=("ImagingStudy",) if uid == "1.2" else ())
    bench.store.add(record(2, study="1.2"), FOLDER)
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 2, b"base")
    assert claimed(bench.store, DEST, "worker", 60) is None


def test_what_names_a_study_is_sent_again_when_a_later_revision_of_that_study_is_delivered(bench: Bench) -> None:
    """It may have been entered in error before; two that name each other and cannot be linked come to rest."""
    bench.store.add(naming("1.1", "1.2"), FOLDER)
    bench.store.add(naming("1.2", "1.1"), FOLDER)
    bench.later(QUIET_S)
    for uid in ("1.1", "1.2", "1.1"):
        claim = bench.claim()
        assert claim.study_uid == uid
        delivered(bench.store, claim, 1, b"base", unlinked=("ImagingStudy",))
    bench.store.add(record(7, study="1.2"), FOLDER)
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 2, b"base", unlinked=("ImagingStudy",))
    claim = bench.claim()
    assert (claim.study_uid, claim.again) == ("1.1", True)
    delivered(bench.store, claim, 1, b"base", unlinked=("ImagingStudy",))
    assert claimed(bench.store, DEST, "worker", 60) is None


def test_a_study_that_is_delivered_while_another_is_sent_that_names_it(bench: Bench) -> None:
    bench.store.add(naming("1.1", "1.2"), FOLDER)
    bench.store.add(record(study="1.2"), FOLDER)
    bench.later(QUIET_S)
    names_it, named = bench.claim(), bench.claim()
    delivered(bench.store, named, 1, b"base")
    delivered(bench.store, names_it, 1, b"base", unlinked=("ImagingStudy",))
    again = bench.claim()
    assert (again.study_uid, again.again) == ("1.1", True)
    delivered(bench.store, again, 1, b"base")
    assert claimed(bench.store, DEST, "worker", 60) is None


def test_what_a_destination_refused_beside_a_study_stays_until_its_next_delivery(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 1, b"", refused=("ImagingSelection: HTTP 422",))
    assert refused_of(bench) == "ImagingSelection: HTTP 422"
    bench.store.add(record(2), FOLDER)
    assert refused_of(bench) == "ImagingSelection: HTTP 422"
    bench.later(QUIET_S)
    delivered(bench.store, bench.claim(), 2, b"")
    assert refused_of(bench) == ""


def refused_of(bench: Bench) -> str:
    (study,) = bench.store.studies()
    return study.deliveries[0].refused


def test_a_request_from_another_process_leaves_leases_and_associations_alone(bench: Bench) -> None:
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.add(record(study="1.2"), over("a"))
    with bench.beside() as store:
        assert store.requeue("1.1") == 0
    delivered(bench.store, claim, 1, b"")
    assert bench.state("1.1") is State.DELIVERED
    bench.later(QUIET_S)
    assert bench.none_due()


def test_requests_are_counted_for_each_destination(bench: Bench) -> None:
    bench.store.set_destinations([DEST, "second"])
    with bench.beside() as store:
        store.requeue()
    bench.store.requeue("1.1", DEST)
    assert (bench.store.requeued(DEST), bench.store.requeued("second"), bench.store.requeued("none")) == (2, 1, 0)


# Settled


def settle(bench: Bench, *verdicts: Verdict) -> None:
    named = bench.store.patients("1.1")
    with bench.beside() as store:
        store.settle("1.1", {one.key: verdict for one, verdict in zip(named, verdicts, strict=True)})


def patient_id(bench: Bench) -> str:
    return str(bench.study().patient.get("PatientID"))


def instances(bench: Bench, study: str = "1.1") -> list[str]:
    return [one.uid for series in bench.study(study).series for one in series.instances]


def issued(number: int, issuer: str = "") -> InstanceRecord:
    made = record(number)
    return replace(made, patient={**made.patient, "IssuerOfPatientID": issuer}) if issuer else made


def test_the_patient_that_was_settled_stands_for_all_instances(bench: Bench) -> None:
    coming = [record(1), record(2, patient="P2"), record(3, patient="P2"), record(4, patient="")]
    bench.store.add_many(coming, FOLDER)
    assert bench.study().conflict
    assert [(one.patient["PatientID"], one.instances, one.verdict) for one in bench.store.patients("1.1")] == [
        ("P1", 1, None),
        ("P2", 2, None),
    ]
    bench.later(QUIET_S)
    claim = bench.claim()
    bench.store.refuse(claim, claim.revision, "conflict")
    settle(bench, Verdict.RIGHT, Verdict.WRONG)
    found = bench.study()
    assert (found.conflict, found.patient["PatientID"], found.patient["PatientName"]) == ("", "P1", "N^P1")
    assert (len(instances(bench)), found.revision) == (4, 5)
    assert "PatientID" in [note.where for note in found.notes]
    assert "P2" not in str(found.notes)
    assert bench.store.next_due_at(DEST) == bench.now
    assert bench.deliver() == "1.1"


def test_what_is_settled_holds_for_later_instances_and_not_for_another_patient(bench: Bench) -> None:
    bench.store.add_many([record(1), record(2, patient="P2")], FOLDER)
    settle(bench, Verdict.WRONG, Verdict.RIGHT)
    bench.store.add_many([record(3), record(4, patient="P2"), record(5, patient="")], FOLDER)
    assert (bench.study().conflict, patient_id(bench)) == ("", "P2")
    bench.store.add(record(6, patient="P3"), FOLDER)
    assert bench.study().conflict == "The instances contain a patient that is not covered by `dicom2fhir settle` yet."
    assert [one.patient["PatientID"] for one in bench.store.patients("1.1")] == ["P1", "P2", "P3"]
    settle(bench, Verdict.WRONG, Verdict.RIGHT, Verdict.DROPPED)
    assert bench.study().conflict == ""
    assert "1.9.6" not in instances(bench)


def test_what_is_settled_is_a_change_for_a_destination_that_is_not_in_force(bench: Bench) -> None:
    bench.store.add_many([record(1), record(2, patient="P2")], FOLDER)
    bench.store.set_destinations(["other"])
    bench.later(20)
    bench.store.settle("1.1", {one.key: Verdict.RIGHT for one in bench.store.patients("1.1")[:1]})
    bench.store.set_destinations([DEST])
    assert bench.store.next_due_at(DEST) == bench.now + QUIET_S


def test_a_correction_of_the_right_side_to_the_wrong_one_is_a_conflict_again(bench: Bench) -> None:
    bench.store.add_many([record(1), record(2, patient="P2")], FOLDER)
    settle(bench, Verdict.RIGHT, Verdict.WRONG)
    bench.store.add(record(1, patient="P2"), FOLDER)
    assert (
        bench.study().conflict
        == "The instances contain patients that `dicom2fhir settle` marked as wrong, and none that is right."
    )


def test_instances_of_a_dropped_patient_stay_away_until_it_is_undone(bench: Bench) -> None:
    bench.store.add_many([record(1), record(2, patient="P2")], FOLDER)
    settle(bench, Verdict.DROPPED, Verdict.RIGHT)
    assert instances(bench) == ["1.9.2"]
    bench.store.add_many([record(1), record(3)], FOLDER)
    assert (instances(bench), bench.study().conflict) == (["1.9.2"], "")
    bench.store.settle("1.1", {})
    assert bench.study().conflict
    assert len(instances(bench)) == 3


def test_issuers_are_settled_too(bench: Bench) -> None:
    bench.store.add_many([issued(1, "A"), issued(2, "B"), issued(3), issued(4, "B")], FOLDER)
    assert "issuers" in bench.study().conflict
    assert [one.instances for one in bench.store.patients("1.1")] == [1, 2]
    settle(bench, Verdict.RIGHT, Verdict.WRONG)
    assert (bench.study().conflict, bench.study().patient["IssuerOfPatientID"]) == ("", "A")


def test_the_order_of_arrival_does_not_matter_once_it_is_settled(bench: Bench, tmp_path: Path) -> None:
    records = [record(number, patient=f"P{number % 3}") for number in range(9)]
    bench.store.add_many(records, FOLDER)
    settle(bench, Verdict.RIGHT, Verdict.WRONG, Verdict.DROPPED)
    keys = {one.key: one.verdict for one in bench.store.patients("1.1") if one.verdict}
    random.Random(3).shuffle(records)
    for name, kind in KINDS.items():
        (tmp_path / name).mkdir()
        other = Bench(kind(tmp_path / name))
        try:
            for one in records:
                other.store.add(one, FOLDER)
            other.store.settle("1.1", keys)
            assert other.study() == bench.study()
        finally:
            other.store.close()


def test_a_study_that_is_settled_while_it_is_sent_is_sent_again(bench: Bench) -> None:
    bench.store.add_many([record(1), record(2, patient="P2")], FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    settle(bench, Verdict.RIGHT, Verdict.WRONG)
    bench.store.refuse(claim, claim.revision, "conflict")
    bench.later(QUIET_S)
    assert bench.deliver() == "1.1"


def test_what_is_settled_outlives_the_daemon(bench: Bench) -> None:
    bench.store.add_many([record(1), record(2, patient="P2")], FOLDER)
    settle(bench, Verdict.RIGHT, Verdict.WRONG)
    bench.restart()
    assert bench.study().conflict == ""


# Forgotten


def forget(bench: Bench, study: str = "1.1") -> bool:
    with bench.beside() as store:
        return store.forget(study)


def test_nothing_is_told_of_a_study_that_is_forgotten(bench: Bench) -> None:
    bench.store.add_many([record(1), record(2, patient="P2")], over("a"))
    settle(bench, Verdict.RIGHT, Verdict.WRONG)
    assert bench.deliver() == "1.1"
    bench.store.add(record(3, study="1.2"), FOLDER)
    assert forget(bench)
    store = bench.store
    assert (store.study("1.1"), store.study_status("1.1"), store.patients("1.1")) == (None, None, [])
    stats = store.stats()
    assert (stats.studies, stats.series, stats.instances, stats.delivered, stats.waiting) == (1, 1, 1, 0, 1)
    assert not forget(bench)


@pytest.mark.parametrize("others_first", [False, True])
def test_what_comes_again_makes_the_study_anew(bench: Bench, others_first: bool) -> None:
    bench.store.add_many([record(1), record(2)], over("a"))  # the daemon knows the study's rows now
    assert forget(bench)
    if others_first:
        with bench.beside() as store:
            store.add_many([record(9, study="1.2")], FOLDER)  # which must not get the number that the daemon knows
    bench.store.add(record(1), over("a"))
    assert instances(bench) == ["1.9.1"]
    assert bench.study().revision == 1
    if others_first:
        assert instances(bench, "1.2") == ["1.9.9"]
        bench.store.add(record(2), over("a"))
        assert (instances(bench), instances(bench, "1.2")) == (["1.9.1", "1.9.2"], ["1.9.9"])


def test_a_study_that_is_being_sent_is_not_forgotten(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    claim = bench.claim()
    with pytest.raises(StudyBusy):
        forget(bench)
    delivered(bench.store, claim, claim.revision, b"base")
    assert forget(bench)
    delivered(bench.store, claim, claim.revision, b"base")  # too late, and to no effect
    assert bench.store.stats().delivered == 0


def test_the_lease_of_a_daemon_that_is_gone_does_not_keep_a_study(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    bench.later(QUIET_S)
    bench.claim()
    bench.store.close()
    assert forget(bench)
    assert bench.restart().stats().sending == 0


def test_states_of_a_forgotten_study_are_counted_no_more(bench: Bench) -> None:
    bench.store.set_mapping_fingerprint(DEST, "R5")
    for number in range(3):
        bench.store.add(record(number, study=f"1.{number}"), FOLDER)
    bench.later(QUIET_S)
    bench.deliver(fingerprint="R4")
    claim = bench.claim()
    bench.store.refuse(claim, claim.revision, "no")
    for number in range(3):
        assert forget(bench, f"1.{number}")
    assert [getattr(bench.store.stats(), state) for state in State] == [0] * len(State)
    assert [sum(one.others.values()) for one in bench.store.destinations()] == [0]
