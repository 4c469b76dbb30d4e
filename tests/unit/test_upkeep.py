"""The threads that have the store forget and seal what every destination has had for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom2fhir import config
from dicom2fhir.config import Settings
from dicom2fhir.errors import StoreUnavailable
from dicom2fhir.ops import rounds
from dicom2fhir.ops.forgetter import Forgetter, Terms
from dicom2fhir.ops.sealer import Sealer
from dicom2fhir.store.sqlite.store import SqliteStore
from dicom2fhir.wiring import parts
from tests.store_contract.bench import DEST, FOLDER, claimed, delivered, record

AT_ONCE = Terms(1e-6)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """With a study that was delivered."""
    for pause in ("_PAUSE_S", "_NEXT_ROUND_S", "_LOOK_EVERY_S", "_AFTER_FAILURE_S"):
        monkeypatch.setattr(rounds, pause, 0.001)
    made = SqliteStore(tmp_path / "store.db", quiet_period_s=0, max_wait_s=0, min_free_bytes=0)
    made.set_destinations([DEST])
    made.add(record(), FOLDER)
    claim = claimed(made, DEST, "w1", 60)
    assert claim
    delivered(made, claim, claim.revision)
    yield made
    made.close()


def watched(store: SqliteStore, monkeypatch: pytest.MonkeyPatch, fails: list[Exception]) -> threading.Event:
    """Set when a round has ended in which the store has no study."""
    forget, is_done = store.forget_delivered, threading.Event()

    def forget_delivered(*terms: Any) -> Any:
        if fails:
            raise fails.pop()
        gone = forget(*terms)
        if gone is None and not store.stats().studies:
            is_done.set()
        return gone

    monkeypatch.setattr(store, "forget_delivered", forget_delivered)
    return is_done


@pytest.mark.parametrize(
    ("failure", "event"),
    [
        (None, None),
        (StoreUnavailable("locked"), "store.upkeep_delayed"),
        (ValueError("a fault"), "store.upkeep_failed"),
    ],
)
def test_a_study_that_was_delivered_is_forgotten_and_logged(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, failure: Exception | None, event: str | None
) -> None:
    """Also after a failure."""
    is_done = watched(store, monkeypatch, [failure] if failure else [])
    thread = Forgetter(store, lambda: AT_ONCE)
    with capture_logs() as logs:
        thread.start()
        assert is_done.wait(30)
        thread.stop(10)
    assert [one["event"] for one in logs] == [*([event] if event else []), "store.study_forgotten"]
    assert logs[-1]["study"] == "1.1"
    assert all(one["work"] == "forget" for one in logs[:-1])
    assert store.forgotten_at("1.1")
    assert thread.count == 1


@pytest.mark.parametrize(
    ("failure", "event"),
    [
        (None, None),
        (StoreUnavailable("locked"), "store.upkeep_delayed"),
        (ValueError("a fault"), "store.upkeep_failed"),
    ],
)
def test_studies_that_were_delivered_are_sealed_and_counted(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, failure: Exception | None, event: str | None
) -> None:
    """Also after a failure."""
    seal, is_done = store.seal_delivered, threading.Event()
    fails, sealed = [failure] if failure else [], list[str]()

    def seal_delivered(quiet_s: float) -> Any:
        if fails:
            raise fails.pop()
        found = seal(quiet_s)
        sealed.extend(found or ())
        if found is None and sealed:
            is_done.set()
        return found

    store.add(record(study="1.2"), FOLDER)
    claim = claimed(store, DEST, "w1", 60)
    assert claim
    delivered(store, claim, claim.revision)
    monkeypatch.setattr(store, "seal_delivered", seal_delivered)
    thread = Sealer(store, lambda: 1e-6)
    with capture_logs() as logs:
        thread.start()
        assert is_done.wait(30)
        thread.stop(10)
    assert [one["event"] for one in logs] == [*([event] if event else []), "store.studies_sealed"]
    assert logs[-1]["studies"] == 2
    assert all(one["work"] == "seal" for one in logs[:-1])


def test_nothing_is_forgotten_until_the_settings_say_so(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload is enough."""
    is_done, has_looked = watched(store, monkeypatch, []), threading.Event()
    now = [settings()]

    def in_force() -> Settings:
        has_looked.set()
        return now[0]

    keepers = parts.store_keepers(store, in_force)
    keepers.start()
    try:
        assert has_looked.wait(30)
        has_looked.clear()
        assert has_looked.wait(30)
        assert store.stats().studies == 1
        now[0] = settings(store={"forget_after_s": 1e-6})
        assert is_done.wait(30)
    finally:
        keepers.stop(10)


def settings(**sections: Any) -> Settings:
    return config.load(overrides=sections, environ={})


@pytest.mark.parametrize(
    ("sections", "terms"),
    [
        ({}, Terms(None, None)),
        ({"store": {"forget_after_s": "off"}, "fhir": {"max_instances": 5}}, Terms(None, 5)),
        ({"store": {"forget_after_s": 86_400}}, Terms(86_400, None)),
        ({"store": {"forget_after_s": 86_400}, "fhir": {"max_instances": 5}}, Terms(86_400, 5)),
    ],
)
def test_the_settings_reach_the_thread(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], terms: Terms
) -> None:
    reached: list[Callable[[], Terms]] = []

    class Recorded(Forgetter):
        def __init__(self, store: Any, terms: Callable[[], Terms]) -> None:
            reached.append(terms)
            super().__init__(store, terms)

    monkeypatch.setattr(parts, "Forgetter", Recorded)
    parts.store_keepers(store, lambda: settings(**sections))
    assert reached[0]() == terms


@pytest.mark.parametrize(
    ("section", "quiet_s"), [({}, 604_800.0), ({"seal_after_s": "off"}, None), ({"seal_after_s": 60}, 60.0)]
)
def test_the_setting_reaches_the_thread_that_seals(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, section: dict[str, Any], quiet_s: float | None
) -> None:
    reached: list[Callable[[], float | None]] = []

    class Recorded(Sealer):
        def __init__(self, store: Any, quiet_s: Callable[[], float | None]) -> None:
            reached.append(quiet_s)
            super().__init__(store, quiet_s)

    monkeypatch.setattr(parts, "Sealer", Recorded)
    parts.store_keepers(store, lambda: settings(store=section))
    assert reached[0]() == quiet_s
