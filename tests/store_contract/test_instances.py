"""What a store keeps of the instances that come."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.dicom.study import assemble
from dicom2fhir.errors import CannotUnderstand, StoreUnavailable
from dicom2fhir.model import Attrs, InstanceRecord, Note, Origin
from dicom2fhir.store.base import Change
from dicom2fhir.store.file_marks import FileMark
from dicom2fhir.store.statuses import Rejection, State
from tests.examples import examples
from tests.store_contract.bench import FOLDER, KINDS, MAX_WAIT_S, QUIET_S, Bench, Kind, over, record


def test_new_changed_unchanged(bench: Bench) -> None:
    store = bench.store
    assert bench.add(record(), FOLDER) is Change.NEW
    assert bench.add(record(), FOLDER) is Change.UNCHANGED
    study = store.study("1.1")
    assert study is not None and study.revision == 1
    assert bench.add(record(Rows="5"), FOLDER) is Change.CHANGED
    assert bench.add(record(Rows="5"), FOLDER) is Change.UNCHANGED
    study = store.study("1.1")
    assert study is not None and study.revision == 2
    assert study.series[0].instances[0].attrs["Rows"] == "5"


def test_equal_attributes_in_another_order_or_kind_of_mapping_are_unchanged(bench: Bench) -> None:
    items: list[Attrs] = [{"C": "2", "D": "3"}]
    again_items: list[Attrs] = [MappingProxyType({"D": "3", "C": "2"})]
    first = replace(record(), patient={"A": "1", "B": items})
    again = replace(first, patient=MappingProxyType({"B": again_items, "A": "1"}))
    assert bench.add(first, FOLDER) is Change.NEW
    assert bench.add(again, FOLDER) is Change.UNCHANGED


@pytest.mark.parametrize("level", ["patient", "study", "series", "instance"])
def test_a_change_at_any_level_is_a_change(bench: Bench, level: str) -> None:
    bench.store.add(record(), FOLDER)
    change: dict[str, Any] = {level: {"SOPClassUID": "1.2", "PatientID": "P1", "Other": "x"}}
    changed = replace(record(), **change)
    assert bench.add(changed, FOLDER) is Change.CHANGED
    study = bench.store.study("1.1")
    assert study == assemble("1.1", 2, [changed])


def test_the_same_instance_in_another_study_is_another_instance(bench: Bench) -> None:
    assert bench.add(record(study="1.1"), FOLDER) is Change.NEW
    assert bench.add(record(study="1.2"), FOLDER) is Change.NEW
    assert bench.store.stats().instances == 2


def test_the_same_instance_in_another_series_is_another_instance(bench: Bench) -> None:
    bench.store.add(record(1, series="1.1.1"), FOLDER)
    bench.store.add(record(2, series="1.1.2"), FOLDER)
    assert bench.add(record(1, series="1.1.2"), FOLDER) is Change.NEW
    assert bench.add(record(1, series="1.1.1"), FOLDER) is Change.UNCHANGED
    study = bench.study()
    assert [(series.uid, len(series.instances)) for series in study.series] == [("1.1.1", 1), ("1.1.2", 2)]
    assert [note.where for note in study.notes] == ["SOPInstanceUID"]
    status = bench.status()
    assert (status.series, status.instances) == (2, 3)
    assert (bench.store.stats().series, bench.store.stats().instances) == (2, 3)


def test_notes_are_kept(bench: Bench) -> None:
    noted = replace(record(), notes=(Note("warning", "StudyDate", "not a date"),))
    bench.store.add(noted, FOLDER)
    study = bench.study()
    assert study.notes == noted.notes


def test_what_is_not_text_is_refused_without_naming_it(bench: Bench) -> None:
    with pytest.raises(CannotUnderstand) as caught:
        bench.store.add(replace(record(), patient={"PatientName": "SECRET\ud800"}), FOLDER)
    assert "SECRET" not in str(caught.value)
    assert bench.store.stats().studies == 0


def test_everything_is_there_in_the_next_life(bench: Bench) -> None:
    bench.store.add(record(), FOLDER)
    before = bench.store.study("1.1")
    assert bench.restart().study("1.1") == before


def test_many_threads(bench: Bench) -> None:
    def send(thread: int) -> None:
        for number in range(40):
            bench.store.add(record(number, study=f"1.{thread % 2}"), over(f"a{thread}"))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.store.stats().instances == 80
    statuses = [bench.store.study_status(uid) for uid in ("1.0", "1.1")]
    assert [status and status.revision for status in statuses] == [40, 40]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@examples(15)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_arrival_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, kind: Callable[[Path], Kind], seed: int
) -> None:
    draw = random.Random(seed)
    records = [
        replace(
            record(number, study=f"1.{number % 2}", series=f"1.{number % 2}.{number % 3}"),
            patient={"PatientID": "P1", "PatientName": f"N{number % 3}"},
            series={"Modality": "CT", "SeriesDescription": f"D{number % 4}"},
        )
        for number in range(12)
    ]
    records += [replace(records[0], series_uid="1.0.9"), replace(records[1], series_uid="1.0.0")]
    expected = {uid: assemble(uid, 7, [one for one in records if one.study_uid == uid]) for uid in ("1.0", "1.1")}
    shuffled = [*records, *draw.sample(records, 4)]
    draw.shuffle(shuffled)
    bench = Bench(kind(tmp_path_factory.mktemp("order")))
    try:
        for one in shuffled:
            bench.store.add(one, FOLDER)
        assert {uid: bench.store.study(uid) for uid in expected} == expected
    finally:
        bench.store.close()


def test_what_is_not_there(bench: Bench) -> None:
    store = bench.store
    assert (store.study("1.1"), store.study_status("1.1"), store.patients("1.1")) == (None, None, [])
    assert store.stated("1.1") == {}
    store.settle("1.1", {})
    assert not store.forget("1.1")


def test_a_closed_store_takes_and_tells_nothing(bench: Bench) -> None:
    bench.store.close()
    bench.store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        bench.store.add(record(), FOLDER)
    with pytest.raises(StoreUnavailable, match="closed"):
        bench.store.stats()


# Many at once


def test_each_change_of_a_batch_raises_the_revision(bench: Bench) -> None:
    store = bench.store
    assert store.add_many([record(n) for n in range(5)], FOLDER) == [Change.NEW] * 5
    assert bench.study().revision == 5
    changes = store.add_many([record(0), record(1, Rows="1"), record(5)], FOLDER)
    assert changes == [Change.UNCHANGED, Change.CHANGED, Change.NEW]
    assert bench.study().revision == 7
    assert store.add_many([record(0), record(5)], FOLDER) == [Change.UNCHANGED] * 2
    assert bench.study().revision == 7
    assert store.stats().instances == 6


def test_the_last_of_a_batch_stands(bench: Bench) -> None:
    changes = bench.store.add_many([record(), record(), record(Rows="2"), record(Rows="2")], FOLDER)
    assert changes == [Change.NEW, Change.UNCHANGED, Change.CHANGED, Change.UNCHANGED]
    (instance,) = bench.study().series[0].instances
    assert instance.attrs["Rows"] == "2"
    assert bench.store.stats().instances == 1


def test_a_batch_may_have_more_studies_and_series_than_are_remembered(bench: Bench) -> None:
    """Twice, so that all of them are looked up again."""
    batch = [record(number, study=f"1.{number}") for number in range(300)]
    batch += [record(number, study="2.1", series=f"2.1.{number}") for number in range(1_100)]
    assert bench.store.add_many(batch, FOLDER) == [Change.NEW] * 1_400
    assert bench.store.add_many(batch[::-1], FOLDER) == [Change.UNCHANGED] * 1_400
    stats = bench.store.stats()
    assert (stats.studies, stats.series, stats.instances, stats.waiting) == (301, 1_400, 1_400, 301)
    assert bench.study("1.7").series[0].instances[0].uid == "1.9.7"


def test_no_records_are_no_change(bench: Bench) -> None:
    assert bench.store.add_many([], FOLDER) == []


def test_a_batch_is_due_like_single_instances(bench: Bench) -> None:
    bench.store.add_many([record(1), record(1, study="1.2")], over("a"))
    bench.later(QUIET_S)
    assert bench.none_due()
    bench.store.association_ended("a")
    assert {bench.claim().study_uid for _ in range(2)} == {"1.1", "1.2"}
    bench.store.add_many([record(1, study="1.3")], over("b"))
    bench.later(MAX_WAIT_S)
    assert "1.3" in {bench.claim().study_uid for _ in range(3)}


def test_instances_known_already_are_held_but_make_nothing_due(bench: Bench) -> None:
    bench.store.add_many([record()], FOLDER)
    bench.store.add_many([record()], over("a"))
    bench.later(QUIET_S)
    assert bench.none_due()
    bench.store.association_ended("a")
    bench.deliver()
    bench.store.add_many([record()], FOLDER)
    assert bench.state() is State.DELIVERED


def test_marks_and_rejections_come_with_the_instances(bench: Bench) -> None:
    marks = [FileMark("/a", 1, 2, "taken"), FileMark("/b", 3, 4, "skipped", "Not DICOM")]
    rejection = Rejection(bench.now, Origin("file", path="/c"), "cut off")
    bench.store.add_many([record()], FOLDER, marks, [rejection])
    assert bench.store.file_marks(["/a", "/b", "/nothing"]) == {mark.path: mark for mark in marks}
    assert list(bench.store.rejections()) == [rejection]
    assert (bench.store.stats().skipped, bench.store.stats().rejected) == (1, 1)


def test_a_batch_with_a_record_that_cannot_be_kept_is_not_kept_at_all(bench: Bench) -> None:
    no_text = cast("str", object())
    bad = InstanceRecord("1.1", "1.1.1", "1.9", {}, {}, {}, {"Rows": no_text})
    with pytest.raises(CannotUnderstand):
        bench.store.add_many([record(), bad], FOLDER, [FileMark("/a", 1, 2, "taken")])
    assert bench.store.study("1.1") is None
    assert bench.store.file_mark("/a") is None
