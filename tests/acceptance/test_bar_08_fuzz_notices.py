"""Bar 8: data sets of N-CREATE and N-SET that nobody meant: read, refused, or kept within the budgets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from dicom2fhir.demo.synthetic import instance
from dicom2fhir.dicom.data_elements import DEFAULT_BUDGETS, EXPLICIT_VR_LITTLE_ENDIAN, Budgets
from dicom2fhir.dicom.normalized import budgets_of, open_data_set
from dicom2fhir.dicom.reader import without_limit
from dicom2fhir.errors import BridgeError, BridgeFault, MissingAttribute
from dicom2fhir.fhir.mapper import StudyMapper
from dicom2fhir.fhir.mapping.engine import MappingOptions
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.ingest import Ingest
from dicom2fhir.model import Origin, Received
from dicom2fhir.sop_classes import INSTANCE_AVAILABILITY_NOTIFICATION
from dicom2fhir.store.sqlite.store import SqliteStore
from testdata.make_notices import BASE, Notice, at, begun, encoded, ended, notification
from tests.acceptance.costs import loop_s
from tests.acceptance.fuzzing import VALUES, keeping, mutated

pytestmark = [pytest.mark.bar(8), pytest.mark.timeout(300)]

MADE = [instance("CT", "fuzzed", series, number) for series in (1, 2) for number in (1, 2)]
NOTICES = (
    notification("a", MADE, at("PACS", base=BASE)),
    begun("a", MADE[0]),
    ended("a", "COMPLETED", MADE),
    ended("a", "DISCONTINUED"),
)
ORIGIN = Origin("dimse", calling_ae="PACS")
SMALL = Budgets(header_bytes=64 * 1024, elements=200, depth=3, value_bytes=1024)
MOST_LOOPS = 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    made.set_destinations(["main"])
    yield made
    made.close()


def received(notice: Notice, data: bytes, budgets: Budgets) -> Received:
    header = open_data_set(notice.sop_class, EXPLICIT_VR_LITTLE_ENDIAN, budgets_of(budgets), without_limit)
    header.write(data)
    return Received(header.end(), header.transfer_syntax, ORIGIN, sop_class=notice.sop_class, sop_instance=notice.uid)


def hostile(data: bytes, random: Random) -> bytes:
    """Damage anywhere, or a value that has another meaning in the place of one that is there."""
    if random.random() < 0.6:
        return mutated(data, random)
    value = random.choice(VALUES)[:60]
    at_ = random.randrange(len(data) + 1)
    return data[:at_] + value + data[at_ + len(value) :]


def play(ingest: Ingest, notice: Notice, data: bytes, budgets: Budgets) -> bool:
    """Take a data set as the receiver does; whether it was stored. Nothing but an error of the bridge's own kinds."""
    try:
        taken = received(notice, data, budgets)
        (ingest.create if notice.service == "N-CREATE" else ingest.set)(taken)
    except BridgeError as error:
        assert not isinstance(error, BridgeFault), error
        return False
    return True


def test_any_notice_is_kept_or_refused(
    store: SqliteStore,
    history: Path,
    seed: int,
    scale: Callable[[float, float], float],
    figure: Callable[[str], None],
) -> None:
    ingest = Ingest(store)
    mapper = StudyMapper(MappingOptions())
    most_s = MOST_LOOPS * loop_s(time.process_time)
    until = time.monotonic() + scale(15.0, 60.0)
    number = kept = 0
    while time.monotonic() < until:
        random = Random(f"{seed}/{number}")
        notice = random.choice(NOTICES)
        data = hostile(encoded(notice.data_set), random)
        with keeping(data, history / "notice.bin"):
            began = time.process_time()
            kept += play(ingest, notice, data, random.choice([SMALL, DEFAULT_BUDGETS]))
            assert time.process_time() - began < most_s
            if number % 50 == 0:
                for status in store.studies(limit=3):
                    study = store.study(status.study_uid)
                    assert study is not None
                    with suppress(BridgeError):
                        mapper.map(study, DIALECTS["R4"])
                    store.forget(status.study_uid)
        number += 1
    assert kept > number / 100
    figure(f"{number} data sets, {kept} of them kept")


@pytest.mark.parametrize("notice", NOTICES[:2], ids=["IAN", "MPPS"])
def test_a_notice_beyond_the_budgets_is_refused_before_it_is_kept(store: SqliteStore, notice: Notice) -> None:
    whole = encoded(notice.data_set)
    ingest = Ingest(store)
    for tight in (Budgets(elements=5), Budgets(depth=0), Budgets(header_bytes=200)):
        assert not play(ingest, notice, whole, tight)
    assert store.stats().studies == 0
    assert play(ingest, notice, whole, DEFAULT_BUDGETS)


def test_a_statement_that_cannot_be_read_is_not_left_out_silently(store: SqliteStore) -> None:
    """Or the archive would take it for stored."""
    notice = NOTICES[0]
    assert notice.sop_class == INSTANCE_AVAILABILITY_NOTIFICATION
    whole = encoded(notice.data_set)
    references = notice.data_set.ReferencedSeriesSequence[1].ReferencedSOPSequence
    uid = str(references[0].ReferencedSOPInstanceUID).encode()
    sequence = whole.rindex(b"\x08\0\x99\x11SQ") + 8
    too_long = whole[:sequence] + (int.from_bytes(whole[sequence : sequence + 4], "little") + 8).to_bytes(4, "little")
    for data in (whole.replace(uid, b" " * len(uid)), too_long + whole[sequence + 4 :]):
        with pytest.raises(MissingAttribute):
            Ingest(store).create(received(notice, data, DEFAULT_BUDGETS))
    assert store.stats().studies == 0
