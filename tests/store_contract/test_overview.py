"""What a store tells of destinations, studies, refusals and files."""

from __future__ import annotations

from dataclasses import replace

from dicom2fhir.model import Note, Origin
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.statuses import DestinationStatus, Rejection, State
from tests.store_contract.bench import DEST, FOLDER, QUIET_S, Bench, delivered, over, record


def test_a_new_destination_gets_every_study(bench: Bench) -> None:
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.add(record(study="1.2"), FOLDER)
    bench.store.set_destinations([DEST, "second"])
    assert bench.claim(destination="second").study_uid == "1.1"
    assert bench.none_due("second")
    bench.later(QUIET_S)
    assert bench.claim(destination="second").study_uid == "1.2"


def test_a_destination_left_out_gets_nothing_and_comes_back(bench: Bench) -> None:
    bench.store.add(record(study="1.1"), FOLDER)
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.add(record(study="1.2"), FOLDER)
    bench.later(QUIET_S)
    bench.deliver()
    bench.store.set_destinations([])
    bench.store.add(record(2, study="1.1"), FOLDER)
    bench.store.add(record(study="1.3"), FOLDER)
    bench.later(QUIET_S)
    assert bench.none_due()
    assert bench.store.next_due_at(DEST) is None
    assert bench.store.requeue(all_states=True) == 0
    stats = bench.store.stats()
    assert (stats.waiting, stats.delivered, stats.oldest_undelivered_at) == (0, 0, None)
    assert bench.store.oldest_undelivered() is None
    status = bench.status()
    assert status.deliveries == ()
    assert bench.store.studies(State.WAITING) == []
    bench.store.set_destinations([DEST])
    assert {bench.claim(f"w{number}").study_uid for number in range(2)} == {"1.1", "1.3"}
    assert bench.state("1.2") is State.DELIVERED


def others(bench: Bench, destination: str = DEST) -> dict[str, int]:
    return next(dict(found.others) for found in bench.store.destinations() if found.name == destination)


def test_deliveries_made_with_another_mapping_are_counted(bench: Bench) -> None:
    bench.store.set_mapping_fingerprint(DEST, "R4 base@1")
    for study in ("1.1", "1.2", "1.3"):
        bench.store.add(record(study=study), FOLDER)
    bench.later(QUIET_S)
    for claim in [bench.claim(f"w{number}") for number in range(3)]:
        delivered(bench.store, claim, 1, b"", "R4 base@1")
    assert bench.store.destinations() == [DestinationStatus(DEST, "R4 base@1", {})]
    bench.restart().set_destinations([DEST, "second"])
    bench.store.set_mapping_fingerprint(DEST, "R4 osiris@2")
    assert bench.store.destinations() == [
        DestinationStatus(DEST, "R4 osiris@2", {"R4 base@1": 3}),
        DestinationStatus("second", "", {}),
    ]
    assert bench.store.requeue("1.1", DEST, all_states=True) == 1
    assert others(bench) == {"R4 base@1": 2}, "what waits will be sent anyway"
    claim = bench.claim()
    delivered(bench.store, claim, 1, b"", "R4 osiris@2")
    assert others(bench) == {"R4 base@1": 2}
    bench.store.add(record(2, study="1.2"), FOLDER)
    assert others(bench) == {"R4 base@1": 1}
    bench.store.set_destinations(["second"])
    assert [found.name for found in bench.store.destinations()] == ["second"]


def test_a_destination_that_speaks_another_version_than_it_did_tells_by_its_deliveries(bench: Bench) -> None:
    for study, fingerprint in (("1.1", "R4 base@1"), ("1.2", "R5 base@1"), ("1.3", "")):
        bench.store.add(record(study=study), FOLDER)
        bench.later(QUIET_S)
        delivered(bench.store, bench.claim(), 1, b"", fingerprint)
    assert bench.store.destinations() == [DestinationStatus(DEST, "R5 base@1", {"": 1, "R4 base@1": 1})]


def test_stats_and_the_latest_studies(bench: Bench) -> None:
    bench.store.set_destinations([DEST, "second"])
    for number, study in enumerate(("1.1", "1.2", "1.3")):
        bench.store.add(record(number, study=study), FOLDER)
        bench.store.add(record(number + 10, study=study), FOLDER)
        bench.later(1)
    first_at = bench.now - 3
    bench.later(QUIET_S)
    bench.deliver()
    claim = bench.claim()
    bench.store.refuse(claim, claim.revision, "422")
    bench.claim()
    bench.store.mark_file(FileMark("/in/x", 1, 2, "skipped"))
    bench.store.reject(Rejection(1.0, FOLDER, "no UID"))
    stats = bench.store.stats()
    assert (stats.studies, stats.series, stats.instances) == (3, 3, 6)
    assert (stats.waiting, stats.sending, stats.delivered, stats.refused) == (3, 1, 1, 1)
    assert (stats.rejected, stats.skipped) == (1, 1)
    assert stats.oldest_undelivered_at == first_at
    oldest = bench.store.oldest_undelivered()
    assert oldest and (oldest.study, oldest.since) == (bench.store.studies()[-1], first_at)
    assert oldest.destination == "second"
    bench.store.add(record(5, study="1.1"), FOLDER)
    assert [status.study_uid for status in bench.store.studies()] == ["1.1", "1.3", "1.2"]
    assert [status.study_uid for status in bench.store.studies(limit=1)] == ["1.1"]
    assert [status.study_uid for status in bench.store.studies(State.REFUSED)] == ["1.2"]
    assert [status.study_uid for status in bench.store.studies(State.WAITING)] == ["1.1", "1.3", "1.2"]
    assert [status.study_uid for status in bench.store.studies(State.WAITING, limit=2)] == ["1.1", "1.3"]
    (status,) = bench.store.studies(State.REFUSED)
    assert [(row.destination, row.state, row.attempts, row.reason) for row in status.deliveries] == [
        (DEST, State.REFUSED, 1, "422"),
        ("second", State.WAITING, 0, ""),
    ]


def test_file_marks(bench: Bench) -> None:
    odd = "/in/\udcff.dcm"
    assert bench.store.file_mark(odd) is None
    mark = FileMark(odd, 10, 20, "skipped", "not DICOM")
    bench.store.mark_file(mark)
    bench.store.mark_file(mark)
    assert bench.store.file_mark(odd) == mark
    assert bench.store.stats().skipped == 1
    bench.store.mark_file(replace(mark, outcome="taken", mtime_ns=21))
    assert bench.store.stats().skipped == 0
    assert bench.restart().file_mark(odd) == replace(mark, outcome="taken", mtime_ns=21)


def test_rejections_newest_first(bench: Bench) -> None:
    origin = Origin("folder", peer="10.0.0.1", path="/in/\udcff.dcm")
    bench.store.reject(Rejection(1.0, origin, "first", "cannot_understand"))
    bench.store.reject(Rejection(2.0, over("a"), "x" * 100_000))
    latest, first = bench.store.rejections()
    assert first == Rejection(1.0, origin, "first", "cannot_understand")
    assert latest.origin == over("a")
    assert len(latest.reason) == 4_000
    assert bench.store.rejections(limit=1) == [latest]
    stats = bench.store.stats()
    assert (stats.rejected, stats.rejected_by_kind) == (2, {"": 1, "cannot_understand": 1})


def test_rejections_are_forgotten_up_to_a_time_and_stay_counted(bench: Bench) -> None:
    for at in (1.0, 2.0, 2.5):
        bench.store.reject(Rejection(at, over("a"), f"at {at}"))
    assert bench.store.forget_rejections(0.5) == 0
    assert bench.store.forget_rejections(2.0) == 2
    assert [one.reason for one in bench.store.rejections()] == ["at 2.5"]
    assert [one.reason for one in bench.restart().rejections()] == ["at 2.5"]
    assert bench.store.stats().rejected == 3
    bench.store.reject(Rejection(3.0, over("a"), "later"))
    assert [one.reason for one in bench.store.rejections()] == ["later", "at 2.5"]


def test_what_another_reader_read_is_outdated_until_it_is_read_again(bench: Bench) -> None:
    bench.restart(reader="one")
    marks_before = [FileMark("/a", 1, 2, "taken"), FileMark("/b", 1, 2, "skipped")]
    bench.store.add_many([record(1), record(2)], FOLDER, marks_before)
    assert (bench.store.stats().outdated, bench.store.outdated_studies()) == (0, [])
    bench.restart(reader="two")
    bench.store.add(record(3, study="1.2"), FOLDER)
    marks = bench.store.file_marks(["/a", "/b"])
    assert all(mark.by_other_reader for mark in marks.values())
    assert [mark.holds_for(1, 2) for mark in marks.values()] == [True, False]
    assert bench.store.stats().outdated == 1
    assert [study.study_uid for study in bench.store.outdated_studies()] == ["1.1"]
    bench.store.mark_file(FileMark("/b", 1, 2, "skipped"))
    mark = bench.store.file_mark("/b")
    assert mark is not None and mark.holds_for(1, 2)
    bench.store.add(record(1), FOLDER)
    assert bench.store.stats().outdated == 1, "another instance is still as the other reader read it"
    bench.store.add(record(2), FOLDER)
    assert (bench.store.stats().outdated, bench.status().revision) == (0, 2)


def test_whether_somebody_still_sends_a_study(bench: Bench) -> None:
    bench.store.add(record(), over("a"))
    assert bench.status().association_open
    bench.store.association_ended("a")
    assert not bench.status().association_open


def test_documents_without_their_content_are_counted(bench: Bench) -> None:
    """Once each; other notes do not count."""
    said = Note("warning", "EncapsulatedDocument", "is longer than allowed"), Note("warning", "ContentTime", "odd")
    bench.add(replace(record(1), notes=said))
    bench.add(replace(record(2), notes=said[1:]))
    bench.add(record(3))
    assert bench.status().without_content == 1
