"""The due rule of every kind of store, and what searches find, against the plain statement of both in the double."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.errors import DuplicateInstance, NoLongerUpdatable, NoSuchInstance, StudyBusy
from dicom2fhir.model import Origin
from dicom2fhir.store.base import Store
from dicom2fhir.store.statuses import State
from dicom2fhir.store.study_search import StudyDetails, StudyFilter
from tests.examples import examples
from tests.store_contract.bench import (
    DEST,
    KINDS,
    MAX_WAIT_S,
    QUIET_S,
    Bench,
    InMemory,
    Kind,
    changes,
    claimed,
    delivered,
    notification,
    over,
    record,
    step,
)

OTHER = "second"
UIDS = ("1.1", "1.2")
ASSOCIATIONS = {"a": "CT1", "b": "CT2", "c": "CT1"}
"""With the calling AE title, which is that of the whole association."""

records = st.builds(
    record,
    number=st.integers(0, 2),
    study=st.sampled_from(UIDS),
    series=st.sampled_from(["", "1.8"]),
    Rows=st.sampled_from("12"),
    patient=st.sampled_from(["P1", "P1", "P2"]),
)
origins = st.one_of(
    st.just(Origin("folder", path="/in/x", folder="/in")),
    st.sampled_from([over(*association) for association in ASSOCIATIONS.items()]),
)
destinations = st.sampled_from([DEST, OTHER])
notifications = st.builds(
    notification,
    uid=st.sampled_from(["1.7.1", "1.7.2", "1.7.3"]),
    study=st.sampled_from(UIDS),
    instances=st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True),
    availability=st.sampled_from(["ONLINE", "UNAVAILABLE"]),
    retrieve_ae=st.sampled_from(["PACS", "CACHE"]),
)
STEPS = ("1.6.1", "1.6.2")
steps = st.builds(step, uid=st.sampled_from(STEPS), study=st.sampled_from(UIDS))
step_changes = st.builds(
    changes,
    status=st.sampled_from(["IN PROGRESS", "COMPLETED", "DISCONTINUED"]),
    instances=st.lists(st.integers(0, 2), max_size=3, unique=True),
)
outcomes = st.sampled_from(["delivered", "older", "refused", "excluded", "failed", "paused", "away"])
adds = st.tuples(st.just("add"), records, origins)
EVENTS = st.one_of(
    adds,
    adds,
    st.tuples(st.just("batch"), st.lists(records, max_size=5), origins),
    st.tuples(st.just("state"), notifications),
    st.tuples(st.just("create"), steps, st.builds(over, st.just(""), st.sampled_from(["CT1", "CT2"]))),
    st.tuples(st.just("set"), st.sampled_from(STEPS), step_changes),
    st.tuples(st.just("end"), st.sampled_from(list(ASSOCIATIONS))),
    st.tuples(st.just("later"), st.sampled_from([1.0, QUIET_S, MAX_WAIT_S])),
    st.tuples(st.just("claim"), destinations),
    st.tuples(st.just("send"), destinations, outcomes),
    st.tuples(st.just("outcome"), outcomes),
    st.tuples(st.just("requeue"), st.sampled_from([None, *UIDS]), st.sampled_from([None, DEST]), st.booleans()),
    st.tuples(st.just("relink"), destinations),
    st.tuples(st.just("settle"), st.sampled_from(UIDS)),
    st.tuples(st.just("forget"), st.sampled_from(UIDS)),
    st.tuples(st.just("select"), destinations, st.sampled_from(["", "x"])),
    st.tuples(st.just("destinations"), st.sampled_from([(DEST,), (DEST, OTHER), (OTHER,)])),
    st.tuples(st.just("clock"), st.sampled_from([-86_400.0, -60.0, 3_600.0])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("index")),
    st.tuples(st.just("seal")),
)


class Pair:
    """Two benches to which the same happens."""

    def __init__(self, *kinds: Kind) -> None:
        self.benches = [Bench(kind) for kind in kinds]
        self._claims: list[list[Any]] = []

    def close(self) -> None:
        for bench in self.benches:
            bench.store.close()

    def happens(self, what: str, *values: Any) -> None:
        if what == "later":
            for bench in self.benches:
                bench.later(values[0])
        elif what == "clock":
            for bench in self.benches:
                bench.set_clock(values[0])
                bench.store.next_due_at(DEST)  # as every deliverer does all the time
        elif what == "restart":
            for bench in self.benches:
                bench.restart()
        elif what == "send":
            self.happens("later", MAX_WAIT_S)
            self.happens("claim", values[0])
            self.happens("outcome", values[1])
        elif what == "claim":
            claims = [claimed(bench.store, values[0], f"w{len(self._claims)}", 60.0) for bench in self.benches]
            assert claims[0] == claims[1]
            if claims[0]:
                self._claims.append(claims)
        elif what == "outcome":
            if self._claims:
                for bench, claim in zip(self.benches, self._claims.pop(0), strict=True):
                    self._outcome(bench.store, claim, values[0])
        else:
            if what in ("requeue", "relink", "settle", "select"):
                # What was asked for stays due until its study changes, and for longer where an association holds it.
                for association in ASSOCIATIONS:
                    self.happens("end", association)
            first, second = (self._do(bench.store, what, *values) for bench in self.benches)
            assert first == second

    @staticmethod
    def _do(store: Store, what: str, *values: Any) -> object:
        """What is answered."""
        match what:
            case "add":
                store.add(*values)
            case "batch":
                return store.add_many(*values)
            case "state" | "create" | "set":
                calls: dict[str, Callable[..., None]] = {
                    "state": store.state_availability,
                    "create": store.create_step,
                    "set": store.update_step,
                }
                try:
                    calls[what](*values)
                except (DuplicateInstance, NoSuchInstance, NoLongerUpdatable) as error:
                    return error.kind
            case "end":
                store.association_ended(*values)
            case "seal":  # the double does nothing
                while store.seal_delivered(0) is not None:
                    pass
            case "index":
                store.update_index()
            case "destinations":
                store.set_destinations(values[0])
            case "forget":
                with suppress(StudyBusy):
                    return store.forget(*values)
            case "requeue":
                return store.requeue(*values)
            case "relink":
                return store.relink(*values)
            case "settle":
                store.settle(values[0], {})
            case "select":
                store.set_selection(*values)
        return None

    @staticmethod
    def _outcome(store: Store, claim: Any, outcome: str) -> None:
        match outcome:
            case "delivered":
                study = store.study(claim.study_uid)
                delivered(store, claim, study.revision if study else 1, b"base", "R4", ("Patient",), accepted=True)
            case "older":
                delivered(store, claim, claim.revision, b"older")
            case "refused":
                store.refuse(claim, claim.revision, "no")
            case "excluded":
                store.exclude(claim, "not meant for it", "")
            case "failed":
                store.retry(claim, 45.0, "down", failing=store.failing(claim, 1_000.0))
            case "paused":
                store.retry(claim, 2 * MAX_WAIT_S, "later", count=False)
            case "away":
                store.retry(claim, 0.0, "away")


HAPPENED = st.lists(EVENTS, min_size=10, max_size=40)


@examples(150)
@given(happened=HAPPENED)
def test_what_is_due_when(tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[Any, ...]]) -> None:
    check_same_due("sqlite", tmp_path_factory.mktemp("store"), happened)


@pytest.mark.needs("postgres")
@examples(15)  # each takes a second
@given(happened=HAPPENED)
def test_what_is_due_when_in_a_server(
    tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[Any, ...]]
) -> None:
    check_same_due("postgres", tmp_path_factory.mktemp("store"), happened)


def check_same_due(kind: str, folder: Path, happened: list[tuple[Any, ...]]) -> None:
    """That after each event two stores answer the same."""
    with ExitStack() as stack:
        pair = stack.enter_context(closing(Pair(KINDS[kind](folder), InMemory(Path()))))
        for event in happened:
            pair.happens(*event)
            one, other = (bench.store for bench in pair.benches)
            for destination in (DEST, OTHER):
                assert one.next_due_at(destination) == other.next_due_at(destination)
            for uid in UIDS:
                assert one.study_status(uid) == other.study_status(uid)
                assert one.study(uid) == other.study(uid)
            assert one.stats() == other.stats()
            assert one.destinations() == other.destinations()
        pair.happens("later", 20.0)
        assert_same_searches(one, other)


SEARCHES = (
    StudyFilter(),
    *(StudyFilter(state=state) for state in State),
    *(StudyFilter(state=state, destination=OTHER) for state in State),
    StudyFilter(destination=DEST, modality="CT"),
    StudyFilter(calling_ae_title="CT1"),
    StudyFilter(folder="/in", patient_id="P2"),
    StudyFilter(accession_number="A1"),
    StudyFilter(is_conflict=True),
)


def assert_same_searches(one: Store, other: Store) -> None:
    """Once every study is quiet and in the index."""
    while one.update_index():
        pass
    for wanted in SEARCHES:
        found, expected = ([*store.find_studies(wanted)] for store in (one, other))
        assert {one.status.study_uid for one in found} == {one.status.study_uid for one in expected}, wanted
        assert len(found) == len(expected)
        by_uid = {one.status.study_uid: one for one in expected}
        assert found == [replace(by_uid[one.status.study_uid], position=one.position) for one in found]
    for uid in UIDS:
        assert details_of(one, uid) == details_of(other, uid)
    totals = [
        (sum(m.received for m in minutes), sum(m.delivered for m in minutes))
        for minutes in (one.counts(0), other.counts(0))
    ]
    assert totals[0] == totals[1]


def details_of(store: Store, uid: str) -> StudyDetails | None:
    """Without an order among what happened at the same time."""
    details = store.study_details(uid)
    return details and StudyDetails(
        details.series,
        tuple(sorted(details.senders, key=astuple)),
        details.folders,
        tuple(sorted(details.attempts, key=astuple)),
    )
