"""A version that is set against the version that the server has: a mismatch holds the destination and loses nothing."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom2fhir import config
from dicom2fhir.config import Settings
from dicom2fhir.deliver.timed import Timed
from dicom2fhir.fhir.send import recognition
from dicom2fhir.fhir.send.server import FhirDestination
from dicom2fhir.fhir.version.dialects import DIALECTS
from dicom2fhir.model import InstanceRecord, Origin
from dicom2fhir.outcomes import Delivered, Retry
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.store.statuses import DeliveryStatus, State
from dicom2fhir.wiring import parts
from tests.daemon_process import run_command, wait_until
from tests.scripted_server import scripted_server

ALIKE = {("R4", "R4B"), ("R4B", "R4")}
"""R4B changed nothing of ImagingStudy, Patient, Endpoint and the others that are written."""


def settings(version: str, url: str) -> Settings:
    return config.load(overrides={"destinations": {"main": {"url": url, "version": version}}}, environ={})


def agrees(version: str, server: str) -> bool:
    return version == server or (version, server) in ALIKE


@contextmanager
def store_with_a_study(folder: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(folder / "store.db", quiet_period_s=0, max_wait_s=0, min_free_bytes=0)
    try:
        store.set_destinations(["main"])
        store.add(InstanceRecord("1.2", "1.2.1", "1.2.1.1", {}, {}, {}, {"SOPClassUID": "1.2"}), Origin("file"))
        yield store
    finally:
        store.close()


def held(store: SqliteStore) -> Sequence[DeliveryStatus]:
    (study,) = store.studies()
    return [row for row in study.deliveries if row.state is State.WAITING and "Set version =" in row.reason]


@pytest.mark.parametrize("server", DIALECTS)
def test_check_config_compares_what_is_set_with_what_the_server_says(server: str) -> None:
    with scripted_server(DIALECTS[server].fhir_version) as fhir:
        errors = {
            version: parts.plan(settings(version, fhir.url), "main", online=True)["error"] for version in DIALECTS
        }
    assert {name for name, error in errors.items() if not error} == {name for name in DIALECTS if agrees(name, server)}
    assert all(f'Set version = "{server}" or "auto"' in error for error in errors.values() if error)


@pytest.mark.parametrize(
    ("version", "server"), [("R5", "R4"), ("R4", "R5"), ("R4", "R4B"), ("STU3", "DSTU2"), ("R6", "R5"), ("R5", "R5")]
)
def test_a_server_of_another_version_is_sent_nothing_and_studies_wait(
    version: str, server: str, tmp_path: Path
) -> None:
    with scripted_server(DIALECTS[server].fhir_version) as fhir, store_with_a_study(tmp_path) as store:
        deliverer = parts.deliverer(settings(version, fhir.url), "main", store)
        deliverer.start()
        try:
            if agrees(version, server):
                wait_until(lambda: store.stats().delivered == 1, 30, "the study is there")
                return
            (row,) = wait_until(lambda: held(store), 30, "the study waits with the reason")
            assert deliverer.down == row.reason
            assert (row.state, fhir.studies, deliverer.counts().refused) == (State.WAITING, [], 0)
        finally:
            assert deliverer.stop(30)


@pytest.mark.parametrize("said", ["", "3.5.0"])
def test_where_the_server_s_version_is_not_known_the_one_that_is_set_holds(said: str) -> None:
    with scripted_server(said) as fhir:
        plan = parts.plan(settings("R4", fhir.url), "main", online=True)
        assert plan["error"] == ""
        assert plan["server"] == f"unnamed software, FHIR {said or 'of unknown version'}"
        assert parts.plan(settings("auto", fhir.url), "main", online=True)["error"] != ""


def test_a_server_that_was_upgraded_meanwhile_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with scripted_server("4.0.1") as fhir, store_with_a_study(tmp_path) as store:
        timed = parts.deliverer(settings("R4", fhir.url), "main", store)._destination
        assert isinstance(timed, Timed)
        destination = timed._destination
        assert isinstance(destination, FhirDestination)
        study = store.study("1.2")
        assert study is not None
        outcomes = [destination.deliver(study, b""), destination.deliver(study, b"")]
        assert [isinstance(outcome, Delivered) for outcome in outcomes] == [True, True]
        assert fhir.asked == 1
        fhir.fhir_version = "5.0.0"
        monkeypatch.setattr(recognition, "_ASK_AGAIN_S", 0.0)
        outcome = destination.deliver(study, b"")
        assert isinstance(outcome, Retry) and outcome.whole_destination
        assert len(fhir.studies) == 2


def test_check_config_against_a_real_server_of_another_version(hapi_r4: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'[destinations.main]\nurl = "{hapi_r4}"\nversion = "R5"\n')
    result = run_command("check-config", "--config", file, "--online", "--user", getpass.getuser())
    assert result.returncode == 69
    assert 'Set version = "R4" or "auto"' in " ".join(result.stdout.decode().split())
