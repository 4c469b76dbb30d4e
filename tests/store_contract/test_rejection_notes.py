"""What a store keeps of rejection notes, and what they take out of studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import CannotUnderstand
from dicom2fhir.model import Attrs, Code, InstanceRecord, Note, Origin, Study
from dicom2fhir.store.statuses import RejectionReason, State
from tests.examples import examples
from tests.store_contract.bench import (
    DEST,
    EVERY_KIND,
    FOLDER,
    KINDS,
    LEASE_S,
    MAX_WAIT_S,
    QUIET_S,
    Bench,
    changes,
    claimed,
    delivered,
    notification,
    over,
    record,
    rejection_note,
    step,
)

TRUSTED = replace(FOLDER, may_reject=True)
ARCHIVE = Origin("dimse", calling_ae="ARCHIVE", association="a", may_reject=True)
CODES = ["113001", "113037", "113038", "113039"]


def left(study: Study) -> list[str]:
    """The instances that remain."""
    return [instance.uid for series in study.series for instance in series.instances]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_note_takes_instances_out_whether_it_comes_before_or_after_them(
    bench: Bench, is_first: bool, code: str
) -> None:
    if is_first:
        bench.add(rejection_note([1], code), TRUSTED)
    bench.add(record(1))
    bench.add(record(2))
    if not is_first:
        bench.add(rejection_note([1], code), TRUSTED)
    study = bench.study()
    # a note about quality stays beside what is left
    assert left(study) == (["1.9.2", "1.9.90"] if code == "113001" else ["1.9.2"])
    assert study.rejected_for == ""
    assert (bench.status().rejected, bench.status().instances) == (1, 3)


@pytest.mark.parametrize("code", CODES)
def test_a_study_that_is_rejected_as_a_whole_stays_known(bench: Bench, code: str) -> None:
    bench.add(record(1))
    bench.add(rejection_note([1], code), TRUSTED)
    study = bench.study()
    assert (study.series, study.rejected_for, study.is_announced) == ((), code, False)
    assert study.patient == record(1).patient
    bench.restart()
    assert bench.study() == study


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("notes", [["part"], ["part", "whole"]], ids=" and ".join)
def test_a_part_or_all_is_rejected_in_each_order(bench: Bench, code: str, notes: list[str]) -> None:
    for number, order in enumerate(permutations(["first", "second", *notes])):
        study = f"1.{number}"
        arriving = {
            "first": record(1, study=study),
            "second": record(2, study=study),
            "part": rejection_note([1], code, study),
            "whole": rejection_note([1, 2], code, study, number=91),
        }
        for what in order:
            bench.add(arriving[what], TRUSTED)
        found = bench.study(study)
        quality = ["1.9.90"] if code == "113001" else []  # its note stays beside what is left
        expected = ([], code) if "whole" in notes else (["1.9.2", *quality], "")
        assert (left(found), found.rejected_for) == expected, order


BLURRED: Attrs = {"CodeValue": "111210", "CodingSchemeDesignator": "DCM", "CodeMeaning": "Motion blur"}
CUT: Attrs = {"CodeValue": "CUT", "CodingSchemeDesignator": "99SYN"}


def modifiers(study: Study) -> tuple[Code, ...]:
    """Those of the notes that reject a study as a whole."""
    assert study.rejection is not None
    return study.rejection.modifiers


def test_modifiers_of_the_title_are_kept_and_shown(bench: Bench) -> None:
    """Of the notes with the title that counts, and of each reason how many instances."""
    for number in (1, 2):
        bench.add(record(number))
    bench.add(rejection_note([1], "113001", modifiers=[BLURRED, CUT, BLURRED]), TRUSTED)
    bench.add(rejection_note([1], "113038", number=91, modifiers=[CUT]), TRUSTED)
    assert modifiers(bench.study()) == (), "something is left"
    bench.add(rejection_note([2], "113001", number=92), TRUSTED)
    assert modifiers(bench.study()) == (Code("CUT", "99SYN", ""),)
    assert bench.status().rejections == (
        RejectionReason("113001", (), 1),
        RejectionReason("113001", ("Motion blur", "CUT"), 1),
        RejectionReason("113038", ("CUT",), 1),
    )


def test_modifiers_that_come_later_change_the_study_and_nothing_that_was_restored(bench: Bench) -> None:
    bench.add(record(1))
    bench.add(record(2))
    bench.add(rejection_note([1, 2], "113039"), TRUSTED)
    bench.add(record(1), over("a"))
    assert left(bench.study()) == ["1.9.1"]
    revisions = [bench.study().revision]
    for _ in range(2):
        bench.add(rejection_note([1, 2], "113039", modifiers=[CUT]), TRUSTED)
        revisions.append(bench.study().revision)
        assert left(bench.study()) == ["1.9.1"]
        assert bench.status().rejections == (RejectionReason("113039", ("CUT",), 1),)
    assert revisions[0] < revisions[1] == revisions[2]


def test_modifiers_are_kept_of_a_forgotten_study(bench: Bench) -> None:
    bench.add(record(1))
    bench.add(rejection_note([1], "113001", modifiers=[BLURRED]), TRUSTED)
    assert bench.store.forget("1.1")
    assert bench.status().rejections == (RejectionReason("113001", ("Motion blur",), 1),)


def test_a_note_with_many_and_long_modifiers_keeps_some(bench: Bench) -> None:
    many: list[Attrs] = [{**CUT, "CodeValue": f"C{number}", "CodeMeaning": "x" * 10_000} for number in range(1_000)]
    bench.add(rejection_note([1], modifiers=[*many, {**CUT, "CodeValue": "C" * 10_000}]), TRUSTED)
    ((_, words, _),) = map(astuple, bench.status().rejections)
    assert words == ("x" * 64,) * 16


def test_the_gravest_code_of_several_notes_counts(bench: Bench) -> None:
    bench.add(record(1))
    for number, code in enumerate(["113039", "113037", "113001"]):
        bench.add(rejection_note([1], code, number=90 + number), TRUSTED)
    assert bench.study().rejected_for == "113037"


def test_a_note_of_another_study_makes_both_due(bench: Bench) -> None:
    bench.add(record(1))
    bench.later(QUIET_S)
    bench.deliver()
    bench.add(rejection_note([1], study="1.2", of="1.1"), TRUSTED)
    assert bench.state("1.1") is State.WAITING
    assert bench.study("1.1").rejected_for == "113037"
    assert left(bench.study("1.2")) == ["1.9.90"]  # a note alone in its study stays
    assert bench.wait_s() == QUIET_S


def test_a_study_of_which_only_a_note_is_known_is_kept(bench: Bench) -> None:
    bench.add(rejection_note([1], study="1.2", of="1.1"), TRUSTED)
    assert bench.study("1.1").is_announced
    bench.restart()
    bench.add(record(1))
    assert bench.study("1.1").rejected_for == "113037"


def test_a_note_that_is_repeated_changes_nothing(bench: Bench) -> None:
    bench.add(record(1))
    bench.add(rejection_note([1]), TRUSTED)
    before = bench.study()
    bench.add(rejection_note([1]), TRUSTED)
    bench.add(record(1), ARCHIVE)
    assert bench.study() == before


@pytest.mark.parametrize("code", CODES)
def test_an_instance_that_comes_again_stays_rejected_unless_its_retention_had_expired(bench: Bench, code: str) -> None:
    bench.add(record(1), over("a"))
    bench.add(record(2), over("a"))
    bench.add(rejection_note([1], code), replace(ARCHIVE, association="b"))
    bench.add(record(1), FOLDER)
    assert "1.9.1" not in left(bench.study()), "a file is no import over the network"
    bench.store.add(record(1), over("a"))
    assert ("1.9.1" in left(bench.study())) is (code == "113039")
    bench.add(rejection_note([1], code), replace(ARCHIVE, association="c"))
    assert ("1.9.1" in left(bench.study())) is (code == "113039"), "the note is known: it is no new rejection"


def test_a_note_from_elsewhere_is_an_instance_and_is_counted_until_one_who_may_reject_sends_it(bench: Bench) -> None:
    bench.add(record(1))
    bench.add(rejection_note([1], study="1.1"), over("a"))
    study, status = bench.study(), bench.status()
    assert (left(study), study.rejection) == (["1.9.1", "1.9.90"], None)
    assert (status.rejected, status.asked_to_reject) == (0, 1)
    bench.add(rejection_note([1]), TRUSTED)
    assert bench.study().rejected_for == "113037"
    assert (bench.status().rejected, bench.status().asked_to_reject) == (1, 0)
    bench.add(rejection_note([2], "113039"), over("b"))
    assert bench.study().rejected_for == "113037", "its title cannot be changed from elsewhere"


def test_a_note_that_would_be_applied_in_part_is_refused_as_a_whole(bench: Bench) -> None:
    bench.add(record(1))
    cut = (Note("warning", "ReferencedSOPSequence", "has more items than max_elements allows"),)
    nothing = replace(rejection_note([1]), instance={**rejection_note([1]).instance, **_NO_EVIDENCE})
    no_uid = rejection_note(["1\0"]), rejection_note([1], of="1.2\0")  # type: ignore[list-item]
    for note in (replace(rejection_note([1]), notes=cut), rejection_note([]), nothing, *no_uid):
        with pytest.raises(CannotUnderstand, match="rejection note"):
            bench.store.add(note, TRUSTED)
    assert left(bench.study()) == ["1.9.1"]
    bench.add(replace(rejection_note([1]), notes=cut), over("a"))
    assert left(bench.study()) == ["1.9.1", "1.9.90"], "where it is not applied, it is an instance like others"


_NO_EVIDENCE = {"CurrentRequestedProcedureEvidenceSequence": ""}


def test_the_patient_of_rejected_instances_is_no_conflict(bench: Bench) -> None:
    bench.add(record(1))
    bench.add(record(2, patient="P2"))
    assert bench.study().conflict
    bench.add(rejection_note([2], "113038"), TRUSTED)
    study = bench.study()
    assert (study.conflict, study.patient) == ("", record(1).patient)
    assert study.rejection is not None and study.rejection.before.conflict


@pytest.mark.parametrize("order", [*permutations(["slice", "selection", "note"])])
def test_key_objects_of_another_study_know_what_is_rejected(bench: Bench, order: Sequence[str]) -> None:
    """Their study is due again when they are delivered before the note comes."""
    selection = rejection_note([1, 2], "113000", study="1.2", of="1.1", number=80)
    arrivals = {
        "slice": record(1),
        "selection": selection,
        "note": rejection_note([1], "113037", study="1.3", of="1.1"),
    }
    for what in order:
        bench.add(arrivals[what], TRUSTED)
        bench.later(QUIET_S)
        while claim := claimed(bench.store, DEST, "w", LEASE_S):
            delivered(bench.store, claim, claim.revision, b"base")
    found = bench.study("1.2")
    assert found.rejected_elsewhere == {"1.1": frozenset({"1.9.1"})}
    assert found.before_rejection.rejected_elsewhere == {}
    assert (
        bench.row("1.2").delivered_revision
        == found.revision
        == (2 if order.index("note") > order.index("selection") else 1)
    )


def test_what_is_restored_comes_back_into_the_key_objects_of_another_study(bench: Bench) -> None:
    bench.add(rejection_note([1], "113000", study="1.2", of="1.1", number=80))
    bench.add(rejection_note([1], "113039", study="1.3", of="1.1"), TRUSTED)
    before = bench.study("1.2")
    assert before.is_rejected("1.1", "1.9.1")
    bench.store.add(record(1), over("a"))
    assert not bench.study("1.2").is_rejected("1.1", "1.9.1")
    assert bench.study("1.2").revision > before.revision


@pytest.mark.parametrize("of", ["1.1", "1.3"], ids=["in the study", "in another"])
def test_what_is_rejected_of_a_forgotten_study_stays_known(bench: Bench, of: str) -> None:
    """Whoever forgets it; also to the key objects of another study, which are not told anything else meanwhile."""
    bench.add(rejection_note([1, 2], "113000", study="1.2", of="1.1", number=80))
    bench.add(record(1))
    bench.add(record(2))
    bench.add(rejection_note([1], study=of, of="1.1"), TRUSTED)
    before = bench.study("1.2")
    assert before.is_rejected("1.1", "1.9.1")
    with bench.beside() as store:
        assert store.forget("1.1")
    assert bench.study("1.2") == before
    assert bench.study("1.1").is_announced
    assert (bench.status().instances, bench.status().rejected) == (0, 1)
    bench.add(record(1), ARCHIVE)
    assert bench.study().rejected_for == "113037"
    bench.add(record(2), ARCHIVE)
    assert left(bench.study()) == ["1.9.2"]
    assert bench.store.forget("1.1") and bench.store.forget("1.1")
    assert bench.status().rejected == 1


def test_what_was_restored_stays_so_when_its_study_is_forgotten(bench: Bench) -> None:
    note = rejection_note([1], "113039", study="1.3", of="1.1")
    bench.add(note, TRUSTED)
    bench.store.add(record(1), over("a"))
    assert bench.store.forget("1.1")
    bench.add(note, TRUSTED)
    bench.store.add(record(1), over("b"))
    assert left(bench.study()) == ["1.9.1"]


def test_what_was_only_asked_for_is_forgotten_with_the_study(bench: Bench) -> None:
    bench.add(rejection_note([1]), over("a"))
    assert bench.store.forget("1.1")
    assert bench.store.study("1.1") is None


ARRIVALS: list[InstanceRecord] = [
    record(1),
    record(2),
    record(3, study="1.2"),
    rejection_note([1], "113001"),
    rejection_note([1, 3], "113037", study="1.2", of="1.2", number=91),
    rejection_note([2], "113038", study="1.3", of="1.1", number=92),
]


@pytest.mark.parametrize("kind", EVERY_KIND)
@given(order=st.permutations(range(2 * len(ARRIVALS))), over_the_network=st.booleans())
@examples(40)
def test_the_order_and_repetition_of_arrivals_does_not_matter(
    kind: str, tmp_path_factory: pytest.TempPathFactory, order: list[int], over_the_network: bool
) -> None:
    """Each comes twice, in any order."""
    folder: Path = tmp_path_factory.mktemp("store")
    bench = Bench(KINDS[kind](folder))
    try:
        for number in order:
            bench.store.add(ARRIVALS[number % len(ARRIVALS)], ARCHIVE if over_the_network else TRUSTED)
        first, second = bench.study("1.1"), bench.study("1.2")
        assert (left(first), first.rejected_for) == ([], "113038")
        assert (left(second), second.rejected_for) == ([], "113037")
        assert left(bench.study("1.3")) == ["1.9.92"]
        assert [bench.status(uid).rejected for uid in ("1.1", "1.2", "1.3")] == [2, 2, 0]
    finally:
        bench.store.close()


def test_what_an_archive_states_of_a_rejected_instance_does_not_bring_it_back(bench: Bench) -> None:
    bench.add(record(1))
    bench.add(rejection_note([1]), TRUSTED)
    bench.store.state_availability(notification([1]))
    assert bench.study().rejected_for == "113037"


@pytest.mark.parametrize("is_delivered", [True, False], ids=["delivered", "waiting"])
@pytest.mark.parametrize("is_changed", [True, False], ids=["changed", "unchanged"])
@pytest.mark.parametrize("association", ["a", "b"])
def test_what_comes_again_is_restored_after_a_note_that_another_process_stored(
    bench: Bench, association: str, is_changed: bool, is_delivered: bool
) -> None:
    """The daemon knows the study, and that nothing of it was rejected."""
    bench.store.add(record(1), over("a"))
    bench.store.add(record(2), over("a"))
    if is_delivered:
        bench.later(MAX_WAIT_S)
        bench.deliver()
    with bench.beside() as store:
        store.add_many([rejection_note([1, 2], "113039")], TRUSTED)
    assert bench.study().rejected_for == "113039"
    again = record(1, ImageComments="imported again") if is_changed else record(1)
    bench.store.add(again, over(association))
    assert left(bench.study()) == ["1.9.1"]
    assert bench.status().rejected == 1


def test_a_process_that_has_stored_a_study_sees_what_the_daemon_stores_of_it(bench: Bench) -> None:
    """A procedure step that ended after backfill knew the study lists what backfill stores."""
    bench.store.create_step(step(), over("m"))
    with bench.beside() as store:
        store.add_many([record(1)], FOLDER)
        bench.store.update_step("1.6.1", changes(instances=[1, 2]))
        assert bench.status().missing == 1
        store.add_many([record(2)], FOLDER)
    assert bench.status().missing == 0
    assert bench.wait_s() == 0
