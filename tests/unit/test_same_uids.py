"""UIDs that stand where they should not stand twice: nothing is lost, and the result does not depend on the order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2fhir.dicom.study import assemble
from dicom2fhir.jobs.conversion import ReadInstances
from dicom2fhir.model import InstanceRecord, Note, Origin, Study
from dicom2fhir.store.sqlite.store import SqliteStore
from tests.examples import examples

FILE = Origin("file")
HELD = Origin("dimse", association="a")
NOTE = Note("warning", "SOPInstanceUID", "occurs in several series of this study; the instance is kept in each of them")

Key = tuple[int, int, int]


def record(study: int, series: int, number: int) -> InstanceRecord:
    """An instance that is the same whenever it comes; studies share the UIDs of series and instances."""
    return InstanceRecord(
        study_uid=f"1.{study}",
        series_uid=f"1.5.{series}",
        sop_uid=f"1.9.{number}",
        patient={"PatientID": "P", "PatientName": f"N{(series + number) % 2}"},
        study={"StudyDescription": f"D{number % 2}"},
        series={"Modality": "CT", "SeriesDescription": f"S{number % 3}"},
        instance={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Rows": f"{study}{series}{number}"},
    )


KEYS = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=12)


def identities(study: Study | None) -> set[tuple[str, str, str]]:
    assert study is not None
    return {(study.uid, series.uid, one.uid) for series in study.series for one in series.instances}


@examples(60)
@given(keys=KEYS, data=st.data())
def test_every_order_on_every_road_gives_the_same_studies(
    tmp_path_factory: pytest.TempPathFactory, keys: list[Key], data: st.DataObject
) -> None:
    records = [record(*key) for key in keys]
    wanted = {(one.study_uid, one.series_uid, one.sop_uid): one for one in records}
    shuffled = data.draw(st.permutations(records))
    at = data.draw(st.integers(0, len(records)))
    folder = tmp_path_factory.mktemp("orders")
    single, held, batched = stores = [SqliteStore(folder / name, min_free_bytes=0) for name in ("1", "2", "3")]
    reading = ReadInstances()
    try:
        for one in shuffled:
            single.add(one, FILE)
            held.add(one, HELD)
            reading.studies[one.study_uid][one.series_uid, one.sop_uid] = one
        for batch in (shuffled[:at], shuffled[at:]):
            batched.add_many(batch, FILE)
        for uid in {one.study_uid for one in records}:
            revision = sum(key[0] == uid for key in wanted)
            expected = assemble(uid, revision, [one for key, one in wanted.items() if key[0] == uid])
            assert identities(expected) == {key for key in wanted if key[0] == uid}
            assert [store.study(uid) for store in stores] == [expected] * 3
            assert (reading.study(uid).series, reading.study(uid).notes) == (expected.series, expected.notes)
            sops = [key[2] for key in wanted if key[0] == uid]
            assert (NOTE in expected.notes) is (len(set(sops)) < len(sops))
            status = single.study_status(uid)
            assert status is not None and (status.series, status.instances) == (len(expected.series), len(sops))
        assert single.stats().instances == len(wanted)
    finally:
        for store in stores:
            store.close()


def test_a_correction_stands_in_its_own_series_only(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", min_free_bytes=0)
    try:
        corrected = InstanceRecord("1.1", "1.5.1", "1.9.1", {}, {}, {}, {"SOPClassUID": "1.2", "Rows": "new"})
        for one in (record(1, 1, 1), record(1, 2, 1), corrected):
            store.add(one, FILE)
        study = store.study("1.1")
        assert study is not None
        assert [series.instances[0].attrs["Rows"] for series in study.series] == ["new", "121"]
    finally:
        store.close()
