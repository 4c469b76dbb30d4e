"""Key objects, rejection notes, dose reports and documents: what a server holds in the end follows from what arrived.

Neither from the order, nor from repetition, nor from what was delivered in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import Phase, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom2fhir.demo.synthetic import instance, make_uid
from dicom2fhir.fhir.mapper import DialectChoice, StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.send.client import FhirClient
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.mapped_resources import Write
from dicom2fhir.model import InstanceRecord
from dicom2fhir.outcomes import Delivered, Withheld
from dicom2fhir.store.base import Success
from testdata.make_cases import record_of
from testdata.make_dicom import datasets, key_objects, rejection_note
from tests.examples import examples
from tests.memory_server import Manner, MemoryServer, memory_server
from tests.store_contract.bench import DEST, FOLDER, LEASE_S, MAX_WAIT_S, Bench, Sqlite

TRUSTED = replace(FOLDER, may_reject=True)
OFFERS = ("ImagingStudy", "Patient", "ImagingSelection", "Observation", "DocumentReference")
RETRACTED = "entered-in-error"
State = Mapping[tuple[str, str], Mapping[str, Any]]
"""Type and id -> resource, without its version."""


def _record(made: Dataset) -> InstanceRecord:
    written = BytesIO()
    made.save_as(written, enforce_file_format=True)
    return record_of(written.getvalue())


@cache
def arrivals() -> Sequence[InstanceRecord]:
    """Selections over two studies, a replaced dose report and a replaced document of another study; notes on each."""
    one, two, run, selection = datasets("ko-studies")
    earlier = instance("CT", "ko-earlier", number=7)
    other_selection = key_objects("ko-earlier", [one, two, earlier])
    reports = datasets("sr-dose-replaced")
    letter, report, replacement, *_ = datasets("documents")
    replacement.StudyInstanceUID = make_uid("documents-later")
    replacement.SeriesInstanceUID = make_uid("documents-later", "1")
    notes = [
        rejection_note("order-notes", "113001", [two, letter]),
        rejection_note("order-other-notes", "113037", [other_selection]),
        rejection_note("sr-dose-replaced", "113038", reports[2:]),
    ]
    files = [one, two, run, selection, earlier, other_selection, *reports, letter, report, replacement, *notes]
    for file in files:
        file.PatientID, file.PatientName = "SYN-P1", "Test^Ordered"
    return [_record(file) for file in files]


class Bridge:
    """A store and the server that it delivers to."""

    def __init__(self, bench: Bench, server: MemoryServer) -> None:
        self.bench, self.server = bench, server
        mapper = StudyMapper(MappingOptions(patient=Write.ENSURE))
        self.destination = FhirDestination(DEST, FhirClient(server.url), mapper, DialectChoice("R5"))

    def deliver(self) -> None:
        """Deliver until nothing is due."""
        self.bench.later(MAX_WAIT_S)
        while claims := self.bench.store.claim(DEST, "w", LEASE_S):
            for claim in claims:
                study = self.bench.study(claim.study_uid)
                outcome = self.destination.deliver(study, claim.base, claim.again)
                if isinstance(outcome, Withheld):  # only a note is known of it yet
                    self.bench.store.exclude(claim, outcome.reason, "")
                else:
                    assert isinstance(outcome, Delivered), outcome
                    self.bench.store.delivered([Success(claim, study.revision, outcome)])

    def state(self) -> State:
        found = {key: dict(versions[-1]) for key, versions in self.server.versions.items()}
        for resource in found.values():
            resource.pop("meta", None)
        return found


@contextmanager
def bridge() -> Iterator[Bridge]:
    manner = Manner(offers=OFFERS, checks_versions=True)
    with TemporaryDirectory() as folder, memory_server(manner) as server:
        server.fhir_version = "5.0.0"
        bench = Bench(Sqlite(Path(folder)))
        try:
            yield Bridge(bench, server)
        finally:
            bench.store.close()


@cache
def at_once() -> State:
    """What a server holds when all has arrived before the first delivery."""
    with bridge() as made:
        made.bench.store.add_many(arrivals(), TRUSTED)
        made.deliver()
        return made.state()


def is_retracted(resource: Mapping[str, Any]) -> bool:
    return resource["resourceType"] != "ImagingStudy" and resource.get("status") == RETRACTED


def in_force(state: State) -> State:
    """What is not retracted: a resource that was never written in between is not written to retract it."""
    return {key: resource for key, resource in state.items() if not is_retracted(resource)}


def test_what_is_there_when_all_has_arrived_before_the_first_delivery() -> None:
    """Of two selections, three dose reports and three documents, one each is rejected, and one report is replaced."""
    state = at_once()
    assert in_force(state) == state
    kinds = [kind for kind, _ in state]
    studies = len({record.study_uid for record in arrivals()})
    counts = {"ImagingStudy": studies, "Patient": 1, "ImagingSelection": 2, "Observation": 1, "DocumentReference": 2}
    assert {kind: kinds.count(kind) for kind in OFFERS} == counts
    selections = [resource for (kind, _), resource in state.items() if kind == "ImagingSelection"]
    assert all("reference" in selection["derivedFrom"][0] for selection in selections), "of both studies"
    (replacing,) = (one for one in state.values() if one.get("relatesTo"))
    assert replacing["relatesTo"][0]["code"]["coding"][0]["code"] == "replaces"


@given(
    order=st.permutations([*range(len(arrivals())), *range(0, len(arrivals()), 2)]),
    delivered_after=st.frozensets(st.integers(0, len(arrivals())), max_size=4),
)
@examples(20, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # to shrink an example takes minutes
def test_each_order_and_repetition_ends_in_the_same_state(
    order: Sequence[int], delivered_after: Collection[int]
) -> None:
    with bridge() as made:
        for at, number in enumerate(order):
            made.bench.add(arrivals()[number], TRUSTED)
            if at in delivered_after:
                made.deliver()
        made.deliver()
        assert in_force(made.state()) == at_once()
